"""Deepen where such tools go wrong: borders, strides, dilation, groups, padding modes, biases, norms."""

import pytest
import torch
from copied_modules import along, copied
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import lively, some_batches
from torch.nn.functional import conv2d, pad

import morphs
from morphs.errors import IllegalMove, NeedsData, ShapeError
from morphs.graph.activations import ACTIVATIONS
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Conv2d, Input, Output

MODES = ("zeros", "reflect", "replicate", "circular")


def conv_net(op: Conv2d, size: tuple[int, int, int], seed: int = 0) -> morphs.Network:
    graph = ArchGraph([Node("x", Input(size)), Node("c", op, ("x",)), Node("out", Output(), ("c",))])
    return lively(graph, seed)


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
kernels = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(data=st.data())
def test_a_factoring_computes_what_torch_computes_for_the_layer(data):
    draw = data.draw
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    ins = groups * draw(st.integers(1, 3 if groups < 3 else 1))
    op = Conv2d(
        groups * draw(st.integers(1, 3)), draw(kernels), draw(pairs), draw(pairs), draw(st.sampled_from(MODES)),
        draw(pairs), groups, draw(st.booleans()),
    )  # fmt: skip
    net = conv_net_or_none(op, (ins, draw(st.integers(4, 11)), draw(st.integers(4, 11))))
    assume(net is not None)
    one, two = draw(kernels), draw(kernels)
    channels = groups * draw(st.integers(1, 20))
    move = morphs.Deepen("c", "netmorph", channels, one, two, groups=None)
    assume(offered(move, net.graph))
    child = morphs.apply(net, move).network
    x = torch.randn(2, *net.graph.shape("x"), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = by_torch(op, net.weights["c", "weight"], net.weights.get(("c", "bias")), x)
    assert torch.allclose(child.to_torch().eval()(x), expected, rtol=0, atol=1e-10)
    assert child.graph["conv1"].op.groups == child.graph["c"].op.groups == groups
    assert child.graph["c"].op.padding == (0, 0)


def offered(move: morphs.Deepen, graph: ArchGraph) -> bool:
    try:
        move.offer(graph)
    except IllegalMove:
        return False
    return True


def conv_net_or_none(op: Conv2d, size: tuple[int, int, int]) -> morphs.Network | None:
    try:
        return conv_net(op, size)
    except ShapeError:
        return None


def by_torch(op: Conv2d, weight: torch.Tensor, bias: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    sides = [side for n in reversed(op.padding) for side in (n, n)]
    mode = "constant" if op.padding_mode == "zeros" else op.padding_mode
    return conv2d(pad(x, sides, mode=mode), weight, bias, op.stride, 0, op.dilation, op.groups)


def test_padding_early_is_exact_where_padding_twice_is_wrong_at_the_border():
    net = conv_net(Conv2d(4, (5, 5), padding=(2, 2), bias=False), (3, 9, 9))
    child = morphs.apply(net, "deepen(node=c, how=netmorph, channels=40, kernel=[3, 3], then=[3, 3])").network
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    expected = by_torch(net.graph["c"].op, net.weights["c", "weight"], None, x)
    first, second = child.weights["conv1", "weight"], child.weights["c", "weight"]
    twice = conv2d(conv2d(x, first, padding=1), second, padding=1)
    scale = expected.abs().max()
    assert float((twice - expected)[:, :, 1:-1, 1:-1].abs().max() / scale) < 1e-12
    assert float((twice - expected).abs().max() / scale) > 0.1
    assert float((child.to_torch()(x).detach() - expected).abs().max() / scale) < 1e-12


@pytest.mark.parametrize("mode", MODES)
def test_a_bias_of_the_first_layer_can_be_corrected_in_the_second(mode):
    op = Conv2d(4, (3, 3), (2, 1), (1, 1), mode)
    net = conv_net(op, (3, 8, 8))
    child = morphs.apply(net, "deepen(node=c, how=netmorph, channels=40, kernel=[3, 3], then=[3, 3])")
    weights = dict(child.network.weights)
    assert not weights["conv1", "bias"].any()
    assert child.origin["c", "bias"].source == ("c", "bias")
    shift = torch.arange(40, dtype=torch.float64)
    weights["conv1", "bias"] = shift
    weights["c", "bias"] = weights["c", "bias"] - weights["c", "weight"].sum((2, 3)) @ shift
    assert morphs.drift(net, morphs.Network(child.network.graph, weights)).eval < 1e-11


REFUSED = {  # op, move: what is refused and what is said
    "reflect": (
        Conv2d(3, (3, 3), padding=(1, 1), padding_mode="reflect"), "channels=40, kernel=[5, 5], then=[7, 7]",
        ("4", "5", "reflect", "kernel"),
    ),
    "circular": (
        Conv2d(3, (3, 3), padding=(1, 1), padding_mode="circular"), "channels=40, kernel=[5, 5], then=[7, 7]",
        ("4", "5", "circular"),
    ),
    "even": (Conv2d(3, (3, 3)), "channels=9, kernel=[3, 3], then=[2, 2]", ("(3, 3)", "(2, 2)")),
    "groups": (
        Conv2d(3, (3, 3), groups=3), "channels=7, kernel=[3, 3]",
        ('"c"', "3", "groups", "channels"),
    ),
    "few": (Conv2d(3, (3, 3), groups=3), "channels=3, kernel=[1, 3], then=[3, 1]", ("9", "channels")),
    "own groups": (
        Conv2d(3, (3, 3), groups=3), "channels=3, kernel=[3, 3], groups=3",
        ('"c"', "groups", "3"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_reason_and_what_works(case):
    op, choice, names = REFUSED[case]
    net = conv_net(op, (3, 4, 4))
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(net, f"deepen(node=c, how=netmorph, {choice})")
    assert all(name in str(caught.value) for name in ("deepen", *names))
    if case == "few":
        morphs.apply(net, f"deepen(node=c, how=netmorph, {choice.replace('channels=3', 'channels=9')})")


def test_circular_padding_as_far_as_the_map_reaches():
    net = conv_net(Conv2d(3, (3, 3), padding=(1, 1), padding_mode="circular"), (3, 5, 5))
    move = "deepen(node=c, how=netmorph, channels=3, kernel=[7, 7], then=[5, 5])"
    child = morphs.apply(net, move)
    assert child.network.graph["conv1"].op.padding == (5, 5)


def test_an_uneven_composite_is_placed_where_a_stride_hides_the_difference():
    net = conv_net(Conv2d(3, (4, 4), (2, 2), (1, 1)), (3, 9, 9))
    child = morphs.apply(net, "deepen(node=c, how=netmorph, channels=27, kernel=[4, 4], then=[2, 2])")
    assert child.network.graph.shape("c") == net.graph.shape("c")
    assert child.drift.eval < 1e-12


def test_the_stride_stays_with_the_second_layer_unless_that_has_one_tap():
    net = conv_net(Conv2d(3, (3, 3), (2, 3), (1, 1)), (3, 9, 9))
    child = morphs.apply(net, "deepen(node=c, how=netmorph, channels=9, kernel=[3, 1], then=[1, 3])")
    assert child.network.graph["conv1"].op.stride == (2, 1)
    assert child.network.graph["c"].op.stride == (1, 3)
    assert child.drift.eval < 1e-12


@pytest.mark.parametrize("size", [(4, 8, 8), (4,)])
@pytest.mark.parametrize("phi", [*ACTIVATIONS, "prelu"])
def test_every_activation_comes_in_as_the_identity(phi, size):
    layer = "conv2d(x, channels=4, kernel=3)" if len(size) == 3 else "linear(x, features=4)"
    read = "g = adaptive_avg_pool2d(r); f = flatten(g)" if len(size) == 3 else "f = scale(r)"
    text = f"x = input(size={list(size)}); c = {layer}; r = tanh(c); {read}; l = linear(f, features=3); out = output(l)"
    net = lively(morphs.parse_graph(text))
    taps = "kernel=[3, 3]" if len(size) == 3 else "kernel=[1, 1]"
    for move in (
        f"deepen(node=r, {taps}, activation={phi})",
        f"deepen(node=c, how=netmorph, channels=5, {taps}, activation={phi})",
    ):
        child = morphs.apply(net, move)
        assert child.drift.eval < 1e-12
        assert bool((child.network.weights["act1", "a"] == 1).all())


@pytest.mark.parametrize("groups", [2, 4])
def test_an_identity_may_be_grouped(groups):
    net = lively(
        morphs.parse_graph("""
        x = input(size=[3, 8, 8]); c = conv2d(x, channels=4, kernel=3); r = relu(c); d = conv2d(r, channels=2, kernel=1)
        out = output(d)
    """)
    )
    child = morphs.apply(net, f"deepen(node=r, kernel=[3, 3], groups={groups})")
    assert child.network.weights["conv1", "weight"].shape == (4, 4 // groups, 3, 3)
    assert child.network.graph["conv1"].op.groups == groups
    with pytest.raises(IllegalMove, match=r'"r".* 3 groups'):
        morphs.apply(net, "deepen(node=r, kernel=[3, 3], groups=3)")
    listed = {move.groups for move in morphs.Deepen.sites(net, options={"groups": (None, 2, 3, "depthwise")})}
    assert listed == {None, 2, 4}


# -- with a norm -------------------------------------------------------------------------------------

NORMED = """
    x = input(size=[3, 8, 8]); c = conv2d(x, channels=4, kernel=3, padding=1); r = relu(c)
    d = conv2d(r, channels=4, kernel=3, stride=2, padding=1); e = relu(d); g = adaptive_avg_pool2d(e); f = flatten(g)
    l = linear(f, features=3); out = output(l)
"""
WITH_NORM = {
    "deepen(node=r, kernel=[3, 3], norm=true)": "conv1",
    "deepen(node=d, how=netmorph, channels=16, kernel=[3, 3], then=[3, 3], activation=silu, norm=true)": "conv1",
    "deepen(node=l, how=netmorph, channels=5, norm=true)": "fc1",
}


@pytest.mark.parametrize("move", WITH_NORM)
def test_a_norm_is_calibrated_on_what_the_inserted_layer_writes(move):
    net = lively(morphs.parse_graph(NORMED))
    (batch,) = some_batches(net, count=1, size=32)
    child = morphs.apply(net, move, batches=[batch], probe=batch[0])
    assert child.move.preserves is morphs.Preserves.EXACT_IN_EVAL
    assert child.drift.eval < 1e-12
    assert child.drift.train < 1e-10  # on the calibration batch itself
    assert 1e-4 < morphs.drift(net, child.network, seed=5).train < 1
    layer, (norm, phi) = WITH_NORM[move], ("norm1", "act1")
    assert [child.network.graph[name].inputs for name in (norm, phi)] == [(layer,), (norm,)]
    assert (layer, "bias") not in child.network.weights
    assert bool((child.network.weights[phi, "a"] == 1).all())
    seen = {}
    module = child.network.to_torch().eval()
    module.get_submodule(layer).register_forward_hook(lambda _m, _i, out: seen.update(out=out))
    module(batch[0].double())
    written = seen["out"].transpose(0, 1).flatten(1)
    assert torch.allclose(child.network.weights[norm, "running_mean"], written.mean(1), atol=1e-12)
    assert torch.allclose(
        child.network.weights[norm, "running_var"], written.var(1, correction=0), atol=1e-12
    )


def test_a_norm_needs_data():
    net = lively(morphs.parse_graph(NORMED))
    with pytest.raises(NeedsData, match=r'deepen.*"r".*batches='):
        morphs.apply(net, "deepen(node=r, norm=true)")


def test_the_spread_of_the_factors_is_reported():
    net = lively(morphs.parse_graph(NORMED))
    child = morphs.apply(net, "deepen(node=d, how=netmorph, channels=16, kernel=[3, 3], then=[3, 3])")
    spread = child.notes["spread"]
    assert child.notes["residual"] <= 1e-12
    for key in (("conv1", "weight"), ("d", "weight")):
        ratio = child.network.weights[key].std(correction=0) / net.weights["d", "weight"].std(correction=0)
        assert float(ratio) == pytest.approx(spread)
    assert 0.1 < spread < 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_identities_in_signals_maps_and_volumes(rank, dtype):
    module, x = along(rank)
    net = copied(module, x).to(dtype)
    sites = list(morphs.Deepen.sites(net, options={"how": ("identity",)}))
    assert [(site.node, site.kernel) for site in sites] == [("layer2", (3,) * rank), ("layer4", (3,) * rank)]
    for site in (
        *sites, morphs.Deepen("layer4", kernel=(5,) * rank, groups=3, activation="tanh"), morphs.Deepen("layer4"),
        morphs.Deepen("layer0", kernel=(3,) * rank, activation="prelu"),
    ):  # fmt: skip
        child = morphs.apply(net, site)
        assert max(child.drift.eval, child.drift.train) <= (1e-12 if dtype == torch.float64 else 1e-6), site
        conv = child.network.graph["conv1"].op
        assert conv.slides.kernel == (site.kernel if site.kernel != (1, 1) else (1,) * rank)
        assert child.network.graph.shape("conv1") == net.graph.shape(site.node)
        assert child.origin["conv1", "weight"].source is None
        assert child.network.weights["conv1", "weight"].dtype == dtype
    with_norm = morphs.apply(
        net, morphs.Deepen("layer2", kernel=(3,) * rank, norm=True), batches=some_batches(net)
    )
    assert with_norm.drift.eval <= (1e-10 if dtype == torch.float64 else 0.05)


def test_what_has_no_factoring_or_no_identity_says_so():
    for rank in (1, 3):
        net = morphs.from_torch(*along(rank))
        assert {site.node for site in morphs.Deepen.sites(net, options={"how": ("netmorph",)})} == {"layer6"}
        with pytest.raises(IllegalMove, match=f'"layer0" is a {rank}-d convolution.*identity'):
            morphs.apply(net, "deepen(node=layer0, how=netmorph, channels=99, kernel=[3, 3])")
        with pytest.raises(IllegalMove, match=f'"layer2".*{rank} odd'):
            morphs.apply(net, "deepen(node=layer2, kernel=[3, 3])")
        with pytest.raises(IllegalMove, match="groups"):
            morphs.apply(net, morphs.Deepen("layer2", kernel=(3,) * rank, groups=3))
