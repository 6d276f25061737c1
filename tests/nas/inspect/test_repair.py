"""`nas fsck --repair`: lost checkpoints come back with the same hash, or the reason why not is said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_support import Inline, tiny
from typer.testing import CliRunner, Result

from nas.cli.commands import app
from nas.inspect.fsck import check
from nas.ledger import Ledger, Store, read
from nas.run.events import Silent
from nas.run.lifecycle import search

Copy = Callable[[Path], Path]


def fsck(run: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["fsck", str(run), *more], prog_name="nas")


def lose(run: Path, *keys: str) -> None:
    for key in keys:
        result = read(run).trial(key).result
        assert result is not None
        shutil.rmtree(Store(run / "checkpoints").path(result.weights))


def files(run: Path) -> dict[str, bytes]:
    """The checkpoints, byte by byte."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted((run / "checkpoints").rglob("*"))
        if path.is_file()
    }


def test_all_that_was_lost_is_made_again_byte_by_byte(finished: Any, copy_of: Copy) -> None:
    run = copy_of(finished.run)
    lose(run, "0.0", "1.0", "1.2", "2.1", "3.0")
    kept = read(run).trial("2.0").result
    assert kept is not None
    path = Store(run / "checkpoints").path(kept.weights) / "graph.json"
    path.write_bytes(path.read_bytes()[1:])
    done = fsck(run, "--repair", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["clean"], told["sound"]) == (0, True, 8)
    assert [finding["state"] for finding in told["findings"]] == ["repaired"] * 6
    assert files(run) == files(finished.run)
    assert check(run).findings == ()


def test_rungs_get_their_momentum_back(tmp_path: Path) -> None:
    run = tmp_path / "run"
    search(tiny(rungs=2, children=3, generations=1), run, Silent(), "", Inline)
    before = files(run)
    shutil.rmtree(run / "checkpoints")
    assert fsck(run).exit_code == 1
    assert fsck(run, "--repair").exit_code == 0
    assert files(run) == before


def test_a_removed_trial_comes_back_when_asked_for(finished: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    view = search(tiny(keep="best:1"), run, Silent(), "", Inline).view
    gone = next(record for record in view.complete if record.result and record.result.weights in view.dropped)
    assert gone.result is not None
    there = len(Store(run / "checkpoints").digests())
    done = fsck(run, "--repair", "--trial", gone.key)
    assert done.exit_code == 0, done.output
    store = Store(run / "checkpoints")
    assert store.get(gone.result.weights).digest == gone.result.weights
    assert len(store.digests()) == there + 1  # what was made on the way is not kept
    assert not list(store.folder.glob(".tmp-*"))


@pytest.mark.parametrize("what", ["versions", "machine"])
def test_where_other_bits_would_come_out_it_refuses(finished: Any, copy_of: Copy, what: str) -> None:
    run = copy_of(finished.run)
    document = json.loads((run / "config.json").read_text())
    if what == "versions":
        document["versions"]["torch"] = "1.0"
        (run / "config.json").write_text(json.dumps(document, sort_keys=True, separators=(",", ":")))
    else:
        from nas.base import machine
        from nas.run import description

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(description, "machine", lambda: {**machine.machine(), "processor": "another"})
            lose(run, "1.1")
            done = fsck(run, "--repair")
        assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
        assert "fsck --repair: " in done.stderr
        assert "processor" in done.stderr
        return
    lose(run, "1.1")
    before = files(run)
    done = fsck(run, "--repair")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "version of torch was 1.0" in done.stderr
    assert "missing" in done.stdout
    assert files(run) == before


def test_a_job_that_comes_to_other_bits_is_not_taken(
    finished: Any, copy_of: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas.execute.task import Trained, networks
    from nas.inspect import repair

    run = copy_of(finished.run)
    lose(run, "1.1")
    store = Store(run / "checkpoints")
    other = read(run).trial("1.2").result
    assert other is not None
    monkeypatch.setattr(repair, "networks", lambda *_: Trained(store.get(other.weights), None))
    done = fsck(run, "--repair", "--json")
    assert done.exit_code == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["state"] == "missing"
    assert "not repaired: " in finding["fact"]
    assert "trial 1.1" in finding["fact"]
    assert other.weights[:12] in finding["fact"]
    assert networks is not repair.networks


def test_wrong_use(finished: Any, copy_of: Copy) -> None:
    run = copy_of(finished.run)
    for more in (("--trial", "1.1"), ("--data", "digits"), ("--repair", "--trial", "9.9")):
        done = fsck(run, *more)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), more
    lose(run, "1.1")
    with Ledger.open(run):
        done = fsck(run, "--repair")
    assert done.exit_code == 2
    assert "in use by process" in done.stderr
    (run / "ledger.db").write_bytes(b"x" * 4096)
    assert fsck(run, "--repair").exit_code == 1
