"""What a search policy is: a pure function of (the ledger's view, seed) to proposals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from morphs import ArchGraph, Limits, Move, graph_from_json
from nas.ledger import LedgerView, TrialRecord
from nas.seeds import derive
from search_spaces import Space

Criterion = Literal["accuracy", "loss"]


@dataclass(frozen=True)
class Proposal:
    """One competitor: `moves` on the trial `parent`, giving `graph`. No moves: the unchanged parent trains on."""

    slot: int
    parent: str
    moves: tuple[Move, ...]
    graph: ArchGraph


class Policy(Protocol):
    """Decides what a generation tries, and which of its trials is the best."""

    def propose(self, view: LedgerView, generation: int, seed: int) -> Sequence[Proposal]:
        """The competitors of `generation`; empty when nothing legal is left to try."""
        ...

    def incumbent(self, view: LedgerView) -> TrialRecord:
        """The trial that the next generation grows from."""
        ...


def random_chain(
    graph: ArchGraph, space: Space, limits: Limits, length: int, seed: int
) -> tuple[tuple[Move, ...], ArchGraph] | None:
    """`length` random legal moves, one after the other, and the graph they lead to.

    The kind of move is drawn first, among those that have a site, then the site: kinds with many sites are no
    likelier. Children keep `limits`. None when no legal move is left.
    """
    draw = random.Random(derive(seed, "moves"))
    chain: list[Move] = []
    for _ in range(length):
        step = _random_move(graph, space, limits, draw)
        if step is None:
            break
        chain.append(step[0])
        graph = step[1]
    return (tuple(chain), graph) if chain else None


def _random_move(
    graph: ArchGraph, space: Space, limits: Limits, draw: random.Random
) -> tuple[Move, ArchGraph] | None:
    kinds = list(space.moves)
    draw.shuffle(kinds)
    for kind, options in kinds:
        sites = list(kind.sites(graph, None, options))
        draw.shuffle(sites)
        for move in sites:  # limits are checked one by one: most searches need the first site only
            child = move.reshape(graph)
            if limits.violation(child) is None:
                return move, child
    return None


def graph_of(record: TrialRecord) -> ArchGraph:
    """The architecture of a trial."""
    return graph_from_json(record.job.graph)
