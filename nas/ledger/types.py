"""What the ledger records: a job, its result, and both in the trial that carries them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, cast

from nas.ledger.files import canonical_json, parse_json

KINDS = ("seed", "parent", "child", "final")
State = Literal["running", "complete", "failed"]
SCORE = "val_accuracy"  # the score that ranks trials, and the objective value of the Optuna trial

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KEY = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_YOUNGER = ("momentum",)  # fields that records of older versions lack: left out where they are None


@dataclass(frozen=True)
class Job:
    """What a trial is to do: all that decides its outcome, so that it can be done again.

    kind: one of KINDS. generation, slot: its place in the search. parent: the key of the parent's trial,
    None for a seed. moves: text of the chain, '' for none. seed: of the child's randomness. steps: of the
    optimizer. graph: canonical JSON of the graph after the moves. extra: any JSON object.
    Raises ValueError for anything else.
    """

    kind: str
    generation: int
    slot: int
    parent: str | None
    moves: str
    seed: int
    steps: int
    graph: str
    extra: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    def __post_init__(self) -> None:
        _require(self.kind in KINDS, f"kind is {self.kind!r}, none of {', '.join(KINDS)}")
        for name in ("generation", "slot", "steps"):
            _require(
                _is_count(getattr(self, name)), f"{name} is {getattr(self, name)!r}, no whole number ≥ 0"
            )
        _require(_is_int(self.seed), f"seed is {self.seed!r}, no whole number")
        _require(
            self.parent is None or _KEY.fullmatch(str(self.parent)) is not None,
            f"parent is {self.parent!r}, neither None nor generation.slot",
        )
        for name in ("moves", "graph"):
            _require(isinstance(getattr(self, name), str), f"{name} is no text")
        object.__setattr__(self, "extra", _frozen(self.extra, "extra"))

    @property
    def key(self) -> str:
        """The trial's place in the search, `generation.slot`: unique in a run, unlike times and trial numbers fixed."""
        return f"{self.generation}.{self.slot}"

    def to_dict(self) -> dict[str, Any]:
        """The job as JSON values."""
        return _to_dict(self)

    def __reduce__(self) -> tuple[Callable[[Any], Job], tuple[dict[str, Any]]]:
        return job_from, (self.to_dict(),)


@dataclass(frozen=True)
class Result:
    """What came of a job.

    fingerprint: SHA-256 of the graph. weights: `Network.digest`, the checkpoint's name in the store. scores:
    finite numbers, `val_accuracy` among them. params, macs: counts. drift_eval, drift_train: of the moves,
    None where not measured. seconds: wall time by purpose (train, evaluate, morph, other). momentum: digest of
    the checkpoint that holds the optimizer's momentum in place of the weights, where the training goes on.
    Raises ValueError for anything else.
    """

    fingerprint: str
    weights: str
    scores: Mapping[str, float]
    params: int
    macs: int
    drift_eval: float | None = None
    drift_train: float | None = None
    seconds: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    momentum: str | None = None

    def __post_init__(self) -> None:
        for name in ("fingerprint", "weights", *(("momentum",) if self.momentum is not None else ())):
            _require(
                is_digest(getattr(self, name)),
                f"{name} is {getattr(self, name)!r}, no SHA-256 in hexadecimal",
            )
        for name in ("params", "macs"):
            _require(
                _is_count(getattr(self, name)), f"{name} is {getattr(self, name)!r}, no whole number ≥ 0"
            )
        for name in ("drift_eval", "drift_train"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _finite(name, getattr(self, name)))
        for name in ("scores", "seconds"):
            object.__setattr__(self, name, _numbers(getattr(self, name), name))
        _require(SCORE in self.scores, f"scores has no {SCORE}")

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return _to_dict(self)

    def __reduce__(self) -> tuple[Callable[[Any], Result], tuple[dict[str, Any]]]:
        return result_from, (self.to_dict(),)


@dataclass(frozen=True)
class Reached:
    """How far a running trial has come: with the networks it names, its training goes on as if it had never stopped.

    step: of the job's steps. weights, momentum: digests of checkpoints. random: states of the generators that dropout
    draws from, base64. losses: of the last tenth of the steps, so far. seconds: wall time by purpose, so far.
    Raises ValueError for anything else.
    """

    step: int
    weights: str
    momentum: str
    random: tuple[str, ...]
    losses: tuple[float, ...]
    seconds: Mapping[str, float]

    def __post_init__(self) -> None:
        _require(_is_count(self.step) and self.step > 0, f"step is {self.step!r}, no whole number > 0")
        for name in ("weights", "momentum"):
            _require(is_digest(getattr(self, name)), f"{name} is no SHA-256 in hexadecimal")
        _require(all(map(_is_text, self.random)), "random holds what is no text")
        object.__setattr__(self, "random", tuple(self.random))
        object.__setattr__(self, "losses", tuple(_finite("losses", loss) for loss in self.losses))
        object.__setattr__(self, "seconds", _numbers(self.seconds, "seconds"))

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return _to_dict(self) | {"random": list(self.random), "losses": list(self.losses)}

    def __reduce__(self) -> tuple[Callable[[Any], Reached], tuple[dict[str, Any]]]:
        return reached_from, (self.to_dict(),)


@dataclass(frozen=True)
class TrialRecord:
    """One candidate in the ledger. started, finished: seconds since the epoch, for people only."""

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


def job_from(document: Any) -> Job:
    """The job of `Job.to_dict`. Raises ValueError for anything else."""
    return Job(**_exactly(document, Job))


def result_from(document: Any) -> Result:
    """The result of `Result.to_dict`. Raises ValueError for anything else."""
    return Result(**_exactly(document, Result))


def reached_from(document: Any) -> Reached:
    """The value of `Reached.to_dict`. Raises ValueError for anything else."""
    entries = _exactly(document, Reached)
    _require(isinstance(entries["random"], list) and isinstance(entries["losses"], list), "no lists")
    return Reached(**entries)


def is_digest(value: object) -> bool:
    """Whether `value` is a SHA-256 in hexadecimal."""
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _to_dict(value: Job | Result | Reached) -> dict[str, Any]:
    entries = {f.name: getattr(value, f.name) for f in fields(value)}
    entries = {name: entry for name, entry in entries.items() if name not in _YOUNGER or entry is not None}
    return {name: dict(entry) if isinstance(entry, Mapping) else entry for name, entry in entries.items()}  # pyright: ignore[reportUnknownArgumentType]


def _exactly(document: Any, kind: type[Job] | type[Result] | type[Reached]) -> dict[str, Any]:
    _require(isinstance(document, dict), f"a {kind.__name__} is no JSON object")
    entries = cast(dict[str, Any], document)
    odd = (entries.keys() ^ {f.name for f in fields(kind)}) - (set(_YOUNGER) - entries.keys())
    _require(not odd, f"a {kind.__name__} lacks fields or has unknown ones: {', '.join(sorted(odd))[:200]}")
    return entries


def _frozen(entries: object, name: str) -> Mapping[str, Any]:
    _require(isinstance(entries, Mapping), f"{name} is no mapping")
    known = dict(cast(Mapping[Any, Any], entries))
    _require(all(isinstance(key, str) for key in known), f"{name} has keys that are no text")
    try:
        own = parse_json(canonical_json(known))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON ({error})") from None
    return MappingProxyType(own)


def _numbers(entries: object, name: str) -> Mapping[str, float]:
    _require(isinstance(entries, Mapping), f"{name} is no mapping")
    known = dict(cast(Mapping[Any, Any], entries))
    _require(all(isinstance(key, str) for key in known), f"{name} has keys that are no text")
    return MappingProxyType({key: _finite(f"{name}.{key}", value) for key, value in known.items()})


def _finite(name: str, value: object) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        _require(number and math.isfinite(cast(float, value)), f"{name} is {value!r}, no finite number")
        return float(cast(float, value))
    except OverflowError:
        raise ValueError(f"{name} is no finite number") from None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return _is_int(value) and cast(int, value) >= 0


def _require(holds: bool, fact: str) -> None:
    if not holds:
        raise ValueError(fact)
