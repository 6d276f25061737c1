"""Represents an architecture as a bag of tokens, by which a predictor compares architectures."""

from __future__ import annotations

from functools import lru_cache

from morphs import graph_from_json


@lru_cache(maxsize=4096)
def graph_tokens(graph: str) -> tuple[str, ...]:
    """For each node of an ArchGraph's canonical JSON its name with its op, and its op with those of its inputs.

    Names encode the position, since moves keep the names of untouched nodes. The second kind of token encodes local
    structure at any position: the Weisfeiler-Lehman features of depth 1 that NAS-BOWL (Ru, Wan, Dong and Osborne,
    arXiv 2006.07556) predicts from. Cached, since every decision looks at the whole ledger.
    """
    nodes = list(graph_from_json(graph))
    labels = {node.name: str(node.op) for node in nodes}
    found: list[str] = []
    for name, label, reads in ((node.name, labels[node.name], node.inputs) for node in nodes):
        found.append(f"{name}: {label}")
        found.append(f"{label} < {', '.join(sorted(labels[other] for other in reads))}")
    return tuple(found)
