"""InsertBlock: what it builds, what it is equal to, what it refuses."""

import re

import pytest
import torch
from strategies import lively, some_batches
from torch import nn

import morphs
from morphs import InsertBlock, Preserves
from morphs.errors import IllegalMove, ParseError
from morphs.moves.spread import gain_near

TEXT = """
    x = input(size=[3, 9, 9]); c = conv2d(x, channels=4, kernel=3, padding=1, bias=false); n = batch_norm(c)
    r = relu(n); d = conv2d(r, channels=8, kernel=3, stride=2, padding=1, bias=false); m = batch_norm(d); q = relu(m)
    p = max_pool2d(q, kernel=2); t = tanh(p); f = flatten(t); h = linear(f, features=6); i = relu(h)
    l = linear(i, features=3); out = output(l)
"""
KINDS = {
    "single": (0,),
    "basic": (4, 8),
    "bottleneck": (1, 2),
    "inverted": (16, 16),
}  # channels after r, beside d


@pytest.fixture
def net() -> morphs.Network:
    return lively(morphs.parse_graph(TEXT))


def added(net: morphs.Network, move: str) -> str:
    """The new and changed lines of the child's text."""
    child = morphs.apply(net, move)
    assert child.drift.eval <= 1e-14
    assert child.drift.train <= 1e-14
    old = net.graph.text().splitlines()
    return [line for line in child.network.graph.text().splitlines() if line not in old]


def test_a_basic_block_follows_an_activation(net):
    assert added(net, "insert_block(node=r)") == [
        "conv1 = conv2d(r, channels=4, kernel=3, padding=1, bias=false)",
        "norm1 = batch_norm(conv1)",
        "act1 = relu(norm1)",
        "conv2 = conv2d(act1, channels=4, kernel=3, padding=1, bias=false)",
        "norm2 = batch_norm(conv2)",
        "sum1 = add(r, norm2)",
        "act2 = relu(sum1)",
        "d = conv2d(act2, channels=8, kernel=3, stride=2, padding=1, bias=false)",
    ]


def test_a_block_of_pairs_has_no_last_norm_and_starts_a_stage_beside_a_layer(net):
    assert added(net, "insert_block(node=d, kind=bottleneck, how=paired, expand=0.3)") == [
        "conv1 = conv2d(r, channels=2, kernel=1, bias=false)",
        "norm1 = batch_norm(conv1)",
        "act1 = relu(norm1)",
        "conv2 = conv2d(act1, channels=2, kernel=3, stride=2, padding=1, bias=false)",
        "norm2 = batch_norm(conv2)",
        "act2 = relu(norm2)",
        "conv3 = conv2d(act2, channels=8, kernel=1)",
        "sum1 = add(m, conv3)",
        "q = relu(sum1)",
    ]


def test_a_block_has_no_last_activation_where_that_would_change_what_it_reads(net):
    assert added(net, "insert_block(node=t, kind=single, activation=tanh)") == [
        "conv1 = conv2d(t, channels=8, kernel=3, padding=1, bias=false)",
        "norm1 = batch_norm(conv1)",
        "sum1 = add(t, norm1)",
        "f = flatten(sum1)",
    ]
    assert added(net, "insert_block(node=p, kind=single)")[-2:] == ["act1 = relu(sum1)", "t = tanh(act1)"]


def test_an_inverted_block_is_depthwise_and_gated(net):
    lines = added(net, "insert_block(node=r, kind=inverted, expand=2)")
    assert "conv2 = conv2d(act1, channels=8, kernel=3, padding=1, groups=8, bias=false)" in lines
    assert "conv3 = conv2d(product1, channels=4, kernel=1, bias=false)" in lines
    assert "product1 = multiply(act2, scale1)" in lines


def test_a_single_layer_of_pairs_is_closed_by_another(net):
    assert added(net, "insert_block(node=d, kind=single, how=paired)")[:-1] == [
        "conv1 = conv2d(r, channels=8, kernel=3, stride=2, padding=1, bias=false)",
        "norm1 = batch_norm(conv1)",
        "act1 = relu(norm1)",
        "conv2 = conv2d(act1, channels=8, kernel=1)",
        "sum1 = add(m, conv2)",
    ]


def test_on_vectors_the_layers_are_linear(net):
    lines = added(net, "insert_block(node=i, kernel=[1, 1])")
    assert "fc1 = linear(i, features=6, bias=false)" in lines


@pytest.mark.parametrize("how", ["zero", "scaled"])
@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_it_is_torchvisions_block(net, kind, how):
    """Once γ is set alike, and beside a strided layer with that layer as the projection."""
    from torchvision.models.resnet import BasicBlock, Bottleneck

    for node, planes, source, skip in (("r", 4, "r", None), ("d", 8, "r", "d")):
        width = planes if kind == "basic" else planes // 4
        stride = 2 if skip else 1
        down = (
            nn.Sequential(nn.Conv2d(4, 8, 3, 2, padding=1, bias=False), nn.BatchNorm2d(8)) if skip else None
        )
        made = BasicBlock if kind == "basic" else Bottleneck
        block = made(4, width, stride, down).double()
        child = morphs.apply(net, f"insert_block(node={node}, kind={kind}, how={how})").network
        module = child.to_torch()
        places = [("conv1", "norm1", "conv1", "bn1"), ("conv2", "norm2", "conv2", "bn2")]
        places += [("conv3", "norm3", "conv3", "bn3")] if kind == "bottleneck" else []
        for conv, norm, conv_of, bn_of in places:
            block.get_submodule(conv_of).load_state_dict(module.get_submodule(conv).state_dict())
            block.get_submodule(bn_of).load_state_dict(module.get_submodule(norm).state_dict())
        if down is not None:
            down[0].load_state_dict(module.d.state_dict())
            down[1].load_state_dict(module.m.state_dict())
        rest = nn.Sequential(
            *(nn.MaxPool2d(2), nn.Tanh(), nn.Flatten(), module.h, nn.ReLU(), module.l),
        )
        x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
        for training in (False, True):
            for one in (module, block, rest):
                one.train(training)
            with torch.no_grad():
                read = torch.relu(module.n(module.c(x)))
                mid = block(read)
                wanted = rest(mid if skip else torch.relu(module.m(module.d(mid))))
                assert torch.allclose(module(x), wanted, atol=1e-12, rtol=1e-10)
        assert source in child.graph


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("node", ["r", "d", "t"])
def test_exact_in_eval_and_train_and_scaled_says_its_drift(net, node, kind):
    for how in ("zero", "paired"):
        move = InsertBlock(node, kind, how)
        child = morphs.apply(net, move)
        assert move.preserves is Preserves.EXACT
        assert max(child.drift.eval, child.drift.train) <= 1e-14
    move = InsertBlock(node, kind, "scaled")
    child = morphs.apply(net, move)
    assert move.preserves is Preserves.APPROXIMATE
    assert min(child.drift.eval, child.drift.train) > 1e-3
    small = morphs.apply(net, InsertBlock(node, kind, "scaled", scale=0.001))
    assert small.drift.eval < child.drift.eval
    gammas = [
        t for (name, which), t in small.network.weights.items() if (name[:4], which) == ("norm", "weight")
    ]
    assert [bool((gamma == 0.001).all()) for gamma in gammas].count(True) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_widths_follow_expand(net, kind):
    after, beside = (KINDS[kind] * 2)[:2]
    for node, channels in (("r", after), ("d", beside)):
        child = morphs.apply(net, InsertBlock(node, kind)).network.graph
        if kind != "single":
            assert child["conv1"].op.channels == channels
    wide = morphs.apply(net, InsertBlock("r", "basic", "paired", expand=1.25)).network.graph
    assert wide["conv1"].op.channels == 6, "five are no pairs"


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_weights_have_the_gain_of_the_trained_layer_nearest(scale):
    text = TEXT.replace("channels=4", "channels=32").replace("channels=8", "channels=40")
    net = lively(morphs.parse_graph(text))
    weights = {key: t * scale if key == ("c", "weight") else t for key, t in net.weights.items()}
    net = morphs.Network(net.graph, weights)
    gain = float(weights["c", "weight"].square().mean().sqrt()) * 27**0.5
    assert gain_near(net, "r") == pytest.approx(gain)
    child = morphs.apply(net, "insert_block(node=r, kind=bottleneck, how=paired, expand=1)").network
    for name, fan in (("conv1", 32), ("conv2", 288)):
        assert float(child.weights[name, "weight"].std()) * fan**0.5 == pytest.approx(gain, rel=0.1)
    assert float(child.weights["conv3", "weight"].std()) * 32**0.5 == pytest.approx(2**0.5, rel=0.1)


def test_a_network_without_trained_weights_gets_he_normal_ones():
    net = lively(morphs.parse_graph(TEXT))
    blank = morphs.Network(net.graph, {key: t * 0 if t.dim() > 1 else t for key, t in net.weights.items()})
    assert gain_near(blank, "r") == pytest.approx(2**0.5)
    after = lively(
        morphs.parse_graph("x = input(size=[3]); r = tanh(x); l = linear(r, features=3); out = output(l)")
    )
    weight = after.weights["l", "weight"]
    assert gain_near(after, "r") == pytest.approx(float(weight.square().mean().sqrt()) * 3**0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("how", ["zero", "paired"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_every_type(dtype, how, kind):
    net = lively(morphs.parse_graph(TEXT), dtype=dtype)
    child = morphs.apply(net, InsertBlock("r", kind, how))
    assert max(child.drift.eval, child.drift.train) <= 1e-14, "halves are equal to the bit in any type"
    assert all(t.dtype == dtype for key, t in child.network.weights.items() if t.is_floating_point())


REFUSED = {
    "insert_block(node=x)": ('"x"', "input"),
    "insert_block(node=out)": ('"out"', "output"),
    "insert_block(node=r, kernel=[2, 3])": ('"r"', "(2, 3)", "odd"),
    "insert_block(node=r, kernel=[3, -1])": ('"r"', "(3, -1)", "odd"),
    "insert_block(node=i)": ('"i"', "(3, 3)", "1"),
    "insert_block(node=i, kind=inverted, kernel=[1, 1])": ('"i"', "(6,)"),
    "insert_block(node=h, kernel=[1, 1], kind=inverted)": ('"h"',),
    "insert_block(node=r, kind=single, expand=2)": ("one layer", "expand"),
    "insert_block(node=r, scale=2)": ("how=zero", "scale"),
    "insert_block(node=r, expand=0)": ('"r"', "expand", "0"),
    "insert_block(node=r, how=scaled, scale=-1)": ('"r"', "scale", "-1"),
    "insert_block(node=r, activation=swoosh)": ("swoosh", "relu"),
    "insert_block(node=r, expand=1e300)": ("4e+300", "expand"),
    "insert_block(node=f, kernel=[1, 1], kind=inverted)": ('"f"',),
}


@pytest.mark.parametrize("move", REFUSED)
def test_refusals_state_fact_place_and_remedy(net, move):
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(net, move)
    assert all(name in str(caught.value) for name in REFUSED[move])
    assert re.fullmatch(r"insert_block: [^\n]+; [^\n]+", str(caught.value))


def test_a_layer_whose_size_no_stride_makes_is_refused():
    net = lively(
        morphs.parse_graph(
            "x = input(size=[3, 9, 9]); c = conv2d(x, channels=4, kernel=3, padding=4); r = relu(c); out = output(r)"
        )
    )
    with pytest.raises(IllegalMove, match=r'\(3, 9, 9\).*\(4, 15, 15\).*"c"'):
        morphs.apply(net, "insert_block(node=c)")


@pytest.mark.parametrize("text", ["kind=big", "how=half", "expand=wide", "scale=null", "kernel=3"])
def test_values_of_the_wrong_type_are_refused(text):
    with pytest.raises(ParseError, match=text.partition("=")[0]):
        morphs.parse(f"insert_block(node=r, {text})")


def test_sites_are_activations_pools_sums_and_the_layers_that_change_the_shape(net):
    sites = {(move.node, move.activation, move.kernel) for move in InsertBlock.sites(net)}
    assert sites == {
        ("c", "relu", (3, 3)), ("r", "relu", (3, 3)), ("d", "relu", (3, 3)), ("q", "relu", (3, 3)),
        ("p", "relu", (3, 3)), ("t", "tanh", (3, 3)), ("h", "relu", (1, 1)), ("i", "relu", (1, 1)),
    }  # fmt: skip
    menu = {"kind": ("single", "inverted"), "how": ("paired", "scaled"), "scale": (0.1, 1.0)}
    found = [str(move) for move in InsertBlock.sites(net, options=menu) if move.node == "r"]
    assert len(found) == 6, "paired once and scaled at two scales, for each kind"
    refused = {str(r.move): r.reason for r in InsertBlock.refused(net, options=menu)}
    assert any("node=i" in move and "kind=inverted" in move for move in refused)


def test_a_sum_that_an_activation_follows_is_listed_once(net):
    child = morphs.apply(net, "insert_block(node=r)").network
    nodes = [move.node for move in InsertBlock.sites(child)]
    assert "act2" in nodes
    assert "sum1" not in nodes
    again = morphs.apply(child, "insert_block(node=act2, how=paired)")
    assert again.drift.train <= 1e-14


def test_a_block_is_a_site_of_the_other_moves(net):
    child = morphs.apply(net, "insert_block(node=r, kind=inverted, how=paired)").network
    for text in (
        "widen(node=conv1, to=20, how=paired)",
        "grow_kernel(node=conv2, to=[5, 5])",
        "widen(node=c, to=6)",
    ):
        assert morphs.apply(child, text, batches=some_batches(child)).drift.train <= 1e-13
