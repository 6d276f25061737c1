"""What the ledger keeps of a trial that pauses, and of checkpoints that are removed on purpose."""

import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import morphs
from nas.base.errors import RunError
from nas.ledger import Job, Ledger, Reached, Result, examine, reached_from, read
from nas.ledger.files import canonical_json, parse_json

Jobs, Results, Make = Callable[..., Job], Callable[..., Result], Callable[[int], morphs.Network]


def pause(ledger: Ledger, network: Make, step: int) -> Reached:
    """A pause at `step`, its checkpoints in the store."""
    weights, momentum = (ledger.store.put(network(10 * step + part)) for part in (0, 1))
    return Reached(step, weights, momentum, ("AAEC",), (0.1, 1 / 3), {"train": 1.5, "busy": 2.0})


def test_a_pause_is_its_json_and_survives_a_pickle() -> None:
    reached = Reached(7, "a" * 64, "b" * 64, ("AAEC",), (0.1, 1 / 3), {"train": 1.5})
    assert reached_from(parse_json(canonical_json(reached.to_dict()))) == reached
    assert pickle.loads(pickle.dumps(reached)) == reached


@pytest.mark.parametrize(
    "changes",
    [{"step": 0}, {"step": 1.5}, {"weights": "x"}, {"momentum": ""}, {"random": [3]}, {"losses": [float("nan")]},
     {"losses": 3}, {"seconds": {"train": "1"}}, {"more": 1}],
    ids=str,
)  # fmt: skip
def test_what_is_no_pause(changes: dict[str, Any]) -> None:
    whole = Reached(7, "a" * 64, "b" * 64, (), (), {}).to_dict()
    with pytest.raises((ValueError, TypeError)):
        reached_from(whole | changes)


def test_a_running_trial_goes_on_from_its_last_pause(
    run: Path, job: Jobs, result: Results, network: Make
) -> None:
    with Ledger.create(run, {}) as ledger:
        number = ledger.ask(job())
        assert ledger.reached(number) is None
        pauses = [pause(ledger, network, step) for step in (1, 2, 3)]
        for each in pauses:
            ledger.advance(number, each)
        assert ledger.view().trial("0.0").state == "running"
    with Ledger.open(run) as ledger:
        assert ledger.reached(number) == pauses[2]
        assert ledger.pauses() == {d for each in pauses[1:] for d in (each.weights, each.momentum)}
        ledger.store.remove(pauses[2].momentum)
        assert ledger.reached(number) == pauses[1]
        ledger.tell(number, result(pauses[1].weights))
        assert ledger.pauses() == frozenset()
        with pytest.raises(RunError, match=r"advance: trial 0\.0 .*complete"):
            ledger.advance(number, pauses[1])


def test_a_pause_needs_its_checkpoints(run: Path, job: Jobs, network: Make) -> None:
    with Ledger.create(run, {}) as ledger:
        number = ledger.ask(job())
        reached = pause(ledger, network, 1)
        ledger.store.remove(reached.momentum)
        with pytest.raises(RunError, match=rf"advance: trial 0\.0: checkpoint {reached.momentum[:12]}"):
            ledger.advance(number, reached)
        assert ledger.reached(number) is None


def test_a_damaged_pause_is_said_and_the_trial_begins_anew(run: Path, job: Jobs, network: Make) -> None:
    with Ledger.create(run, {}) as ledger:
        number = ledger.ask(job())
        ledger.advance(number, pause(ledger, network, 1))
    with closing(sqlite3.connect(run / "ledger.db")) as database:
        database.execute(
            "UPDATE trial_user_attributes SET value_json = replace(value_json, '\"step\": 1', '\"step\": 2') "
            "WHERE key = 'reached'"
        )
        database.commit()
    view, faults, _ = examine(run)
    assert [record.state for record in view.trials] == ["running"]
    assert len(faults) == 1
    assert "the progress of trial number 0 is damaged" in faults[0]
    with Ledger.open(run) as ledger:
        assert ledger.reached(number) is None
        assert [found for found, _ in ledger.interrupted()] == [number]


def test_what_is_dropped_is_recorded_first(run: Path, job: Jobs, result: Results, network: Make) -> None:
    with Ledger.create(run, {}) as ledger:
        told, orphan = (ledger.store.put(network(seed)) for seed in (0, 1))
        ledger.tell(ledger.ask(job()), result(told))
        ledger.drop([orphan], "0")
        assert ledger.view().dropped == frozenset()
        ledger.drop([told], "1")
        ledger.drop([told], "2")
        assert ledger.store.digests() == ()
    view = read(run)
    assert view.dropped == {told}
    assert view.notes.dropped == {"1": {told}}
    assert view.checkpoints == {told}
