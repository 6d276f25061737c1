"""What an exported model.py has besides its network: constants, and functions from files to answers."""

from dataclasses import asdict
from typing import Any

from morphs import ArchGraph
from morphs.torch_io.source import More
from morphs.torch_io.source_text import WIDTH, constant, literal
from nas.base.text import printable
from nas.data.listing import SUFFIXES
from nas.export.card import ModelCard, nature, reading_of, steps_of
from nas.export.templates import render

NEEDS = "as plain PyTorch. It needs only torch.\n"
ROWS = """For the rows of a CSV file it also needs table.py beside it: predict_file("rows.csv"),
or from a shell: python model.py predict rows.csv
"""
PICTURES = """To classify picture files it also needs Pillow, numpy and picture.py beside it: predict_file("x.png"),
or from a shell: python model.py predict x.png
"""
LINES = """For text files with a line of whole numbers for each sequence: predict_file("tokens.txt"),
or from a shell: python model.py predict tokens.txt
"""
IMPORTS = (
    "import os",
    "import sys",
    "from collections.abc import Sequence",
    "from functools import lru_cache",
)
READER_IMPORTS = (  # of what reads files
    "from importlib.util import module_from_spec, spec_from_file_location",
    "from types import ModuleType",
    "from typing import Any",
)
LAST = 'if __name__ == "__main__":\n    sys.exit(main(sys.argv[1:]))'


def predictor(graph: ArchGraph, card: ModelCard) -> More:
    """The code for a network of one input whose output is a vector: scores of classes or labels, or values."""
    known: dict[str, Any] = nature(card, graph)
    uses = ROWS if card.table is not None else PICTURES if known["pictures"] else ""
    uses = uses if known["tokens"] is None else LINES
    reads = card.table is not None or known["pictures"]
    given = f"{'' if known['tokens'] else 'normalised '}{known['noun']}s"
    logits = "" if card.targets == "values" else " (logits)"
    values = {
        **known,
        "table": card.table is not None,
        "described": [f"* {_quoted(step)}" for step in steps_of(card, graph)],
    }
    return More(
        about="\n".join([f"{known['title']} {NEEDS}", *([uses] if uses else [])]),
        imports=(*IMPORTS, *(READER_IMPORTS if reads else ())),
        constants="\n".join(_constants(graph, card, known)),
        forward=f"Map {given} [B, *INPUT_SHAPE] to scores{logits} [B, len({known['names']})].",
        functions=render("predict.py.j2", values),
        last=LAST,
    )


def _constants(graph: ArchGraph, card: ModelCard, known: dict[str, Any]) -> list[str]:
    tokens = known["tokens"]
    reads = "FILE.txt" if tokens else "PICTURE_OR_FOLDER" if card.table is None else "FILE.csv"
    scaled = [constant("MEAN", card.mean), constant("STD", card.std)]
    lines = [
        constant("INPUT_SHAPE", graph.inputs[0].op.shape(())),
        *(scaled if tokens is None else [f"TOKENS = {tokens}"]),
        constant(known["names"], card.classes),
        f'USAGE = "usage: python FOLDER predict {reads}..."',
    ]
    if card.targets == "values":
        lines += [
            "# An output becomes a value in the unit of the training targets: output * SCALE + CENTRE.",
            constant("CENTRE", card.centre),
            constant("SCALE", card.scale),
        ]
    if card.table is not None:
        lines += [
            "# What is done to a row of a CSV file: the arguments of each Column in table.py.",
            "COLUMNS: list[dict[str, Any]] = [",
            *(f"    {_dict(asdict(column))}," for column in card.table),
            "]",
        ]
    elif known["pictures"]:
        lines += [
            "# What is done to a picture file: the arguments of Reading in picture.py.",
            _reading_lines(card, graph),
            "# The files of a folder that are pictures.",
            constant("ENDINGS", tuple(sorted(SUFFIXES))),
        ]
    return lines


def _reading_lines(card: ModelCard, graph: ArchGraph) -> str:
    """`READING = {…}`, or None, as a formatter would write it."""
    reading = reading_of(card, graph)
    if reading is None:
        return "READING: dict[str, Any] | None = None"
    line = f"READING: dict[str, Any] | None = {_dict(asdict(reading))}"
    if len(line) <= WIDTH:
        return line
    items = [f'"{name}": {literal(value)}' for name, value in asdict(reading).items()]
    return "\n".join([line.partition("{")[0] + "{", *(f"    {item}," for item in items), "}"])


def _dict(values: dict[str, Any]) -> str:
    return f"{{{', '.join(f'{literal(name)}: {literal(value)}' for name, value in values.items())}}}"


def _quoted(text: str) -> str:
    """A text for a docstring, on one line: a column may be called anything."""
    return printable(" ".join(text.split())).replace("\\", "\\\\").replace('"', "'")
