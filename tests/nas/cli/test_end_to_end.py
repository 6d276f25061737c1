"""Real searches on the bundled digits, as a user starts them: in processes of their own."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nas

SMALL = ("search", "digits", "--children", "1", "--workers", "1")
START = (sys.executable, "-c", "from nas.cli.commands import main; main()")


def environment() -> dict[str, str]:
    root = str(Path(nas.__file__ or "").parents[1])
    return {**os.environ, "PYTHONPATH": root, "COLUMNS": "200", "TERM": "xterm"}


def call(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*START, *args], cwd=folder, env=environment(), capture_output=True, text=True, timeout=240
    )


def start(folder: Path, *args: str, **more: int) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen([*START, *args], cwd=folder, env=environment(), text=True, **pipes)  # pyright: ignore


def until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait; the test's own timeout ends what never holds."""
    while not holds():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where commands are given, and where Ray can't be imported by them or their workers: as if it were not there."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "ray.py").write_text("raise ImportError('no Ray here')")
    return folder


@pytest.fixture(scope="module")
def searched(home: Path) -> subprocess.CompletedProcess[str]:
    return call(home, *SMALL, "--generations", "1", "--epochs", "1")


def test_search_tells_its_story_in_plain_lines(
    home: Path, searched: subprocess.CompletedProcess[str]
) -> None:
    assert (searched.returncode, searched.stderr) == (0, "")
    assert "\x1b" not in searched.stdout
    for fact in (
        "digits on digits: 1 generation, 1 child each, seed 0, in runs/digits-digits-001",
        "generation 1: best",
    ):
        assert fact in searched.stdout
    summary = dict(line.split(None, 1) for line in searched.stdout.split("\n\n")[1].splitlines())
    assert summary["report"] == "runs/digits-digits-001/report.html"
    assert summary["next"] == "nas export runs/digits-digits-001 --to DIR"
    assert (home / summary["report"]).stat().st_size > 1000
    for name in ("finished", "validation", "test", "parameters", "wall", "engine", "run"):
        assert name in summary


def test_the_run_can_be_looked_at_and_used(home: Path, searched: subprocess.CompletedProcess[str]) -> None:
    assert searched.returncode == 0
    found = json.loads(call(home, "status", "digits-digits-001", "--json").stdout)
    assert (found["state"], found["generation"], found["complete"], found["running"]) == ("finished", 1, 4, 0)
    assert 0 <= found["overhead"] <= 1
    assert found["test_accuracy"] > 0
    assert found["command"] == "nas " + " ".join([*SMALL, "--generations", "1", "--epochs", "1"])
    assert "digits-digits-001" in call(home, "runs").stdout
    done = call(home, "export", "digits-digits-001", "--to", "out")
    assert (done.returncode, done.stdout) == (0, "out\n"), done.stderr
    assert {"model.py", "weights.safetensors"} <= {path.name for path in (home / "out").iterdir()}
    again = call(home, "export", "digits-digits-001", "--to", "out")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    (home / "runs/digits-digits-001/report.html").unlink()
    assert call(home, "report", "digits-digits-001").stdout == "runs/digits-digits-001/report.html\n"
    assert (home / "runs/digits-digits-001/report.html").exists()


def test_an_export_on_a_terminal_says_what_to_do_next(
    home: Path, searched: subprocess.CompletedProcess[str]
) -> None:
    assert searched.returncode == 0
    ours, theirs = pty.openpty()
    with start(home, "export", "digits-digits-001", "--to", "shown", stdout=theirs) as process:
        os.close(theirs)
        seen = b""
        while chunk := received(ours):
            seen += chunk
        assert process.wait() == 0
    os.close(ours)
    assert seen.split() == b"shown next python shown predict FILE".split()


def test_a_finished_run_is_not_run_again(home: Path, searched: subprocess.CompletedProcess[str]) -> None:
    assert searched.returncode == 0
    before = json.loads(call(home, "status", "digits-digits-001", "--json").stdout)
    done = call(home, "resume", "digits-digits-001")
    assert (done.returncode, done.stderr) == (0, "")
    assert "test accuracy" in done.stdout
    after = json.loads(call(home, "status", "digits-digits-001", "--json").stdout)
    assert after["digest"] == before["digest"]


def test_a_finished_run_is_made_again_in_a_folder_beside_it(
    home: Path, searched: subprocess.CompletedProcess[str]
) -> None:
    assert searched.returncode == 0
    done = call(home, "replay", "digits-digits-001", "--workers", "2")
    assert (done.returncode, done.stderr) == (0, "")
    last = done.stdout.splitlines()[-1]
    assert last.startswith("replay:")
    assert "runs/digits-digits-001" in last
    assert (home / "runs/digits-digits-001-replay-1/report.html").exists()


def test_a_run_that_exists_is_not_overwritten(home: Path, searched: subprocess.CompletedProcess[str]) -> None:
    assert searched.returncode == 0
    done = call(home, *SMALL, "--run", "runs/digits-digits-001")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "nas resume runs/digits-digits-001" in done.stderr


def test_an_interrupted_search_says_how_to_go_on(home: Path) -> None:
    """Ctrl-C in training, and twice more while stopping."""
    args = (*SMALL, "--generations", "1", "--epochs", "400", "--run", "stopped")
    search = start(home, *args)
    assert search.stdout is not None
    until(lambda: (home / "stopped/ledger.db").exists(), search)
    until(lambda: "to train" in (search.stdout.readline() if search.stdout else ""), search)
    time.sleep(1)
    busy = call(home, "resume", "stopped")
    assert (busy.returncode, busy.stderr.count("\n")) == (2, 1)
    assert f"process {search.pid}" in busy.stderr
    assert json.loads(call(home, "status", "stopped", "--json").stdout)["state"] == "running"
    for _ in range(3):
        search.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, said = search.communicate(timeout=60)
    assert search.returncode == 130, said
    assert "nas resume stopped" in said
    assert "Traceback" not in said
    assert json.loads(call(home, "status", "stopped", "--json").stdout)["state"] == "stopped"
    config = json.loads((home / "stopped/config.json").read_text())
    assert config["config"]["config"]["epochs"] == 400


def test_a_killed_search_is_resumed_quietly(home: Path) -> None:
    search = start(home, *SMALL, "--generations", "1", "--epochs", "20", "--run", "quiet")
    until(lambda: " 0.0 " in (search.stdout.readline() if search.stdout else ""), search)
    search.kill()
    search.communicate()
    before = json.loads(call(home, "status", "quiet", "--json").stdout)
    assert (before["state"], before["complete"], before["next"]) == ("stopped", 1, "nas resume quiet")
    done = call(home, "resume", "quiet", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (home / "quiet/report.html").exists()
    assert json.loads(call(home, "status", "quiet", "--json").stdout)["complete"] == 4


def test_a_finished_search_is_continued_killed_and_resumed(
    home: Path, searched: subprocess.CompletedProcess[str]
) -> None:
    assert searched.returncode == 0
    before = json.loads(call(home, "status", "digits-digits-001", "--json").stdout)
    done = call(home, "resume", "digits-digits-001", "--generations", "+1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "continues runs/digits-digits-001 for 1 generation" in done.stdout
    killed = start(home, "resume", "digits-digits-001", "--generations", "+1", "--run", "killed")
    until(lambda: " 0.0 " in (killed.stdout.readline() if killed.stdout else ""), killed)
    killed.kill()
    killed.communicate()
    assert call(home, "resume", "killed", "--quiet").returncode == 0
    whole, again = (
        json.loads(call(home, "status", run, "--json").stdout)
        for run in ("digits-digits-001-more-1", "killed")
    )
    assert whole["digest"] == again["digest"] != before["digest"]
    assert whole["after"] == again["after"] == "runs/digits-digits-001"
    assert whole["command"] == "nas resume digits-digits-001 --generations +1"
    after = json.loads(call(home, "status", "digits-digits-001", "--json").stdout)
    assert after["digest"] == before["digest"]
    for words in (("--budget", "2h"), ("--generations", "+0"), ("--run", "other"), ("--budget", "+0s")):
        wrong = call(home, "resume", "digits-digits-001", *words)
        assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1), wrong


def received(terminal: int) -> bytes:
    """What was written to it; empty once the other side is closed."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def test_a_polite_kill_stops_a_live_view_and_leaves_the_terminal_well(home: Path) -> None:
    ours, theirs = pty.openpty()
    args = (*SMALL, "--generations", "1", "--epochs", "400", "--run", "polite")
    search = start(home, *args, stdout=theirs)
    os.close(theirs)
    seen = b""
    while b"step " not in seen and (chunk := received(ours)):
        seen += chunk
    search.terminate()
    while chunk := received(ours):
        seen += chunk
    os.close(ours)
    _, said = search.communicate(timeout=60)
    assert search.returncode == 130, (said, seen)
    assert "nas resume polite" in said
    assert b"best so far" in seen
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")  # the cursor is shown again
