"""Widths that go through what parameters and products are made of by several calls."""

import pytest
import torch
import torch.nn.functional as F
from copied_modules import Calls, copied, normal
from torch import nn

import morphs


def free(net: morphs.Network) -> set[str]:
    """The nodes with a width that is free."""
    widths = morphs.channel_groups(net.graph)
    return {
        name
        for name, axes in widths.axes.items()
        if any(widths.groups[span.group].fixed is None for spans in axes for span in spans or ())
    }


def widens(net: morphs.Network, x: torch.Tensor, *nodes: str) -> None:
    """The nodes' widths are free, all that is free widens exactly, and a copy's copy is the same graph."""
    assert set(nodes) <= free(net)
    assert morphs.from_torch(net.to_torch(), x).graph == net.graph
    for how in ("replicate", "zero"):
        for site in morphs.Widen.sites(net, options={"how": (how,), "factor": (2,)}):
            child = morphs.apply(net, site)
            assert max(child.drift.eval, child.drift.train) <= 1e-12, site


def positions(m, x):
    """Positions brought to another size, but for that of the class token, in single precision."""
    y = m.patches(x).flatten(2).transpose(1, 2)
    grid = m.place[:, 1:].float().reshape(1, 3, 3, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (2, 2), mode="bilinear").permute(0, 2, 3, 1).reshape(1, 4, -1).to(y.dtype)
    place = torch.cat([m.place[:, :1], grid], 1)
    y = torch.cat([m.token.expand(x.shape[0], -1, -1), y], 1) + place
    return m.out(m.norm(y)[:, 0])


def test_positions_of_another_size_are_those_of_each_example():
    x = normal(2, 3, 4, 4)
    layers = {"patches": nn.Conv2d(3, 6, 2, 2), "norm": nn.LayerNorm(6), "out": nn.Linear(6, 2)}
    module = Calls(positions, **layers)
    module.token, module.place = nn.Parameter(torch.randn(1, 1, 6)), nn.Parameter(torch.randn(1, 10, 6))
    widens(copied(module, x), x, "patches", "place", "token")


def affine(m, x):
    """A factor and an offset in one call (ResMLP)."""
    return m.out(torch.addcmul(m.offset, m.factor, m.first(x)).relu())


def test_a_sum_with_a_product_carries_widths():
    x = normal(3, 5, 4)
    module = Calls(affine, first=nn.Linear(4, 6), out=nn.Linear(6, 2))
    module.factor, module.offset = nn.Parameter(torch.randn(1, 1, 6)), nn.Parameter(torch.randn(1, 1, 6))
    widens(copied(module, x), x, "first", "factor", "offset")


def cascade(m, x):
    """Attention of one head on maps, its values' channels first, put back to the stream."""
    q, k, v = m.qkv(x).split((2, 2, 6), 1)
    chances = (q.flatten(2).transpose(1, 2) @ k.flatten(2)).softmax(-1)
    return m.out(m.stem(x) + (v.flatten(2) @ chances.transpose(1, 2)).view_as(v)).mean((2, 3))


def linear_attention(m, x):
    """The sum over tokens first: both factors' columns are widths."""
    q, k, v = m.q(x), m.k(x), m.v(x)
    return m.out(q @ (k.transpose(1, 2) @ v))


def test_columns_of_a_product_are_widths():
    x = normal(2, 6, 3, 3)
    net = copied(Calls(cascade, qkv=nn.Conv2d(6, 10, 1), stem=nn.Conv2d(6, 6, 1), out=nn.Conv2d(6, 2, 1)), x)
    widens(net, x, "stem", "qkv")
    x = normal(2, 4, 3)
    layers = {"q": nn.Linear(3, 5), "k": nn.Linear(3, 5), "v": nn.Linear(3, 4), "out": nn.Linear(4, 2)}
    net = copied(Calls(linear_attention, **layers), x)
    widens(net, x, "v")
    assert not {"q", "k"} & free(net)


@pytest.mark.parametrize("stem", ["matmul", "bmm"])
def test_a_product_says_which_widths_it_carries(stem):
    text = """x = input(size=[3, 4]); a = linear(x, features=5); p = permute(a, order=[1, 0]); b = linear(x, features=6)
    m = aten(p, b, operator=aten.STEM.default, args="[{\\"tensor\\":0},{\\"tensor\\":1}]", size=[-1, 0, 0])
    y = linear(m, features=2); f = mean(y, axes=[0]); out = output(f)""".replace("STEM", stem)
    graph = morphs.parse_graph(text)
    assert graph.shape("m") == (5, 6)
    net = morphs.init(graph, dtype=torch.float64)
    child = morphs.apply(net, "widen(node=b, to=9)")
    assert child.network.graph.shape("m") == (5, 9)
    assert child.drift.eval <= 1e-12


def across_channels(m, x):
    """Attention between channels, each of length 1 over the tokens (XCiT)."""
    b, t = x.shape[:2]
    q, k, v = m.qkv(m.first(x)).reshape(b, t, 3, 2, -1).permute(2, 0, 3, 4, 1).unbind(0)
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    y = ((q @ k.transpose(-2, -1)) * m.heat).softmax(-1) @ v
    return m.out(y.permute(0, 3, 1, 2).reshape(b, t, -1))


def test_lengths_over_tokens_carry_heads():
    x = normal(2, 5, 3)
    layers = {"first": nn.Linear(3, 4), "qkv": nn.Linear(4, 12), "out": nn.Linear(4, 2)}
    module = Calls(across_channels, **layers)
    module.heat = nn.Parameter(torch.ones(2, 1, 1))
    widens(copied(module, x), x, "first", "qkv", "heat")


def parts_of_a_bias(m, x):
    """A bias joined from parts, one of them always zero (BEiT)."""
    bias = torch.cat([m.q_bias, m.zero, m.v_bias])
    return m.out(F.linear(m.first(x).relu(), m.qkv.weight, bias))


def test_a_computed_bias_leaves_what_a_layer_reads_free():
    x = normal(2, 5, 3)
    module = Calls(
        parts_of_a_bias, first=nn.Linear(3, 4), qkv=nn.Linear(4, 6, bias=False), out=nn.Linear(6, 2)
    )
    module.q_bias, module.v_bias = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(2))
    module.register_buffer("zero", torch.zeros(2), persistent=False)
    widens(copied(module, x), x, "first")
