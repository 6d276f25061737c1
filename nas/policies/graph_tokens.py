"""Represents an architecture as a bag of tokens, by which a predictor compares architectures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from morphs import graph_from_json

Labelled = Sequence[
    tuple[str, str, Sequence[str]]
]  # (name, label, names of its inputs), in topological order


def tokens(nodes: Labelled) -> tuple[str, ...]:
    """For each node its name with its label, and its label with those of its inputs.

    Names encode the position, since moves keep the names of untouched nodes. The second kind of token encodes local
    structure at any position: the Weisfeiler-Lehman features of depth 1 that NAS-BOWL (Ru, Wan, Dong and Osborne,
    arXiv 2006.07556) predicts from.
    """
    labels = {name: label for name, label, _ in nodes}
    found: list[str] = []
    for name, label, reads in nodes:
        found.append(f"{name}: {label}")
        found.append(f"{label} < {', '.join(sorted(labels[other] for other in reads))}")
    return tuple(found)


@lru_cache(maxsize=4096)
def graph_tokens(graph: str) -> tuple[str, ...]:
    """The tokens of an ArchGraph's canonical JSON. Cached, since every decision looks at the whole ledger."""
    nodes = graph_from_json(graph)
    return tokens([(node.name, str(node.op), node.inputs) for node in nodes])
