"""The configuration of a run as one validated value. Each field declares its option: type, default, range, help."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from nas.config.option import OUTPUT, WORK, Shown
from nas.config.quantity import seconds_of
from nas.config.training import TrainConfig

CODE = r"[\w.]+:\w+"  # package.module:name
TASKS = ("classification", "balanced", "multi-label", "regression")
FITTED = (
    "augment", "batch_size", "children", "clip_norm", "device", "epochs", "final_data", "final_share", "generations",
    "grow_share", "label_smoothing", "limits", "lr", "macs", "most_epochs", "moves_per_child", "optimizer", "parent",
    "select", "threads", "val_fraction", "warmup_steps", "weight_decay",
)  # fmt: skip
RAY = ("address", "gpus_per_child", "storage")
MODEL = "model"  # the space of a search that starts from a model, if no other is named
Seconds = BeforeValidator(seconds_of)


class RunConfig(BaseModel):
    """Everything that decides what a run does. Times in seconds.

    Names of spaces, moves, policies, samplers, executors and objectives are checked by a registry, not here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    space: Annotated[str, Shown(metavar="SPACE", code=True)] = Field(
        description="Search space: a name (see nas spaces) or package.module:space."
    )
    moves: Annotated[tuple[str, ...], Shown(metavar="NAME", code=True)] = Field(
        (),
        description="A move to search with, in addition to the space's: a name (see nas moves) or package.module:Move. "
        "Repeatable.",
    )
    data: Annotated[
        str,
        Shown(
            metavar="NAME|PATH",
            unset="the space's own",
            code=True,
            resumed="The run's data set again; needed only if it is a package.module:function, since code is never "
            "run because a file of the run names it, or an imagefolder:PATH that has moved.",
        ),
    ] = Field(
        description="Data set: digits, mnist, fashion-mnist, cifar10, cifar100, svhn, imagefolder:PATH, "
        "csv:FILE?target=NAME, npz:FILE or package.module:function."
    )
    task: Annotated[
        str | None,
        Shown(
            metavar="NAME",
            unset="by the kind of the targets",
            code=True,
            resumed="The run's task again; needed only if it is a package.module:function, since code is never run "
            "because a file of the run names it.",
        ),
    ] = Field(
        None,
        description="What is learned: classification, balanced (classes of unequal size that count alike), "
        "multi-label, regression, or package.module:function, which returns a nas.Task. Integer targets are classes, "
        "a 0/1 matrix is labels, floats are values to predict.",
    )
    data_root: Annotated[
        str | None,
        Shown(
            metavar="DIR",
            unset="$NAS_DATA, or ~/.cache/nas/data",
            resumed="Folder of the public data sets on this machine. (Default: as when the run began.)",
        ),
    ] = Field(None, description="Folder of the public data sets, which are downloaded if missing.")
    val_fraction: Annotated[float, Shown(metavar="X")] = Field(
        0.1, gt=0, lt=1, description="Share of the training images that becomes the validation split."
    )
    augment: Annotated[str | None, Shown(metavar="none|NAME=VALUE,…", unset="what the data set declares")] = (
        Field(
            None,
            description="Random changes of training images: none, flips=true or flips=false (mirror left to right), "
            "shifts=N (by up to N pixels); flip, crop=N or flip,crop=N turns off what it doesn't name. cifar10, "
            "cifar100 and fashion-mnist are mirrored and all public sets are shifted unless this says otherwise; your "
            "own images are shifted a little if they are few.",
        )
    )
    check_data: Annotated[Literal["auto", "all", "none"], Shown()] = Field(
        "auto",
        description="Read every picture once before the search, so that damaged ones are found now: all, none, or "
        "auto, which does it where it takes seconds.",
    )
    seed: Annotated[int, Shown(metavar="N")] = Field(
        0, ge=0, le=2**31 - 1, description="Decides every random choice."
    )
    budget: Annotated[float | None, Seconds, Shown(metavar="TIME", unset="no time limit")] = Field(
        None, gt=0, description="Wall time for the whole run, including resumes: 90s, 10m, 1h30m."
    )
    cost: Annotated[float | None, Shown(metavar="N", unset="no limit")] = Field(
        None,
        gt=0,
        description="Multiply-adds for the whole run, whatever they are spent on: training, children that lose, "
        "evaluation. Unlike a budget it decides the same on every machine.",
    )
    generations: Annotated[
        int | None, Shown(metavar="N", unset="the space's; with a budget or cost, what suits it")
    ] = Field(None, ge=0, description="Stop growing after N generations; 0: train the seed network alone.")
    children: Annotated[int, Shown(metavar="N")] = Field(
        3, ge=1, le=1000, description="Children in each generation, besides their parent."
    )
    weights: Annotated[Literal["inherit", "fresh"], Shown()] = Field(
        "inherit",
        description="Weights that competitors start with: their parent's (inherit), or random ones (fresh), as a "
        "baseline.",
    )
    moves_per_child: Annotated[int, Shown(metavar="N")] = Field(
        2, ge=1, le=100, description="Moves that make a child."
    )
    epochs: Annotated[
        float, Shown(metavar="X", unset="the space's; with a budget or cost, what suits it")
    ] = Field(
        1.0,
        gt=0,
        description="Training of each competitor, in epochs of the parent.",
    )
    most_epochs: Annotated[
        float | None, Shown(metavar="X", unset="no limit; with a budget, what suits the data")
    ] = Field(
        None,
        gt=0,
        description="Longest training of the best network and the networks that it grew from, in epochs: a longer "
        "one would fit few examples too closely.",
    )
    equal: Annotated[Literal["cost", "images"], Shown()] = Field(
        "cost",
        description="Competitors train at the same cost, a larger one on fewer images, or on the same images.",
    )
    schedule: Annotated[Literal["lineage", "restarts"], Shown()] = Field(
        "lineage",
        description="lineage: one schedule for the whole search, warm-up, constant rate and a final decay; children "
        "continue their parent's training. restarts: each trial has a cosine to zero and a new optimizer.",
    )
    grow_share: Annotated[float | None, Shown(metavar="X", unset="what suits the budget")] = Field(
        None,
        gt=0,
        le=1,
        description="Share of the budget or cost in which networks grow; after that the best trains on alone.",
    )
    # A share of the training cost of the best network's lineage; of the budget, if that ends the search.
    final_share: Annotated[float, Shown(metavar="X")] = Field(
        0.5, ge=0, lt=1, description="Share of the training that goes to the final network."
    )
    final: Annotated[Literal["continue", "restart"], Shown()] = Field(
        "continue",
        description="Train the final network from its weights (continue) or from scratch (restart).",
    )
    final_data: Annotated[Literal["train", "all"], Shown(unset="all, where few were held out")] = Field(
        "train",
        description="Examples of the final training: train, or all, those for validation too. Its validation score is "
        "then that of the network that it began with.",
    )
    limits: Annotated[dict[str, int], Shown(metavar="NAME=N", flag="--limit", unset="the space's")] = Field(
        {},
        description="Upper limit on a network, like params=2e6 or params=20k; also macs, activations, depth, nodes, "
        "width, and memory, in bytes of a training step, like memory=2G. Repeatable.",
    )
    policy: Annotated[str, Shown(metavar="NAME", code=True)] = Field(
        "hill-climb",
        description="Search policy: hill-climb, evolution, local-search, random, pareto, or your own "
        "package.module:Class.",
    )
    policy_settings: Annotated[dict[str, JsonValue], Shown(metavar="NAME=VALUE", flag="--set")] = Field(
        {},
        description="A setting of the policy, such as population=30; sampler.NAME for the move sampler, train.NAME "
        "for the training. Repeatable.",
    )
    select: Annotated[str, Shown(metavar="NAME", unset="the space's, or the task's first score")] = Field(
        "",
        description="The validation score that selects the best competitor: loss, or a score of the task, such as "
        "accuracy, balanced_accuracy, f1, rmse, mae or r2.",
    )
    move_sampler: Annotated[str, Shown(metavar="NAME")] = Field(
        "uniform", description="How the moves of a child are drawn: uniform, tpe or predictor."
    )
    sampler_settings: dict[str, JsonValue] = Field(
        {}, description="The settings of the move sampler; on a command line --set sampler.NAME=VALUE."
    )
    executor: Annotated[
        str,
        Shown(
            WORK,
            "NAME",
            code=True,
            resumed="Where children are trained from now on. (Default: as when the run began.)",
        ),
    ] = Field("local", description="Where children are trained: local, ray or package.module:executor.")
    address: Annotated[
        str | None,
        Shown(
            WORK,
            "A",
            unset="Ray is started here for the run",
            resumed="Address of another Ray cluster (auto: this machine's).",
        ),
    ] = Field(None, description="Address of a Ray cluster (auto: this machine's).")
    gpus_per_child: Annotated[
        float | None,
        Shown(
            WORK,
            "X",
            unset="1 with --device cuda",
            resumed="Share of a GPU that Ray reserves for each child from now on.",
        ),
    ] = Field(
        None,
        gt=0,
        le=64,
        description="Share of a GPU that Ray reserves for each child: 0.25 trains four at once on each.",
    )
    storage: Annotated[
        str | None,
        Shown(
            WORK,
            "PATH|URI",
            unset="messages",
            resumed="Where Ray transfers checkpoints from now on.",
        ),
    ] = Field(
        None, description="A folder that all nodes share, or s3://…, through which Ray transfers checkpoints."
    )
    workers: Annotated[
        int,
        Shown(
            WORK,
            "N",
            unset="cores / threads; on a cluster a whole generation",
            resumed="Children trained at once from now on. (Default: as when the run began.)",
        ),
    ] = Field(1, ge=1, le=4096, description="Children trained at once.")
    threads: Annotated[int, Shown(WORK, "N")] = Field(
        1, ge=1, le=4096, description="CPU threads of each child, whatever the number of workers."
    )
    device: Annotated[str, Shown(WORK, "D", unset="auto: a GPU if there is one")] = Field(
        "cpu", description="Torch device: auto, cpu, cuda, cuda:1."
    )
    child_timeout: Annotated[float | None, Seconds, Shown(WORK, "TIME", unset="none")] = Field(
        None,
        gt=0,
        description="Fail a child that takes longer: 5m. The final training has no limit.",
    )
    ledger: Annotated[str | None, Shown(OUTPUT, "URL", unset="a file in the run's folder")] = Field(
        None, description="A shared database for the trials: postgresql://user@host/name."
    )
    keep: Annotated[str, Shown(OUTPUT, "all|best:N")] = Field(
        "all",
        description="Which checkpoints stay when the search no longer needs them: removed ones can be recreated from "
        "the ledger.",
    )
    train: TrainConfig = Field(
        TrainConfig(), description="How each network is trained; on a command line --set train.NAME=VALUE."
    )
    recipe: str | None = Field(
        None, description="The recipe that the run was started with: set by the command, not by a recipe."
    )
    fitted: tuple[str, ...] = Field(
        (),
        description="Settings that nobody gave, so that data, budget or a longer search may decide them: set by "
        "the command, not by a recipe.",
    )

    start: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="The trained network that the run began with, by the hash of its checkpoint: set by --from.",
    )
    after: str | None = Field(
        None,
        description="The finished run whose search this one continues: set by nas resume RUN --budget +TIME.",
    )

    @field_validator("augment")
    @classmethod
    def _known_augment(cls, augment: str | None) -> str | None:
        if augment is not None:
            from nas.data.augment import NONE, augment_of  # imports torch

            augment_of(augment, NONE)
        return augment

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str | None) -> str | None:
        if task is None or task in TASKS or re.fullmatch(CODE, task):
            return task
        raise ValueError(
            f'there is no task "{task}"; choose one of {", ".join(TASKS)} or package.module:function'
        )

    @field_validator("select")
    @classmethod
    def _known_select(cls, select: str) -> str:
        if not select or re.fullmatch(r"(m(ax|in) )?[A-Za-z_]\w{0,40}", select):
            return select
        raise ValueError(f'"{select}" is not the name of a score; write accuracy or loss, for example')

    @field_validator("keep")
    @classmethod
    def _known_keep(cls, keep: str) -> str:
        if not re.fullmatch(r"all|best:[1-9]\d{0,6}", keep):
            raise ValueError(f'keep="{keep}" is neither all nor best:N; write best:10')
        return keep

    @field_validator("ledger")
    @classmethod
    def _known_ledger(cls, ledger: str | None) -> str | None:
        from nas.ledger.shared import checked_url

        return None if ledger is None else checked_url(ledger)

    @field_validator("limits")
    @classmethod
    def _known_limits(cls, limits: dict[str, int]) -> dict[str, int]:
        if limits:
            from morphs.limits import MEASURES  # imports torch, which help must not wait for

            known = list(MEASURES)
            for name, value in limits.items():
                if name not in known:
                    raise ValueError(f'there is no limit "{name}"; choose one of {", ".join(known)}')
                if value < 1:
                    raise ValueError(
                        f"limit {name}={value} is below 1, so no network fits; give a positive number"
                    )
        return limits

    @property
    def keep_best(self) -> int | None:
        """The number of best trials that keep their checkpoints; None: all trials."""
        return None if self.keep == "all" else int(self.keep.removeprefix("best:"))

    @property
    def gpu_share(self) -> float:
        """GPUs that Ray reserves for each child."""
        if self.gpus_per_child is not None:
            return self.gpus_per_child
        return 1.0 if self.device.startswith("cuda") else 0.0

    @model_validator(mode="after")
    def _executor(self) -> RunConfig:
        if self.executor == "local":
            for name in RAY:
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is a setting of Ray; add --executor ray or omit it")
        if self.executor == "ray":
            if self.address is not None and self.address.startswith("ray://"):
                raise ValueError(
                    f'address "{self.address}" is for Ray clients; run on a machine of the cluster, with --address auto'
                )
            if self.device.startswith("cuda:"):
                raise ValueError(
                    f"Ray chooses the GPU of each child, so {self.device} can't be used; use cuda"
                )
            if self.gpus_per_child is not None and self.device == "cpu":
                raise ValueError(
                    "gpus_per_child reserves GPUs that children on cpu don't use; add --device cuda"
                )
        return self

    @model_validator(mode="after")
    def _ends(self) -> RunConfig:
        if self.budget is None and self.generations is None and self.cost is None:
            raise ValueError("the run would never end; give --budget, --cost or --generations")
        return self


def validated(values: Mapping[str, Any]) -> RunConfig:
    """`values` as a RunConfig; the names in it are not checked. Raises UserError with one line that names the field."""
    from nas.config.validation import checked

    return checked(RunConfig, values)
