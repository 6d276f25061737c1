"""The final training in parts: whatever interrupts it, the bits at its end are those of one that nothing did."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from engine_support import Inline, Recorder, tiny

import nas
from nas.inspect.fsck import check
from nas.ledger import Ledger, Store, read
from nas.ledger.types import Training
from nas.run import final_training as final
from nas.run.events import Outcome, Silent
from nas.run.lifecycle import resume, search

DRIVER = Path(__file__).with_name("final_driver.py")


def config(**changes: Any) -> Any:
    """A final training of several epochs, after a short search."""
    return tiny(**({"generations": 1, "children": 1, "final_share": 0.96} | changes))


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(final, "PART_SECONDS", 0.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The run in one go: tests compare with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final, "PART_SECONDS", 1e9)
        return search(config(), tmp_path_factory.mktemp("whole") / "run", Silent(), "", Inline)


def same(outcome: Outcome, whole: Outcome) -> None:
    """Every score and every weight."""
    assert outcome.view.digest == whole.view.digest
    assert outcome.view.final is not None
    assert whole.view.final is not None
    assert outcome.view.final.result is not None
    assert whole.view.final.result is not None
    stores = [Store(each.run / "checkpoints") for each in (outcome, whole)]
    kept = [store.get(outcome.view.final.result.weights) for store in stores]
    assert kept[0].digest == kept[1].digest == whole.view.final.result.weights


class Parts(Inline):
    """An executor that remembers the parts it was given; Ctrl-C comes before the parts numbered in `stops`."""

    def __init__(self, *facts: Any, stops: tuple[int, ...] = ()) -> None:
        super().__init__(*facts)
        self.parts: list[tuple[int, int]] = []
        self.stops = stops

    def submit(self, number: int, job: Any) -> None:
        if job.kind == "final":
            since = job.training.since.step if job.training.since else 0
            self.parts.append((since, job.training.until or job.steps))
        super().submit(number, job)

    def poll(self, timeout: float) -> Any:
        if len(self.parts) in self.stops:
            raise KeyboardInterrupt
        return super().poll(timeout)


def test_parts_are_epochs_and_come_to_the_whole(whole: Outcome, tmp_path: Path) -> None:
    made: list[Parts] = []

    def factory(*facts: Any) -> Parts:
        made.append(Parts(*facts))
        return made[-1]

    outcome = search(config(), tmp_path / "run", Silent(), "", factory)
    same(outcome, whole)
    (parts,) = [each.parts for each in made]
    assert len(parts) >= 3
    assert [begin for begin, _ in parts] == [0, *(end for _, end in parts[:-1])]
    assert len({end - begin for begin, end in parts[:-1]}) == 1
    final = outcome.view.final
    assert final is not None
    assert final.result is not None
    assert parts[-1][1] == final.job.steps
    plan = final.job.training
    whole_plan = (plan.weights, plan.momentum, plan.start, plan.start + final.job.steps, plan.decay)
    assert plan == Training(*whole_plan)  # the ledger has the job, not its parts
    seconds = final.result.seconds
    assert seconds["train"] <= seconds["busy_to"] - seconds["busy_from"] <= outcome.seconds


def test_fsck_looks_at_what_a_training_goes_on_from(whole: Outcome, tmp_path: Path) -> None:
    run = tmp_path / "run"
    search(config(), run, Silent(), "", lambda *facts: Parts(*facts, stops=(3,)))
    assert not check(run).findings
    with Ledger.open(run) as ledger:
        (number,) = (record.number for record in ledger.view().trials if record.state == "running")
        last = ledger.reached(number)
    assert last is not None
    weights = Store(run / "checkpoints").path(last.weights) / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    found = check(run)
    assert [(f.what, f.digest, f.state) for f in found.findings] == [("pause", last.weights, "damaged")]
    assert found.clean  # the pause before it is there
    same(resume(run, Silent(), executor=Inline), whole)


@pytest.mark.parametrize("final", ["continue", "restart"])
def test_interruptions_lose_at_most_a_part(whole: Outcome, tmp_path: Path, final: str) -> None:
    run, parts = tmp_path / "run", []

    def factory(*facts: Any) -> Parts:
        executor = Parts(*facts, stops=(2,))
        parts.append(executor.parts)
        return executor

    assert search(config(final=final), run, Silent(), "", factory).stopped == "interrupted"
    assert resume(run, Silent(), executor=factory).stopped == "interrupted"
    outcome = resume(run, Silent(), executor=Inline)
    assert [each[0][0] for each in parts] == [
        0,
        parts[0][0][1],
    ]  # the second went on where the first was stopped
    if final == "continue":
        same(outcome, whole)
    else:
        again = search(config(final=final), tmp_path / "again", Silent(), "", Inline)
        same(outcome, again)


def test_a_damaged_pause_gives_way_to_the_one_before(whole: Outcome, tmp_path: Path) -> None:
    run = tmp_path / "run"
    search(config(), run, Silent(), "", lambda *facts: Parts(*facts, stops=(4,)))
    with Ledger.open(run) as ledger:
        ((number, _),) = ledger.interrupted()
        last = ledger.reached(number)
        assert last is not None
        path = ledger.store.path(last.momentum) / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        before = ledger.reached(number)
        assert before is not None
        assert 0 < before.step < last.step
        assert len(ledger.pauses()) == 4
    same(resume(run, Silent(), executor=Inline), whole)


def pauses(run: Path) -> int:
    """How many steps a killed or living run's final training has reached."""
    with closing(sqlite3.connect(f"file:{run / 'ledger.db'}?mode=ro", uri=True)) as database:
        found = database.execute(
            "SELECT value_json FROM trial_user_attributes WHERE key = 'reached'"
        ).fetchall()
    return int(found[0][0].split('"step": ')[1].split(",")[0]) if found else 0


def test_kill_9_in_the_final_training_changes_no_bit(whole: Outcome, tmp_path: Path) -> None:
    """A real driver, killed again and again in the middle of a part."""
    run = tmp_path / "run"
    root = Path(nas.__file__ or "").parents[1]
    paths = [str(root), *(entry for entry in sys.path if entry.endswith("nas"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(Path(__file__).parents[2])])}
    environment["OMP_NUM_THREADS"] = "2"  # this process has one: the bits are those of --threads all the same
    reached = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, str(DRIVER), str(run)], env=environment)
        while not (run / "ledger.db").exists() or pauses(run) <= reached:
            assert process.poll() is None, "the driver ended by itself"
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached = pauses(run)
    assert read(run).final is None
    watcher = Recorder()
    same(resume(run, watcher, executor=Inline), whole)
    steps = [event[2] for event in watcher.events if event[0] == "progress"]
    assert min(steps) > reached
