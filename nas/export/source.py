"""What an exported classifier has besides its network: constants, and functions from picture files to names."""

from dataclasses import asdict

from morphs import ArchGraph
from morphs.torch_io.source import More
from morphs.torch_io.source_text import WIDTH, constant, literal
from nas.export.card import ModelCard, reading_of, steps_of
from nas.export.templates import render

ABOUT = """An image classifier as plain PyTorch. It needs only torch.

To classify picture files it also needs Pillow, numpy and picture.py beside it: predict_file("x.png"),
or from a shell: python model.py predict x.png
"""
IMPORTS = (
    "import sys",
    "from collections.abc import Sequence",
    "from functools import lru_cache",
    "from importlib.util import module_from_spec, spec_from_file_location",
    "from types import ModuleType",
    "from typing import Any",
)
LAST = 'if __name__ == "__main__":\n    sys.exit(main(sys.argv[1:]))'


def classifier(graph: ArchGraph, card: ModelCard) -> More:
    """The code for a network of one input whose output is a vector of class scores."""
    constants = (
        constant("INPUT_SHAPE", graph.inputs[0].op.shape(())),
        constant("MEAN", card.mean),
        constant("STD", card.std),
        constant("CLASSES", card.classes),
        "# What is done to a picture file: the arguments of Reading in picture.py.",
        _reading_lines(card, graph),
    )
    return More(
        about=ABOUT,
        imports=IMPORTS,
        constants="\n".join(constants),
        forward="Map normalised images [B, *INPUT_SHAPE] to scores (logits) [B, len(CLASSES)].",
        functions=render("predict.py.j2", {"described": [f"* {step}" for step in steps_of(card, graph)]}),
        last=LAST,
    )


def _reading_lines(card: ModelCard, graph: ArchGraph) -> str:
    """`READING = {…}`, or None, as a formatter would write it."""
    reading = reading_of(card, graph)
    if reading is None:
        return "READING: dict[str, Any] | None = None"
    items = [f'"{name}": {literal(value)}' for name, value in asdict(reading).items()]
    line = f"READING: dict[str, Any] | None = {{{', '.join(items)}}}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([line.partition("{")[0] + "{", *(f"    {item}," for item in items), "}"])
