"""Pairs (V, V) with outgoing (Z, −Z): equal at first, and apart after a few steps."""

import numpy as np
import pytest
import torch
from strategies import lively
from torch import Tensor, nn

import morphs
from morphs.errors import IllegalMove

TEXT = """
    x = input(size=[3, 8, 8]); c = conv2d(x, channels=8, kernel=3, padding=1, bias=false); n = batch_norm(c)
    r = relu(n); d = conv2d(r, channels=8, kernel=3, padding=1); e = {phi}(d); g = adaptive_avg_pool2d(e, size=2)
    f = flatten(g); h = linear(f, features=6); i = {phi}(h); l = linear(i, features=3); out = output(l)
"""
OPTIMIZERS = {
    "sgd": lambda module: torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9),
    "adam": lambda module: torch.optim.Adam(module.parameters(), lr=0.003),
}
BLOCKS = {  # the layers whose units are pairs
    "insert_block(node=r, how=paired)": ("conv1",),
    "insert_block(node=r, kind=single, how=paired)": ("conv1",),
    "insert_block(node=r, kind=bottleneck, how=paired, expand=1)": ("conv2",),
    "insert_block(node=r, kind=inverted, how=paired, expand=2)": ("conv1", "conv2"),
    "insert_block(node=d, how=paired)": ("conv1",),
    "insert_block(node=h, how=paired, kernel=[1, 1])": ("fc1",),
}
WIDER = {
    "c": ("c", "d"),
    "d": ("d", "h"),
    "h": ("h", "l"),
}  # by node to widen: the layers that write and read it


def trained(net: morphs.Network, make, steps: int = 10) -> morphs.Network:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, 8, 8, generator=draws, dtype=net.dtype)
    y = torch.randint(0, 3, (64,), generator=draws)
    module = net.to_torch().train()
    optimizer = make(module)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    return net.with_weights_from(module)


def apart(one: Tensor, two: Tensor) -> float:
    """Relative distance of two halves."""
    return float((one - two).norm() / (one.norm() + two.norm()) * 2)


@pytest.mark.parametrize("phi", ["relu", "tanh"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("move", BLOCKS)
def test_the_halves_of_a_block_part(move, optimizer, phi):
    child = morphs.apply(lively(morphs.parse_graph(TEXT.format(phi=phi))), move).network
    after = trained(child, OPTIMIZERS[optimizer])
    for layer in BLOCKS[move]:
        one, two = child.weights[layer, "weight"].chunk(2)
        assert torch.equal(one, two)
        assert apart(*after.weights[layer, "weight"].chunk(2)) > 0.01
    last = [name for name, _ in child.weights if name.startswith(("conv", "fc"))][-1]
    out = next(n for n, w in child.weights if w == "weight" and is_mirrored(child.weights[n, w]))
    assert out.startswith(last[:2])
    one, two = after.weights[out, "weight"].chunk(2, 1)
    assert apart(one, -two) > 0.01


def is_mirrored(weight: Tensor) -> bool:
    """Whether the second half of its columns is the first one's negative."""
    return (
        weight.dim() > 1
        and weight.shape[1] % 2 == 0
        and torch.equal(*(sign * half for sign, half in zip((1, -1), weight.chunk(2, 1), strict=True)))
    )


@pytest.mark.parametrize("phi", ["relu", "tanh"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("node", WIDER)
def test_the_halves_of_new_units_part(node, optimizer, phi):
    net = lively(morphs.parse_graph(TEXT.format(phi=phi)))
    child = morphs.apply(net, f"widen(node={node}, to={net.graph.shape(node)[0] + 4}, how=paired)")
    writer, reader = WIDER[node]
    before, after = child.network.weights, trained(child.network, OPTIMIZERS[optimizer]).weights
    rows = torch.from_numpy(np.flatnonzero(child.origin[writer, "weight"].axes[0] < 0)).chunk(2)
    assert torch.equal(*(before[writer, "weight"][part] for part in rows))
    assert apart(*(after[writer, "weight"][part] for part in rows)) > 0.01
    new = np.flatnonzero(child.origin[reader, "weight"].axes[1] < 0)
    one, two = (torch.from_numpy(part) for part in np.split(new, 2))
    assert torch.equal(before[reader, "weight"][:, one], -before[reader, "weight"][:, two])
    assert apart(after[reader, "weight"][:, one], -after[reader, "weight"][:, two]) > 0.01


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_new_units_are_as_large_as_the_trained_ones(scale):
    net = lively(morphs.parse_graph(TEXT.format(phi="relu")))
    net = morphs.Network(net.graph, {k: t * scale if t.dim() > 1 else t for k, t in net.weights.items()})
    child = morphs.apply(net, "widen(node=d, to=200, how=paired)")
    for key, axis in ((("d", "weight"), 0), (("h", "weight"), 1)):
        new = torch.from_numpy(np.flatnonzero(child.origin[key].axes[axis] < 0))
        drawn = child.network.weights[key].index_select(axis, new)
        size = float(net.weights[key].square().mean().sqrt())
        assert float(drawn.square().mean().sqrt()) == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_widening_by_pairs_in_every_type(dtype):
    net = lively(morphs.parse_graph(TEXT.format(phi="relu")), dtype=dtype)
    child = morphs.apply(net, "widen(node=d, to=12, how=paired)")
    assert max(child.drift.eval, child.drift.train) <= 1e-14
    assert child.network.dtype == dtype


def test_an_identity_layer_is_widened_by_pairs():
    net = lively(morphs.parse_graph(TEXT.format(phi="relu")))
    chain = "deepen(node=r, kernel=[3, 3]); widen(node=conv1, to=16, how=paired)"
    *_, child = morphs.apply_chain(net, chain)
    found = morphs.drift(net, child.network)
    assert max(found.eval, found.train) <= 1e-14
    after = trained(child.network, OPTIMIZERS["sgd"])
    assert apart(*after.weights["conv1", "weight"][8:].chunk(2)) > 0.01


def test_pairs_come_in_each_part_of_a_group():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=1); r = relu(c)
        d = conv2d(r, channels=6, kernel=3, groups=2); e = relu(d); f = conv2d(e, channels=2, kernel=1); out = output(f)
    """)
    )
    assert morphs.apply(net, "widen(node=c, to=8, how=paired)").drift.train <= 1e-14
    for to, names in ((5, ("5", '"c"', "2")), (6, ("6", '"c"', "odd", "2", "8"))):
        with pytest.raises(IllegalMove) as caught:
            morphs.apply(net, f"widen(node=c, to={to}, how=paired)")
        assert all(name in str(caught.value) for name in names)
    sites = morphs.Widen.sites(net, options={"how": ("paired",), "factor": (1.5, 2)})
    assert [str(move) for move in sites if move.node == "c"] == ["widen(node=c, to=8, how=paired)"]
