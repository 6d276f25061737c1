"""Damage every file of a run, and put hostile ones in their place: is it noticed, is no code run, is memory bounded?

checkpoint   each byte of a checkpoint's files with one bit changed, and each file cut after every byte: refused
untold       the same for a trial whose result was written but not told: it is run again from its parent (one
             in 25 bytes)
ledger       bits of the database flipped (all of its header and of the headers of its pages, and one in 151
             bytes) and cuts at every 512th byte; journals of random bytes beside it: refused, or nothing changed
config       each byte of config.json flipped, and cut: refused, or nothing that counts changed
hostile      pickles, deep, huge and odd JSON, cyclic and enormous graphs, lying safetensors, with all hashes corrected
             so that they reach the innermost reader: refused within 512 MiB and 20 s, and no code run
command      a real search, interrupted: each kind of damage through `nas status|report|export|resume`: exit code 2
             and one line on standard error
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from faults.cases import Case
from faults.hostile import cuts, documents, flipped, flips, graphs, pickle_bomb, tensors
from faults.small_run import CONFIG, RUN, drive, opened, quiet

import morphs
from morphs.errors import MorphError
from nas.base.errors import LedgerDamaged, RunError
from nas.ledger import LedgerView, Store, read, read_config
from nas.ledger.files import canonical_json, sha256, sha256_file
from nas.ledger.records import seal

TRIALS = 3  # all complete
MEMORY, SECONDS = 512 * 2**20, 20


@dataclass
class Bench:
    """A finished small run, never changed, and copies of it to damage."""

    folder: Path
    expected: LedgerView

    @classmethod
    def make(cls, folder: Path) -> Bench:
        """The small run, in `folder`."""
        quiet()
        (folder / "whole").mkdir()
        return cls(folder, drive(folder / "whole", TRIALS))

    @property
    def canary(self) -> Path:
        """A file that only code from a hostile file would make."""
        return self.folder / "canary"

    def copy(self) -> Path:
        """A fresh copy of the run, in place of the last."""
        root = self.folder / "copy"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.folder / "whole", root)
        return root

    def store(self) -> tuple[Store, str]:
        """The store of a copy and the digest of a checkpoint in it."""
        store = Store(self.copy() / RUN / "checkpoints")
        return store, store.digests()[0]


def noticed(
    read_it: Callable[[], object], kinds: type[Exception] | tuple[type[Exception], ...]
) -> str | None:
    """What is wrong where `read_it` should be refused with one line."""
    try:
        read_it()
    except kinds as error:
        return f"more than a line: {error}" if "\n" in str(error) else None
    except Exception as error:
        return f"{type(error).__name__} {error}"
    return "not noticed"


def checkpoint_cases(bench: Bench) -> Iterator[Case]:
    """A told checkpoint."""
    store, digest = bench.store()
    for path in sorted(store.path(digest).iterdir()):
        whole = path.read_bytes()
        for content in (*flips(whole), *cuts(whole)):
            yield partial(_checkpoint, store, digest, path, content, whole)


def _checkpoint(store: Store, digest: str, path: Path, content: bytes, whole: bytes) -> str | None:
    path.write_bytes(content)
    try:
        return noticed(lambda: store.get(digest), LedgerDamaged)
    finally:
        path.write_bytes(whole)


def untold_cases(bench: Bench) -> Iterator[Case]:
    """The checkpoint of a result that a driver had written when it died."""
    root = bench.copy()
    last = bench.expected.trials[-1]
    assert last.result is not None
    _edit(root / RUN, f"UPDATE trials SET state = 'RUNNING' WHERE number = {last.number}")
    _edit(root / RUN, f"DELETE FROM trial_values WHERE trial_id = {last.number + 1}")
    template = bench.folder / "untold"
    shutil.copytree(root, template)
    for path in sorted((template / RUN / "checkpoints" / last.result.weights).iterdir()):
        whole = path.read_bytes()
        for content in (*flips(whole, 25), *cuts(whole, 25)):
            yield partial(_untold, bench, template, path.relative_to(template), content)


def _untold(bench: Bench, template: Path, path: Path, content: bytes) -> str | None:
    root = bench.copy()
    shutil.rmtree(root)
    shutil.copytree(template, root)
    (root / path).write_bytes(content)
    with opened(root / RUN) as ledger:
        if len(ledger.interrupted()) != 1:
            return "it was told without its checkpoint"
    view = drive(root, TRIALS)
    Store(root / RUN / "checkpoints").get(path.parts[2])
    return None if view.digest == bench.expected.digest else "another digest"


def ledger_cases(bench: Bench) -> Iterator[Case]:
    """The database."""
    run = bench.copy() / RUN
    path = run / "ledger.db"
    whole = path.read_bytes()
    heads = [page + byte for page in range(0, len(whole), 4096) for byte in range(12)]
    places = sorted({*range(100), *heads, *range(0, len(whole), 151)})
    contents = (*(flipped(whole, place) for place in places), *cuts(whole, 512))
    for content in contents:
        yield partial(_ledger, bench, run, {"ledger.db": content})
    draw = Random(0)
    magic = bytes.fromhex("d9d505f920a163d7")
    for count in (0, 1, 2**16, 2**31, 2**32 - 1):
        head = magic + b"".join(number.to_bytes(4, "big") for number in (count, 0, 28, 512, 4096))
        for size in (0, 4104, 8208):
            journal = head.ljust(512, b"\0") + draw.randbytes(size)
            yield partial(_ledger, bench, run, {"ledger.db": whole, "ledger.db-journal": journal})
    for size in (1, 511, 512, 5000, 100_000):
        yield partial(_ledger, bench, run, {"ledger.db": whole, "ledger.db-journal": draw.randbytes(size)})
    yield partial(_ledger, bench, run, {"ledger.db": whole, "ledger.db-wal": draw.randbytes(5000)})


def _ledger(bench: Bench, run: Path, files: dict[str, bytes]) -> str | None:
    for name, content in files.items():
        (run / name).write_bytes(content)
    try:
        return None if read(run).digest == bench.expected.digest else "another record, not noticed"
    except RunError as error:
        return None if "\n" not in str(error) else f"more than a line: {error}"
    except Exception as error:
        return f"{type(error).__name__} {error}"
    finally:
        for name in files:
            (run / name).unlink(missing_ok=True)


def config_cases(bench: Bench) -> Iterator[Case]:
    """The configuration."""
    run = bench.copy() / RUN
    whole = (run / "config.json").read_bytes()
    for content in (*flips(whole), *cuts(whole)):
        yield partial(_config, run, content)


def _config(run: Path, content: bytes) -> str | None:
    (run / "config.json").write_bytes(content)
    known = sha256(canonical_json(CONFIG))
    try:  # the digest is in the ledger, which refuses any other
        changed = dict(read_config(run).config) != CONFIG
        return "the digest doesn't tell" if changed and read_config(run).digest == known else None
    except RunError as error:
        return None if "\n" not in str(error) else f"more than a line: {error}"
    except Exception as error:
        return f"{type(error).__name__} {error}"


def hostile_cases(bench: Bench) -> Iterator[Case]:
    """Documents made to hurt, each where its reader finds it."""
    store, digest = bench.store()
    graph = (store.path(digest) / "graph.json").read_text()
    bombs = documents(bench.canary)
    for name, content in bombs.items():
        yield partial(_bounded, f"config.json: {name}", partial(_config_refused, bench, content))
        yield partial(_bounded, f"manifest.json: {name}", partial(_manifest_refused, bench, content))
    for name, content in (bombs | graphs(graph)).items():
        yield partial(_bounded, f"graph.json: {name}", partial(_member_refused, bench, "graph.json", content))
        text = content.decode("latin-1")
        yield partial(_bounded, f"graph of a job: {name}", partial(_job_serves, bench, {"graph": text}))
    for name, content in (bombs | tensors()).items():
        member = "weights.safetensors"
        yield partial(_bounded, f"{member}: {name}", partial(_member_refused, bench, member, content))
    for text in (
        "(" * 100_000,
        "widen(" * 50_000,
        "widen(node=" + "a" * 10**6,
        ";" * 10**5,
        "__import__('os')",
    ):
        yield partial(_bounded, f"moves: {text[:20]}", partial(_job_serves, bench, {"moves": text}))
    yield partial(_bounded, "files beside", partial(_files_beside, bench))


def _config_refused(bench: Bench, content: bytes) -> str | None:
    run = bench.copy() / RUN
    (run / "config.json").write_bytes(content)
    return noticed(lambda: opened(run).close(), RunError)


def _manifest_refused(bench: Bench, content: bytes) -> str | None:
    store, digest = bench.store()
    (store.path(digest) / "manifest.json").write_bytes(content)
    return noticed(lambda: store.get(digest), LedgerDamaged)


def _member_refused(bench: Bench, name: str, content: bytes) -> str | None:
    """A checkpoint's file, with the manifest corrected; and the same for `morphs.load`, which knows no manifest."""
    store, digest = bench.store()
    path = store.path(digest) / name
    path.write_bytes(content)
    manifest = path.with_name("manifest.json")
    document = json.loads(manifest.read_text())
    document["files"][name] = {"bytes": len(content), "sha256": sha256_file(path)}
    manifest.write_text(canonical_json(document))
    fault = noticed(lambda: store.get(digest), LedgerDamaged)
    if fault is None and not content.count(b'"flatten"') > 1000:  # a tower is absurd but legal
        fault = noticed(lambda: morphs.load(path.parent), MorphError)
    return fault


def _job_serves(bench: Bench, changes: dict[str, object]) -> str | None:
    """A job with the seal corrected: the record is read and reported, or refused."""
    from nas.report import write_report

    run = bench.copy() / RUN
    job = {**bench.expected.trials[-1].job.to_dict(), **changes}
    try:
        stored = json.dumps(seal("job", "", job))
    except ValueError:
        return None  # too long to be written, and so to be read
    _edit(
        run,
        "UPDATE trial_user_attributes SET value_json = ? WHERE key = 'job' AND trial_id = ?",
        stored,
        TRIALS,
    )
    try:
        read(run)
        write_report(run)
    except RunError as error:
        return None if "\n" not in str(error) else f"more than a line: {error}"
    return None


def _files_beside(bench: Bench) -> str | None:
    """Files that a careless program would load or import."""
    root = bench.copy()
    names = (
        "weights.pt",
        "checkpoint.pkl",
        "study.pkl",
        "torch.py",
        "sitecustomize.py",
        "conftest.py",
        "sampler.pkl",
    )
    for name in names:
        for folder in (root / RUN, root / RUN / "checkpoints"):
            (folder / name).write_bytes(pickle_bomb(bench.canary))
    return None if drive(root, TRIALS).digest == bench.expected.digest else "another digest"


def _bounded(name: str, case: Case) -> str | None:
    """`case` in a fork that may take so much more memory and time; no code of a file's may have run."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        signal.alarm(SECONDS * 10)  # wall; the processor's time is what counts
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS, resource.RLIM_INFINITY))
        try:
            os.write(writer, (case() or "fine").encode()[:4000])
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4000:])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    if status:
        return f"{name}: killed, {os.waitstatus_to_exitcode(status)}"
    return None if said == "fine" else f"{name}: {said}"


def _edit(run: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(run / "ledger.db")
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def command_cases(bench: Bench) -> Iterator[Case]:
    """Damage seen through the command."""
    import faults.damaged_commands as commands

    template = commands.interrupted_search(bench.folder / "search")
    yield from commands.cases(template, bench.folder, documents(bench.canary))


PARTS: Mapping[str, Callable[[Bench], Iterator[Case]]] = {
    "checkpoint": checkpoint_cases,
    "untold": untold_cases,
    "ledger": ledger_cases,
    "config": config_cases,
    "hostile": hostile_cases,
    "command": command_cases,
}
