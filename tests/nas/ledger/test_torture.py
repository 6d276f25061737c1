import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

import morphs
from nas.base.errors import RunError
from nas.ledger import Ledger, read

KILLS = 15
DRIVER = Path(__file__).with_name("torture_driver.py")


def test_kill_9_loses_no_told_result(
    run: Path, tmp_path: Path, network: Callable[[int], morphs.Network]
) -> None:
    """The log is written outside the ledger after each tell returned: whatever it names must be in the ledger."""
    log, random = tmp_path / "log", Random(0)
    log.touch()
    with Ledger.create(run, {}) as ledger:
        weights = ledger.store.put(network(0))
    for kill in range(KILLS):
        opened = log.read_text().count("open")
        arguments = [str(run), str(log), network(0).graph.fingerprint, weights]
        process = subprocess.Popen([sys.executable, str(DRIVER), *arguments])
        while log.read_text().count("open") == opened:
            assert process.poll() is None, "the driver stopped by itself"
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.4))
        if kill == 0:
            with pytest.raises(RunError, match=f"{run} is in use by process {process.pid} on "):
                Ledger.open(run)
        process.kill()
        process.wait()
        read(run)
    told = [line.split() for line in log.read_text().splitlines() if not line.startswith("open")]
    view = read(run)
    assert len(told) > KILLS // 3  # on a busy machine a driver tells little before it is killed
    for state, key, number in told:
        record = view.trial(key)
        assert (record.state, record.number) == (state, int(number))
        assert record.result is None or record.result.scores["val_accuracy"] == record.job.seed / 7
        assert state != "failed" or record.reason == f"reason {key}"
    ended = [record for record in view.trials if record.state != "running"]
    assert len(ended) - len(told) <= KILLS  # told, and killed before it could say so
    assert [record.job.seed for record in view.trials] == list(
        range(len(view.trials))
    )  # no slot twice, none lost
    assert len(view.trials) - len(ended) <= 3  # what was in flight at the last kill
    with Ledger.open(run) as ledger:
        assert len(ledger.interrupted()) <= 3
