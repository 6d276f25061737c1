"""SGD with Nesterov momentum, using torch's own fused step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim.sgd import sgd


@dataclass
class Group:
    """Parameters that share a weight decay, and the momentum of each that has had a gradient."""

    parameters: list[Tensor]
    weight_decay: float
    momentum: dict[Tensor, Tensor] = field(default_factory=dict[Tensor, Tensor])


@dataclass(frozen=True)
class SGD:
    """Bit for bit `torch.optim.SGD(nesterov=True, fused=True)`, except that a step deletes the gradients."""

    groups: tuple[Group, ...]
    momentum: float
    fused: bool

    @property
    def parameters(self) -> Iterator[Tensor]:
        """All parameters that it updates."""
        return (parameter for group in self.groups for parameter in group.parameters)

    def put(self, values: Mapping[Tensor, Sequence[Tensor]]) -> None:
        """Set the initial momentum, from tensors of any device and layout; other parameters are ignored."""
        for group in self.groups:
            group.momentum.update(
                (p, torch.empty_like(p).copy_(values[p][0])) for p in group.parameters if p in values
            )

    def state_of(self, parameter: Tensor) -> tuple[Tensor, ...]:
        """Return the parameter's momentum, alone; () before its first gradient."""
        found = (group.momentum[parameter] for group in self.groups if parameter in group.momentum)
        return tuple(found)

    def step(self, rate: float) -> None:
        """Take one step with learning rate `rate` and delete the gradients."""
        for group in self.groups:
            stepped = [p for p in group.parameters if p.grad is not None]
            buffers = [group.momentum.get(p) for p in stepped]
            sgd(
                stepped,
                [p.grad for p in stepped if p.grad is not None],
                buffers,
                weight_decay=group.weight_decay,
                momentum=self.momentum,
                lr=rate,
                dampening=0.0,
                nesterov=self.momentum > 0,
                maximize=False,
                fused=self.fused,
                foreach=False,
            )
            group.momentum.update((p, b) for p, b in zip(stepped, buffers, strict=True) if b is not None)
            for parameter in stepped:
                parameter.grad = None
