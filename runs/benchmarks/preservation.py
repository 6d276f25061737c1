"""What goes wrong when the operations are done the simple way, beside ours: drifts and accuracies on a trained network.

For each seed a small network is trained on scikit-learn's digits. Each operation is then done twice at the same place:
by its simplest public recipe, written here, and by the move. Drift is measured in float64 on the validation images, in
eval and train mode; accuracy is on the validation images, right after the operation, before any training.

    python runs/benchmarks/preservation.py [--seeds 0 1 2 3 4] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import median

import torch
from _common import figure, finish

import morphs
from morphs import Network, Node
from morphs.graph.ops import Activation, Add, BatchNorm, Conv2d, Op
from nas.data import SearchData, eval_batches, load_search_data
from nas.train import TrainConfig, train
from nas.train.evaluate import evaluate

PARENT = """
    x = input(size=[1, 8, 8])
    c1 = conv2d(x, channels=16, kernel=5, padding=2)
    n1 = batch_norm(c1)
    r1 = relu(n1)
    c2 = conv2d(r1, channels=32, kernel=3, padding=2, dilation=2)
    n2 = batch_norm(c2)
    r2 = silu(n2)
    c3 = conv2d(r2, channels=32, kernel=3, padding=1)
    r3 = relu(c3)
    g = adaptive_avg_pool2d(r3)
    f = flatten(g)
    fc = linear(f, features=10)
    out = output(fc)
"""
Weights = dict[tuple[str, str], torch.Tensor]
Batches = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Case:
    """One operation: the move, and the recipe that goes wrong, which may start from the move's own child."""

    operation: str
    recipe: str
    move: str
    naive: Callable[[Network, Network, Batches], Network]  # of (parent, the move's child, calibration data)


def inserted(parent: Network, after: str, *ops: tuple[str, Op], **weights: torch.Tensor) -> Network:
    """Nodes (name, op) in a row between `after` and its readers; weights as name__parameter."""
    graph, chain, source = parent.graph, [], after
    for name, op in ops:
        chain.append(Node(name, op, (source,)))
        source = name
    moved = [
        replace(graph[reader], inputs=tuple(source if i == after else i for i in graph[reader].inputs))
        for reader, _ in graph.consumers(after)
    ]
    made = {tuple(key.split("__")): tensor.double() for key, tensor in weights.items()}
    return Network(graph.update(*moved, *chain), {**parent.weights, **made})


def edited(child: Network, weights: Weights, **ops: Op) -> Network:
    """`child` with some tensors and ops replaced."""
    graph = child.graph.update(*(replace(child.graph[name], op=op) for name, op in ops.items()))
    return Network(graph, {**child.weights, **weights})


def plain_relu(parent: Network, child: Network, batches: Batches) -> Network:
    """A 1×1 identity and a ReLU after a batch norm, as if its values were not signed."""
    eye = torch.eye(32)[:, :, None, None]
    return inserted(
        parent,
        "n2",
        ("i", Conv2d(32, (1, 1))),
        ("p", Activation("relu")),
        i__weight=eye,
        i__bias=torch.zeros(32),
    )


def same_padding(parent: Network, child: Network, batches: Batches) -> Network:
    """Exact factors of the 5×5 kernel, each convolution padded to keep the size of its map."""
    first, second = child.graph["conv1"].op, child.graph["c1"].op
    assert isinstance(first, Conv2d)
    assert isinstance(second, Conv2d)
    return edited(child, {}, conv1=replace(first, padding=(1, 1)), c1=replace(second, padding=(1, 1)))


def fresh_statistics(parent: Network, child: Network, batches: Batches) -> Network:
    """Weights replicated and split, the norm's new channels left as a fresh norm has them."""
    neutral = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    tensors: Weights = {}
    for name, value in neutral.items():
        tensors["n1", name] = child.weights["n1", name].clone()
        tensors["n1", name][16:] = value
    return edited(child, tensors)


def half_padding(parent: Network, child: Network, batches: Batches) -> Network:
    """The grown kernel padded by half its size, whatever its dilation."""
    op = child.graph["c2"].op
    assert isinstance(op, Conv2d)
    return edited(child, {}, c2=replace(op, padding=(op.kernel[0] // 2, op.kernel[1] // 2)))


def corner(parent: Network, child: Network, batches: Batches) -> Network:
    """The old kernel in a corner of the new one."""
    weight = torch.zeros_like(child.weights["c3", "weight"])
    weight[:, :, :3, :3] = parent.weights["c3", "weight"]
    return edited(child, {("c3", "weight"): weight})


def plain_shortcut(parent: Network, child: Network, batches: Batches) -> Network:
    """A shortcut added as it is."""
    graph = parent.graph
    reader = replace(graph["r3"], inputs=("s",))
    return Network(graph.update(Node("s", Add(), ("c3", "r2")), reader), parent.weights)


def two_paths(parent: Network, child: Network, batches: Batches) -> Network:
    """The layer as a sum of two halves, each with the whole bias."""
    graph, half = parent.graph, parent.weights["c3", "weight"] / 2
    graph = graph.update(
        Node("b", graph["c3"].op, ("r2",)), Node("s", Add(), ("c3", "b")), replace(graph["r3"], inputs=("s",))
    )
    bias = parent.weights["c3", "bias"]
    halves = {("c3", "weight"): half, ("b", "weight"): half.clone(), ("b", "bias"): bias.clone()}
    return Network(graph, {**parent.weights, **halves})


def default_norm(parent: Network, child: Network, batches: Batches) -> Network:
    """A batch norm as torch makes it."""
    ones, zeros = torch.ones(32), torch.zeros(32)
    return with_norm(parent, ones, zeros, zeros, ones)


def norm_without_statistics(parent: Network, child: Network, batches: Batches) -> Network:
    """γ and β from a batch, so that training sees an identity; running statistics as torch makes them."""
    norm = next(node.name for node in child.graph if node.name not in parent.graph)
    gamma, beta = child.weights[norm, "weight"], child.weights[norm, "bias"]
    return with_norm(parent, gamma, beta, torch.zeros(32), torch.ones(32))


def with_norm(
    parent: Network, gamma: torch.Tensor, beta: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor
) -> Network:
    """A batch norm with these four vectors after c3."""
    net = inserted(
        parent, "c3", ("n", BatchNorm()), n__weight=gamma, n__bias=beta, n__running_mean=mean, n__running_var=variance,
        n__num_batches_tracked=torch.zeros(()),
    )  # fmt: skip
    return edited(net, {("n", "num_batches_tracked"): torch.tensor(0)})


CASES = (
    Case("deepen", "identity layer with a plain ReLU after a batch norm", "deepen(node=n2, how=identity)", plain_relu),
    Case(
        "deepen", "5×5 into 3×3 and 3×3, both padded `same`",
        "deepen(node=c1, how=netmorph, channels=64, kernel=[3, 3], then=[3, 3])", same_padding,
    ),
    Case("widen", "replicated units, norm statistics not", "widen(node=c1, to=24)", fresh_statistics),
    Case("grow a kernel", "padding k // 2 on a dilated convolution", "grow_kernel(node=c2, to=[5, 5])", half_padding),
    Case("grow a kernel", "old kernel in a corner", "grow_kernel(node=c3, to=[5, 5])", corner),
    Case("add a shortcut", "added as it is", "add_skip(source=r2, target=c3)", plain_shortcut),
    Case("subnet", "two halves of a layer, the bias in both", "subnet(node=c3, template=stacked)", two_paths),
    Case("insert a batch norm", "torch's defaults", "insert_norm(node=c3)", default_norm),
    Case("insert a batch norm", "γ, β calibrated, not μ, σ²", "insert_norm(node=c3)", norm_without_statistics),
)  # fmt: skip


def main() -> None:
    """Measure, print the table for the README and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--quick", action="store_true", help="one seed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    parents = [trained(seed) for seed in seeds]
    accuracy = median(evaluate(net.to_torch(), data.val, data).accuracy for net, data in parents)
    print(f"n = {len(seeds)} networks of {100 * accuracy:.1f} % in the median; medians of drift and accuracy")
    measured = "drift, eval | drift, train | accuracy"
    print(f"| operation | simple recipe | {measured} | move | {measured} |")
    print("|---|---|---|---|---|---|---|---|---|")
    figures = []
    for case in CASES:
        rows = [measure(case, net, data) for net, data in parents]
        theirs, ours = ([median(row[side][i] for row in rows) for i in range(3)] for side in (0, 1))
        print(
            f"| {case.operation} | {case.recipe} | {cells(theirs)} | `{case.move.partition('(')[0]}` | {cells(ours)} |"
        )
        worst = max(row[1][0] for row in rows)
        figures.append(
            figure(f"{case.operation} ({case.recipe}): ours, worst drift in eval", worst, "", "<= 1e-10")
        )
        if "norm" not in case.operation:
            worst = max(row[1][1] for row in rows)
            figures.append(
                figure(f"{case.operation} ({case.recipe}): ours, worst drift in train", worst, "", "<= 1e-10")
            )
    finish(__file__, figures)


def trained(seed: int) -> tuple[Network, SearchData]:
    """The parent after 15 epochs on digits, in float64, and its data."""
    data = load_search_data("digits", None, seed, 0.2)
    net = morphs.init(morphs.parse_graph(PARENT), seed)
    module = net.to_torch()
    config = TrainConfig(lr=0.05, batch_size=64)
    train(module, data, steps=15 * len(data.train) // config.batch_size, config=config, seed=seed)
    return net.with_weights_from(module).to(torch.float64), data


def measure(case: Case, parent: Network, data: SearchData) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(drift in eval, drift in train, accuracy) of the recipe and of the move."""
    batches = list(eval_batches(data.train, 256, data.mean, data.std, dtype=torch.float64))
    probe = torch.cat([x for x, _ in eval_batches(data.val, 256, data.mean, data.std, dtype=torch.float64)])
    child = morphs.apply(parent, case.move, batches=batches).network
    found = []
    for net in (case.naive(parent, child, batches), child):
        drift = morphs.drift(parent, net, probe)
        found.append((drift.eval, drift.train, evaluate(net.to_torch(), data.val, data).accuracy))
    return found[0], found[1]


def cells(values: Iterable[float]) -> str:
    """Two drifts and an accuracy."""
    one, two, accuracy = values
    return f"{one:.1g} | {two:.1g} | {100 * accuracy:.1f} %"


if __name__ == "__main__":
    main()
