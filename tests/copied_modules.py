"""Modules to copy by from_torch, and the copy held against the module."""

import torch
from torch import nn

import morphs

torch64 = torch.float64


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, with statistics, biases and factors as after training."""
    g = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                for tensor, low in (
                    (part.weight, 0.5),
                    (part.bias, -0.5),
                    (part.running_mean, -0.5),
                    (part.running_var, 0.5),
                ):
                    if tensor is not None:
                        tensor.copy_(low + torch.rand(tensor.shape, generator=g, dtype=torch64))
    return module


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch64)


def difference(module: nn.Module, copy: nn.Module, *inputs: torch.Tensor, train: bool = False) -> float:
    """Relative difference of the outputs, dropout off."""
    outputs = []
    for each in (module, copy):
        each.train(train)
        for part in each.modules():
            if isinstance(part, (nn.Dropout, nn.RNNBase)):
                part.eval()
        with torch.no_grad():
            outputs.append(each(*(x.clone() for x in inputs)))
    assert outputs[0].shape == outputs[1].shape
    error, size = float((outputs[0] - outputs[1]).abs().max()), float(outputs[0].abs().max())
    return error / (size or 1)


def copied(module: nn.Module, *inputs: torch.Tensor) -> morphs.Network:
    """The copy, checked: the same outputs in both modes, the same statistics after a step in train mode."""
    module = shaken(module)
    flags = [part.training for part in module.modules()]
    before = {key: value.clone() for key, value in module.state_dict().items()}
    net = morphs.from_torch(module, inputs)
    assert [part.training for part in module.modules()] == flags
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not {t.data_ptr() for t in module.state_dict().values() if t.numel()} & {
        t.data_ptr() for t in net.weights.values()
    }
    copy = net.to_torch()
    assert net.with_weights_from(copy).digest == net.digest
    assert difference(module, copy, *inputs) <= 1e-12
    assert difference(module, copy, *inputs, train=True) <= 1e-12
    assert difference(module, copy, *inputs) <= 1e-12  # with the running statistics of that one pass
    return net


def check_widenings(net: morphs.Network, *factors: float) -> None:
    """Whatever is offered, in each of three ways, leaves the function as it was; so does widening all of it twice."""
    for how in ("replicate", "zero", "paired"):
        sites = list(morphs.Widen.sites(net, options={"how": (how,), "factor": factors or (1.5,)}))
        assert sites, how
        for site in sites:
            child = morphs.apply(net, site)
            assert max(child.drift.eval, child.drift.train) <= 1e-12, site
    grown = morphs.apply(net, "widen_all(factor=2, how=replicate)").network
    again = morphs.apply(grown, "widen_all(factor=1.5, how=zero)")
    assert max(again.drift.eval, again.drift.train) <= 1e-12


def along(rank: int) -> tuple[nn.Module, torch.Tensor]:
    """A module of convolutions of signals (1), maps (2) or volumes (3), with its input."""
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
    module = nn.Sequential(
        conv(2, 4, 3, padding=1, bias=False), norm(4), nn.ReLU(),
        conv(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, padding_mode="replicate"), nn.Tanh(),
        nn.Flatten(), nn.Linear(6 * 3**rank, 3),
    )  # fmt: skip
    return module, normal(4, 2, *(6,) * rank)


class Calls(nn.Module):
    """A module around a function of (self, x)."""

    def __init__(self, function, **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        return self.function(self, x)


def kinds(net: morphs.Network) -> set[str]:
    return {node.op.kind for node in net.graph}


def returns(net: morphs.Network, x: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
    """The copy's copy is the same graph."""
    assert morphs.from_torch(net.to_torch(), x).graph == net.graph
