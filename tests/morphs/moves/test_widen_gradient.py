"""Widening by gradient: new units with which the loss falls fastest."""

import statistics
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import lively, networks, some_batches
from torch import Tensor, nn

import morphs
from morphs.errors import IllegalMove, NeedsData
from morphs.move import Preserves
from morphs.moves.steepest import orthonormal

DEEP = """
    x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=3, padding=1, bias=false); n = batch_norm(c)
    r = relu(n); d = conv2d(r, channels=4, kernel=3, padding=1); e = relu(d); g = adaptive_avg_pool2d(e, size=2)
    f = flatten(g); h = linear(f, features=6); i = relu(h); l = linear(i, features=3); out = output(l)
"""
PLAIN = "x = input(size=[8]); h = linear(x, features=4); {phi}y = linear({read}, features=5); out = output(y)"


def data(
    net: morphs.Network, count: int = 2, size: int = 24, classes: int = 3
) -> list[tuple[Tensor, Tensor]]:
    """Classes that hang on the inputs, in batches."""
    g = torch.Generator().manual_seed(0)
    shape = net.graph.shape("x")
    to = torch.randn(prod(shape), classes, generator=g)
    found = []
    for _ in range(count):
        x = torch.randn(size, *shape, generator=g)
        found.append((x, (x.flatten(1) @ to).argmax(1)))
    return found


def slopes(parent: morphs.Network, child: morphs.Child, batches, same_norm_as=None) -> float:
    """‖∂L/∂W₂‖ by torch alone: the gradient, in train mode, of all weights with which old units read new ones."""
    weights = dict(child.network.weights)
    if same_norm_as is not None:  # rescale the new rows, to compare directions alone
        for key, origin in child.origin.items():
            if weights[key].dim() > 1 and origin.axes and origin.axes[0] is not None:
                new = torch.from_numpy(origin.axes[0] < 0)
                rows, others = weights[key][new].flatten(1), same_norm_as.network.weights[key][new].flatten(1)
                rows = rows / rows.norm(dim=1, keepdim=True) * others.norm(dim=1, keepdim=True)
                weights[key] = weights[key].clone()
                weights[key][new] = rows.reshape(weights[key][new].shape)
    module = morphs.Network(child.network.graph, weights).to_torch().train()
    total = sum(len(y) for _, y in batches)
    for x, y in batches:
        (nn.functional.cross_entropy(module(x.to(parent.dtype)), y) * len(y) / total).backward()
    found = 0.0
    for key, origin in child.origin.items():
        if weights[key].dim() < 2 or len(origin.axes) < 2 or origin.axes[1] is None:
            continue
        slope = module.get_parameter(".".join(key)).grad
        old = slice(None) if origin.axes[0] is None else torch.from_numpy(origin.axes[0] >= 0)
        found += float(slope[old][:, torch.from_numpy(origin.axes[1] < 0)].square().sum())
    return found**0.5


@pytest.mark.parametrize("units", [1, 2, 3])
def test_of_linear_units_the_rows_span_the_first_singular_vectors(units):
    net = lively(morphs.parse_graph(PLAIN.format(phi="", read="h")))
    batches = data(net, 1, 60, 5)
    (x, y), weights = batches[0], net.weights
    x = x.double()
    z = (x @ weights["h", "weight"].T + weights["h", "bias"]) @ weights["y", "weight"].T + weights[
        "y", "bias"
    ]
    z.requires_grad_()
    (delta,) = torch.autograd.grad(nn.functional.cross_entropy(z, y), z)
    _, values, vectors = torch.linalg.svd(delta.T @ x)
    child = morphs.apply(net, f"widen(node=h, to={4 + units}, how=gradient)", seed=3, batches=batches)
    new = torch.from_numpy(child.origin["h", "weight"].axes[0] < 0)
    rows = child.network.weights["h", "weight"][new]
    scale = weights["h", "weight"].square().sum(1).mean().sqrt()
    assert child.notes["gradient"] == pytest.approx(float(scale * values[:units].norm()), rel=1e-4)
    assert rows @ rows.T == pytest.approx(float(scale) ** 2 * torch.eye(units).double(), abs=1e-9)
    inside = (rows / scale) @ vectors[:units].T  # cosines between the two spans
    assert torch.linalg.svdvals(inside).numpy() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("node", ["c", "d", "h"])
def test_outgoing_weights_get_a_larger_gradient_than_of_any_draw(node):
    net = lively(morphs.parse_graph(DEEP), seed=3)
    batches = data(net)
    to = net.graph.shape(node)[0] + 3
    for seed in range(5):
        best = morphs.apply(net, f"widen(node={node}, to={to}, how=gradient)", seed, batches, measure=False)
        drawn = morphs.apply(net, f"widen(node={node}, to={to}, how=zero)", seed, measure=False)
        found = slopes(net, best, batches)
        assert found == pytest.approx(best.notes["gradient"], rel=1e-6)
        assert found > 1.2 * slopes(net, drawn, batches, same_norm_as=best)


def test_the_loss_falls_faster_in_the_first_steps():
    gains = []
    for seed in range(5):
        net = lively(morphs.parse_graph(PLAIN.format(phi="r = relu(h); ", read="r")), seed)
        batches = data(net, 1, 100, 5)
        losses = {}
        for how in ("gradient", "zero"):
            child = morphs.apply(net, f"widen(node=h, to=8, how={how})", seed, batches, measure=False)
            losses[how] = after_steps(child.network, *batches[0])
        gains.append(losses["zero"] - losses["gradient"])
    assert statistics.median(gains) > 0.01
    assert sum(gain > 0 for gain in gains) >= 4


def after_steps(net: morphs.Network, x: Tensor, y: Tensor, steps: int = 5) -> float:
    module = net.to_torch().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x.double()), y).backward()
        optimizer.step()
    return float(nn.functional.cross_entropy(module(x.double()), y).detach())


def distance(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss for outputs of any shape."""
    return (outputs - 1).square().mean()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@given(data=st.data())
def test_any_group_that_zero_can_widen(dtype, data):
    net = data.draw(networks(dtype=dtype))
    sites = list(morphs.Widen.sites(net, options={"how": ("gradient",), "factor": (1.5, 3)}))
    if not sites:
        return
    move, seed = data.draw(st.sampled_from(sites)), data.draw(st.integers(0, 9))
    assert move.preserves is Preserves.EXACT
    before = net.digest
    try:
        child = morphs.apply(net, move, seed, some_batches(net), distance)
    except IllegalMove:  # dead, all of them
        with pytest.raises(IllegalMove, match="gradient"):
            morphs.apply(net, move, seed, some_batches(net), distance)
        return
    assert child.notes["gradient"] > 0
    if dtype == torch.float64:
        assert max(child.drift.eval, child.drift.train) <= 1e-10
    object.__delattr__(net, "digest")
    assert net.digest == before
    again = morphs.apply(net, str(move), seed, some_batches(net), distance, measure=False)
    assert again.network.digest == child.network.digest
    zero = morphs.apply(net, str(move).replace("gradient", "zero"), seed, measure=False)
    assert child.origin.keys() == zero.origin.keys()
    for key, origin in child.origin.items():
        assert str(origin) == str(zero.origin[key])


def test_a_dead_draw_is_revived():
    net = morphs.Network(
        (graph := morphs.parse_graph(PLAIN.format(phi="r = relu(h); ", read="r"))),
        {key: tensor.abs() for key, tensor in lively(graph).weights.items()},
    )
    batches = [(x.abs(), y) for x, y in data(net, 1, 40, 5)]  # x and −x alike would mostly be dead
    for seed in range(10):
        child = morphs.apply(net, "widen(node=h, to=5, how=gradient)", seed, batches, measure=False)
        new = torch.from_numpy(child.origin["h", "weight"].axes[0] < 0)
        assert bool((batches[0][0].double() @ child.network.weights["h", "weight"][new].T > 0).any())


def test_rows_are_orthonormal_in_every_set_and_keep_their_side():
    rows = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = orthonormal(rows)
    for part in (found[:, :4], found[:, 4:]):
        assert torch.allclose(part @ part.transpose(1, 2), torch.eye(part.shape[1]).double(), atol=1e-12)
    assert torch.allclose(found[:, 0], rows[:, 0] / rows[:, 0].norm(dim=1, keepdim=True))
    assert bool(((found * rows).sum(2) > 0).all())


SQUARES = (
    "x = input(size=[8]); h = linear(x, features=4); r = relu(h); y = linear(r, features=1); out = output(y)"
)
REFUSED = {
    "none": (None, None, ("widen", '"h"', "batches=")),
    "empty": ([], None, ('"h"', "batches=")),
    "no loss": ([(torch.randn(4, 8), torch.randn(4, 1))], None, ("loss=",)),
    "uneven": ([(torch.randn(4, 8), torch.zeros(3).long())], None, ('"h"', "0", "4", "3")),
    "not finite": (
        [(torch.randn(4, 8), torch.full((4, 1), torch.inf))], nn.functional.mse_loss, ('"h"', "NaN"),
    ),
    "no number": ([(torch.randn(4, 8), torch.zeros(4).long())], lambda o, t: o, ('"h"', "(4, 1)")),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_data_that_does_not_do(case):
    batches, loss, names = REFUSED[case]
    with pytest.raises(NeedsData) as caught:
        morphs.apply(
            lively(morphs.parse_graph(SQUARES)), "widen(node=h, to=6, how=gradient)", 0, batches, loss
        )
    assert all(name in str(caught.value) for name in names)
    assert "\n" not in str(caught.value)


def test_a_batch_norm_needs_more_than_one_example():
    text = SQUARES.replace("r = relu(h)", "n = batch_norm(h); r = relu(n)")
    with pytest.raises(NeedsData, match='"h"'):
        morphs.apply(
            lively(morphs.parse_graph(text)), "widen(node=h, to=6, how=gradient)", 0,
            [(torch.randn(1, 8), torch.zeros(1, dtype=torch.int64))], distance,
        )  # fmt: skip


@pytest.mark.parametrize("why", ["one class", "dead units"])
def test_a_loss_without_a_gradient_is_refused(why):
    net = lively(morphs.parse_graph(SQUARES))
    x = torch.randn(6, 8)
    loss = None
    if why == "flat activation":  # and all that reads it
        net = morphs.Network(
            net.graph, {**net.weights, ("y", "weight"): torch.zeros(1, 4, dtype=torch.float64)}
        )
        x, loss = torch.zeros(6, 8), distance
    with pytest.raises(IllegalMove, match=r'"h".*how=zero'):
        morphs.apply(net, "widen(node=h, to=6, how=gradient)", 0, [(x, torch.zeros(6).long())], loss)


def test_a_loss_of_ones_own_for_numbers():
    net = lively(morphs.parse_graph(SQUARES), dtype=torch.float32)
    batches = [(x := torch.randn(64, 8), x[:, :1] * x[:, 1:2])]
    child = morphs.apply(net, "widen(node=h, to=8, how=gradient)", 0, batches, nn.functional.mse_loss)
    assert child.notes["gradient"] > child.notes["gradient_at_random"] > 0


def test_listed_only_where_asked_for():
    net = lively(morphs.parse_graph(DEEP))
    assert {move.how for move in morphs.Widen.sites(net)} == {"replicate", "zero"}
    assert {move.how for move in morphs.Widen.sites(net, options={"how": ("gradient",)})} == {"gradient"}
