"""Writing of an exported network: files that appear together."""

import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from morphs import ArchGraph, Network
from morphs.errors import ExportError
from morphs.export import STAGE, write_files
from nas.base.errors import UserError
from nas.data import picture, table
from nas.export.card import Ancestor, ModelCard, card_text, plain_text
from nas.export.source import predictor
from nas.export.templates import render
from nas.ledger.files import parse_json, read_bounded
from nas.ledger.leftovers import UNIQUE, clear, temporary_folder

CARD_FILE = "card.json"
MAX_CARD_BYTES = 2**24


def export(
    network: Network,
    to: Path,
    card: ModelCard | None = None,
    onnx: bool = False,
    steps: tuple[Ancestor, ...] = (),
) -> tuple[Path, ...]:
    """Write the files of `morphs.export` and README.md into the folder `to`; floating weights become float32 where a
    card is given.

    card: of a classifier or a regression: model.py also has functions from files to answers, with picture.py, which
    makes an input of a picture file, or table.py, which does of the rows of a CSV file; __main__.py, for
    `python FOLDER predict x.png`, and card.json, for whoever goes on from this folder. Without one, `steps` are the
    network's lineage, for README.md.
    model.py is plain PyTorch and needs only torch; in evaluation mode it computes, bit for bit, what
    `network.to_torch()` does, which is checked in a process of its own, as are model.pt2 and, if asked for, model.onnx.
    `to` is created if needed; an existing folder must be empty. The files are staged in a hidden folder first, so a
    crash leaves no half-written export at `to`; the next export removes that folder.

    Returns the files' paths. Raises UserError if `to` is in use or can't be written, if card and network do not match,
    or if a file computes something else than the network.
    """
    graph = network.graph
    if card is not None:
        _check_fit(graph, card)
        network = network.to(torch.float32)
    contents = {"README.md": plain_text(graph, steps).encode()} if card is None else _contents(graph, card)
    try:
        return _write(network, to, None if card is None else predictor(graph, card), onnx, contents)
    except ExportError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"export: can't write to {to} ({reason}); name another folder") from error


def read_card(folder: Path) -> ModelCard | None:
    """The card of the export in `folder`; None where it has none. Raises UserError for one that is damaged."""
    path = folder / CARD_FILE
    if not path.exists():
        return None
    try:
        return TypeAdapter(ModelCard).validate_python(parse_json(read_bounded(path, MAX_CARD_BYTES)))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} can't be read ({reason}); restore it from a copy, or remove it") from None


def check_target(to: Path) -> None:
    """Raise UserError unless `to` is an empty folder or does not exist; what a killed export left in it is removed."""
    if to.is_dir():
        clear(to, re.escape(STAGE) + UNIQUE)
        there = sorted(entry.name for entry in to.iterdir())
        if there:
            more = ", …" if len(there) > 3 else ""
            raise UserError(
                f"export: {to} is not empty ({', '.join(there[:3])}{more}); name a new or an empty folder"
            )
    elif to.exists() or to.is_symlink():
        raise UserError(f"export: {to} is not a folder; name a new or an empty folder")


def _contents(graph: ArchGraph, card: ModelCard) -> dict[str, bytes]:
    """The files of a network with a card besides those of `morphs.export`."""
    return {
        **_reader(card, graph),
        "__main__.py": render("main.py.j2", {}).encode(),
        CARD_FILE: json.dumps(asdict(card), indent=1).encode(),
        "README.md": card_text(card, graph).encode(errors="backslashreplace"),
    }


def _reader(card: ModelCard, graph: ArchGraph) -> dict[str, bytes]:
    """The file that makes an input of a file: of a picture, or of a table's rows."""
    if card.table is not None:
        return {"table.py": Path(str(table.__file__)).read_bytes()}
    if len(graph.inputs[0].op.shape(())) == 3:
        return {"picture.py": Path(str(picture.__file__)).read_bytes()}
    return {}


def _check_fit(graph: ArchGraph, card: ModelCard) -> None:
    if len(graph.inputs) != 1:
        names = ", ".join(node.name for node in graph.inputs)
        raise UserError(
            f"export: the network reads {len(graph.inputs)} tensors ({names}), a classifier one; use morphs.export"
        )
    if graph.output.op.kind == "outputs":
        raise UserError("export: the network returns several tensors, a classifier one; use morphs.export")
    first, output = graph.inputs[0], graph.shape(graph.output.name)
    channels = graph.shape(first.name)[0] if first.op.vocabulary is None else 0  # tokens are not scaled
    if output != (len(card.classes),):
        raise UserError(
            f"export: the network returns {list(output)} for an input, the model card has {len(card.classes)} "
            "names; give one name for each output"
        )
    if len(card.mean) != channels or len(card.std) != channels or not all(card.std):
        raise UserError(
            f"export: the model card has mean {card.mean} and std {card.std}, the input has {channels} channels; "
            "give one mean and one positive std for each channel"
        )


def _write(network: Network, to: Path, more: Any, onnx: bool, contents: dict[str, bytes]) -> tuple[Path, ...]:
    check_target(to)
    existed = to.is_dir()
    to.parent.mkdir(parents=True, exist_ok=True)
    # An existing folder is filled, not replaced: it may be a mount point or the current folder.
    with temporary_folder(STAGE, to if existed else to.parent) as stage:
        names = write_files(network, stage, onnx=onnx, more=more)
        for name, data in contents.items():
            (stage / name).write_bytes(data)
        for name in (*names, *contents):
            _make_durable(stage / name)
        if existed:
            for name in (*names, *contents):
                (stage / name).rename(to / name)
        else:
            stage.rename(to)
    return tuple(to / name for name in (*names, *contents))


def _make_durable(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
