"""GrowKernel on each axis: every convolution and target kernel is exact, or refused for a stated reason."""

import pytest
import torch
from copied_modules import along, copied
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import lively
from torch.nn.functional import conv2d, pad

import morphs
from morphs.errors import IllegalMove, ShapeError
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Conv2d, Input, Output

MODES = ("zeros", "reflect", "replicate", "circular")
sides = st.tuples(st.integers(1, 4), st.integers(1, 7))


@st.composite
def convolutions(draw) -> morphs.Network:
    """One convolution of any kernel, stride, padding mode, dilation and groups, with trained weights."""
    groups = draw(st.sampled_from((1, 2, 3)))
    ins = draw(st.sampled_from((groups, 2 * groups)))  # depthwise, and not
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    op = Conv2d(
        groups * draw(st.integers(1, 2)), draw(sides), draw(pairs),
        draw(st.tuples(st.integers(0, 3), st.integers(0, 3))), draw(st.sampled_from(MODES)), draw(pairs), groups,
        draw(st.booleans()),
    )  # fmt: skip
    size = (ins, draw(st.integers(3, 10)), draw(st.integers(3, 12)))
    try:
        graph = ArchGraph([Node("x", Input(size)), Node("c", op, ("x",)), Node("out", Output(), ("c",))])
    except ShapeError:
        assume(False)
    return lively(graph, draw(st.integers(0, 9)))


def by_torch(op: Conv2d, network: morphs.Network, x: torch.Tensor) -> torch.Tensor:
    """The convolution as two calls of torch, padding apart."""
    height, width = op.padding
    mode = "constant" if op.padding_mode == "zeros" else op.padding_mode
    weight, bias = network.weights["c", "weight"], network.weights.get(("c", "bias"))
    padded = pad(x, (width, width, height, height), mode=mode)
    return conv2d(padded, weight, bias, op.stride, 0, op.dilation, op.groups)


@given(net=convolutions(), to=sides)
def test_any_growth_is_exact_or_refused_with_a_reason(net, to):
    op = net.graph["c"].op
    more = [new - old for new, old in zip(to, op.kernel, strict=True)]
    padding = [p + d * m // 2 for p, d, m in zip(op.padding, op.dilation, more, strict=True)]
    room = {"reflect": -1, "circular": 0}.get(op.padding_mode)
    fits = room is None or all(p <= n + room for p, n in zip(padding, net.graph.shape("x")[1:], strict=True))
    legal = min(more) >= 0 < max(more) and not any(m % 2 for m in more) and fits
    move = morphs.GrowKernel("c", to)
    if not legal:
        with pytest.raises(IllegalMove) as caught:
            morphs.apply(net, move)
        assert not fits or str(to) in str(caught.value)
        assert '"c"' in str(caught.value)
        return
    child = morphs.apply(net, move).network
    grown = child.graph["c"].op
    assert (grown.kernel, grown.padding) == (to, tuple(padding))
    assert child.graph.shape("c") == net.graph.shape("c")
    x = torch.randn(2, *net.graph.shape("x"), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = by_torch(op, net, x)
    assert torch.allclose(by_torch(grown, child, x), expected, rtol=0, atol=1e-12)
    assert torch.allclose(child.to_torch().eval()(x), expected, rtol=0, atol=1e-12)
    assert child.weights["c", "weight"].count_nonzero() == net.weights["c", "weight"].count_nonzero()


def test_the_menu_grows_each_axis_by_itself():
    graph = morphs.parse_graph("""
        x = input(size=[2, 9, 9]); c = conv2d(x, channels=2, kernel=3, padding=1); d = conv2d(c, channels=4, kernel=1)
        e = conv2d(d, channels=4, kernel=[1, 7], padding=[0, 3], groups=4); out = output(e)
    """)
    menu = {"by": ((2, 0), (0, 2), (2, 2), (0, 6), (1, 0)), "max_kernel": (7,)}
    found = {(site.node, site.to) for site in morphs.GrowKernel.sites(graph, options=menu)}
    assert found == {
        ("c", (5, 3)), ("c", (3, 5)), ("c", (5, 5)),
        ("d", (3, 1)), ("d", (1, 3)), ("d", (3, 3)), ("d", (1, 7)),
        ("e", (3, 7)),
    }  # fmt: skip
    assert {(site.node, site.to) for site in morphs.GrowKernel.sites(graph)} == {("c", (5, 5)), ("d", (3, 3))}
    uneven = [r for r in morphs.GrowKernel.refused(graph, options=menu) if r.move.to == (4, 3)]
    assert "evenly on both sides" in uneven[0].reason


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions_of_signals_maps_and_volumes_grow_alike(rank, dtype):
    module, x = along(rank)
    net = copied(module, x).to(dtype)
    sites = list(morphs.GrowKernel.sites(net))
    assert [(site.node, site.to) for site in sites] == [("layer0", (5,) * rank), ("layer3", (5,) * rank)]
    sites.append(morphs.GrowKernel("layer3", (5, *(3,) * (rank - 1))))  # along the first axis alone
    for site in sites:
        child = morphs.apply(net, site)
        assert max(child.drift.eval, child.drift.train) <= 1e-12, "zeros are zeros in every type"
        old, grown = net.graph[site.node].op, child.network.graph[site.node].op
        assert grown.padding == tuple(
            p + d * (new - k) // 2
            for p, d, k, new in zip(old.padding, old.dilation, old.kernel, site.to, strict=True)
        )
        origin, weight = child.origin[site.node, "weight"], net.weights[site.node, "weight"]
        assert torch.equal(origin.gather(weight), child.network.weights[site.node, "weight"])
        assert child.network.weights[site.node, "weight"].dtype == dtype


def test_a_kernel_of_another_number_of_axes_is_refused():
    for rank in (1, 2, 3):
        net = morphs.from_torch(*along(rank))
        for other in {1, 2, 3} - {rank}:
            with pytest.raises(IllegalMove, match=f'"layer0".*give {rank}'):
                morphs.apply(net, morphs.GrowKernel("layer0", (5,) * other))
            assert not list(morphs.GrowKernel.sites(net, options={"by": ((2,) * other,)}))


def test_new_taps_learn():
    graph = morphs.parse_graph("""
        x = input(size=[2, 6, 6]); c = conv2d(x, channels=3, kernel=[1, 3], padding=[0, 1], dilation=[2, 1])
        out = output(c)
    """)
    child = morphs.apply(lively(graph), "grow_kernel(node=c, to=[3, 5])").network
    module = child.to_torch()
    x = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    module(x).square().sum().backward()
    assert bool((module.c.weight.grad != 0).all())
