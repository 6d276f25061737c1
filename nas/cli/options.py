"""The options of the commands, with their help: what may be typed, apart from what it does."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

SEARCH, WORK, OUTPUT = "What is searched", "How it is carried out", "Output"


def _at_work(text: str) -> Any:
    """An option that counts what works at once."""
    return typer.Option(min=1, max=4096, metavar="N", rich_help_panel=WORK, help=text)


class Final(StrEnum):
    """How the final network is trained."""

    CONTINUE = "continue"
    RESTART = "restart"


class Objective(StrEnum):
    """What the pareto policy weighs accuracy against."""

    PARAMS = "params"
    MACS = "macs"
    LATENCY = "latency"


class MoveSampler(StrEnum):
    """How moves are drawn."""

    UNIFORM = "uniform"
    TPE = "tpe"
    PREDICTOR = "predictor"


class Executor(StrEnum):
    """Where children are trained."""

    LOCAL = "local"
    RAY = "ray"


What = Annotated[
    str,
    typer.Argument(
        metavar="SPACE|RECIPE",
        help="A search space (see nas spaces), a recipe's name, or a recipe file (.toml).",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        rich_help_panel=SEARCH,
        help="Data set: digits, mnist, fashion-mnist, cifar10, cifar100, svhn, imagefolder:PATH or "
        "package.module:function. (Default: the space's own.)",
    ),
]
SameData = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The run's data set once more; needed only where it is a package.module:function, since code is "
        "never run because a file of the run names it, or an imagefolder:PATH that lies elsewhere now.",
    ),
]
SameDataRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        rich_help_panel=WORK,
        help="Where the published sets lie here. (Default: where they lay when the run began.)",
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        rich_help_panel=SEARCH,
        help="Where the published sets lie, or are downloaded to. (Default: $NAS_DATA, or ~/.cache/nas/data.)",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=2**31 - 1,
        metavar="N",
        rich_help_panel=SEARCH,
        help="Decides every random choice. (Default: 0.)",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        rich_help_panel=SEARCH,
        help="Wall time for everything, resumes included: 90s, 10m, 1.5h.",
    ),
]
Generations = Annotated[
    int | None, typer.Option(min=1, metavar="N", rich_help_panel=SEARCH, help="Stop after N generations.")
]
Children = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1000,
        metavar="N",
        rich_help_panel=SEARCH,
        help="Children in each generation, beside their parent.",
    ),
]
Epochs = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        rich_help_panel=SEARCH,
        help="Training of each competitor, in epochs of the parent: all get what that costs.",
    ),
]
FinalShare = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        rich_help_panel=SEARCH,
        help="Share of the training that goes to the final network, from 0 to below 1.",
    ),
]
FinalHow = Annotated[
    Final | None,
    typer.Option(rich_help_panel=SEARCH, help="Train the final network on from its weights, or afresh."),
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=N",
        rich_help_panel=SEARCH,
        help="Most that a network may cost, like params=2e6; also macs, activations, depth, nodes, width. Repeatable.",
    ),
]
PolicyOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=SEARCH,
        help="How the search decides: hill-climb, evolution, local-search, random, pareto, or your own "
        "package.module:Class. (Default: hill-climb.)",
    ),
]
SamePolicy = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The run's policy once more; needed only where it is a package.module:Class, since code is "
        "never run because a file of the run names it.",
    ),
]
ObjectiveOption = Annotated[
    Objective | None,
    typer.Option(
        rich_help_panel=SEARCH, help="Of pareto: what accuracy is weighed against. (Default: params.)"
    ),
]
LatencyFrom = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        rich_help_panel=SEARCH,
        help="Of --objective latency: go by the table that this run measured. (Default: measured here, on --device.)",
    ),
]
Rungs = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=8,
        metavar="N",
        rich_help_panel=SEARCH,
        help="Of hill-climb: train a generation in N rungs, the better half of each climbing on. (Default: 1.)",
    ),
]
MoveSamplerOption = Annotated[
    MoveSampler | None, typer.Option(rich_help_panel=SEARCH, help="How the moves of a child are drawn.")
]
ExecutorOption = Annotated[
    Executor | None, typer.Option(rich_help_panel=WORK, help="Where children are trained.")
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="A",
        rich_help_panel=WORK,
        help="Of a Ray cluster (auto: the one of this machine). (Default: Ray is started here for the run.)",
    ),
]
GpusPerChild = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        rich_help_panel=WORK,
        help="GPU that Ray reserves for each child: 0.25 trains four at once on each. (Default: 1 with --device cuda.)",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|URI",
        rich_help_panel=WORK,
        help="A folder that all nodes share, or s3://…, where Ray hands checkpoints over. (Default: messages.)",
    ),
]
OtherExecutor = Annotated[
    Executor | None,
    typer.Option(
        rich_help_panel=WORK, help="Where children are trained from now on. (Default: as when the run began.)"
    ),
]
OtherAddress = Annotated[
    str | None,
    typer.Option(metavar="A", rich_help_panel=WORK, help="Of another Ray cluster (auto: this machine's)."),
]
OtherGpusPerChild = Annotated[
    float | None,
    typer.Option(metavar="X", rich_help_panel=WORK, help="GPU that Ray reserves for each child from now on."),
]
OtherStorage = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|URI", rich_help_panel=WORK, help="Where Ray hands checkpoints over from now on."
    ),
]
OtherWorkers = Annotated[
    int | None,
    _at_work("Children trained at once from now on. (Default: as when the run began.)"),
]
Workers = Annotated[
    int | None,
    _at_work("Children trained at once. (Default: cores / threads; on a cluster all of a generation.)"),
]
Threads = Annotated[
    int | None,
    _at_work("Processor threads of each child. (Default: 1.)"),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="D", rich_help_panel=WORK, help="Torch device: cpu, cuda, cuda:1. (Default: cpu.)"),
]
ChildTimeout = Annotated[
    str | None,
    typer.Option(metavar="TIME", rich_help_panel=WORK, help="End a child that takes longer, as failed: 5m."),
]
Keep = Annotated[
    str | None,
    typer.Option(
        metavar="all|best:N",
        rich_help_panel=OUTPUT,
        help="Which checkpoints stay when the search needs them no more: what is removed can be made again from the "
        "ledger. (Default: all.)",
    ),
]
LedgerUrl = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        rich_help_panel=OUTPUT,
        help="A team's database, for the trials: postgresql://user@host/name. (Default: a file in the run's folder.)",
    ),
]
NewRun = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="DIR",
        rich_help_panel=OUTPUT,
        help="The run's new folder. (Default: runs/SPACE-DATA-NNN; of a replay RUN-replay-N.)",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="Say nothing but errors.")]
Run = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's folder, or its name below ./runs.", show_default=False)
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Go on although configuration, versions, machine or data have changed."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]
Repair = Annotated[
    bool,
    typer.Option("--repair", help="Make what is lost again: the same moves and training, to the same hash."),
]
Remake = Annotated[
    list[str] | None,
    typer.Option(
        "--trial",
        metavar="N",
        help="With --repair: bring back this trial, too, which --keep removed. Repeatable.",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds the runs.")]
To = Annotated[Path, typer.Option("--to", metavar="DIR", help="A new or empty folder.", show_default=False)]
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A saved network, or package.module:function.", show_default=False),
]
Moves = Annotated[
    list[str],
    typer.Argument(
        metavar="MOVE...",
        help="Moves as text, like 'widen(node=c1, to=64)' (see nas moves).",
        show_default=False,
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="C,H,W",
        help="Shape of one input, where the function returns a module without an example.",
    ),
]
MoveData = Annotated[
    str | None,
    typer.Option(metavar="NAME|PATH", help="A data set for moves that look at data, as in nas search."),
]
MoveSeed = Annotated[int, typer.Option(min=0, metavar="N", help="Of all randomness in new weights.")]
Trial = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="Another trial than the best, as generation.slot (see the report), like 3.1."
    ),
]
