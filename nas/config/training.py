"""The hyper-parameters of a training run, validated at construction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from nas.base.errors import UserError
from nas.config.option import Option, Shown, options

Precision = Literal["auto", "bf16", "fp32"]
OptimizerName = Literal["sgd", "adamw"]


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of an optimizer and its schedule. Raises UserError for an invalid value."""

    optimizer: Annotated[
        OptimizerName,
        Shown(),
        Field(
            description="What trains: sgd, with Nesterov momentum, or adamw, whose rate and weight decay are its own "
            "unless they are given."
        ),
    ] = "sgd"

    lr: Annotated[
        float,
        Shown(metavar="X", unset="the space's, or the optimizer's"),
        Field(gt=0, allow_inf_nan=False, description="The highest learning rate."),
    ] = 0.05
    lr_min: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False, description="Learning rate at the end of the schedule, at most lr."),
    ] = 0.0
    warmup_steps: Annotated[
        int, Field(ge=0, description="Steps of linear warm-up to lr at the start of the schedule.")
    ] = 0
    momentum: Annotated[
        float, Field(ge=0, lt=1, description="Nesterov momentum of sgd; 0: none. Of adamw, β₁.")
    ] = 0.9
    weight_decay: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="Weight decay of parameters with two or more dimensions, so not of norms, biases and mixing "
            "factors.",
        ),
    ] = 5e-4
    label_smoothing: Annotated[
        float, Field(ge=0, lt=1, description="Share of the target spread evenly over all classes.")
    ] = 0.1
    average: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="In a lineage, the share of a trial's last steps over which its weights are averaged; the "
            "average is what is judged and kept, and training goes on from the last step. 0: no average.",
        ),
    ] = 0.5
    clip_norm: Annotated[
        float | None,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="Largest gradient norm over all parameters; without it gradients are not clipped.",
        ),
    ] = None
    distill: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of the loss on a teacher's outputs, if there is one: children of approximate moves "
            "learn from their parent.",
        ),
    ] = 0.5
    batch_size: Annotated[
        int,
        Shown(metavar="N", unset="the space's"),
        Field(ge=2, description="Images in a batch; at least 2, as batch norm needs."),
    ] = 128
    precision: Annotated[
        Precision,
        Field(
            description="bf16 autocasts, fp32 computes in the network's own type, auto is `choose_arithmetic`: by the "
            "processor and the size of the network."
        ),
    ] = "auto"
    compile: Annotated[
        bool,
        Field(description="torch.compile the forward pass. Pays for long runs on an accelerator only."),
    ] = False

    def __post_init__(self) -> None:
        for option, adapter in _declared():
            value = getattr(self, option.name)
            try:
                adapter.validate_python(value, strict=True)
            except ValidationError:
                raise _invalid(option.name, value, _remedy(option)) from None
        if self.lr_min > self.lr:
            raise _invalid("lr_min", self.lr_min, f"a number from 0 to lr ({self.lr})")


@cache
def _declared() -> tuple[tuple[Option, TypeAdapter[Any]], ...]:
    hints = get_type_hints(TrainConfig, include_extras=True)
    return tuple((option, TypeAdapter(hints[option.name])) for option in options(TrainConfig))


def _invalid(name: str, value: object, remedy: str) -> UserError:
    return UserError(f"training: {name}={value!r} is not valid; use {remedy}")


def _remedy(option: Option) -> str:
    if option.choices:
        return f"one of {option.range}"
    if option.type is bool:
        return "true or false"
    kind = "a whole number" if option.type is int else "a number"
    return f"{kind} {option.range}".rstrip()


TRAINING = tuple(option.name for option in options(TrainConfig) if option.shown.panel)  # that have an option
