"""The command where its output is closed or can't show all signs, where code ends it, and where it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_support import make_run
from PIL import Image
from typer.testing import CliRunner

from nas.cli.commands import app
from nas.inspect.fsck import check
from nas.ledger import read, read_config

NAS = (sys.executable, "-c", "from nas.cli.entry import main; main()")
SHORT = ("--generations", "1", "--children", "1", "--epochs", "0.1", "--workers", "1")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def started(*words: str, closed: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    line = f'"$@" {closed}'
    return subprocess.run(
        ["sh", "-c", line, "sh", *NAS, *words],
        capture_output=True,
        timeout=300,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("words", [(), ("--quiet",)])
def test_a_search_with_closed_output(home: Path, words: tuple[str, ...]) -> None:
    done = started("search", "digits", *SHORT, *words, "--run", "run", closed="<&- >&- 2>&-")
    assert done.returncode == 0
    assert read(home / "run").final is not None
    assert (home / "run" / "report.html").exists()


def test_no_folder_for_temporary_files(home: Path) -> None:
    """Where torch's compiler would be imported, it would make one."""
    done = started(
        "search", "digits", *SHORT, "--quiet", "--run", "run", TORCHINDUCTOR_CACHE_DIR="/dev/null/x"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    for words in (("moves",), ("report", "run")):
        done = started(*words, TORCHINDUCTOR_CACHE_DIR="/dev/null/x")
        assert (done.returncode, done.stderr) == (0, b"")
    done = started(
        "export", "run", "--to", "out", TORCHINDUCTOR_CACHE_DIR="/dev/null/x"
    )  # needs the compiler
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    limited = ("search", "digits", "--limit", "memory=10m", "--run", "limited")  # so does this
    done = started(*limited, TORCHINDUCTOR_CACHE_DIR="/dev/null/x")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert not (home / "limited").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="this system has no such signal")
@pytest.mark.parametrize("blocked", [False, True])
def test_a_parent_that_ignores_or_blocks_the_signal_of_ended_children(home: Path, blocked: bool) -> None:
    def leave() -> None:
        if blocked:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    words = [*NAS, "search", "digits", *SHORT, "--quiet", "--run", "run"]
    done = subprocess.run(words, capture_output=True, timeout=300, preexec_fn=leave)
    assert (done.returncode, done.stderr) == (0, b"")
    assert read(home / "run").final is not None


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use can't be deleted")
@pytest.mark.parametrize("words", [("status", "RUN"), ("moves",), ("resume", "RUN")])
def test_a_current_folder_that_was_deleted(home: Path, words: tuple[str, ...]) -> None:
    make_run(home / "run")
    (home / "gone").mkdir()
    run = str(home / "run")
    line = 'cd gone && rmdir ../gone && "$@"'
    command = ["sh", "-c", line, "sh", *NAS, *(run if word == "RUN" else word for word in words)]
    done = subprocess.run(command, capture_output=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith(b"nas: ")
    assert done.stderr.count(b"\n") == 1
    assert b"damaged" not in done.stderr


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system has other time zones")
def test_a_time_zone_that_is_none(home: Path) -> None:
    make_run(home / "run")
    done = started("status", "run", TZ="UTC+25")
    assert done.returncode == 2
    assert done.stderr.startswith(b"nas: TZ=")
    assert done.stderr.count(b"\n") == 1


def test_the_home_of_an_unknown_user(home: Path) -> None:
    done = started("search", "digits", *SHORT, "--data-root", "~nobody here/data", "--quiet", "--run", "run")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_that_shows_ascii_only(home: Path) -> None:
    make_run(home / "run", final=True)
    for words in (("status", "run"), ("runs", "."), ("moves",), ("policies",)):
        done = started(*words, PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.isascii()
    done = started("runs", ".", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_behind_the_output(home: Path) -> None:
    done = started("policies", closed=">/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith(b"nas: ")
    assert done.stderr.count(b"\n") == 1


def test_names_that_are_not_utf8(home: Path) -> None:
    """Of a class folder, of the folder of the data, and of the run's."""
    draw = np.random.default_rng(0)
    for name in (b"caf\xe9", b"chat"):
        folder = home / os.fsdecode(b"p\xfc") / os.fsdecode(name)
        folder.mkdir(parents=True)
        for number in range(12):
            Image.fromarray(draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    run = home / os.fsdecode(b"l\xe4ufe")
    data = os.fsdecode(b"imagefolder:p\xfc")
    done = started("search", "digits", "--data", data, *SHORT, "--run", str(run))
    assert (done.returncode, done.stderr) == (0, b"")
    assert read_config(run).described.data.classes == ("caf\\xe9", "chat")
    assert check(run).clean
    for words in (("resume", str(run)), ("report", str(run)), ("status", str(run)), ("runs", ".")):
        done = started(*words)
        assert (done.returncode, done.stderr) == (0, b"")
    done = started("export", str(run), "--to", "out")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "café".encode("latin-1") not in (home / "out" / "model.py").read_bytes()


LEAVING = """
import sys
import numpy as np

def whole():
    sys.exit(0)

class Items:
    targets = [0, 1] * 20
    def __len__(self):
        return 40
    def __getitem__(self, index):
        if index == 7:
            sys.exit(0)
        return np.full((1, 8, 8), 100 * (index % 2) + index, np.uint8), index % 2

def stream():
    return Items(), Items()

def interrupted():
    raise KeyboardInterrupt

class Policy:
    generational = True
    def __init__(self, *facts):
        pass
    def propose(self, *facts):
        sys.exit(0)
    incumbent = propose
"""


@pytest.mark.parametrize(
    "words", [("--data", "leaving:whole"), ("--data", "leaving:stream"), ("--policy", "leaving:Policy")]
)
def test_code_that_calls_sys_exit_does_not_end_a_search_without_a_word(
    home: Path, words: tuple[str, ...]
) -> None:
    (home / "leaving.py").write_text(LEAVING)
    done = started("search", "digits", *words, *SHORT, "--quiet", "--run", "run")
    assert done.returncode == 2, done.stderr
    assert b"leaving.py:" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_ctrl_c_in_a_command_that_writes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "leaving.py").write_text(LEAVING)
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.delitem(sys.modules, "leaving", raising=False)
    done = CliRunner().invoke(
        app, ["morph", "leaving:interrupted", "widen(node=c, to=8)", "--to", "out"], prog_name="nas"
    )
    assert done.exit_code == 130
    assert done.output == ""


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.4, 0.8])
def test_ctrl_c_in_the_first_moments(home: Path, seconds: float) -> None:
    code = "from nas.cli.entry import main; print('up', flush=True); main()"
    words = [sys.executable, "-c", code, "search", "digits", *SHORT, "--run", "run"]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored where a shell started us with &
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert b"Traceback" not in said
    assert process.returncode in (-signal.SIGINT, 130)
