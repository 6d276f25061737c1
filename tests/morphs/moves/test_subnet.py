"""Subnets: templates, texts of one's own, borders, groups, what is refused, and float32."""

import itertools

import pytest
import torch
from strategies import lively

import morphs
from morphs.errors import IllegalMove, NoFactoring
from morphs.moves.templates import TEMPLATES, read_template

BEFORE = """
    x = input(size=[3, 8, 8]); c = conv2d(x, channels=8, kernel=3, padding=1); r = relu(c)
    d = conv2d(r, channels=8, kernel=3, stride=2, padding=1, bias=false); n = batch_norm(d)
    e = conv2d(n, channels=8, kernel=3, padding=1); g = adaptive_avg_pool2d(e); f = flatten(g)
    h = linear(f, features=8); i = relu(h); l = linear(i, features=3); out = output(l)
"""

AFTER = {
    ("e", "bottleneck"): """
        conv1 = conv2d(n, channels=32, kernel=3, padding=1)
        act1 = p_activation(conv1, fn=relu, per_channel=true)
        e = conv2d(act1, channels=8, kernel=1)
    """,
    ("d", "mlpconv"): """
        conv1 = conv2d(r, channels=8, kernel=3, stride=2, padding=1, bias=false)
        act1 = p_activation(conv1, fn=relu, per_channel=true)
        conv2 = conv2d(act1, channels=8, kernel=1, bias=false)
        act2 = p_activation(conv2, fn=relu, per_channel=true)
        d = conv2d(act2, channels=8, kernel=1, bias=false)
    """,
    ("c", "sequential"): """
        conv1 = conv2d(x, channels=32, kernel=3, padding=2)
        act1 = p_activation(conv1, fn=relu, per_channel=true)
        conv2 = conv2d(act1, channels=32, kernel=3)
        act2 = p_activation(conv2, fn=relu, per_channel=true)
        c = conv2d(act2, channels=8, kernel=1)
    """,
    ("e", "residual"): """
        conv1 = conv2d(n, channels=8, kernel=3, padding=2)
        act1 = p_activation(conv1, fn=relu, per_channel=true)
        e = conv2d(act1, channels=8, kernel=3)
        sum1 = add(n, e)
    """,
    ("d", "inception"): """
        conv1 = conv2d(r, channels=8, kernel=1, stride=2, bias=false)
        conv2 = conv2d(r, channels=4, kernel=1, padding=1, bias=false)
        act1 = p_activation(conv2, fn=relu, per_channel=true)
        conv3 = conv2d(act1, channels=8, kernel=3, stride=2, bias=false)
        conv4 = conv2d(r, channels=2, kernel=1, padding=2, bias=false)
        act2 = p_activation(conv4, fn=relu, per_channel=true)
        conv5 = conv2d(act2, channels=8, kernel=5, stride=2, bias=false)
        conv6 = conv2d(r, channels=8, kernel=3, stride=2, padding=1, bias=false)
        act3 = p_activation(conv6, fn=relu, per_channel=true)
        d = conv2d(act3, channels=8, kernel=1, bias=false)
        sum1 = add(conv1, conv3, conv5, d)
    """,
    ("h", "stacked"): """
        fc1 = linear(f, features=8)
        act1 = p_activation(fc1, fn=relu, per_channel=true)
        fc2 = linear(act1, features=8, bias=false)
        fc3 = linear(f, features=8)
        act2 = p_activation(fc3, fn=relu, per_channel=true)
        h = linear(act2, features=8)
        sum1 = add(fc2, h)
    """,
    ("c", "(1) + (1x3:5)(3x1:6)(1:9)(3)"): """
        conv1 = conv2d(x, channels=8, kernel=1, bias=false)
        conv2 = conv2d(x, channels=5, kernel=[1, 3], padding=2)
        act1 = p_activation(conv2, fn=relu, per_channel=true)
        conv3 = conv2d(act1, channels=6, kernel=[3, 1])
        act2 = p_activation(conv3, fn=relu, per_channel=true)
        conv4 = conv2d(act2, channels=9, kernel=1)
        act3 = p_activation(conv4, fn=relu, per_channel=true)
        c = conv2d(act3, channels=8, kernel=3)
        sum1 = add(conv1, c)
    """,
}  # fmt: skip


@pytest.mark.parametrize(("node", "template"), AFTER)
def test_before_and_after(node, template):
    net = lively(morphs.parse_graph(BEFORE))
    child = morphs.apply(net, morphs.Subnet(node, template))
    assert max(child.drift.eval, child.drift.train) <= 1e-12
    assert morphs.parse(str(child.move)) == morphs.parse(child.move.to_json()) == child.move
    old = set(net.graph.text().splitlines())
    added = {line for line in child.network.graph.text().splitlines() if line not in old}
    wanted = {line.strip() for line in AFTER[node, template].strip().splitlines()}
    assert wanted <= added
    assert all(" sum1" in line or "(sum1" in line for line in added - wanted)  # the readers
    if net.graph[node].op.bias:
        assert torch.equal(child.network.weights[node, "bias"], net.weights[node, "bias"])


BORDERS = itertools.cycle((
    "mlpconv", "(1) + (3:C)(5:4C)(1)", "inception", "(1:8)(K:C)(3)", "(3x1:C/2)(5) + (K)", "residual",
    "(K:12)(3x1:2C)(1x3:4C)(1)",
))  # fmt: skip


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_paths_are_exact_at_borders_too(mode):
    for kernel, stride, dilation, groups in itertools.product((3, 5), (1, [2, 1]), (1, [2, 1]), (1, 2)):
        padding = [kernel // 2 * (1 if dilation == 1 else 2), kernel // 2]
        graph = morphs.parse_graph(
            f"x = input(size=[4, 12, 11]); c = conv2d(x, channels=4, kernel={kernel}, stride={stride}, "
            f"padding={padding}, dilation={dilation}, groups={groups}, padding_mode={mode}); out = output(c)"
        )
        template = next(name for name in BORDERS if stride == 1 or name != "residual")
        child = morphs.apply(lively(graph), morphs.Subnet("c", template))
        assert max(child.drift.eval, child.drift.train) <= 1e-12


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("node", ["c", "d", "e", "h"])
def test_float32_stays_exact(template, node):
    net = lively(morphs.parse_graph(BEFORE), dtype=torch.float32)
    move = morphs.Subnet(node, template)
    if move in set(morphs.Subnet.sites(net)):
        child = morphs.apply(net, move, seed=3)
        assert max(child.drift.eval, child.drift.train) <= 2e-6


def test_a_random_path_has_new_filters_for_another_seed():
    net = lively(morphs.parse_graph(BEFORE))
    one, two = (morphs.apply(net, "subnet(node=e, template=stacked)", seed=seed).network for seed in (0, 1))
    for name in ("conv1", "conv2", "conv3", "e"):
        assert not bool((one.weights[name, "weight"] == two.weights[name, "weight"]).any())


def test_every_layer_and_template_is_a_site_or_refused():
    graph = morphs.parse_graph(BEFORE)
    sites = {(move.node, move.template) for move in morphs.Subnet.sites(graph)}
    assert sites >= {(node, name) for node in "cde" for name in TEMPLATES if name != "residual"}
    assert {node for node, name in sites if name == "residual"} == {"e", "h"}
    refused = {(r.move.node, r.move.template): r.reason for r in morphs.Subnet.refused(graph)}
    assert all(name in refused["d", "residual"] for name in ('"d"', "(1)", "()"))
    assert all(name in refused["h", "inception"] for name in ('"h"', "linear", "(3, 3)"))
    unsure = next(iter(morphs.Subnet.refused(graph, options={"template": ("(K:2)(1)",)}))).reason
    assert all(name in unsure for name in ("(3, 3)", "8 channels"))


REFUSED = {
    "subnet(node=r)": ("subnet", '"r"', "activation", "conv2d", "linear"),
    "subnet(node=e, activation=swoosh)": ("subnet", "swoosh"),
    "subnet(node=e, template=swoosh)": ("subnet", "'swoosh'"),
    'subnet(node=e, template="(3:64)(1:7)")': ("subnet", "'(3:64)(1:7)'", "8", "channels"),
    'subnet(node=e, template="(3:0)(1)")': ("subnet", "(3:0)", "kernel", "channels", "1"),
    'subnet(node=e, template="(1:C/0)(1)")': ("subnet", "(1:C/0)", "kernel", "channels", "1"),
    'subnet(node=e, template="(3:0C)(1)")': ("subnet", "(3:0C)", "kernel", "channels", "1"),
    'subnet(node=e, template="")': ("subnet",),
    'subnet(node=e, template="()")': ("subnet", "'()'", "mlpconv"),
    'subnet(node=e, template="(3) + ")': ("subnet",),
    'subnet(node=e, template="(K)")': ("subnet", '"e"', '"(K)"'),
    'subnet(node=e, template="(2)(1)")': ("subnet", "(2, 2)", "(1, 1)", "(3, 3)"),
    'subnet(node=v, template="inception")': ("subnet", '"v"', "kernel", "(3, 3)", "(0, 0)"),
    'subnet(node=s, template="mlpconv")': ("subnet", '"s"'),
    'subnet(node=g, template="(K:5)(1)")': ("subnet",),
}  # fmt: skip


@pytest.mark.parametrize("move", REFUSED)
def test_refusals_state_fact_place_and_remedy(move):
    graph = morphs.parse_graph("""
        x = input(size=[4, 8, 8]); v = conv2d(x, channels=8, kernel=3); r = relu(v)
        e = conv2d(r, channels=8, kernel=3, padding=1); s = conv2d(e, channels=8, kernel=1)
        t = conv2d(s, channels=8, kernel=1, owner=s); g = conv2d(t, channels=8, kernel=1, groups=2); out = output(g)
    """)
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(lively(graph), move)
    assert all(name in str(caught.value) for name in REFUSED[move])
    assert "\n" not in str(caught.value)


def test_a_path_that_is_not_sure_is_tried_and_a_width_named():
    net = lively(
        morphs.parse_graph("x = input(size=[2, 9, 9]); c = conv2d(x, channels=3, kernel=5); out = output(c)")
    )
    child = morphs.apply(net, 'subnet(node=c, template="(3:40)(3)")')
    assert child.drift.eval <= 1e-12
    with pytest.raises(NoFactoring, match=r'"c".* \d+ channels'):
        morphs.apply(net, 'subnet(node=c, template="(3:2)(3)")')


def test_templates_are_read_relative_to_the_layer():
    assert read_template("bottleneck", (3, 5), 10) == ((((3, 5), 40), ((1, 1), 10)),)
    assert read_template(" ( K : C/4 ) (1x7) + ()", (3, 3), 10, 3) == ((((3, 3), 3), ((1, 7), 10)), ())
