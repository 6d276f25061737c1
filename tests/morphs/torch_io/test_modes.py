"""What eval and train mode do differently is kept, or refused by name; parameters keep names, order and range."""

import pytest
import torch
import torch.nn.functional as F
from copied_modules import Calls, copied, normal
from torch import nn
from torchvision import models, ops

import morphs
from morphs.errors import UnsupportedModule
from morphs.graph.aten import DropPath, FrozenBatchNorm


def kinds(net: morphs.Network) -> list[str]:
    return [node.op.kind for node in net.graph]


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.b(F.dropout(m.a(x).relu(), 0.5, training=False)),
        lambda m, x: m.b(F.dropout(m.a(x).relu(), 0.5, False)),
        lambda m, x: m.b(F.dropout(m.a(x).relu(), 0.0)),
    ],
)
def test_a_dropout_that_never_drops_is_left_out(forward):
    net = copied(Calls(forward, a=nn.Linear(8, 8), b=nn.Linear(8, 2)), normal(4, 8))
    assert "dropout" not in kinds(net)


def test_a_dropout_that_follows_the_mode_is_one():
    forward = lambda m, x: m.b(F.dropout(m.a(x).relu(), 0.5, m.training))  # noqa: E731
    module = Calls(forward, a=nn.Linear(8, 8), b=nn.Linear(8, 2)).double()
    net = morphs.from_torch(module, normal(4, 8))
    assert "dropout" in kinds(net)


def test_stochastic_depth_is_kept_in_both_modes():
    for mode in ("row", "batch"):
        module = Calls(
            lambda m, x: x + m.drop(m.conv(x)), conv=nn.Conv2d(3, 3, 1), drop=ops.StochasticDepth(0.2, mode)
        ).double()
        x = normal(6, 3, 4, 4)
        net = morphs.from_torch(module, x)
        (op,) = [node.op for node in net.graph if node.op.kind == "drop_path"]
        assert op == DropPath(0.2, mode)
        copy = net.to_torch()
        torch.manual_seed(3)
        wanted = module.train()(x)
        torch.manual_seed(3)
        assert torch.equal(copy(x), wanted)
        assert morphs.from_torch(copy, x).graph == net.graph


def test_a_frozen_batch_norm_stays_frozen():
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.live = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8)
            self.last = nn.Conv2d(8, 2, 1)

        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

        def forward(self, x):
            return self.last(self.live(self.norm(self.conv(x)).relu()))

    net = copied(Frozen(), normal(4, 3, 8, 8))
    assert net.graph["norm"].op == FrozenBatchNorm()
    assert net.graph["live"].op.kind == "batch_norm"
    assert morphs.apply(net, morphs.Widen("conv", 12)).drift.train <= 1e-10


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.b(m.a(x) + torch.randn_like(x) if m.training else m.a(x)),
        lambda m, x: m.b(m.a(x)) if m.training else m.a(x),
        lambda m, x: (m.a(x), m.b(x))[0 if m.training else 1],
    ],
)
def test_what_train_mode_alone_does_is_refused_unless_eval_is_asked_for(forward):
    module = Calls(forward, a=nn.Linear(8, 8), b=nn.Linear(8, 8))
    with pytest.raises(UnsupportedModule, match="mode"):
        morphs.from_torch(module, torch.ones(4, 8))
    net = morphs.from_torch(module, torch.ones(4, 8), modes="eval")
    x = torch.randn(3, 8)
    assert torch.equal(net.to_torch().eval()(x), module.eval()(x))


@pytest.mark.parametrize("slope", [-0.3, 0.25, 1.5])
@pytest.mark.parametrize("count", [1, 8])
def test_a_prelu_keeps_its_slopes_whatever_they_are(slope, count):
    module = nn.Sequential(nn.Linear(8, 8), nn.PReLU(count, init=slope), nn.Linear(8, 2)).double()
    copy = morphs.from_torch(module, normal(4, 8)).to_torch()
    for part in copy.modules():
        if hasattr(part, "project_"):
            part.project_()
    assert torch.equal(copy(normal(4, 8)), module(normal(4, 8)))
    assert {k: v.shape for k, v in copy.state_dict().items()} == {
        k: v.shape for k, v in module.state_dict().items()
    }


class Awkward(nn.Module):
    """Parameters in another order than by name, names that are none, one that is used by two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.zeta, self.alpha = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.add_module("1x1-conv", nn.Conv2d(4, 4, 1))
        self.shift = nn.Parameter(torch.ones(4, 1, 1))
        self.act = nn.PReLU()

    def forward(self, x):
        return self.alpha(self.act(self.alpha(self.get_submodule("1x1-conv")(self.zeta(x))) + self.shift))


@pytest.mark.parametrize(
    "build", [Awkward, lambda: models.resnet18(num_classes=3)], ids=["awkward", "resnet18"]
)
def test_parameters_keep_their_names_and_their_order(build):
    torch.manual_seed(0)
    module, x = build().double(), normal(2, 3, 32, 32)
    net = morphs.from_torch(module, x)
    copy = net.to_torch()
    assert [*copy.state_dict()] == [*module.state_dict()]
    assert [name for name, _ in copy.named_parameters()] == [name for name, _ in module.named_parameters()]
    optimizer = torch.optim.Adam(module.parameters())
    module(x).sum().backward()
    optimizer.step()
    new = torch.optim.Adam(copy.parameters())
    new.load_state_dict(optimizer.state_dict())
    assert all(new.state[p]["exp_avg"].shape == p.shape for p in copy.parameters())
    again = morphs.from_torch(copy, x)
    assert again.graph == net.graph
    assert again.keys == net.keys
    child = morphs.apply(net, next(iter(morphs.Widen.sites(net)))).network.to_torch()
    assert [*child.state_dict()] == [*module.state_dict()], "also after a move"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_every_move_takes_every_floating_type(dtype):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 6), nn.ReLU(), nn.Linear(6, 2),
    )  # fmt: skip
    x = normal(4, 3, 8, 8).to(dtype)
    net = morphs.from_torch(module.to(dtype), x)
    batches = [(x, torch.tensor([0, 1, 0, 1]))]
    for move in morphs.MOVES:
        site = next(iter(move.sites(net)), None)
        if site is not None:
            child = morphs.apply(net, site, batches=batches, loss=F.cross_entropy).network
            assert {t.dtype for t in child.weights.values() if t.is_floating_point()} == {dtype}, move.name
