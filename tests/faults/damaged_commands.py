"""Damage seen through the `nas` command, each call in a fork of this process."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from nas.execute.fork_server import ForkServer
from nas.execute.make_executor import make_executor
from nas.ledger import TrialRecord, read
from nas.registry.configure import check_config
from nas.run.events import Silent
from nas.run.lifecycle import search

TINY = {
    "space": "digits", "data": "digits", "seed": 3, "generations": 1, "children": 1, "moves_per_child": 1,
    "epochs": 0.1, "workers": 1, "threads": 1, "train": {"lr": 0.05, "batch_size": 64},
}  # fmt: skip
Case = Callable[[], str | None]


class _StopAfterOne(Silent):
    """Presses Ctrl-C when the first trial was told."""

    def on_trial_end(self, record: TrialRecord) -> None:
        raise KeyboardInterrupt


def interrupted_search(run: Path) -> Path:
    """A real search on digits, left after its seed network."""
    executor = partial(make_executor, processes=ForkServer.fork_off())
    search(check_config(TINY), run, _StopAfterOne(), "nas search digits", executor)
    return run


def cases(template: Path, folder: Path, bombs: dict[str, bytes]) -> Iterator[Case]:
    """Each kind of damage to each file, through each command that reads it."""
    (seed,) = read(template).complete
    assert seed.result is not None
    checkpoint = f"checkpoints/{seed.result.weights}"
    for name in ("config.json", "ledger.db", *(f"{checkpoint}/{entry}" for entry in _MEMBERS)):
        whole = (template / name).read_bytes()
        middle = len(whole) // 2
        damaged = {
            "half": whole[:middle],
            "none": None,
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            **{kind: bombs[kind] for kind in ("empty", "pickle", "deep list", "long number")},
        }
        for kind, content in damaged.items():
            if (name, kind) == ("ledger.db", "flipped"):
                content = whole[:28] + b"\xff" + whole[29:]  # a flip elsewhere may hit a free byte
            for words in (
                ("resume", "RUN", "--quiet"),
                ("export", "RUN", "--to", "TO"),
                ("status", "RUN"),
                ("report", "RUN"),
            ):
                if name.startswith("checkpoints/") and words[0] in ("status", "report"):
                    continue  # they read no checkpoint
                if (name, kind) == ("config.json", "flipped") and words[0] != "resume":
                    continue  # another value in it is an edit, which may be looked at, but not gone on with
                yield partial(_refused, template, folder / "command", name, kind, content, words)


_MEMBERS = ("manifest.json", "graph.json", "weights.safetensors")
_READERS = (("resume", "RUN", "--quiet"), ("export", "RUN", "--to", "TO"))  # of checkpoints
_COMMANDS = (*_READERS, ("status", "RUN"), ("report", "RUN"))


def _refused(
    template: Path, folder: Path, name: str, kind: str, content: bytes | None, words: tuple[str, ...]
) -> str | None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder / "run")
    if content is None:
        (folder / "run" / name).unlink()
    else:
        (folder / "run" / name).write_bytes(content)
    places = {"RUN": str(folder / "run"), "TO": str(folder / "to")}
    code, said = command(folder, [places.get(word, word) for word in words])
    lines = said.splitlines()
    if code == 2 and len(lines) == 1 and lines[0].startswith("nas: "):
        return None
    return f"{words[0]} with {name} {kind}: exit code {code}: {said[-600:]}"


def command(folder: Path, words: list[str]) -> tuple[int, str]:
    """`nas` with these words, in a fork: its exit code, and what it wrote on standard error."""
    said = folder / "said"
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        code = 99
        try:
            out = os.open(said, os.O_WRONLY | os.O_CREAT)
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            os.dup2(out, 2)
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
            sys.argv = ["nas", *words]
            from nas.cli.commands import main

            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), said.read_text()
