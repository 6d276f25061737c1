"""What a training run is told, checked at construction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from nas.base.errors import UserError

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of SGD under one cosine. Raises UserError for a value that makes no sense.

    lr, lr_min:      learning rate at the top and at the end of the cosine, 0 <= lr_min <= lr, lr > 0.
    warmup_steps:    steps that lead linearly up to lr before the cosine starts.
    momentum:        in [0, 1); Nesterov's unless 0.
    weight_decay:    of parameters with two or more dimensions; norms, biases and mixing factors are spared.
    label_smoothing: in [0, 1).
    clip_norm:       largest gradient norm over all parameters; None leaves gradients alone.
    distill:         in [0, 1]: the share of the loss on a teacher's outputs, where there is one: children of
                     approximate moves learn from their parent.
    batch_size:      at least 2, as batch norm needs.
    precision:       "bf16" autocasts, "fp32" computes in the network's own type, "auto" is
                     `choose_arithmetic`: by the processor and the size of the network.
    compile:         torch.compile the forward pass. Pays for long runs on an accelerator only.
    """

    lr: float = 0.05
    lr_min: float = 0.0
    warmup_steps: int = 0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    clip_norm: float | None = None
    distill: float = 0.5
    batch_size: int = 128
    precision: Precision = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        _need("lr", self.lr, _within(self.lr, 0) and self.lr > 0, "a number above 0, such as 0.05")
        _need("lr_min", self.lr_min, _within(self.lr_min, 0, self.lr), f"a number from 0 to lr ({self.lr})")
        _need("warmup_steps", self.warmup_steps, _whole(self.warmup_steps, 0), "a whole number from 0")
        below_one = "a number from 0 to below 1, such as {}"
        _need("momentum", self.momentum, _below_one(self.momentum), below_one.format(0.9))
        _need(
            "weight_decay", self.weight_decay, _within(self.weight_decay, 0), "a number from 0, such as 5e-4"
        )
        smoothing = self.label_smoothing
        _need("label_smoothing", smoothing, _below_one(smoothing), below_one.format(0.1))
        _need("distill", self.distill, _within(self.distill, 0, 1), "a number from 0 to 1, such as 0.5")
        clip = self.clip_norm
        _need(
            "clip_norm", clip, clip is None or (_within(clip, 0) and clip > 0), "a number above 0, or nothing"
        )
        _need("batch_size", self.batch_size, _whole(self.batch_size, 2), "a whole number from 2")
        known = get_args(Precision)
        _need("precision", self.precision, self.precision in known, "one of " + ", ".join(known))
        _need("compile", self.compile, self.compile in (True, False), "true or false")


def _need(name: str, value: object, holds: bool, remedy: str) -> None:
    if not holds:
        raise UserError(f"training: {name}={value!r} makes no sense; use {remedy}")


def _within(value: object, least: float, most: float = math.inf) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return math.isfinite(value) and least <= value <= most


def _below_one(value: float) -> bool:
    return _within(value, 0) and value < 1


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and _within(value, least)
