from dataclasses import replace

import pytest
from report_support import START

from nas.ledger import Job, LedgerView, Result, TrialRecord
from nas.ledger.types import State
from nas.report.tables import (
    UNCHANGED,
    MoveRow,
    clock,
    drift_rows,
    kind_of,
    lineage,
    move_rows,
    short,
    trial_rows,
    winners,
)

WIDEN = "widen(node=c1, to=8, how=replicate)"
NORM = "insert_norm(node=c1)"


def trial(
    key: str,
    accuracy: float | None,
    moves: str = "",
    kind: str = "child",
    parent: str | None = "0.0",
    **changes: object,
) -> TrialRecord:
    generation, slot = map(int, key.split("."))
    job = Job(kind, generation, slot, parent, moves, 0, 10, "{}")
    at = START + 100 * generation + 10 * slot
    if accuracy is None:
        record = TrialRecord(job, State.FAILED, None, "loss is NaN", 0, at, at + 4)
    else:
        scores = {"val_accuracy": accuracy, "val_loss": 0.5}
        result = Result(
            "0" * 64, "1" * 64, scores, 100 + slot, 1000, 0.0, 0.1, {"train": 8.0, "evaluate": 1.0}
        )
        record = TrialRecord(job, State.COMPLETE, result, None, 0, at, at + 10)
    return replace(record, **changes)


VIEW = LedgerView(
    (
        trial("0.0", 0.5, kind="seed", parent=None),
        trial("1.0", 0.6, kind="parent"),
        trial("1.1", 0.7, WIDEN),
        trial("1.2", 0.55, f"{WIDEN};{NORM}"),
        trial("1.3", None, NORM),
        trial("2.0", 0.8, kind="parent", parent="1.1"),
        trial("2.1", 0.75, f"{WIDEN};{WIDEN}", parent="1.1"),
    )
)


def test_what_each_move_earned() -> None:
    widen, norm, unchanged = move_rows(trial_rows(VIEW))
    assert (widen.kind, widen.proposed, widen.failed, widen.won, widen.compared) == ("widen", 3, 0, 1, 3)
    assert widen.gain == pytest.approx((0.1 - 0.05 - 0.05) / 3)
    assert widen.deviation == pytest.approx(0.0866, abs=1e-4)
    assert widen.seconds == pytest.approx(8 + 4 + 8)
    assert norm == MoveRow("insert_norm", 2, 1, 0, 1, norm.gain, None, 4.0 + 4.0)
    assert norm.gain == pytest.approx(-0.05)
    assert unchanged == MoveRow(UNCHANGED, 2, 0, 1, 0, None, None, 16.0)


def test_winners_are_named_as_parents_or_best_of_the_last_whole_generation() -> None:
    assert winners(VIEW) == {"0.0", "1.1", "2.0"}
    running = replace(VIEW.trials[-1], state=State.RUNNING, result=None, finished=None)
    assert winners(LedgerView((*VIEW.trials[:-1], running))) == {"0.0", "1.1"}


def test_equal_accuracies_are_ranked_as_the_search_does() -> None:
    equal = LedgerView((trial("1.0", 0.6, kind="parent"), trial("1.1", 0.6, WIDEN)))
    assert winners(equal) == {"1.0"}  # fewer parameters


def test_the_best_is_the_last_winner_until_the_final_training_ends() -> None:
    best = VIEW.best
    assert best is not None
    assert best.key == "2.0"
    assert lineage(VIEW, best) == {"0.0", "1.1", "2.0"}
    final = trial("3.0", 0.7, kind="final", parent="2.0")
    assert LedgerView((*VIEW.trials, final)).best is final


def test_running_time_leaves_out_what_lies_between_trials() -> None:
    at = clock(VIEW)
    assert at == pytest.approx({"0.0": 10, "1.0": 20, "1.1": 30, "1.2": 40, "1.3": 44, "2.0": 54, "2.1": 64})


def test_running_time_of_trials_at_work_together() -> None:
    first = trial("0.0", 0.5, kind="seed", parent=None)
    second = trial("1.0", 0.5, started=first.started + 2, finished=first.started + 30)
    assert clock(LedgerView((first, second))) == pytest.approx({"0.0": 10, "1.0": 30})


def test_a_repeated_trial_counts_from_its_last_start() -> None:
    record = trial("0.0", 0.5, kind="seed", parent=None)
    assert record.result is not None
    seconds = {"train": 2.0, "busy_from": record.started + 7, "busy_to": record.started + 10}
    again = replace(record, result=replace(record.result, seconds=seconds))
    assert clock(LedgerView((again,))) == pytest.approx({"0.0": 3})
    assert trial_rows(LedgerView((again,)))[0].seconds == 2.0


def test_moves_declare_the_least_they_preserve() -> None:
    declared = {row.key: row.preserves for row in trial_rows(VIEW)}
    assert (declared["1.1"], declared["1.2"], declared["1.0"]) == ("exact", "exact in eval", "unknown")
    assert [row.key for row in drift_rows(trial_rows(VIEW))] == ["1.1", "1.2", "2.1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WIDEN, "widen(node=c1, to=8)"),
        ("widen(node=c1, to=8, how=zero)", "widen(node=c1, to=8, how=zero)"),
        ("grow_kernel(node=c1, to=[5, 5])", "grow_kernel(node=c1, to=[5, 5])"),
        ("add_skip(source=a, target=b)", "add_skip(source=a, target=b)"),
        (" of_another_version(<b>) ", "of_another_version(<b>)"),
    ],
)
def test_short_text_of_moves(text: str, expected: str) -> None:
    assert short(text) == expected
    assert kind_of(text) == expected.partition("(")[0]


def test_nothing_told_yet() -> None:
    assert (trial_rows(LedgerView(())), move_rows(())) == ((), ())
