"""Weights that are computed from parameters, instance norms, pixels made of channels: the widths stay free."""

import pytest
import torch
from copied_modules import check_widenings, copied, normal
from torch import nn

import morphs
from morphs.errors import IllegalMove, UnsupportedModule

weight_norm = nn.utils.parametrizations.weight_norm


class Standardised(nn.Conv2d):
    """A convolution with standardised weight, each row times a learned gain."""

    def __init__(self, *given, gain: bool = True, **named) -> None:
        super().__init__(*given, **named)
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5) if gain else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gain = None if self.gain is None else (self.gain * 0.3).view(-1)
        rows = self.weight.reshape(1, self.out_channels, -1)
        rows = nn.functional.batch_norm(rows, None, None, gain, training=True, momentum=0.0, eps=1e-4)
        weight = rows.reshape_as(self.weight)
        return nn.functional.conv2d(
            x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


def vectors() -> tuple[nn.Module, torch.Tensor]:
    layers = (
        weight_norm(nn.Linear(4, 6, bias=False)),
        nn.Tanh(),
        weight_norm(nn.Linear(6, 4)),
        nn.Linear(4, 2),
    )
    return nn.Sequential(*layers), normal(3, 4)


def tokens() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(weight_norm(nn.Linear(4, 6)), nn.GELU(), weight_norm(nn.Linear(6, 2))), normal(
        3, 5, 4
    )


def signals() -> tuple[nn.Module, torch.Tensor]:
    first, second = nn.Conv1d(2, 4, 3, padding="same"), nn.Conv1d(4, 6, 3, padding=2, dilation=2, groups=2)
    head = nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 2)
    return nn.Sequential(
        weight_norm(first), nn.ReLU(), weight_norm(second), nn.BatchNorm1d(6), *head
    ), normal(3, 2, 8)


def volumes() -> tuple[nn.Module, torch.Tensor]:
    layers = weight_norm(nn.Conv3d(1, 4, 3)), nn.InstanceNorm3d(4), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)
    return nn.Sequential(*layers), normal(3, 1, 4, 4, 4)


def maps() -> tuple[nn.Module, torch.Tensor]:
    layers = (
        Standardised(3, 4, 3, padding=1),
        nn.ReLU(),
        Standardised(4, 6, 3, groups=2, bias=False),
        nn.ReLU(),
    )
    depthwise = Standardised(6, 6, 3, groups=6), nn.SiLU(), Standardised(6, 4, 1)
    return nn.Sequential(*layers, *depthwise, nn.Flatten(), nn.Linear(16, 2)), normal(3, 3, 6, 6)


def twice() -> tuple[nn.Module, torch.Tensor]:
    shared = weight_norm(nn.Linear(6, 6))
    return nn.Sequential(nn.Linear(4, 6), shared, nn.ReLU(), shared, nn.Linear(6, 2)), normal(3, 4)


def instances() -> tuple[nn.Module, torch.Tensor]:
    layers = (
        nn.Conv2d(3, 4, 3),
        nn.InstanceNorm2d(4, affine=True),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.InstanceNorm2d(6),
    )
    return nn.Sequential(*layers, nn.Conv2d(6, 2, 1)), normal(3, 3, 7, 7)


def steps_in_time() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.InstanceNorm1d(4, affine=True), nn.Conv1d(4, 2, 1)), normal(
        3, 2, 8
    )


def pixels() -> tuple[nn.Module, torch.Tensor]:
    layers = nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(3, 4, 1), nn.PixelUnshuffle(2)
    return nn.Sequential(*layers, nn.Conv2d(16, 2, 1)), normal(3, 3, 4, 4)


CASES = (vectors, tokens, signals, volumes, maps, twice, instances, steps_in_time, pixels)


@pytest.mark.parametrize("case", CASES)
def test_every_width_inside_is_free_and_widens_exactly(case):
    module, x = case()
    net = copied(module, x)
    assert morphs.from_torch(net.to_torch(), x).graph == net.graph
    assert [*dict(net.to_torch().named_parameters())] == [*dict(module.named_parameters())]
    fixed = [group.fixed for group in morphs.channel_groups(net.graph).groups if group.fixed is not None]
    assert all(reason.startswith(("has the width of the input", "feeds the output")) for reason in fixed)
    check_widenings(net)


@pytest.mark.parametrize("case", CASES)
def test_exports_compute_the_same(case, tmp_path):
    module, x = case()
    morphs.export(copied(module, x), tmp_path / "out", x)


def test_a_wider_layer_keeps_its_weight_and_its_optimizer_state():
    module, x = vectors()
    net = copied(module, x)
    child = morphs.apply(net, "widen(node=layer0, to=9, how=replicate)")
    g, v = (child.network.weights["layer2", name] for name in "gv")
    weight = g * v / v.norm(dim=1, keepdim=True)
    old = net.weights["layer2", "g"] * net.weights["layer2", "v"]
    old = old / net.weights["layer2", "v"].norm(dim=1, keepdim=True)
    copies = torch.from_numpy(child.origin["layer0", "v"].axes[0].copy())
    assert (copies < 0).sum() == 3
    assert torch.allclose(weight.sum(1), old.sum(1), atol=1e-14)
    assert child.origin["layer2", "g"].source == ("layer2", "g")


def test_without_a_gain_what_a_standardised_layer_reads_keeps_its_width():
    layers = Standardised(3, 4, 3, gain=False), nn.ReLU(), Standardised(4, 6, 3, gain=False), nn.Flatten()
    net = copied(nn.Sequential(*layers, nn.Linear(24, 2)), normal(3, 3, 6, 6))
    with pytest.raises(IllegalMove, match="layer2"):
        morphs.apply(net, "widen(node=layer0, to=8)")
    child = morphs.apply(net, "widen(node=layer2, to=8)")
    assert max(child.drift.eval, child.drift.train) <= 1e-12


def test_a_gradient_does_not_choose_rows_that_are_divided_by_their_length():
    net = copied(*vectors())
    with pytest.raises(IllegalMove, match="layer0"):
        morphs.apply(net, "widen(node=layer0, to=9, how=gradient)")


def test_a_weight_norm_across_inputs_stays_an_operator():
    module = nn.Sequential(nn.Linear(4, 6), weight_norm(nn.Linear(6, 3), dim=1), nn.Linear(3, 2))
    net = copied(module, normal(3, 4))
    assert "normed_layer" not in {node.op.kind for node in net.graph}


def test_an_instance_norm_of_one_pixel_is_refused():
    with pytest.raises(UnsupportedModule):
        morphs.from_torch(nn.Sequential(nn.InstanceNorm2d(3)), torch.randn(2, 3, 1, 1))
    with pytest.raises(morphs.errors.ShapeError, match="instance_norm"):
        morphs.parse_graph("x = input(size=[3, 1, 1]); n = instance_norm(x); out = output(n)")


@pytest.mark.parametrize(
    "fields", ["eps=0.1", "how=standard", "how=norm, gain=false", "how=standard, eps=1e-5, groups=2"]
)
def test_fields_that_do_not_fit_are_refused(fields):
    with pytest.raises(morphs.errors.ShapeError, match="normed_layer"):
        morphs.parse_graph(f"x = input(size=[4]); n = normed_layer(x, channels=4, {fields}); out = output(n)")
