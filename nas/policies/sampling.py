"""The neighbourhood of architectures that a space's moves span, and random chains of moves."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from nas.base.errors import UserError
from nas.base.seeds import derive
from nas.base.user_code import where_raised
from nas.ledger import LedgerView, TrialRecord

if TYPE_CHECKING:  # listing policies must not import torch
    from morphs import ArchGraph, Limits, Move
    from search_spaces import Space

Menu = Mapping[str, Sequence[Any]]  # a kind's choices: each choice with its values
LISTED = 128  # graphs whose moves of one kind are kept


class Neighbourhood(Protocol):
    """Architectures and the moves between them. An architecture is its text (`Job.graph`), a move is its text."""

    @property
    def kinds(self) -> Sequence[tuple[str, Menu]]:
        """The kinds of move, each with its menu. A kind may occur more than once, with different menus."""
        ...

    def near(
        self, graph: str, kind: int, draw: random.Random, choice: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[str, str]]:
        """(move, child) for the legal moves of kinds[kind], in random order. choice: values to fix in the menu."""
        ...


@dataclass(frozen=True)
class SpaceMoves:
    """The neighbourhood of a search space: its moves, with children that keep `limits`."""

    space: Space
    limits: Limits

    @property
    def kinds(self) -> Sequence[tuple[str, Menu]]:
        """The space's moves."""
        return tuple((kind.name, menu) for kind, menu in self.space.moves)

    def near(
        self, graph: str, kind: int, draw: random.Random, choice: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[str, str]]:
        """See Neighbourhood. Limits are checked one by one: most callers need the first child only."""
        listed = self._listed(graph, kind) if choice is None else self._sites(graph, kind, choice)
        sites = list(listed.moves)
        draw.shuffle(sites)
        for move in sites:
            child = listed.child(move)
            if child is not None:
                yield str(move), child

    @cached_property
    def _listed(self) -> Callable[[str, int], _Sites]:
        """`_sites` with the last answers kept: a sampler draws many children of one parent."""
        return lru_cache(maxsize=LISTED)(lambda graph, kind: self._sites(graph, kind, {}))

    @cached_property
    def _parsed(self) -> Callable[[str], ArchGraph]:
        from morphs import graph_from_json

        return lru_cache(maxsize=LISTED)(graph_from_json)

    def _sites(self, graph: str, kind: int, choice: Mapping[str, Any]) -> _Sites:
        parent = self._parsed(graph)
        move_class, menu = self.space.moves[kind]
        chosen = {**menu, **{name: (value,) for name, value in choice.items()}}
        with _faults_of(move_class):
            return _Sites(parent, self.limits, tuple(move_class.sites(parent, None, chosen)))


@dataclass(frozen=True, eq=False)
class _Sites:
    """The legal moves of one kind on one graph. Children are made when they are first asked for."""

    parent: ArchGraph
    limits: Limits
    moves: tuple[Move, ...]
    _made: dict[Move, str | None] = field(default_factory=dict["Move", "str | None"])

    def child(self, move: Move) -> str | None:
        """The child's text; None where it breaks a limit."""
        if move not in self._made:
            with _faults_of(type(move)):
                child = move.reshape(self.parent)
            self._made[move] = None if self.limits.violation(child) else child.to_json()
        return self._made[move]


@contextmanager
def _faults_of(move: type[Move]) -> Generator[None]:
    """UserError for whatever the code of a move raises that is not an error of morphs: it may be the user's own."""
    from morphs.errors import MorphError

    try:
        yield
    except MorphError:
        raise
    except Exception as error:
        fact = f"move {move.name}: its code failed ({where_raised(error)})"
        raise UserError(f"{fact}; fix the move: morphs.testing.check_move tests it") from error


@dataclass(frozen=True)
class Draw:
    """A drawn child: its chain of moves, its graph, and what the sampler needs to read again of its choice."""

    moves: str
    graph: str
    memo: Mapping[str, Any]


class MoveSampler(Protocol):
    """Draws children. Reads nothing but its arguments."""

    def draw(
        self,
        view: LedgerView,
        parent: TrialRecord,
        length: int,
        seed: int,
        taken: Collection[str] = frozenset(),
    ) -> Draw | None:
        """A child of `parent` by a chain of up to `length` moves; None if there is no legal move.

        view: the trials to learn from. taken: architectures to avoid if possible; the caller checks.
        """
        ...


@dataclass(frozen=True)
class Uniform:
    """Draws the kind of move first, among those that have a site, then the site, so that kinds with many sites are
    not favoured.
    """

    neighbourhood: Neighbourhood

    def draw(
        self,
        view: LedgerView,
        parent: TrialRecord,
        length: int,
        seed: int,
        taken: Collection[str] = frozenset(),
    ) -> Draw | None:
        """See MoveSampler; `view` and `taken` are ignored."""
        draw = random.Random(derive(seed, "moves"))
        graph, chain = parent.job.graph, list[str]()
        for _ in range(length):
            step = random_move(self.neighbourhood, graph, draw)
            if step is None:
                break
            chain.append(step[0])
            graph = step[1]
        return Draw("; ".join(chain), graph, {}) if chain else None


def random_move(
    neighbourhood: Neighbourhood, graph: str, draw: random.Random, taken: Collection[str] = frozenset()
) -> tuple[str, str] | None:
    """One random legal move of a random kind, as (move, child), whose child is not in `taken`; None if none is left."""
    kinds = list(range(len(neighbourhood.kinds)))
    draw.shuffle(kinds)
    for kind in kinds:
        for found in neighbourhood.near(graph, kind, draw):
            if found[1] not in taken:
                return found
    return None


def graph_of(record: TrialRecord) -> ArchGraph:
    """The architecture of a trial."""
    from morphs import graph_from_json

    return graph_from_json(record.job.graph)
