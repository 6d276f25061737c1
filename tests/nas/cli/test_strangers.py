"""A stranger's run whose every string, and its folder's name, holds control characters, seen by each command."""

import json
import os
import pty
import select
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nas
import nas.cli
from nas.base.errors import RunError
from nas.cli.commands import app
from nas.run.events import Silent
from nas.run.lifecycle import resume

Copy = Callable[[Path], Path]
EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b8m\u202e\rnas: all is well"


def harmless(text: str) -> bool:
    return all(sign.isprintable() or sign in "\n\t" for sign in text)


@pytest.fixture
def hostile(finished: object, tmp_path: Path) -> Path:
    import shutil

    run = Path(shutil.copytree(finished.run, tmp_path / f"a {EVIL} $(touch pwned)"))  # type: ignore[attr-defined]
    document = json.loads((run / "config.json").read_text())
    described = document["config"]
    described["command"] = f"nas search {EVIL}"
    described["config"]["space"] = EVIL
    described["config"]["policy"] = f"{EVIL}:x"
    described["data"] |= {"name": EVIL, "classes": [f"{EVIL}{n}" for n in range(10)]}
    described["machine"]["processor"] = EVIL
    document["versions"]["torch"] = EVIL
    (run / "config.json").write_text(json.dumps(document))
    return run


@pytest.mark.parametrize(
    "command",
    [
        "status {}",
        "status {} --json",
        "report {}",
        "fsck {}",
        "export {} --to out",
        "resume {}",
        "replay {}",
        "runs .",
    ],
)
def test_no_control_character_reaches_the_terminal(
    hostile: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile.parent)
    words = [hostile.name if word == "{}" else word for word in command.split()]
    done = CliRunner().invoke(app, words, prog_name="nas")
    assert isinstance(done.exception, SystemExit | None)
    assert harmless(done.stdout)
    assert harmless(done.stderr)
    assert done.stdout + done.stderr
    assert not Path("pwned").exists()
    for file in (*hostile.glob("report.html"), *Path().glob("out/*.md"), *Path().glob("out/*.py")):
        text = file.read_text()
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text.partition("plotly.js v")[0])


def test_the_next_command_is_quoted(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile.parent)
    done = CliRunner().invoke(app, ["status", hostile.name, "--json"], prog_name="nas")
    assert shlex.split(json.loads(done.stdout)["next"]) == ["nas", "export", hostile.name, "--to", "DIR"]


@pytest.mark.parametrize("setting", ["address", "storage"])
def test_a_place_on_a_network_is_named_by_the_command_alone(
    interrupted: Path, copy_of: Copy, setting: str
) -> None:
    run = copy_of(interrupted)
    document = json.loads((run / "config.json").read_text())
    document["config"]["config"] |= {"executor": "ray", setting: "203.0.113.1:6379"}
    (run / "config.json").write_text(json.dumps(document))
    with pytest.raises(
        RunError, match=rf"203\.0\.113\.1:6379 as its {setting}.*--{setting} 203\.0\.113\.1:6379"
    ):
        resume(run, Silent())
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


def test_on_a_terminal_too(hostile: Path) -> None:
    """With colours: only rich's own codes for them and for lines, none of the run's."""
    reader, writer = pty.openpty()
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(nas.__file__ or "").parents[1]),
        "TERM": "xterm-256color",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "nas", "status", str(hostile)],
        stdout=writer, stderr=writer, stdin=subprocess.DEVNULL, env=environment,
    ) as process:  # fmt: skip
        os.close(writer)
        shown = b""
        while select.select([reader], [], [], 100)[0]:
            try:
                shown += os.read(reader, 4096)
            except OSError:  # closed
                break
        assert process.wait() == 0
    os.close(reader)
    assert b"finished" in shown
    assert not [
        code for code in (b"\x1b]", b"\x1b[2J", "\x9b".encode(), "\u202e".encode(), b"\x07") if code in shown
    ]
