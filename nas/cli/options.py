"""The options that are no settings of a search, with their help: what may be typed, apart from what it does."""

from pathlib import Path
from typing import Annotated

import typer

from nas.config.option import OUTPUT, SEARCH

What = Annotated[
    str,
    typer.Argument(
        metavar="SPACE|RECIPE",
        help="A search space (see nas spaces), one of your own as package.module:space, a recipe's name, or a recipe "
        "file (.toml).",
        show_default=False,
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
