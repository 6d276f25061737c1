"""The records of the ledger: a job, its result, the state of a paused training, and the trial that has them.

All are frozen values that pydantic validates whenever they are created or read. In the ledger each is a JSON object
without the fields that have their default value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from nas.ledger.files import canonical_json, parse_json
from nas.ledger.scores import Criterion, name_of


class Kind(StrEnum):
    """The role of a trial in the search."""

    SEED = "seed"  # the seed network, from fresh weights, or the model that the search starts from
    PARENT = "parent"  # an unchanged network that trains further as a competitor
    CHILD = "child"  # a network made by moves
    FINAL = "final"  # the final training


class State(StrEnum):
    """The state of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"


Stopped = Literal["budget", "generations", "exhausted", "interrupted"]  # exhausted: no legal move is left


def _as_dict(value: object) -> object:
    return dict(cast(Mapping[Any, Any], value)) if isinstance(value, Mapping) else value


def _own_json(value: dict[str, Any]) -> Mapping[str, Any]:
    try:
        return MappingProxyType(parse_json(canonical_json(value)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from None


def _as_mapping(value: dict[str, float]) -> Mapping[str, float]:
    return MappingProxyType(value)


HEX = "[0-9a-f]{64}"
Digest = Annotated[str, StringConstraints(pattern=f"^{HEX}$")]  # SHA-256 in hexadecimal
Key = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$")]  # generation.slot
MOST = 2**63 - 1
Whole = Annotated[int, Field(ge=-MOST, le=MOST)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Seconds = Annotated[float, Field(ge=-1e12, le=1e12)]  # of a duration or since the epoch: 30,000 years
Lengths = tuple[tuple[Count, Count], ...]  # changes of a training's length: (steps done, new number of steps)
Json = Annotated[
    Mapping[str, Any],
    Field(strict=False),
    BeforeValidator(_as_dict),
    AfterValidator(_own_json),
    PlainSerializer(dict),
]
Numbers = Annotated[
    Mapping[str, float], BeforeValidator(_as_dict), AfterValidator(_as_mapping), PlainSerializer(dict)
]
Times = Annotated[
    Mapping[str, Seconds], BeforeValidator(_as_dict), AfterValidator(_as_mapping), PlainSerializer(dict)
]
NO_JSON: Mapping[str, Any] = MappingProxyType({})
NO_NUMBERS: Mapping[str, float] = MappingProxyType({})
RECORD = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
OPEN = ConfigDict(**(RECORD | {"extra": "ignore"}))  # of records to which later versions may add fields


def _to_dict(value: Job | Result | Reached) -> dict[str, Any]:
    """The record as JSON values."""
    return _adapter(type(value)).dump_python(value, mode="json", exclude_defaults=True)


def _reduce(self: Job | Result | Reached) -> tuple[Callable[[type[Any], Any], Any], tuple[type[Any], Any]]:
    return validated, (type(self), _to_dict(self))


@dataclass(frozen=True, config=RECORD)
class Reached:
    """The state of a paused training. With the networks it names, the training continues as if it had never stopped.

    step: how many of the job's steps are done. weights, momentum: digests of checkpoints. rest: as in `Result`. random:
    states of the generators that dropout draws from, base64. losses: the last ones. seconds: wall time by purpose, so
    far. lengths: how the time left has changed the number of steps, so far.
    """

    step: Annotated[Count, Field(gt=0)]
    weights: Digest
    momentum: Digest
    random: tuple[str, ...]
    losses: tuple[float, ...]
    seconds: Times
    lengths: Lengths = ()
    rest: tuple[Digest, ...] = ()

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Digests of the networks that were stored."""
        return self.weights, self.momentum, *self.rest

    to_dict = _to_dict
    __reduce__ = _reduce


@dataclass(frozen=True, config=RECORD)
class TimeLeft:
    """The time for a training, which changes its length to fit. seconds: for it and what follows it. after: seconds of
    what follows it, if a step takes `pace` seconds as expected. most: steps, whatever the time.
    """

    seconds: Seconds
    after: Seconds
    pace: Seconds
    most: Count


@dataclass(frozen=True, config=RECORD)
class Training:
    """How a job trains: its part of a schedule, and what it starts from. Only the engine writes it.

    weights: digest of the weights to start from, those of the parent or of a given model; None: fresh weights.
    momentum: digest of the parent's momentum to continue with. rest: as in `Result`. start, total: the job's steps
    begin at `start` in a schedule of `total` steps; None: the schedule has just the job's steps. decay: the rate is
    constant and falls over the last `decay` steps of the schedule, as in a lineage; None: it follows a cosine over the
    whole schedule. batches: seed of the batches, for jobs that train on the same ones; None: the job's own. rung: of a
    successive halving, from 0. since: the state that an earlier part of this training reached. until: the step at which
    this part pauses, if it does not end before; None: the end. lengths: changes of the job's steps on the way. left:
    the time it may take; None: any. judged: the validation scores of the network that a final training begins with, if
    it learns from the validation examples too and so can't be judged by them.
    """

    weights: Digest | None = None
    momentum: Digest | None = None
    start: Count = 0
    total: Count | None = None
    decay: Count | None = None
    batches: Count | None = None
    rung: Count = 0
    since: Reached | None = None
    until: Count | None = None
    lengths: Lengths = ()
    left: TimeLeft | None = None
    rest: tuple[Digest, ...] = ()
    judged: Numbers = field(default_factory=lambda: NO_NUMBERS)

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Digests of the networks that the job reads."""
        return tuple(digest for digest in (self.weights, self.momentum, *self.rest) if digest is not None)

    @property
    def searching(self) -> bool:
        """Whether this is a stretch of a lineage before the decay, so that another job may go on from its end."""
        return self.decay == 0


@dataclass(frozen=True, config=RECORD)
class Job:
    """What a trial must do: everything that decides its outcome, so that it can be repeated.

    generation, slot: its place in the search. parent: the key of the parent's trial, None for a seed. moves: text of
    the chain, '' for none. seed: of the child's randomness. steps: optimizer steps. graph: canonical JSON of the graph
    after the moves. seen: keys of the trials that had ended when this one was proposed and that no earlier job lists,
    if the order of completions matters. memo: JSON for the policy to read again; the engine never reads it.
    Raises ValueError for an invalid value.
    """

    kind: Annotated[Kind, Field(strict=False)]
    generation: Count
    slot: Count
    parent: Key | None
    moves: str
    seed: Whole
    steps: Count
    graph: str
    training: Training = field(default_factory=Training)
    seen: tuple[Key, ...] = ()
    memo: Json = field(default_factory=lambda: NO_JSON)

    @property
    def key(self) -> str:
        """The trial's place in the search, `generation.slot`: fixed and unique, unlike times and trial numbers."""
        return f"{self.generation}.{self.slot}"

    @property
    def final(self) -> bool:
        """Whether this is a final training, which is not part of the search."""
        return self.kind is Kind.FINAL

    @property
    def given(self) -> bool:
        """Whether it starts from a model that the search was given."""
        return self.kind is Kind.SEED and self.parent is None and self.training.weights is not None

    to_dict = _to_dict
    __reduce__ = _reduce


@dataclass(frozen=True, config=RECORD)
class Result:
    """The result of a job.

    fingerprint: SHA-256 of the graph. weights: `Network.digest`, the checkpoint's name in the store. scores: finite
    numbers, including the validation score of `main`, the task's own score, by which trials are ranked and which is the
    objective value of the Optuna trial. params, macs: counts. drift_eval, drift_train: drift of the moves, None if not
    measured. seconds: wall time by purpose (train, evaluate, morph, other). momentum: digest of a checkpoint that holds
    the optimizer's momentum in place of the weights, if the training can be continued. rest: those of what else the
    optimizer keeps: of AdamW, the mean squares and the numbers of steps. last: digest of the weights after the last
    step, to continue from, where `weights` is an average over several steps. sample: the outcome on single validation
    images, as text (`nas.ledger.sample`); for comparisons of trials. lengths: how the time that was left changed the
    number of the job's steps on the way: the same job with these gives the same bits. baselines: the task's own score
    of the simplest methods on the splits of a final trial, as SIMPLE_test and LINEAR_test (`nas.data.baseline`).
    mistakes: what a final classifier gets wrong on the test split (`nas.execute.mistakes`). The digest of a run
    contains neither.
    Raises ValueError for an invalid value.
    """

    fingerprint: Digest
    weights: Digest
    scores: Numbers
    params: Count
    macs: Count
    drift_eval: float | None = None
    drift_train: float | None = None
    seconds: Times = field(default_factory=lambda: NO_NUMBERS)
    momentum: Digest | None = None
    last: Digest | None = None
    sample: str | None = None
    lengths: Lengths = ()
    main: Criterion = "accuracy"
    baselines: Numbers = field(default_factory=lambda: NO_NUMBERS)
    mistakes: Json = field(default_factory=lambda: NO_JSON)
    rest: tuple[Digest, ...] = ()

    @model_validator(mode="after")
    def _has_score(self) -> Self:
        if f"val_{name_of(self.main)}" not in self.scores:
            raise ValueError(f"scores has no val_{name_of(self.main)}")
        return self

    @property
    def value(self) -> float:
        """The validation score of `main`."""
        return self.scores[f"val_{name_of(self.main)}"]

    @property
    def tested(self) -> float | None:
        """The test score of `main`, of a final network."""
        return self.scores.get(f"test_{name_of(self.main)}")

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Digests of the networks that were stored."""
        named = self.weights, self.last, self.momentum, *self.rest
        return tuple(digest for digest in named if digest is not None)

    to_dict = _to_dict
    __reduce__ = _reduce


@plain_dataclass(frozen=True)
class TrialRecord:
    """One candidate in the ledger. started, finished: seconds since the epoch, for information only."""

    job: Job
    state: State
    result: Result | None
    reason: str | None
    number: int
    started: float
    finished: float | None

    @property
    def key(self) -> str:
        """The job's `generation.slot`."""
        return self.job.key

    @property
    def performed(self) -> Job:
        """The job as it was performed, which gives the same bits again: with the changes of its length on the way."""
        if self.result is None or not self.result.lengths:
            return self.job
        return replace(self.job, training=replace(self.job.training, lengths=self.result.lengths))

    @property
    def steps(self) -> int:
        """The training steps that were taken, as far as the trial has ended; else those that are planned."""
        return self.result.lengths[-1][1] if self.result and self.result.lengths else self.job.steps

    @property
    def running(self) -> bool:
        """Whether the trial has not ended."""
        return self.state is State.RUNNING


# The keys of the training plan in ledgers of format 1: part of a mapping that policies wrote into as well.
_FORMAT_1 = {
    "parent_weights": "weights",
    "momentum": "momentum",
    "start": "start",
    "total": "total",
    "rung": "rung",
}
T = TypeVar("T")


def job_from(document: Any, text: str | None = None) -> Job:
    """The job of `Job.to_dict`, or of a ledger of format 1. text: as for `validated`. Raises ValueError for anything
    else.
    """
    present = _of_format_2(document)
    return validated(Job, present, text=text if present is document else None)


def result_from(document: Any, text: str | None = None) -> Result:
    """The result of `Result.to_dict`. text: as for `validated`. Raises ValueError for anything else."""
    return validated(Result, document, text=text)


def reached_from(document: Any) -> Reached:
    """The value of `Reached.to_dict`. Raises ValueError for anything else."""
    return validated(Reached, document)


def validated(kind: type[T], document: Any, name: str | None = None, text: str | None = None) -> T:
    """A record of `kind` from its JSON values: the one way in which records are read.

    name: what the record is called in errors. text: the document as JSON, where the caller has it: making it takes
    time. Raises ValueError, in one line, for anything else.
    """
    called = name or f"not a {kind.__name__}"
    try:
        return _adapter(kind).validate_json(canonical_json(document) if text is None else text)
    except ValidationError as error:
        raise ValueError(f"{called}: {first_fault(error)}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{called}: it is not JSON ({error})") from None


def first_fault(error: ValidationError) -> str:
    """The first error that pydantic found, in one line: where, what, and the value."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    said = f"{said[:1].lower()}{said[1:]}"
    return f"{where}: {said}, not {first['input']!r:.60}" if where else said


@lru_cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def is_digest(value: object) -> bool:
    """Whether `value` is a SHA-256 in hexadecimal."""
    return isinstance(value, str) and re.fullmatch(HEX, value) is not None


def _of_format_2(document: Any) -> Any:
    """A job in the present format. In format 1 one mapping held the plan, the order and the policy's memo."""
    if not isinstance(document, dict) or "extra" not in document:
        return document
    entries = dict(cast("dict[str, Any]", document))
    extra: Any = entries.pop("extra")
    if not isinstance(extra, dict):
        return document
    memo = dict(cast("dict[str, Any]", extra))
    training = {new: memo.pop(old) for old, new in _FORMAT_1.items() if old in memo}
    seen = memo.pop("seen", [])
    return {**entries, "training": training, "seen": seen, "memo": memo}
