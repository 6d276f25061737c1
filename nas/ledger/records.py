"""Converts stored trials to records and back: sealed attributes, and their consistency.

An attribute is stored with a SHA-256 over its name, its trial's place and its text, so that a byte that changes within
the database is detected here; SQLite can't detect it.
"""

from collections.abc import Iterable
from typing import Any, cast

from nas.base.machine import uncollected
from nas.ledger.entries import Entry
from nas.ledger.files import MAX_ATTRIBUTE_BYTES, canonical_json, sha256
from nas.ledger.types import (
    Job,
    Reached,
    Result,
    State,
    TrialRecord,
    job_from,
    reached_from,
    result_from,
)

JOB, RESULT, REASON, REACHED = "job", "result", "reason", "reached"
_STATES = {"running": State.RUNNING, "complete": State.COMPLETE, "fail": State.FAILED}  # by Optuna's names


def seal(name: str, key: str, body: Any) -> dict[str, Any]:
    """`body` as it is stored. Raises ValueError if it is not JSON or too large to be read back."""
    text = canonical_json(body)
    if len(text) > MAX_ATTRIBUTE_BYTES // 2:
        raise ValueError(f"the {name} has {len(text)} characters, more than {MAX_ATTRIBUTE_BYTES // 2}")
    return {"body": body, "sha256": sha256(f"{name} {key}\n{text}")}


def unseal(name: str, key: str, stored: Any) -> tuple[Any, str]:
    """The body given to `seal`, and the same as canonical JSON. Raises ValueError if it was changed."""
    entries = cast(dict[str, Any], stored) if isinstance(stored, dict) else {}
    if entries.keys() == {"body", "sha256"}:
        text = canonical_json(entries["body"])
        if sha256(f"{name} {key}\n{text}") == entries["sha256"]:
            return entries["body"], text
    raise ValueError(f"the {name} of a trial is not what was written")


def job_attributes(job: Job) -> dict[str, Any]:
    """The attributes of a starting trial: the sealed job, and a copy of the policy's scalars for the dashboard."""
    scalars = {
        f"memo.{name}": value for name, value in job.memo.items() if isinstance(value, (str, int, float))
    }
    return {JOB: seal(JOB, "", job.to_dict()), **scalars}


def record_of(entry: Entry) -> TrialRecord | None:
    """The record of a stored trial; None if nothing was written about it.

    Raises ValueError for anything that the ledger never writes.
    """
    place = f"trial number {entry.number}"
    if entry.empty and entry.state in ("running", "fail", "waiting"):
        return None
    if JOB not in entry.attributes or entry.state not in _STATES:
        raise ValueError(f"{place} has no job or the unknown state {entry.state}")
    job = job_from(*unseal(JOB, "", entry.attributes[JOB]))
    result, reason = stored_result(entry, job), stored_reason(entry, job)
    state, number = _STATES[entry.state], entry.number
    if state is State.RUNNING:
        return TrialRecord(job, state, None, None, number, entry.started, None)
    told = result if state is State.COMPLETE else None
    record = TrialRecord(job, state, told, reason, number, entry.started, entry.finished)
    if state is State.COMPLETE and (result is None or entry.value not in result.scores.values()):
        raise ValueError(f"{place} is complete without the result that was recorded")
    return record


def stored_result(entry: Entry, job: Job) -> Result | None:
    """The result that was written, whether or not the trial was completed."""
    if RESULT not in entry.attributes:
        return None
    return result_from(*unseal(RESULT, job.key, entry.attributes[RESULT]))


def stored_reason(entry: Entry, job: Job) -> str | None:
    """The reason of failure that was written, whether or not the trial was marked as failed."""
    if REASON not in entry.attributes:
        return None
    reason, _ = unseal(REASON, job.key, entry.attributes[REASON])
    if not isinstance(reason, str):
        raise ValueError("the reason of a trial is not text")
    return reason


def stored_reached(entry: Entry, job: Job) -> tuple[Reached, ...]:
    """The trial's states at its last pauses, newest first. Raises ValueError if they were changed."""
    if REACHED not in entry.attributes:
        return ()
    stored, _ = unseal(REACHED, job.key, entry.attributes[REACHED])
    if not isinstance(stored, list):
        raise ValueError("the progress of a trial is not a list")
    return tuple(reached_from(document) for document in cast(list[Any], stored))


def records_of(entries: Iterable[Entry]) -> tuple[TrialRecord, ...]:
    """The records of all trials that have a job. Raises ValueError as `record_of`, and if two have the same place."""
    with uncollected():
        records = tuple(record for record in map(record_of, entries) if record is not None)
    seen: set[str] = set()
    for record in records:
        if record.key in seen:
            raise ValueError(f"two trials have the place {record.key}")
        seen.add(record.key)
    return records
