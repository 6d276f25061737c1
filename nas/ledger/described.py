"""What a search writes about itself into config.json, as far as those who only read a run use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from nas.ledger.files import wellformed
from nas.ledger.types import NO_JSON, OPEN, Count, Digest, Json, Seconds, Whole, validated


@dataclass(frozen=True, config=OPEN)
class Settings:
    """The settings that are shown. A command that continues the run validates all of them (`RunConfig`)."""

    space: str | None = None
    data: str | None = None
    seed: Whole | None = None
    generations: Count | None = None
    budget: Annotated[Seconds, Field(ge=0)] | None = None
    policy: str | None = None
    policy_settings: Json = field(default_factory=lambda: NO_JSON)
    objective: str | None = None  # of runs of older versions; later it is a setting of the policy
    keep: str = "all"
    device: str = "cpu"
    most_epochs: Annotated[float, Field(gt=0)] | None = None
    limits: Json = field(default_factory=lambda: NO_JSON)
    start: Digest | None = None  # of the network that the search began with, if it was given
    after: str | None = None  # the finished run whose search it continues


@dataclass(frozen=True, config=OPEN)
class DataFacts:
    """The data set of a run. digest, former, reading, table, tokens: see `nas.data.SearchData`."""

    name: str | None = None
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    digest: str | None = None
    former: str | None = None
    reading: Json | None = None
    table: tuple[Any, ...] | None = None
    tokens: Count | None = None


@dataclass(frozen=True, config=OPEN)
class Described:
    """A run's configuration. Everything may be missing: a ledger can be created with any mapping.

    machine: see `nas.base.machine`. user_code: SHA-256 of the source of each piece of user code, by name.
    replay: see `nas.run.replay`. task: see `nas.data.task`. Texts have no lone surrogates.
    """

    config: Settings = field(default_factory=Settings)
    command: str | None = None
    data: DataFacts = field(default_factory=DataFacts)
    machine: Json = field(default_factory=lambda: NO_JSON)
    user_code: Mapping[str, str] = field(default_factory=dict[str, str])
    replay: Json | None = None
    task: Json | None = None


def described_from(config: Mapping[str, Any]) -> Described:
    """The configuration given to `Ledger.create`, validated. Raises ValueError, in one line."""
    return validated(Described, wellformed(dict(config)), "config")
