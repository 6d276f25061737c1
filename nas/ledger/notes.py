"""The driver's notes about a run as a whole. They are not part of the digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer
from pydantic.dataclasses import dataclass

from nas.ledger.types import OPEN, Criterion, Digest, Key, Seconds, Stopped, validated

PREFIX = "note:"  # prefix of the study's attributes that hold notes
DROPPED = "dropped:"  # prefix of the notes that list removed checkpoints, by generation


class Note(StrEnum):
    """The names of the notes, except those of removed checkpoints."""

    WALL = "wall"
    SELECT = "select"
    RIVALS = "rivals"
    STOPPED = "stopped"
    INCUMBENT = "incumbent"
    FORCED = "forced"
    LATENCY = "latency"


Size = Annotated[float, Field(ge=0, le=1e18)]  # multiply-adds or values of an op
# Of each op by its text: its kind, its size, and its seconds for one image.
Latencies = Annotated[
    dict[str, tuple[str, tuple[float, Size, Size], Annotated[Seconds, Field(ge=0)]]],
    Field(strict=False, min_length=1),
]


@dataclass(frozen=True, config=OPEN)
class Notes:
    """All notes of a run.

    wall: seconds that drivers have spent on it. select: the score that selects among trials. rivals: the trials among
    which the incumbent is the best: those of its generation, or all. stopped: why the search ended. incumbent: the key
    of the policy's incumbent. forced: what had changed, for each time the run was resumed with --force. latency: the
    table of a search with the latency objective. dropped: digests of checkpoints removed on purpose, by generation.
    """

    wall: Annotated[Seconds, Field(ge=0)] = 0.0
    select: Criterion = "accuracy"
    rivals: Literal["generation", "all"] = "generation"
    stopped: Stopped | None = None
    incumbent: Key | None = None
    forced: tuple[tuple[str, ...], ...] = ()
    latency: Latencies | None = None
    dropped: Annotated[Mapping[str, frozenset[Digest]], Field(strict=False), PlainSerializer(dict)] = field(
        default_factory=lambda: MappingProxyType({})
    )


NO_NOTES = Notes()


def notes_from(attributes: Mapping[str, Any]) -> Notes:
    """The notes among a study's attributes. Unknown notes, which a later version wrote, are ignored.

    Raises ValueError, in one line, for an invalid note.
    """
    stored = {name.removeprefix(PREFIX): v for name, v in attributes.items() if name.startswith(PREFIX)}
    known = {name: value for name, value in stored.items() if name in set(Note)}
    dropped = {name.removeprefix(DROPPED): v for name, v in stored.items() if name.startswith(DROPPED)}
    return validated(Notes, {**known, "dropped": dropped}, "a note is damaged")
