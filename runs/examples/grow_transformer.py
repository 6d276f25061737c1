"""A small decoder that grows in depth, heads and width while it trains, next to the grown decoder from scratch.

    python runs/examples/grow_transformer.py [--quick]

It predicts the next character of Python's manual, which ships with Python. The small decoder trains for a while; then
it gets a block, a head in each attention, wider MLPs and a wider stream, one after the other. At each step the loss
stays what it was, AdamW's state goes along, and training continues. The decoder that it becomes is trained from scratch
too, for as many multiply-adds as all of the growing took. B batch, T characters of context.

One run, seed 0, one thread, under a minute of processor time, loss in nats on held-out text: 2.68 with one block;
then, after each step of growth, which changes it by 6e-8 at most, and 200 steps of training, 2.42 with a second block,
2.31 with three heads, 2.23 with wider MLPs and 2.10 with a wider stream, at 44,352 parameters. The same decoder from
scratch, for as many multiply-adds (9.5e8 for one example of each batch, forward): 2.18. A single seed of a tiny model:
an example, not a finding.
"""

import argparse
import json
from collections.abc import Iterator
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn

import morphs

CONTEXT, WIDTH, HEADS, BATCH, RATE = 32, 32, 2, 16, 3e-3
LETTERS = 200_000


def decoder(characters: int) -> morphs.ArchGraph:
    """Embeddings of characters and positions, one block, a norm, and scores by the embedding's own weight."""
    stream = f"""
        x = input(size=[{CONTEXT}], tokens={characters}); words = embedding(x, count={characters}, features={WIDTH})
        places = parameter(size=[{CONTEXT}, {WIDTH}]); start = add(words, places)
        norm = layer_norm(start); scores = unembedding(norm, count={characters}, owner=words); y = output(scores)"""
    graph = morphs.parse_graph(stream)
    block = morphs.AddBlock("start", "both", heads=HEADS, hidden=2 * WIDTH, causal=True)
    return block.reshape(graph)


def growth(graph: morphs.ArchGraph) -> Iterator[str]:
    """The steps, each as a chain of moves: a block, a head in every attention, a wider MLP, a wider stream."""
    last = graph["norm"].inputs[0]
    yield f"add_block(node={last}, part=both, heads={HEADS}, hidden={2 * WIDTH}, causal=true)"
    yield "widen(node=heads1, to=3, how=zero); widen(node=heads4, to=3, how=zero)"
    yield f"widen(node=fc1, to={3 * WIDTH}); widen(node=fc2, to={3 * WIDTH})"
    yield f"widen(node=words, to={WIDTH + 16}, how=zero)"


def manual() -> Tensor:
    """Python's own manual as numbers of characters."""
    letters = "\n".join(topics.values())[:LETTERS]
    known = {letter: number for number, letter in enumerate(sorted(set(letters)))}
    return torch.tensor([known[letter] for letter in letters])


def batch(text: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Some places of the text (B, T), and what follows each character."""
    starts = torch.randint(len(text) - CONTEXT - 1, (BATCH,), generator=generator)
    rows = torch.stack([text[start : start + CONTEXT + 1] for start in starts.tolist()])
    return rows[:, :-1], rows[:, 1:]


def loss_of(module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Nats for each character."""
    return nn.functional.cross_entropy(module(inputs).flatten(0, 1), targets.flatten())


def train(
    module: nn.Module, optimizer: torch.optim.Optimizer, text: Tensor, steps: int, generator: torch.Generator
) -> None:
    """So many steps."""
    module.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(module, *batch(text, generator)).backward()
        optimizer.step()


@torch.no_grad()
def judged(module: nn.Module, text: Tensor) -> float:
    """The loss on the part of the text that is not trained on."""
    generator = torch.Generator().manual_seed(9)
    return sum(float(loss_of(module.eval(), *batch(text, generator))) for _ in range(8)) / 8


def main() -> None:
    """Grow, train from scratch, print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps, for a look at the code's path")
    steps = 5 if parser.parse_args().quick else 200
    text = manual()
    cut = int(0.9 * len(text))
    net = morphs.init(decoder(int(text.max()) + 1), seed=0)
    module, generator = net.to_torch(), torch.Generator().manual_seed(1)
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(module.parameters(), lr=RATE)
    train(module, optimizer, text[:cut], steps, generator)
    spent = steps * morphs.cost(net.graph).macs
    rows: list[dict[str, float | str]] = []
    for chain in growth(net.graph):
        before = judged(module, text[cut:])
        for child in morphs.apply_chain(net.with_weights_from(module), chain):
            old, module = module, child.network.to_torch()
            optimizer = morphs.carry(optimizer, old, module, child)
            net = child.network
        after = judged(module, text[cut:])
        print(
            f"{chain}\n  loss {before:.6f} before, {after:.6f} after, {morphs.cost(net.graph).params} parameters"
        )
        assert abs(after - before) < 1e-4
        train(module, optimizer, text[:cut], steps, generator)
        spent += steps * morphs.cost(net.graph).macs
        rows.append({"move": chain, "before": before, "after": after, "trained": judged(module, text[cut:])})
    scratch = morphs.init(net.graph, seed=0).to_torch()
    fresh = torch.optim.AdamW(scratch.parameters(), lr=RATE)
    train(scratch, fresh, text[:cut], spent // morphs.cost(net.graph).macs, torch.Generator().manual_seed(1))
    figures = {
        "grown": judged(module, text[cut:]),
        "from scratch": judged(scratch, text[cut:]),
        "macs": spent,
    }
    print(json.dumps({"script": "runs/examples/grow_transformer.py", "steps": rows, "figures": figures}))


if __name__ == "__main__":
    main()
