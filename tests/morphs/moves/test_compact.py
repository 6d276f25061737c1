"""Compact: what the graph looks like before and after, what the fit keeps, what it refuses."""

from dataclasses import replace

import pytest
import torch
from strategies import lively

import morphs
from morphs.errors import DriftExceeded, IllegalMove, NeedsData
from morphs.graph.activations import ACTIVATIONS

BEFORE = """
    x = input(size=[3, 8, 8])
    c = conv2d(x, channels=4, kernel=3, padding=1)
    r = relu(c)
    d = conv2d(r, channels=6, kernel=3, stride=2, padding=1, padding_mode=reflect, bias=false)
    s = tanh(d)
    f = flatten(s)
    o = dropout(f)
    l = linear(o, features=5)
    t = tanh(l)
    m = linear(t, features=3)
    out = output(m)
"""

AFTER = {  # the lines that differ
    "compact(node=d, channels=12, keep=0.5)": """
        conv1 = conv2d(r, channels=6, kernel=3, padding=1)
        act1 = relu(conv1)
        d = conv2d(act1, channels=6, kernel=3, stride=2, padding=1, padding_mode=reflect, bias=false)
    """,
    "compact(node=d, channels=12, keep=0.5, kernel=[5, 1], how=alg1, activation=tanh)": """
        conv1 = conv2d(r, channels=6, kernel=[5, 1], padding=[2, 0])
        act1 = tanh(conv1)
        d = conv2d(act1, channels=6, kernel=3, stride=2, padding=1, padding_mode=reflect, bias=false)
    """,
    "compact(node=l, channels=10, keep=0.3, how=norm)": """
        fc1 = linear(o, features=3)
        act1 = relu(fc1)
        l = linear(act1, features=5)
    """,
    "compact(node=l, channels=10, keep=0.3, kernel=[3, 3], how=alg2)": """
        conv1 = conv2d(s, channels=3, kernel=3, padding=1)
        act1 = relu(conv1)
        f = flatten(act1)
    """,
    "compact(node=m, channels=10, penalty=0, activation=silu)": """
        fc1 = linear(t, features=10)
        act1 = silu(fc1)
        m = linear(act1, features=3)
    """,
}


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def data(count: int = 4, size: int = 40):
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(size, 3, 8, 8, generator=g), torch.zeros(size)) for _ in range(count)]


def parent(dtype: torch.dtype = torch.float64) -> morphs.Network:
    return lively(morphs.parse_graph(BEFORE), dtype=dtype)


@pytest.mark.parametrize("move", AFTER)
def test_before_and_after(move):
    child = morphs.apply(parent(), move, batches=data())
    before, after = lines(BEFORE), child.network.graph.text().splitlines()
    assert [line for line in after if line not in before] == lines(AFTER[move])
    assert len(after) == len(before) + 2
    assert morphs.parse(str(child.move)) == child.move


def away(net: morphs.Network, child: morphs.Network) -> float:
    """‖child(x) − parent(x)‖ / ‖parent(x) − its mean‖ over examples that no fit has seen."""
    x = torch.randn(256, 3, 8, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    before, after = (n.to(torch.float64).to_torch().eval()(x).detach() for n in (net, child))
    return float((after - before).norm() / (before - before.mean(0)).norm())


@pytest.mark.parametrize(
    ("move", "most"),
    [
        ("compact(node=d, channels=60, keep=1.0, rows=4000)", 0.35),  # stride, reflected padding, no bias
        ("compact(node=m, channels=60, keep=1.0)", 0.15),
        ("compact(node=c, channels=40, keep=1.0, kernel=[1, 1], rows=4000)", 0.1),
    ],
)
def test_with_enough_neurons_and_rows_the_function_is_kept(move, most):
    """Were rows gathered from the wrong places, the difference would be near 1."""
    child = morphs.apply(parent(), move, batches=data(6, 64), measure=False)
    assert away(parent(), child.network) < most


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_any_activation_of_the_vocabulary(activation):
    move = f"compact(node=m, channels=40, keep=0.8, activation={activation})"
    child = morphs.apply(parent(), move, batches=data(5, 64), measure=False)
    assert away(parent(), child.network) < 0.25


def test_as_many_neurons_as_rows_fit_the_rows():
    graph = morphs.parse_graph("x = input(size=[4]); l = linear(x, features=2); out = output(l)")
    net = lively(graph)
    batches = [(torch.randn(200, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(200))]
    wide = morphs.apply(net, "compact(node=l, channels=400, keep=1.0, ridge=1e-9)", batches=batches)
    assert wide.notes["error"] < 1e-3


@pytest.mark.parametrize("how", ["alg1", "alg2", "alg3", "random", "norm", "contribution"])
def test_each_way_to_choose_keeps_the_width_and_says_what_it_did(how):
    child = morphs.apply(parent(), f"compact(node=d, channels=20, keep=0.45, how={how})", batches=data())
    assert child.network.graph.shape("conv1") == (9, 8, 8)
    assert child.notes["kept"] == 9
    assert child.notes["rows"] == 128 * 16  # a fifth of the 160 images is held out; 4×4 positions each
    assert 0 < child.notes["error"] < 1
    assert ("penalty" in child.notes) == how.startswith("alg")


def test_neurons_that_contribute_are_better_than_random_ones():
    errors = {
        how: morphs.apply(
            parent(), f"compact(node=d, channels=40, keep=0.3, how={how})", batches=data(), measure=False
        ).notes["error"]
        for how in ("alg3", "contribution", "random")
    }
    assert errors["alg3"] < errors["random"]
    assert errors["contribution"] < errors["random"]


def test_lambda_decides_the_width_when_asked_to():
    widths = [
        int(
            morphs.apply(parent(), f"compact(node=d, channels=20, penalty={p})", batches=data()).notes["kept"]
        )
        for p in (0.0, 0.1, 0.3)
    ]
    assert widths[0] == 20
    assert widths[0] > widths[1] > widths[2] > 0


def test_an_error_decides_the_width_when_asked_to():
    child = morphs.apply(parent(), "compact(node=d, channels=40, error=0.5)", batches=data())
    assert child.notes["error"] <= 0.5
    assert child.notes["kept"] < 40
    width = int(child.notes["kept"])
    one = morphs.apply(parent(), f"compact(node=d, channels=40, keep={(width - 4) / 40})", batches=data())
    assert one.notes["error"] > child.notes["error"]


def test_the_lasso_shrinks_what_is_not_refitted():
    move = "compact(node=d, channels=30, keep=0.5, refit={})"
    printed, fitted = (
        morphs.apply(parent(), move.format(refit), batches=data()) for refit in ("false", "true")
    )
    assert torch.equal(*(c.network.weights["conv1", "weight"] for c in (printed, fitted)))
    assert printed.notes["error"] > fitted.notes["error"]


def test_rows_are_bounded_and_the_source_may_be_endless():
    def endless():
        while True:
            yield from data(1)

    child = morphs.apply(parent(), "compact(node=d, channels=8, keep=0.5, rows=500)", batches=endless())
    assert 500 <= child.notes["rows"] < 500 + 16


def test_same_data_and_seed_same_child():
    move = "compact(node=d, channels=20, keep=0.5, positions=5)"
    one, two, other = (morphs.apply(parent(), move, seed=s, batches=data()) for s in (0, 0, 1))
    assert one.network.digest == two.network.digest != other.network.digest


@pytest.mark.parametrize("how", ["alg1", "alg3", "random"])
def test_fewer_rows_than_columns_fall_back_to_a_ridge(how):
    move = f"compact(node=d, channels=40, keep=0.5, how={how}, rows=60)"
    child = morphs.apply(parent(), move, batches=data(1, 8))
    assert child.notes["rows"] < 20 * 9
    assert child.drift.eval < 20


@pytest.mark.parametrize("how", ["alg1", "alg2", "alg3", "contribution"])
def test_constant_neurons_are_dropped_first(how):
    net = parent()
    weights = {**net.weights, ("c", "weight"): torch.zeros(4, 3, 3, 3, dtype=torch.float64)}
    child = morphs.apply(
        morphs.Network(net.graph, weights),
        f"compact(node=d, channels=9, keep=0.5, how={how})",
        batches=data(),
    )
    assert child.drift.eval < 1e-6  # everything before `d` is constant, and stays


@pytest.mark.parametrize(
    "move",
    [
        "compact(node=d, channels=12, keep=0.5)",
        "compact(node=m, channels=12, keep=0.5, activation=tanh, how=alg2)",
        "compact(node=l, channels=8, keep=0.5, kernel=[3, 3], refit=false)",
    ],
)
def test_a_few_steps_move_every_new_number_and_lower_the_loss(move):
    child = morphs.apply(parent(), move, batches=data(), measure=False)
    module = child.network.to_torch().eval()  # dropout would blur the loss
    x = torch.cat([x for x, _ in data()]).double()
    y = torch.randint(0, 3, (len(x),), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.005)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0], losses
    trained = child.network.with_weights_from(module)
    new = [key for key, origin in child.origin.items() if origin.source is None]
    assert len(new) >= 3
    for key in new:
        assert not bool((trained.weights[key] == child.network.weights[key]).any()), key


def test_drift_is_measured_on_examples_that_the_fit_has_not_seen():
    batches = data(2)
    child = morphs.apply(parent(), "compact(node=d, channels=10, keep=0.5)", batches=batches)
    held = torch.cat([x for x, _ in batches])[4::5]
    assert child.drift.eval == morphs.drift(parent(), child.network, held).eval
    probe = torch.randn(3, 3, 8, 8)
    given = morphs.apply(parent(), "compact(node=d, channels=10, keep=0.5)", batches=batches, probe=probe)
    assert given.notes["rows"] == 80 * 16  # nothing is held out
    assert given.drift.eval == morphs.drift(parent(), given.network, probe).eval


def test_max_drift_refuses_and_names_a_width_that_does():
    net, move = parent(), "compact(node=m, channels=60, keep=0.05, rows=400, max_drift=1.0)"
    with pytest.raises(DriftExceeded, match=r"max_drift=1\.0.* keep=0\.\d+ .*60 channels") as no:
        morphs.apply(net, move, batches=iter(data()), measure=False)
    share = float(str(no.value).split("keep=")[1].split()[0])
    bound = replace(morphs.parse(move), keep=share)
    assert morphs.apply(net, bound, batches=data()).drift.eval <= 1.0
    with pytest.raises(DriftExceeded, match=r"max_drift=0.01.* 2 channels"):
        morphs.apply(net, "compact(node=d, channels=2, keep=0.5, max_drift=0.01)", batches=data())


def test_netmorphs_factoring_is_the_rival_at_the_same_site():
    net = parent()
    bound = morphs.parse("compact(node=d, channels=40, keep=0.5)")
    oracle, redundant = bound.netmorph(net.graph, 30), bound.netmorph(net.graph)
    assert morphs.apply(net, oracle).network.graph.shape("conv1")[0] == 30
    assert morphs.apply(net, redundant).drift.eval < 1e-10
    assert morphs.parse("compact(node=m, channels=9, keep=0.5)").netmorph(net.graph).kernel == (1, 1)


def test_the_fit_is_what_float32_networks_get_too():
    child = morphs.apply(parent(torch.float32), "compact(node=d, channels=20, keep=0.5)", batches=data())
    assert child.network.dtype == torch.float32
    assert away(parent(torch.float32), child.network) < 0.7


BAD = {
    "compact(node=out, channels=9, keep=0.5)": ('"out"', "output", "conv2d", "linear"),
    "compact(node=r, channels=9, keep=0.5)": ('"r"', "activation", "conv2d", "linear"),
    "compact(node=d, channels=9)": ("keep, penalty, error",),
    "compact(node=d, channels=9, keep=0.5, penalty=1)": ("keep, penalty, error",),
    "compact(node=d, channels=9, penalty=1, how=norm)": ("how=norm", "keep"),
    "compact(node=d, channels=9, keep=1.5)": ("keep=1.5",),
    "compact(node=d, channels=0, keep=0.5)": ("channels=0",),
    "compact(node=d, channels=9, penalty=-1)": ("penalty=-1.0",),
    "compact(node=d, channels=9, keep=0.5, rows=1)": ("rows=1",),
    "compact(node=d, channels=9, keep=0.5, kernel=[2, 3])": ("kernel", "(2, 3)", "keep"),
    "compact(node=m, channels=9, keep=0.5, kernel=[3, 3])": ('"m"',),
    "compact(node=d, channels=9, keep=0.5, activation=swoosh)": ("swoosh", "relu"),
    "compact(node=d, channels=9, penalty=50)": ("penalty=50.0", "9", '"d"'),
    "compact(node=d, channels=2, error=0.001)": ("2", '"d"', "error=0.001"),
}


@pytest.mark.parametrize("move", BAD)
def test_refusals_state_fact_place_and_remedy(move):
    net = parent()
    before = net.digest
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(net, move, batches=data())
    assert all(name in str(caught.value) for name in ("compact", *BAD[move]))
    assert "\n" not in str(caught.value)
    assert morphs.Network(net.graph, net.weights).digest == before


NAN = [(torch.full((9, 3, 8, 8), torch.nan), torch.zeros(9))]
BAD_DATA = {
    "none": (None, ("batches=",)),
    "empty": ([], ('"d"', " 0 ")),
    "one image": (data(1, 1), ('"d"', " 1 ")),
    "nan": (NAN, ("batch 0", "NaN")),
    "overflow": ([(torch.rand(9, 3, 8, 8) * 3e38, torch.zeros(9))], ('"d"', "NaN")),
    "uneven": ([(torch.zeros(9, 3, 8, 8), torch.zeros(8))], ("batch 0", "9", "8")),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_refused(case):
    batches, names = BAD_DATA[case]
    net = parent(torch.float32)
    before = net.digest
    with pytest.raises(NeedsData) as caught:
        morphs.apply(net, "compact(node=d, channels=9, keep=0.5)", batches=batches)
    assert all(name in str(caught.value) for name in ("compact", *names))
    assert "\n" not in str(caught.value)
    assert morphs.Network(net.graph, net.weights).digest == before


def test_grouped_and_shared_layers_are_refused():
    text = """x = input(size=[4, 6, 6]); c = conv2d(x, channels=4, kernel=3, padding=1, groups=2)
        d = conv2d(c, channels=4, kernel=3, padding=1); e = conv2d(d, channels=4, kernel=3, padding=1, owner=d)
        out = output(e)"""
    reasons = [refusal.reason for refusal in morphs.Compact.refused(lively(morphs.parse_graph(text)))]
    assert [" 2 groups" in reasons[0], "parameters" in reasons[1]] == [True, True]
    assert len(reasons) == 2
