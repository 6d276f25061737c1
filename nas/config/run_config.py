"""The configuration of a run: defaults, recipes, the command line's overrides, in one checked value."""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from morphs import Limits
from nas.base.errors import UserError
from nas.config.training import TrainConfig
from nas.ledger.shared import checked_url
from nas.policies.choose import POLICIES
from search_spaces import SPACES

RECIPES = Path("runs/recipes")
LIMITS = tuple(field.name for field in fields(Limits))


class RunConfig(BaseModel):
    """Everything that decides what a run does. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    space: str
    data: str
    data_root: str | None = None
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    budget: float | None = Field(default=None, gt=0)  # wall seconds for everything, across resumes
    generations: int | None = Field(default=None, ge=1)
    children: int = Field(default=3, ge=1, le=1000)
    moves_per_child: int = Field(default=2, ge=1, le=100)
    epochs: float = Field(default=1.0, gt=0)  # of the incumbent; all competitors get its cost
    # Of the training cost of the best network's lineage; of the budget, where that ends the search.
    final_share: float = Field(default=0.25, ge=0, lt=1)
    final: Literal["continue", "restart"] = "continue"
    limits: dict[str, int] = {}
    policy: str = "hill-climb"  # a name in nas.policies.POLICIES, or package.module:Class
    objective: Literal["params", "macs", "latency"] = "params"  # what pareto weighs accuracy against
    latency_from: str | None = None  # a run whose table of latencies is taken; None: measured
    rungs: int = Field(default=1, ge=1, le=8)  # of hill-climb: siblings are halved rungs - 1 times
    select: Literal["accuracy", "loss"] = "accuracy"  # of the validation split, makes the best competitor
    move_sampler: Literal["uniform", "tpe", "predictor"] = "uniform"
    executor: Literal["local", "ray"] = "local"
    address: str | None = None  # of a Ray cluster; None: Ray is started on this machine
    gpus_per_child: float | None = Field(
        default=None, gt=0, le=64
    )  # what Ray reserves; None: 1 on cuda, else 0
    storage: str | None = None  # where Ray's workers hand checkpoints over; None: in messages
    workers: int = Field(default=1, ge=1, le=4096)
    threads: int = Field(default=1, ge=1, le=4096)  # of each child, whatever `workers` is
    device: str = "cpu"
    child_timeout: float | None = Field(default=None, gt=0)  # the final training, far longer, has none
    ledger: str | None = None  # URL of a shared database for the trials; None: a file in the run's folder
    keep: str = "all"  # or best:N: the checkpoints that stay when nothing needs them any more
    train: TrainConfig = TrainConfig()
    recipe: str | None = None

    @field_validator("space")
    @classmethod
    def _known_space(cls, space: str) -> str:
        if space not in SPACES:
            near = difflib.get_close_matches(space, SPACES, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(SPACES)}"
            raise ValueError(f'there is no search space "{space}"; {hint}')
        return space

    @field_validator("policy")
    @classmethod
    def _known_policy(cls, policy: str) -> str:
        if policy not in POLICIES and not re.fullmatch(r"[\w.]+:\w+", policy):
            near = difflib.get_close_matches(policy, POLICIES, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(POLICIES)}"
            raise ValueError(f'there is no policy "{policy}"; {hint}')
        return policy

    @field_validator("keep")
    @classmethod
    def _known_keep(cls, keep: str) -> str:
        if not re.fullmatch(r"all|best:[1-9]\d{0,6}", keep):
            raise ValueError(f'keep="{keep}" says neither all nor how many of the best; write best:10')
        return keep

    @field_validator("ledger")
    @classmethod
    def _known_ledger(cls, ledger: str | None) -> str | None:
        return None if ledger is None else checked_url(ledger)

    @property
    def keep_best(self) -> int | None:
        """How many of the best trials keep their checkpoints; None: all."""
        return None if self.keep == "all" else int(self.keep.removeprefix("best:"))

    @field_validator("limits")
    @classmethod
    def _known_limits(cls, limits: dict[str, int]) -> dict[str, int]:
        for name, value in limits.items():
            if name not in LIMITS:
                raise ValueError(f'there is no limit "{name}"; choose one of {", ".join(LIMITS)}')
            if value < 1:
                raise ValueError(
                    f"limit {name}={value} is below 1, so no network fits; give a positive number"
                )
        return limits

    @property
    def gpu_share(self) -> float:
        """GPUs that Ray reserves for each child."""
        if self.gpus_per_child is not None:
            return self.gpus_per_child
        return 1.0 if self.device.startswith("cuda") else 0.0

    @model_validator(mode="after")
    def _ray(self) -> "RunConfig":
        if self.executor == "ray":
            if self.address is not None and self.address.startswith("ray://"):
                raise ValueError(
                    f'address "{self.address}" is a Ray client\'s; run on a machine of the cluster, with --address auto'
                )
            if self.device.startswith("cuda:"):
                raise ValueError(
                    f"Ray chooses the GPU of each child, so {self.device} can't be kept; use cuda"
                )
            if self.gpus_per_child is not None and self.device == "cpu":
                raise ValueError(
                    "gpus_per_child reserves GPUs that children on cpu don't use; add --device cuda"
                )
            return self
        for name in ("address", "gpus_per_child", "storage"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is a setting of Ray's; add --executor ray or leave it out")
        return self

    @model_validator(mode="after")
    def _rungs(self) -> "RunConfig":
        if self.rungs != 1 and self.policy in POLICIES and self.policy != "hill-climb":
            raise ValueError(f"{self.policy} has no rungs; add --policy hill-climb or leave them out")
        return self

    @model_validator(mode="after")
    def _sampler(self) -> "RunConfig":
        if self.policy == "random" and self.move_sampler != "uniform":
            raise ValueError(
                f"random draws all moves alike; leave {self.move_sampler} out or choose another policy"
            )
        return self

    @model_validator(mode="after")
    def _objective(self) -> "RunConfig":
        if self.objective != "params" and self.policy in POLICIES and self.policy != "pareto":
            raise ValueError(
                f"{self.policy} weighs accuracy alone; add --policy pareto or leave the objective out"
            )
        if self.latency_from is not None and (self.policy, self.objective) != ("pareto", "latency"):
            raise ValueError(
                "latency_from is for a front of latency; add --policy pareto --objective latency or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _ends(self) -> "RunConfig":
        if self.budget is None and self.generations is None:
            raise ValueError("the run has no end; give --budget or --generations")
        return self


# What each space is run with unless a recipe or the command line says otherwise. Tuned on validation splits.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "digits": {
        "data": "digits",
        "val_fraction": 0.2,
        "limits": {"macs": 400_000},  # so that it ends within three minutes on two slow cores
        "generations": 6,
        "moves_per_child": 3,
        "epochs": 80,
        "final_share": 0.5,
        "select": "loss",
        "train": {"lr": 0.05, "batch_size": 64, "warmup_steps": 50, "clip_norm": 1.0},
    },
    "mlp": {
        "data": "mnist",
        "generations": 6,
        "moves_per_child": 1,
        "epochs": 15,
        "final_share": 0.4,
        "train": {"lr": 0.05, "warmup_steps": 50, "clip_norm": 1.0, "weight_decay": 1e-4},
    },
    "lenet": {
        "data": "mnist",
        "generations": 6,
        "moves_per_child": 1,
        "epochs": 2,
        "train": {"lr": 0.05, "warmup_steps": 50, "clip_norm": 1.0},
    },
    "cifar_quick": {
        "data": "cifar10",
        "generations": 8,
        "epochs": 2,
        "train": {"lr": 0.05, "warmup_steps": 50, "clip_norm": 2.0},
    },
    "nash": {"data": "cifar10", "generations": 8, "epochs": 2, "train": {"lr": 0.1, "warmup_steps": 50}},
}


def make_config(space_or_recipe: str, overrides: Mapping[str, Any]) -> RunConfig:
    """The configuration for a space's name or a recipe (a TOML file, or its name in runs/recipes).

    overrides: fields that the command line sets; `train` and `limits` are merged key by key. Raises UserError
    with one line for anything wrong.
    """
    recipe: dict[str, Any] = {}
    if space_or_recipe not in SPACES:
        path = _find_recipe(space_or_recipe)
        recipe = load_recipe(path)
        _check_recipe(path, recipe)
    space = str(recipe.get("space", space_or_recipe))
    values: dict[str, Any] = {}
    layers: list[Mapping[str, Any]] = [DEFAULTS.get(space, {}), recipe, overrides]
    if any("budget" in layer for layer in layers[1:]):
        layers[0] = {key: value for key, value in layers[0].items() if key != "generations"}
    for layer in layers:
        for key, value in layer.items():
            merged = key in ("train", "limits") and isinstance(value, Mapping)
            values[key] = {**values.get(key, {}), **value} if merged else value
    values["space"] = space
    if recipe:
        values["recipe"] = space_or_recipe
    config = check_config(values)
    if "workers" in values:
        return config
    # A cluster's size is its own matter: all that can go on at once is handed to Ray, which queues what has no room.
    free = config.children + 1 if config.address else max(1, _cores() // config.threads)
    return config.model_copy(update={"workers": free})


def _check_recipe(path: Path, recipe: Mapping[str, Any]) -> None:
    """UserError, naming the file, when a recipe is at fault by itself."""
    ends = {} if {"budget", "generations"} & recipe.keys() else {"generations": 1}
    try:
        check_config({"data": "digits", **ends, **recipe})
    except UserError as error:
        raise UserError(f"recipe: {path}: {str(error).removeprefix('configuration: ')}") from None


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_config(values: Mapping[str, Any]) -> RunConfig:
    """`values` as a RunConfig; UserError with one line, naming the field, when they are none."""
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(f"configuration: {_first_fault(error)}") from None
    except UserError as error:
        raise UserError(f"configuration: {error}") from None


def _first_fault(error: ValidationError) -> str:
    """The first thing wrong, as fact and remedy."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = (
            [field.name for field in fields(TrainConfig)] if "." in where else list(RunConfig.model_fields)
        )
        name = where.rpartition(".")[2]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
        return f'there is no setting "{where}"; {hint}'
    message = str(first["msg"])
    if first["type"] == "value_error":  # our own words, which say all
        return message.removeprefix("Value error, ")
    if first["type"] == "missing":
        return f'the setting "{where}" is missing; give it'
    return f"{where or 'it'}: {message[:1].lower()}{message[1:]}, not {first['input']!r:.60}"


def _find_recipe(name: str) -> Path:
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        return path
    if (RECIPES / f"{name}.toml").is_file():
        return RECIPES / f"{name}.toml"
    recipes = sorted(p.stem for p in RECIPES.glob("*.toml")) if RECIPES.is_dir() else []
    near = difflib.get_close_matches(name, [*SPACES, *recipes], 1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join([*SPACES, *recipes])}"
    if not RECIPES.is_dir():
        hint += f" (there is no folder {RECIPES} here: give a recipe as a path)"
    raise UserError(f'search: "{name}" is neither a search space nor a recipe; {hint}')


def load_recipe(path: Path) -> dict[str, Any]:
    """The fields that a recipe file sets. Raises UserError when it can't be read or names no space."""
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"recipe: {path} can't be read ({error}); name a TOML file or a space") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe: {path} is no TOML ({error}); mend that line") from None
    if "space" not in recipe:
        raise UserError(f'recipe: {path} names no space; add a line like space = "digits"')
    if isinstance(recipe.get("budget"), str):
        recipe["budget"] = parse_duration(recipe["budget"])
    return recipe


def parse_duration(text: str) -> float:
    """Seconds of a duration such as 90s, 10m, 1.5h or 45; UserError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|)\s*", text)
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else 0.0
    if seconds <= 0:
        raise UserError(f'"{text}" is no duration; write a positive number of s, m, h or d, like 90s or 10m')
    return seconds


def parse_limit(text: str) -> tuple[str, int]:
    """(name, most) of a limit such as params=2e6; UserError for anything else."""
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name.strip(), int(float(value))
    except (ValueError, OverflowError):
        raise UserError(f'"{text}" is no limit; write NAME=NUMBER, like params=2e6') from None
