"""SGD with Nesterov momentum, in torch's own fused step.

`torch.optim.SGD` would import torch's compiler at its construction: 3 seconds and 150 MB for each worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from nas.base.errors import UserError
from nas.config.training import TrainConfig


@dataclass
class Group:
    """Parameters with one weight decay, and the momentum of each that has had a gradient."""

    parameters: list[Tensor]
    weight_decay: float
    momentum: dict[Tensor, Tensor] = field(default_factory=dict[Tensor, Tensor])


@dataclass(frozen=True)
class SGD:
    """What `torch.optim.SGD(nesterov=True, fused=True)` computes, bit for bit; gradients are gone after a step."""

    groups: tuple[Group, ...]
    momentum: float
    fused: bool

    @property
    def parameters(self) -> Iterator[Tensor]:
        """All that are stepped."""
        return (parameter for group in self.groups for parameter in group.parameters)

    def put_momentum(self, values: Mapping[Tensor, Tensor]) -> None:
        """Begin with these, of any device and layout, for the parameters that are stepped."""
        for group in self.groups:
            group.momentum.update(
                (p, torch.empty_like(p).copy_(values[p])) for p in group.parameters if p in values
            )

    def momentum_of(self, parameter: Tensor) -> Tensor | None:
        """Its momentum, once it had a gradient."""
        return next((group.momentum[parameter] for group in self.groups if parameter in group.momentum), None)

    def step(self, rate: float) -> None:
        """One step of learning rate `rate` down the gradients."""
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


def make_optimizer(module: nn.Module, config: TrainConfig) -> SGD:
    """SGD over the trainable parameters, those with fewer than two dimensions without weight decay.

    Raises UserError where there is nothing to train.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    if not trainable:
        raise UserError("network: no parameter of it can be trained; unfreeze one with requires_grad_()")
    for parameter in trainable:
        parameter.grad = None  # of an earlier use
    groups = (
        Group([p for p in trainable if p.ndim >= 2], config.weight_decay),
        Group([p for p in trainable if p.ndim < 2], 0.0),
    )
    # Fused: one call for all parameters, several times faster than one each on small networks.
    fused = all(p.device.type in ("cpu", "cuda") for p in trainable)
    return SGD(tuple(group for group in groups if group.parameters), config.momentum, fused)
