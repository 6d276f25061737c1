"""Drift: what it measures, in which modes, and when it refuses to."""

import pytest
import torch
from copied_modules import Calls, normal
from hypothesis import given
from strategies import lively, networks
from torch import nn

import morphs
from morphs.drift import allowance
from morphs.errors import DriftExceeded, WeightsError

TEXT = """
    x = input(size=[3]); l = linear(x, features=4); r = relu(l); d = dropout(r); o = linear(d, features=2)
    out = output(o)
"""
NORM = """
    x = input(size=[2, 3, 3]); c = conv2d(x, channels=4, kernel=3); n = batch_norm(c); f = flatten(n)
    o = linear(f, features=2); out = output(o)
"""


def changed(net: morphs.Network, key: tuple[str, str], to) -> morphs.Network:
    return morphs.Network(net.graph, {**net.weights, key: to})


@given(net=networks(most=2))
def test_a_network_does_not_drift_from_itself(net):
    assert morphs.drift(net, net) == morphs.Drift(0, 0)


def test_drift_is_the_largest_relative_difference_of_any_probe():
    net = lively(
        morphs.parse_graph("x = input(size=[2]); o = linear(x, features=2, bias=false); out = output(o)")
    )
    net = changed(net, ("o", "weight"), torch.eye(2, dtype=torch.float64))
    other = changed(net, ("o", "weight"), torch.tensor([[1.0, 0], [0, 1.5]], dtype=torch.float64))
    probe = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 4.0]])
    assert morphs.drift(net, other, probe).eval == 0.5
    assert morphs.drift(net, other, probe[:2]).eval == 0.25


def test_a_zero_output_is_compared_absolutely():
    net = lively(morphs.parse_graph("x = input(size=[2]); o = linear(x, features=2); out = output(o)"))
    zero = morphs.Network(net.graph, {key: torch.zeros_like(t) for key, t in net.weights.items()})
    small = changed(zero, ("o", "bias"), torch.tensor([0.0, 1e-3], dtype=torch.float64))
    assert morphs.drift(zero, small) == morphs.Drift(1e-3, 1e-3)
    assert morphs.drift(zero, zero) == morphs.Drift(0, 0)


def test_an_output_that_is_rounding_alone_is_compared_with_the_largest_one():
    """A random chain of moves was refused since two parts of one probe's output cancelled but for 1e-16."""
    text = "x = input(size=[1]); o = linear(x, features=1); out = output(o)"
    net = changed(lively(morphs.parse_graph(text)), ("o", "bias"), torch.zeros(1, dtype=torch.float64))
    net = changed(net, ("o", "weight"), torch.ones(1, 1, dtype=torch.float64))
    other = changed(net, ("o", "bias"), torch.full((1,), 2e-16, dtype=torch.float64))
    probe = torch.tensor([[1.0], [1e-16]], dtype=torch.float64)
    assert morphs.drift(net, other, probe).eval < 1e-10
    assert morphs.drift(net, other, probe[1:]).eval == pytest.approx(2)


def test_a_path_that_cancels_on_a_column_of_zeros_does_not_drift():
    """move_contract.py, portion 173: G − I beside I rounds to 1e-7 of the input where G itself writes exactly 0."""
    text = "x = input(size=[3]); r = relu(x); o = linear(r, features=3, bias=false); out = output(o)"
    net = lively(morphs.parse_graph(text)).to(torch.float32)
    weight = torch.tensor([[-0.24, 0, 0.62], [0.41, 0, -1.32], [1.23, 0, -0.03]])
    net = changed(net, ("o", "weight"), weight)
    probe = torch.tensor([[-1.0, 1.5, -1.0], [-1.0, 0.7, -1.0], [-1.0, -1.0, 0.2], [-1.0, -1.0, 0.3]])
    for seed in range(10):
        child = morphs.apply(net, "subnet(node=o, template=residual)", seed=seed, probe=probe)
        assert 0 < child.drift.eval < 1e-5


def test_rounding_in_float32_of_an_output_of_zero_is_no_drift():
    """A calibrated norm behind a layer that gives exactly zero: 1e-9 where other probes give 1."""
    text = "x = input(size=[1]); o = linear(x, features=1, bias=false); out = output(o)"
    net = lively(morphs.parse_graph(text), dtype=torch.float32)
    batches = [(torch.tensor([[-0.4], [0.1], [1.3]]), torch.zeros(3))]
    grown = morphs.apply(net, "insert_norm(node=o)", batches=batches, measure=False).network
    assert 0 < morphs.drift(net, grown, torch.tensor([[1.0], [0.0]])).eval < 1e-5


def test_dropout_is_off_and_running_statistics_are_not_touched():
    net = lively(morphs.parse_graph(TEXT))
    assert morphs.drift(net, net).train == 0
    normed = lively(morphs.parse_graph(NORM))
    before = normed.digest
    morphs.drift(normed, normed)
    assert morphs.Network(normed.graph, normed.weights).digest == before


def test_operators_that_draw_random_numbers_are_off_too():
    def forward(m, x):
        return m.last(m.first(x).relu()) * nn.functional.dropout(m.table, 0.5, m.training).mean()

    module = Calls(forward, first=nn.Linear(3, 4), last=nn.Linear(4, 2))
    module.table = nn.Parameter(torch.ones(5, 7))
    net = morphs.from_torch(module.double(), normal(3, 3))
    assert any(node.op.kind == "aten" for node in net.graph)
    child = morphs.apply(net, "widen(node=first, to=6)")
    assert child.drift.train <= 1e-12
    broken = child.network.weights["last", "weight"] * 1.5
    other = morphs.Network(child.network.graph, {**child.network.weights, ("last", "weight"): broken})
    assert morphs.drift(net, other).train > 0.01


def test_running_statistics_show_in_eval_only():
    net = lively(morphs.parse_graph(NORM))
    other = changed(net, ("n", "running_mean"), net.weights["n", "running_mean"] + 1)
    found = morphs.drift(net, other)
    assert found.eval > 0.01
    assert found.train == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_parent_that_is_not_finite_is_refused_by_name(bad):
    net = lively(morphs.parse_graph(TEXT))
    broken = changed(net, ("o", "bias"), torch.full((2,), bad, dtype=torch.float64))
    with pytest.raises(WeightsError, match=r"o\.bias"):
        morphs.drift(broken, net)
    for measure in (True, False):
        with pytest.raises(WeightsError, match=r'bias.*"o"'):
            morphs.apply(broken, "widen(node=l, to=6)", measure=measure)
    assert morphs.drift(net, broken).eval == float("inf")


PROBES = {
    r'"x".*\(0, 2, 3, 3\)': torch.zeros(0, 2, 3, 3),
    r'"x".*\(4, 2, 3, 4\).*\(2, 3, 3\)': torch.zeros(4, 2, 3, 4),
    "2 probes.* 1 input": (torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)),
    "value per channel": torch.zeros(1, 2, 3, 3),  # torch's own words
    '"x".*infinity': torch.full((2, 2, 3, 3), float("inf")),
    "overflow": torch.full((2, 2, 3, 3), 1e308, dtype=torch.float64),
}


@pytest.mark.parametrize("said", PROBES)
def test_probes_that_do_not_fit_are_refused(said):
    net = lively(morphs.parse_graph(NORM))  # its norm sees one value per channel and image
    with pytest.raises(WeightsError, match=said) as caught:
        morphs.drift(net, net, PROBES[said])
    assert "\n" not in str(caught.value)


def test_probes_of_two_inputs_have_one_length():
    net = lively(
        morphs.parse_graph("x = input(size=[2]); y = input(size=[2]); a = add(x, y); out = output(a)")
    )
    assert morphs.drift(net, net, (torch.zeros(2, 2), torch.ones(2, 2))).eval == 0
    with pytest.raises(WeightsError, match=r"drift.*length"):
        morphs.drift(net, net, (torch.zeros(2, 2), torch.zeros(3, 2)))


def test_networks_of_different_shapes_are_not_compared():
    with pytest.raises(WeightsError, match="drift"):
        morphs.drift(lively(morphs.parse_graph(TEXT)), lively(morphs.parse_graph(NORM)))


def test_outputs_of_one_number_for_each_example_have_a_drift():
    module = Calls(lambda m, x: m.b(torch.relu(m.a(x))).squeeze(-1), a=nn.Linear(4, 6), b=nn.Linear(6, 1))
    net = morphs.from_torch(module.double(), normal(3, 4))
    assert net.to_torch()(normal(3, 4)).shape == (3,)
    child = morphs.apply(net, "widen(node=a, to=9)")
    assert max(child.drift.eval, child.drift.train) <= 1e-12
    assert morphs.drift(net, changed(net, ("a", "bias"), net.weights["a", "bias"] + 1)).eval > 1e-3


def test_a_network_that_amplifies_its_last_bits_is_allowed_what_they_make():
    net = lively(
        morphs.parse_graph(
            "x = input(size=[4]); e = linear(x, features=6); n = layer_norm(e);"
            "f = linear(n, features=2); y = output(f)"
        )
    )
    far = changed(net, ("e", "bias"), net.weights["e", "bias"] + 1e8)
    allowed = allowance(far, measure=True)
    assert 1e-9 < allowed.eval < 1e-4
    assert morphs.apply(far, "widen(node=e, to=12, how=replicate)").drift.eval < allowed.eval


def test_coarse_types_are_allowed_what_their_precision_explains():
    net = lively(morphs.parse_graph(NORM))
    assert allowance(net, measure=True) == morphs.Drift(1e-10, 1e-10)
    assert allowance(net.to(torch.float32)) == morphs.Drift(1e-5, 1e-5)
    coarse = allowance(net.to(torch.bfloat16), measure=True)
    assert 1e-3 < coarse.eval < 1
    assert 1e-3 < coarse.train < 10
    child = morphs.apply(net.to(torch.bfloat16), "widen(node=c, to=7)")
    assert child.network.dtype == torch.bfloat16


def test_a_move_that_breaks_its_promise_is_caught():
    class Liar(morphs.GrowKernel):
        def fill(self, parent, graph, context):
            ((key, (tensor, origin)),) = super().fill(parent, graph, context).items()
            return {key: (tensor + 1e-3, origin)}

    net = lively(morphs.parse_graph(NORM))
    with pytest.raises(DriftExceeded, match=r"1\.0e-10.*exact") as caught:
        morphs.apply(net, Liar("c", (5, 5)))
    assert "\n" not in str(caught.value)
    morphs.apply(net, Liar("c", (5, 5)), measure=False)


def test_a_move_that_writes_into_the_parent_is_caught():
    class Vandal(morphs.GrowKernel):
        def fill(self, parent, graph, context):
            parent.weights["n", "bias"].add_(1)
            return super().fill(parent, graph, context)

    with pytest.raises(morphs.errors.MorphError, match="bias"):
        morphs.apply(lively(morphs.parse_graph(NORM)), Vandal("c", (5, 5)))


def test_moves_apply_under_inference_mode_too():
    with torch.inference_mode():
        net = lively(morphs.parse_graph(NORM))
        child = morphs.apply(net, "widen(node=c, to=7)")
    assert morphs.apply(child.network, "widen(node=c, to=9)").drift.eval <= 1e-12
