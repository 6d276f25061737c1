"""What the loop needs of an optimizer, and the one that a configuration names.

Constructing one of torch.optim's would import torch's compiler: 3 seconds and 150 MB for each worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from nas.base.errors import UserError
from nas.config.training import TrainConfig
from nas.train.adamw import AdamGroup, AdamW
from nas.train.sgd import SGD, Group


class Optimizer(Protocol):
    """Updates parameters, and keeps a few tensors of each one's shape: its state."""

    @property
    def parameters(self) -> Iterator[Tensor]:
        """All parameters that it updates."""
        ...

    def put(self, values: Mapping[Tensor, Sequence[Tensor]]) -> None:
        """Set the initial state, from tensors of any device and layout; other parameters are ignored."""
        ...

    def state_of(self, parameter: Tensor) -> tuple[Tensor, ...]:
        """Return the parameter's state; () before its first gradient."""
        ...

    def step(self, rate: float) -> None:
        """Take one step with learning rate `rate` and delete the gradients."""
        ...


def make_optimizer(module: nn.Module, config: TrainConfig) -> Optimizer:
    """Return the optimizer of the trainable parameters, without weight decay for those with fewer than two dimensions.

    Raises UserError if there is nothing to train.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    if not trainable:
        raise UserError("network: it has no trainable parameter; unfreeze one with requires_grad_()")
    for parameter in trainable:
        parameter.grad = None  # left from an earlier use
    parts: tuple[tuple[list[Tensor], float], ...] = (
        ([p for p in trainable if p.ndim >= 2], config.weight_decay),
        ([p for p in trainable if p.ndim < 2], 0.0),
    )
    # Fused: one call for all parameters, several times faster than one call each on small networks.
    fused = all(p.device.type in ("cpu", "cuda") for p in trainable)
    if config.optimizer == "adamw":
        return AdamW(tuple(AdamGroup(*part) for part in parts if part[0]), config.momentum, fused)
    return SGD(tuple(Group(*part) for part in parts if part[0]), config.momentum, fused)
