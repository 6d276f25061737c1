"""Writing of an exported network: files that appear together."""

import os
import re
from pathlib import Path

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from morphs import ArchGraph, Network
from morphs.graph.activations import REGISTERED
from morphs.graph.ops import Trait
from nas.base.errors import UserError
from nas.data import picture, table
from nas.export.card import ModelCard, card_text
from nas.export.names import attribute_names
from nas.export.source import model_source
from nas.export.templates import render
from nas.ledger.leftovers import UNIQUE, clear, temporary_folder

STAGE = ".export-"  # begins the name of the hidden folder in which the files are written


def export(network: Network, to: Path, card: ModelCard) -> tuple[Path, ...]:
    """Write `network` as model.py, weights.safetensors (float32) and README.md into the folder `to`.

    With picture.py, which makes an input of a picture file, or table.py, which does of the rows of a CSV file, and
    __main__.py, for `python FOLDER predict x.png`.
    model.py is plain PyTorch and needs only torch; in evaluation mode it computes, bit for bit, what
    `network.to(torch.float32).to_torch()` does. `to` is created if needed; an existing folder must be empty. The
    files are staged in a hidden folder first, so a crash leaves no half-written export at `to`; the next export removes
    that folder.

    Returns the files' paths. Raises UserError if `to` is in use or can't be written, or if card and network do
    not match.
    """
    _check_fit(network.graph, card)
    contents = {
        "model.py": model_source(network.graph, card).encode(errors="backslashreplace"),
        **_reader(card, network.graph),
        "__main__.py": render("main.py.j2", {}).encode(),
        "weights.safetensors": save_tensors(state(network), metadata={"format": "pt"}),
        "README.md": card_text(card, network.graph).encode(errors="backslashreplace"),
    }
    try:
        return _write(contents, to)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"export: can't write to {to} ({reason}); name another folder") from error


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


def state(network: Network) -> dict[str, Tensor]:
    """Return the state_dict of the exported module: float32 copies under its attribute names."""
    names = attribute_names(network.graph)
    return {
        f"{names[owner]}.{parameter}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for (owner, parameter), tensor in network.to(torch.float32).weights.items()
    }


def _check_fit(graph: ArchGraph, card: ModelCard) -> None:
    for node in graph:
        if node.op.trait is Trait.OPAQUE or node.op.kind == "outputs":
            raise UserError(
                f'export: node "{node.name}" is an operator of torch kept by name, which this model.py has no '
                "line for; use morphs.export"
            )
        fn = getattr(node.op, "fn", None)
        if fn in REGISTERED:
            raise UserError(
                f'export: node "{node.name}" uses the registered activation {fn}, whose code model.py would not '
                "contain; save the network with morphs.save, or use network.to_torch() where it is registered"
            )
    if len(graph.inputs) != 1:
        names = ", ".join(node.name for node in graph.inputs)
        raise UserError(
            f"export: the network reads {len(graph.inputs)} tensors ({names}); only one is supported"
        )
    channels, output = graph.shape(graph.inputs[0].name)[0], graph.shape(graph.output.name)
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


def _reader(card: ModelCard, graph: ArchGraph) -> dict[str, bytes]:
    """The file that makes an input of a file: of a picture, or of a table's rows."""
    if card.table is not None:
        return {"table.py": Path(str(table.__file__)).read_bytes()}
    if len(graph.inputs[0].op.shape(())) == 3:
        return {"picture.py": Path(str(picture.__file__)).read_bytes()}
    return {}


def _write(contents: dict[str, bytes], to: Path) -> tuple[Path, ...]:
    check_target(to)
    existed = to.is_dir()
    to.parent.mkdir(parents=True, exist_ok=True)
    # An existing folder is filled, not replaced: it may be a mount point or the current folder.
    with temporary_folder(STAGE, to if existed else to.parent) as stage:
        for name, data in contents.items():
            with open(stage / name, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if existed:
            for name in contents:
                (stage / name).rename(to / name)
        else:
            stage.rename(to)
    return tuple(to / name for name in contents)
