"""A child can learn: gradients reach every new number, and clones part ways."""

import numpy as np
import pytest
import torch
from strategies import lively, some_batches
from torch import nn

import morphs

TEXT = """
    x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=3, padding=1, bias=false); n = batch_norm(c)
    r = {phi}(n); d = conv2d(r, channels=4, kernel=3, padding=1); e = {phi}(d); g = adaptive_avg_pool2d(e, size=2)
    f = flatten(g); h = linear(f, features=6); i = {phi}(h); l = linear(i, features=3); out = output(l)
"""

MOVES = [
    "widen(node=c, to=7)", "widen(node=d, to=9)", "widen(node=h, to=20)", "widen(node=c, to=7, how=zero)",
    "widen(node=d, to=9, how=zero)", "widen(node=h, to=9, how=zero)", "widen(node=c, to=7, how=gradient)",
    "widen(node=d, to=9, how=gradient)", "widen(node=h, to=9, how=gradient)",
    "deepen(node=r, kernel=[3, 3])", "deepen(node=i)",
    "deepen(node=n, kernel=[3, 3], activation=tanh)",
    "deepen(node=d, how=netmorph, channels=16, kernel=[3, 3], then=[3, 3])",
    "deepen(node=d, how=netmorph, channels=4, kernel=[3, 3])", "deepen(node=h, how=netmorph, channels=9)",
    "deepen(node=r, kernel=[3, 3], groups=4)", "deepen(node=i, activation=prelu, per_channel=false)",
    "deepen(node=d, how=netmorph, channels=16, kernel=[3, 3], then=[3, 3], norm=true)",
    "deepen(node=n, kernel=[3, 3], norm=true)", "deepen(node=n)",
    "grow_kernel(node=c, to=[5, 5])", "grow_kernel(node=d, to=[3, 5])",
    "add_skip(source=r, target=d)", "insert_norm(node=d)",
    "squeeze_excite(node=r, channels=3)", "squeeze_excite(node=n, channels=6)",
    "reparameterise(node=n, how=norm)",
    "insert_activation(node=c, activation=silu)", "insert_activation(node=g, activation=tanh, per_channel=false)",
    "add_skip(source=r, target=d, how=convex)", "add_skip(source=r, target=d, how=concat)",
    "add_skip(source=r, target=d, project=true)", "add_skip(source=x, target=d, how=convex, project=true)",
    "add_skip(source=x, target=c, how=concat)", "add_skip(source=f, target=i, how=concat, project=true)",
    "add_skip(source=f, target=h, project=true)",
    "subnet(node=d, template=mlpconv)", "subnet(node=d, template=inception)", "subnet(node=c, template=bottleneck)",
    "subnet(node=d, template=residual, activation=tanh)", "subnet(node=c, template=sequential)",
    "subnet(node=h, template=stacked)", "subnet(node=h, template=\"(1) + (1:9)(1:8)(1)\")",
]  # fmt: skip


@pytest.mark.parametrize("phi", ["relu", "tanh"])
@pytest.mark.parametrize("move", MOVES)
def test_a_few_steps_move_every_new_number(move, phi):
    learns(TEXT.format(phi=phi), move)


OTHERS = {  # moves that need another graph
    "squeeze_excite(node=e, channels=3, activation=relu)": TEXT.format(phi="relu"),
    "merge_groups(node=g, groups=2)": """
        x = input(size=[3, 6, 6]); c = conv2d(x, channels=8, kernel=3); r = tanh(c)
        g = conv2d(r, channels=4, kernel=3, groups=4); f = flatten(g); l = linear(f, features=3); out = output(l)""",
    "merge_groups(node=g)": """
        x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=3); r = relu(c)
        g = conv2d(r, channels=8, kernel=3, groups=4); f = flatten(g); l = linear(f, features=3); out = output(l)""",
}


@pytest.mark.parametrize("move", OTHERS)
def test_so_they_do_in_other_graphs(move):
    learns(OTHERS[move], move)


def learns(text: str, move: str) -> None:
    """Apply `move` and train a few steps: every new number must move."""
    net = lively(morphs.parse_graph(text), seed=3)
    child = morphs.apply(net, move, batches=some_batches(net), seed=1)
    trained = train(child.network)
    for key, origin in child.origin.items():
        if not child.network.graph.params[key].trainable:
            continue
        before, after = child.network.weights[key], trained.weights[key]
        fresh = np.ones(before.shape, dtype=bool)
        if origin.source is not None:
            fresh[...] = False if origin.entries is None else origin.entries < 0
            for axis, index in enumerate(origin.axes):
                if index is not None:
                    shape = [-1 if a == axis else 1 for a in range(before.dim())]
                    fresh |= (index < 0).reshape(shape)
        stuck = torch.from_numpy(fresh) & (before == after)
        assert not bool(stuck.any()), f"{int(stuck.sum())} new numbers of {key} did not move"


def train(net: morphs.Network, steps: int = 4) -> morphs.Network:
    """`steps` of SGD on random data, in train mode; P-activations aren't projected, to see where they are drawn."""
    g = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(256, *net.graph.shape("x"), generator=g, dtype=net.dtype)
    y = torch.randint(0, 3, (256,), generator=g)
    module = net.to_torch().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    return net.with_weights_from(module)


@pytest.mark.parametrize("node", ["c", "d", "h"])
def test_clones_of_a_unit_do_not_stay_equal(node):
    net = lively(morphs.parse_graph(TEXT.format(phi="tanh")))
    child = morphs.apply(net, f"widen(node={node}, to={2 * net.graph.shape(node)[0]})").network
    before, after = (n.weights[node, "weight"].flatten(1) for n in (child, train(child)))
    twins = [(i, j) for i in range(len(before)) for j in range(i) if torch.equal(before[i], before[j])]
    assert len(twins) == net.graph.shape(node)[0]
    assert all(float((after[i] - after[j]).abs().max()) > 1e-6 for i, j in twins)
