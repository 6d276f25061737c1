"""The arguments and options that are not settings of a search, with their help texts."""

from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from nas.base.printing import say
from nas.config.option import OUTPUT, SEARCH

LONGER = "A longer search, once it has finished"


class Order(StrEnum):
    """The orders in which runs are listed, the first or best at the top."""

    DATE = "date"
    TEST = "test"
    VAL = "val"
    PARAMS = "params"
    TIME = "time"
    DISK = "disk"


What = Annotated[
    str | None,
    typer.Argument(
        metavar="SPACE|RECIPE",
        help="A search space (see nas spaces), your own space as package.module:space, a recipe's name, or a recipe "
        "file (.toml).",
        show_default=False,
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        rich_help_panel=SEARCH,
        help="Folder of the public data sets, which are downloaded if missing. (Default: $NAS_DATA, or "
        "~/.cache/nas/data.)",
    ),
]
NewRun = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="DIR",
        rich_help_panel=OUTPUT,
        help="The run's new folder. (Default: runs/SPACE-DATA-NNN; for a replay RUN-replay-N.)",
    ),
]
LongerRun = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="DIR",
        rich_help_panel=LONGER,
        help="The new folder of the longer search. (Default: RUN-more-N.)",
        show_default=False,
    ),
]
MoreTime = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="+TIME",
        rich_help_panel=LONGER,
        help="Continue the search for so long, from the network that it found: +2h, +90s.",
        show_default=False,
    ),
]
MoreGenerations = Annotated[
    str | None,
    typer.Option(
        "--generations",
        metavar="+N",
        rich_help_panel=LONGER,
        help="Continue the search for so many generations; with --budget for what ends first.",
        show_default=False,
    ),
]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch",
        rich_help_panel=OUTPUT,
        help="Serve the report on this machine while the search runs, as nas watch does; the address is printed.",
    ),
]
Log = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar="TOOL",
        rich_help_panel=OUTPUT,
        help="Log every trial and its steps for another tool too: csv, tensorboard, mlflow or wandb. Repeatable.",
        show_default=False,
    ),
]
Port = Annotated[
    int,
    typer.Option(min=0, max=65535, metavar="N", help="Port of the page on 127.0.0.1; 0: any that is free."),
]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="A run's folder, or its name in ./runs; with more, they are compared with the first.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="Print errors only.")]
Run = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's folder, or its name in ./runs.", show_default=False)
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Continue although configuration, versions, machine or data have changed."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Repair = Annotated[
    bool,
    typer.Option(
        "--repair", help="Recreate lost checkpoints: the same moves and training give the same hash."
    ),
]
Remake = Annotated[
    list[str] | None,
    typer.Option(
        "--trial",
        metavar="N",
        help="With --repair: also restore this trial's checkpoint, which --keep removed. Repeatable.",
    ),
]
RunNames = Annotated[
    list[str],
    typer.Argument(metavar="RUN...", help="Folders of runs, or their names in ./runs.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask first.")]
Sort = Annotated[
    Order, typer.Option("--sort", help="By when it began, test or validation score, size, or time taken.")
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds the runs.")]
To = Annotated[Path, typer.Option("--to", metavar="DIR", help="A new or empty folder.", show_default=False)]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="package.module:function, a .pt2 of torch.export, an export's folder, or a run.",
        show_default=False,
    ),
]
Moves = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MOVE]...",
        help="Moves as text, like 'widen(node=c1, to=64)' (see nas moves), as a report or nas status prints them.",
        show_default=False,
    ),
]
MorphTo = Annotated[
    Path | None,
    typer.Option("--to", metavar="DIR", help="A new or empty folder for the result.", show_default=False),
]
Sites = Annotated[bool, typer.Option("--sites", help="List the legal moves, one a line, and change nothing.")]
RefusedMoves = Annotated[
    bool, typer.Option("--refused", help="List the moves that are not legal, each with the reason.")
]
OptimizerState = Annotated[
    Path | None,
    typer.Option(
        "--optimizer",
        metavar="FILE",
        help="The state_dict of the model's optimizer, as torch.save writes it; that of the result is written to "
        "DIR/optimizer.pt.",
        show_default=False,
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="MODEL",
        rich_help_panel=SEARCH,
        help="Start from this trained model instead of a space's seed network: package.module:function, a .pt2 of "
        "torch.export, an export's folder, or a run. Without SPACE, moves that suit it are searched with.",
        show_default=False,
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="C,H,W",
        help="Shape of one input, if the function returns a module without example inputs.",
    ),
]
MoveData = Annotated[
    str | None,
    typer.Option(metavar="NAME|PATH", help="A data set, as in nas search, for moves that look at data."),
]
MoveSeed = Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the random new weights.")]
Trial = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="A trial other than the best, as generation.slot (see the report), like 3.1."
    ),
]
Onnx = Annotated[
    bool,
    typer.Option("--onnx", help="Write model.onnx too; needs onnx, onnxscript and onnxruntime."),
]


def _say_version(asked: bool) -> None:
    if asked:
        say(f"morph-nas {version('morph-nas')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version and exit.")
]
