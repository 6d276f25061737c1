"""AdamW, using torch's own fused step. Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from nas.config.training import TrainConfig

SECOND = 0.999  # decay of the mean squares
EPS = 1e-8


@dataclass(frozen=True)
class Moments:
    """What it keeps of a parameter: means of its gradients and of their squares, and the steps that these span."""

    mean: Tensor
    square: Tensor
    count: Tensor


@dataclass
class AdamGroup:
    """Parameters that share a weight decay, and the moments of each that has had a gradient."""

    parameters: list[Tensor]
    weight_decay: float
    moments: dict[Tensor, Moments] = field(default_factory=dict[Tensor, Moments])


@dataclass(frozen=True)
class AdamW:
    """Bit for bit `torch.optim.AdamW(fused=True)`, except that a step deletes the gradients.

    Its state of a parameter is the mean, the mean square and the number of steps, in each entry.
    """

    groups: tuple[AdamGroup, ...]
    first: float
    fused: bool

    @property
    def parameters(self) -> Iterator[Tensor]:
        """All parameters that it updates."""
        return (parameter for group in self.groups for parameter in group.parameters)

    def put(self, values: Mapping[Tensor, Sequence[Tensor]]) -> None:
        """Set the initial state, from tensors of any device and layout; other parameters are ignored."""
        for group in self.groups:
            for p in group.parameters:
                if p in values:
                    mean, square, counts = values[p]
                    steps = float(counts.max()) if counts.numel() else 0.0
                    group.moments[p] = Moments(_like(p, mean), _like(p, square), _count(p, steps))

    def state_of(self, parameter: Tensor) -> tuple[Tensor, ...]:
        """Return the parameter's state; () before its first gradient."""
        for group in self.groups:
            if found := group.moments.get(parameter):
                return found.mean, found.square, torch.full_like(parameter, float(found.count))
        return ()

    def step(self, rate: float) -> None:
        """Take one step with learning rate `rate` and delete the gradients."""
        for group in self.groups:
            stepped = [p for p in group.parameters if p.grad is not None]
            for p in stepped:
                if p not in group.moments:
                    group.moments[p] = Moments(torch.zeros_like(p), torch.zeros_like(p), _count(p, 0.0))
            held = [group.moments[p] for p in stepped]
            with torch.no_grad():
                adamw(
                    stepped,
                    [p.grad for p in stepped if p.grad is not None],
                    [moments.mean for moments in held],
                    [moments.square for moments in held],
                    [],
                    [moments.count for moments in held],
                    foreach=False,
                    fused=self.fused,
                    amsgrad=False,
                    beta1=self.first,
                    beta2=SECOND,
                    lr=rate,
                    weight_decay=group.weight_decay,
                    eps=EPS,
                    maximize=False,
                )
            for parameter in stepped:
                parameter.grad = None


def betas(config: TrainConfig) -> tuple[float, float]:
    """The decays of the means of gradients and of their squares."""
    return config.momentum, SECOND


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    return torch.empty_like(parameter).copy_(value)


def _count(parameter: Tensor, steps: float) -> Tensor:
    return torch.tensor(steps, dtype=torch.float32, device=parameter.device)
