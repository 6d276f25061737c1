"""The model card: what a network is, how it was found, how good it is and on which split that was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from morphs import ArchGraph, cost
from nas.export.templates import render

SPLITS: Mapping[str, str] = {
    "test": "test split, read once, after the search had ended",
    "val": "validation split; the search chose by it, so it flatters",
    "train": "training split",
}


@dataclass(frozen=True)
class Score:
    """One measured figure. split: "test", "val" or "train"; metric: "accuracy" (a fraction), "loss", …"""

    split: str
    metric: str
    value: float

    @property
    def text(self) -> str:
        """The value as people write it."""
        return f"{100 * self.value:.2f} %" if self.metric == "accuracy" else f"{self.value:.4f}"


@dataclass(frozen=True)
class Ancestor:
    """One step of the lineage, the seed first and the exported network last.

    trial: "generation.slot". kind: "seed", "parent", "child" or "final". moves: their text, "" for none.
    """

    trial: str
    kind: str
    moves: str = ""
    params: int | None = None
    val_accuracy: float | None = None


@dataclass(frozen=True)
class ModelCard:
    """What is known of a network beyond its graph and weights.

    name: a title. dataset: its name. classes: their names, one for each output.
    mean, std: per input channel, of images scaled to [0, 1].
    command: the one that made the network. versions: of python, torch and so on.
    """

    name: str
    dataset: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scores: tuple[Score, ...] = ()
    lineage: tuple[Ancestor, ...] = ()
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])


def card_text(card: ModelCard, graph: ArchGraph) -> str:
    """README.md for `graph`, in Markdown."""
    order = {split: rank for rank, split in enumerate(SPLITS)}
    scores = sorted(card.scores, key=lambda score: (order.get(score.split, len(order)), score.metric))
    values = {
        "card": card,
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
