import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.base.errors import UserError
from nas.ledger import Job, LedgerView, Result, TrialRecord
from nas.ledger.types import State
from nas.ledger.view import decided, view_of

GOLDEN = Path(__file__).parent / "golden" / "digest.json"


def sample() -> tuple[TrialRecord, ...]:
    """Seed, two children, a failed child, a running one, and the final training."""
    fingerprint, weights = "ab" * 32, "cd" * 32
    seed = Job("seed", 0, 0, None, "", 7, 100, "{}")
    scores = {"val_accuracy": 0.75, "val_loss": 0.1 + 0.2}
    result = Result(fingerprint, weights, scores, params=10, macs=20, seconds={"train": 3.0})
    first = TrialRecord(seed, State.COMPLETE, result, None, 0, 1.0, 2.0)
    child = replace(seed, kind="child", generation=1, parent="0.0", moves="deepen(edge=c)", seed=8)
    better = replace(result, scores=scores | {"val_accuracy": 0.875}, weights="ef" * 32)
    return (
        first,
        replace(first, job=child, number=1, result=better),
        replace(
            first,
            job=replace(child, slot=1),
            number=2,
            state=State.FAILED,
            result=None,
            reason="nan at step 3",
        ),
        replace(first, job=replace(child, slot=10), number=3, result=better),
        replace(first, job=replace(child, slot=2), number=4, state=State.RUNNING, result=None, finished=None),
        replace(first, job=replace(child, kind="final", generation=2, parent="1.0"), number=5, result=better),
    )


def changed(index: int, **changes: Any) -> str:
    records = list(sample())
    records[index] = replace(records[index], **changes)
    return view_of(records).digest


@given(st.permutations(sample()))
def test_order_of_insertion_does_not_matter(records: list[TrialRecord]) -> None:
    view = view_of(records)
    assert view == view_of(sample())
    assert view.digest == view_of(sample()).digest
    assert [record.key for record in view.trials] == ["0.0", "1.0", "1.1", "1.2", "1.10", "2.0"]


@given(st.integers(0, 10**6), st.floats(0, 1e12), st.floats(0, 1e12), st.floats(0, 1e6))
def test_numbers_times_and_reasons_do_not_matter(
    number: int, started: float, finished: float, took: float
) -> None:
    digest = view_of(sample()).digest
    assert changed(0, number=number, started=started, finished=finished) == digest
    assert changed(2, reason=f"timed out after {took} s on host b") == digest
    result = sample()[1].result
    assert result is not None
    assert changed(1, result=replace(result, seconds={"train": took})) == digest


def test_a_running_trial_does_not_count() -> None:
    records = sample()
    assert view_of(records[:4] + records[5:]).digest == view_of(records).digest


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "parent"},
        {"generation": 3},
        {"slot": 3},
        {"parent": "0.1"},
        {"parent": None},
        {"moves": "deepen(edge=d)"},
        {"seed": 9},
    ],
)
@pytest.mark.parametrize("index", [1, 2])
def test_each_decided_field_of_a_job_matters(changes: dict[str, Any], index: int) -> None:
    assert changed(index, job=replace(sample()[index].job, **changes)) != view_of(sample()).digest


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": "ac" * 32},
        {"weights": "ce" * 32},
        {"scores": {"val_accuracy": 0.875, "val_loss": 0.3}},
        {"scores": {"val_accuracy": 0.875}},
    ],
)
def test_each_decided_field_of_a_result_matters(changes: dict[str, Any]) -> None:
    result = sample()[1].result
    assert result is not None
    assert changed(1, result=replace(result, **changes)) != view_of(sample()).digest


def test_the_state_matters() -> None:
    assert changed(1, state=State.FAILED, result=None) != view_of(sample()).digest
    assert view_of(sample()[:2]).digest != view_of(sample()[:1]).digest


def test_helpers() -> None:
    view = view_of(sample())
    assert view.trial("1.10").number == 3
    assert [record.key for record in view.generation(1)] == ["1.0", "1.1", "1.2", "1.10"]
    assert [record.key for record in view.complete] == ["0.0", "1.0", "1.10", "2.0"]
    assert view.incumbent is not None
    assert (
        view.incumbent.key == "0.0"
    )  # generation 1 is still being told, and the final training never counts
    assert view.final is not None
    assert view.final.key == "2.0"
    assert view.best is view.final
    with pytest.raises(UserError, match=r"trial 9\.9: .*; choose one of 0\.0 … 2\.0"):
        view.trial("9.9")
    empty = LedgerView(())
    assert (empty.best, empty.final, empty.complete) == (None, None, ())
    with pytest.raises(UserError, match="none has started"):
        empty.trial("0.0")


def test_golden_digest() -> None:
    """A digest is compared across versions: a change here breaks every run there is."""
    golden = json.loads(GOLDEN.read_text())
    view = view_of(sample())
    assert [decided(record) for record in view.trials if record.state != "running"] == golden["decided"]
    assert view.digest == golden["digest"]


def test_the_digest_of_a_ledger_is_the_view_s(filled: Path, job: Callable[..., Job]) -> None:
    from nas.ledger import Ledger, read

    before = read(filled).digest
    with Ledger.open(filled) as ledger:
        assert ledger.view().digest == before
        ledger.ask(job(1, 1))
        assert ledger.view().digest == before
