"""The model card: what a network is, how it was found, and its scores with the split each was measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from morphs import ArchGraph, cost
from nas.data.load import plain_reading
from nas.data.picture import Reading, describe
from nas.data.table import Column
from nas.data.task import Targets
from nas.export.templates import render
from nas.ledger.scores import called, is_fraction, value_text

SPLITS: Mapping[str, str] = {
    "test": "test split, read once, after the search ended",
    "val": "validation split; the search selected by it, so it is optimistic",
    "train": "training split",
    "given": "validation split; of the model that the search began with, before any training",
}


@dataclass(frozen=True)
class Score:
    """One measured figure. split: "test", "val" or "train"; metric: "accuracy" (a fraction), "loss", …"""

    split: str
    metric: str
    value: float

    @property
    def text(self) -> str:
        """The value, formatted."""
        return f"{100 * self.value:.2f} %" if is_fraction(self.metric) else f"{self.value:.4f}"


@dataclass(frozen=True)
class Ancestor:
    """One step of the lineage, which begins with the seed and ends with the exported network.

    trial: "generation.slot". kind: "seed", "parent", "child" or "final". moves: their text, "" for none. score, value:
    the task's validation score.
    """

    trial: str
    kind: str
    moves: str = ""
    params: int | None = None
    score: str = "accuracy"
    value: float | None = None

    @property
    def text(self) -> str:
        """The validation score, formatted."""
        return f"validation {called(self.score)} {value_text(self.score, self.value)}"


@dataclass(frozen=True)
class ModelCard:
    """Everything known about a network besides its graph and weights.

    name: a title. dataset: its name. classes: the names of classes, labels or values, one for each output.
    mean, std: per input channel, of images scaled to [0, 1]; of tokens empty. targets: what the outputs are
    (`nas.data.task`). centre, scale: of values, which are output * scale + centre. table: how a row of a CSV file
    becomes an input.
    reading: how a picture file becomes an input; None if nothing is known but the input's shape.
    command: the command that created the network. versions: of python, torch and so on.
    """

    name: str
    dataset: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reading: Reading | None = None
    table: tuple[Column, ...] | None = None
    targets: Targets = "classes"
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    scores: tuple[Score, ...] = ()
    lineage: tuple[Ancestor, ...] = ()
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])


def reading_of(card: ModelCard, graph: ArchGraph) -> Reading | None:
    """How a picture file becomes an input of the network; None if that has other than 1 or 3 channels."""
    shape = graph.inputs[0].op.shape(())
    if card.table is not None:
        return None
    if card.reading is not None:
        return card.reading
    return plain_reading((shape[0], shape[1], shape[2])) if len(shape) == 3 else None


def steps_of(card: ModelCard, graph: ArchGraph) -> tuple[str, ...]:
    """What is done to a picture file, a step each, or to each column of a table; empty if no file becomes an input."""
    if card.table is not None:
        return tuple(column.text for column in card.table)
    reading = reading_of(card, graph)
    if reading is None:
        return ()
    return (*describe(reading).split("; "), "(value / 255 − mean) / std, as below")


def nature(card: ModelCard, graph: ArchGraph) -> dict[str, Any]:
    """What the templates say of the network: what it reads and what it answers."""
    rank = len(graph.inputs[0].op.shape(()))
    tokens = graph.inputs[0].op.vocabulary
    noun = {1: "row" if card.table else "vector", 2: "sequence", 3: "image"}.get(rank, "input")
    noun = noun if tokens is None else "token sequence"
    titles = {
        "classes": "An image classifier" if noun == "image" else f"A classifier of {noun}s",
        "flags": f"A network that labels {noun}s",
        "values": f"A network that predicts values from {noun}s",
    }
    answers = {
        "classes": "the probability of each class",
        "flags": "the probability of each label",
        "values": "the predicted values",
    }
    return {
        "title": titles[card.targets],
        "noun": noun,
        "images": rank == 3,
        "pictures": rank == 3,
        "tokens": tokens,
        "targets": card.targets,
        "names": "CLASSES" if card.targets == "classes" else "OUTPUTS",
        "given": "images_uint8" if rank == 3 else "inputs",
        "answer": answers[card.targets],
    }


def card_text(card: ModelCard, graph: ArchGraph) -> str:
    """Return README.md for `graph`, in Markdown."""
    order = {split: rank for rank, split in enumerate(SPLITS)}
    scores = sorted(card.scores, key=lambda score: (order.get(score.split, len(order)), score.metric))
    values = {
        **nature(card, graph),
        "card": card,
        "reading": reading_of(card, graph),
        "steps": steps_of(card, graph),
        "files": card.dataset.startswith("imagefolder:"),
        "graph": graph,
        "cost": cost(graph),
        "shape": list(graph.inputs[0].op.shape(())),
        "scores": scores,
        "splits": SPLITS,
        "p_activations": any(node.op.kind in ("p_activation", "lerp") for node in graph),
        "tested": any(score.split == "test" for score in scores),
        "mean": ", ".join(f"{value:.4f}" for value in card.mean),
        "std": ", ".join(f"{value:.4f}" for value in card.std),
    }
    return render("README.md.j2", values)


def plain_text(graph: ArchGraph, steps: tuple[Ancestor, ...]) -> str:
    """Return README.md for a network that no card describes, in Markdown. steps: its lineage, if that is known."""
    inputs = [list(node.op.shape(())) for node in graph.inputs]
    own = any(node.op.kind in ("p_activation", "lerp") for node in graph)
    return render(
        "plain.md.j2",
        {"graph": graph, "cost": cost(graph), "inputs": inputs, "steps": steps, "p_activations": own},
    )
