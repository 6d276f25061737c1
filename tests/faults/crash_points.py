"""Crash a run at every point where it touches the disk: does it open, resume, and hold every told result?

One small run (real ledger, store and SQLite; nothing is trained) is traced with ptrace: made and left in the middle
by a first process, ended by a second. Its states between system calls are what kill −9 can leave. From them are made

    kill      each different state
    torn      each write to a file of ours, cut after every byte
    journal   SQLite's rollback journal cut after every byte while the database is untouched (four transactions, a
              trial's; of the others, and of each single write, every 509th byte): SQLite must restore the database
              byte for byte
    page      each write to the database, cut after every 61st byte, its journal whole: the same
    lost      the journal cut although the database was written to, as no sound disk would: refused or nothing lost
    power     at each state: without what wasn't made durable; with its names only; and random mixtures of blocks
    real      real kills at random system calls

After each the run is read, opened, resumed to its end, and must have the undisturbed digest; of `torn` one in 40
is, and the readers of the files are asked about the others; `journal` and `page` are compared byte by byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from faults.cases import Case
from faults.crash_states import (
    DATABASE,
    JOURNAL,
    State,
    digest,
    kills,
    power_cuts,
    state_of,
    torn,
    transactions,
    writes,
)
from faults.small_run import (
    CLAIMS,
    CONFIG,
    REPORT,
    RUN,
    checkpoints_lost,
    claims,
    drive,
    lost,
    network,
    quiet,
)
from faults.traced import Stop, kill_at, stops

from nas.base.errors import LedgerDamaged
from nas.ledger import LedgerView, Store, read, read_config, sqlite
from nas.ledger.driver_lock import Lock
from nas.run.lifecycle import check_new

TRIALS, STOP_AFTER = 5, 2
_EXACT = slice(5, 9)  # the transactions of which every byte is taken: of a trial asked, told and noted


@dataclass
class Bench:
    """The traced run, and a place to lay states out."""

    folder: Path
    expected: LedgerView
    traces: tuple[list[Stop], list[Stop]]
    trials: int
    _number: int = 0

    @classmethod
    def make(cls, folder: Path, trials: int = TRIALS, stop_after: int = STOP_AFTER) -> Bench:
        """Trace a run of `trials` trials once, in `folder`; its first process leaves after `stop_after`."""
        quiet()
        expected = drive(fresh(folder / "whole"), trials)
        root = fresh(folder / "traced")
        first = list(stops(partial(drive, root, trials, stop_after), root))
        second = list(stops(partial(drive, root, trials), root))
        if read(root / RUN).digest != expected.digest:
            raise SystemExit("the traced run came to another digest")
        return cls(folder, expected, (first, second), trials)

    @property
    def states(self) -> list[State]:
        """Every state that a kill leaves, in order."""
        return [state for trace in self.traces for state in kills(trace)]

    def laid_out(self, state: State) -> Path:
        """A fresh folder that holds `state`."""
        shutil.rmtree(self.folder / f"case-{self._number}", ignore_errors=True)
        self._number += 1
        root = self.folder / f"case-{self._number}"
        for path in sorted(state):
            content = state[path]
            if content is None:
                (root / path).mkdir()
            else:
                (root / path).write_bytes(content)
        return root

    def resumes(self, state: State) -> str | None:
        """What is wrong with a run resumed from `state`; None where nothing is."""
        return self.ends_well(self.laid_out(state))

    def ends_well(self, root: Path) -> str | None:
        """What is wrong with the run in `root`, resumed to its end."""
        claimed = claims(root)
        try:
            if missing := self.missing(root, claimed):
                return missing
            found = drive(root, self.trials, claim=lambda _: None).digest
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        left = [path.name for path in (root / RUN / "checkpoints").glob(".tmp-*")]
        return "another digest" if found != self.expected.digest else f"left over: {left}" if left else None

    def missing(self, root: Path, claimed: set[str]) -> str | None:
        """Which claims don't hold in the run as it lies there."""
        run, keys = root / RUN, claimed - {"opened"}
        if not (run / "ledger.db").exists():
            check_new(run)
            return "the run is gone" if claimed else None
        view = read(run)
        gone = lost(view, keys, self.expected) + checkpoints_lost(run, view, keys)
        return f"lost: {gone}" if gone else None

    def files_serve(self, state: State) -> str | None:
        """What is wrong with the files of a run whose database is as it was in a state that resumed."""
        root = self.laid_out(state)
        run = root / RUN
        try:
            Lock(run / "lock").close()
            if DATABASE in state and dict(read_config(run).config) != CONFIG:
                return "another configuration"
            if DATABASE not in state:
                check_new(run)
            store = Store(run / "checkpoints")
            store.sweep()
            for record in self.expected.complete:
                if store.put(network(record.job.seed)) != record.result.weights:  # pyright: ignore
                    return "another checkpoint"
                store.get(record.result.weights)  # pyright: ignore
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        report = state.get(f"{RUN}/{REPORT}")
        return "a torn report" if report is not None and not report.endswith(b"</p>") else None

    def rolls_back(self, database: bytes, journal: bytes, to: bytes) -> str | None:
        """Whether SQLite makes `to` of a database and a journal."""
        path = self.folder / "ledger.db"
        path.write_bytes(database)
        (self.folder / "ledger.db-journal").write_bytes(journal)
        try:
            connection = sqlite.connect(path, sqlite.WRITE)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.close()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None if path.read_bytes() == to else "another database"


def fresh(folder: Path) -> Path:
    """An empty folder."""
    folder.mkdir(parents=True)
    return folder


def kill_cases(bench: Bench) -> Iterator[Case]:
    """Each state that a kill leaves."""
    for state in bench.states:
        yield partial(bench.resumes, state)


def torn_cases(bench: Bench) -> Iterator[Case]:
    """Each write to a file of ours, cut after every byte."""
    number = 0
    for before, path, old, new in writes(bench.states):
        if path in (DATABASE, JOURNAL, CLAIMS) or "ledger.db" in path:
            continue
        for content in torn(old, new):
            number += 1
            yield partial(bench.files_serve if number % 40 else bench.resumes, {**before, path: content})


def journal_cases(bench: Bench) -> Iterator[Case]:
    """The journal cut while the database is untouched."""
    all_of_them = list(transactions(bench.states))
    exact = all_of_them[_EXACT]
    for transaction in all_of_them:
        step = 1 if any(transaction is one for one in exact) else 509
        untouched = [state for state in transaction.during if state[DATABASE] == transaction.before]
        for _, path, old, new in writes(untouched):
            for content in torn(old, new, 509) if path == JOURNAL else ():
                yield partial(bench.rolls_back, transaction.before, content, transaction.before)
        for size in range(0, len(transaction.journal), step):
            yield partial(
                bench.rolls_back, transaction.before, transaction.journal[:size], transaction.before
            )


def page_cases(bench: Bench) -> Iterator[Case]:
    """The database cut in the middle of a write."""
    for transaction in transactions(bench.states):
        for before, path, old, new in writes(transaction.during):
            for content in torn(old, new, 61) if path == DATABASE else ():
                journal = before[JOURNAL]
                assert isinstance(journal, bytes)
                yield partial(bench.rolls_back, content, journal, transaction.before)


def lost_cases(bench: Bench) -> Iterator[Case]:
    """A journal cut although the database was written to."""
    draw = Random(1)
    for transaction in transactions(bench.states):
        touched = [state for state in transaction.during if state[DATABASE] != transaction.before]
        for state in touched:
            for size in (0, draw.randrange(512), draw.randrange(len(transaction.journal))):
                yield partial(_refused_or_whole, bench, {**state, JOURNAL: transaction.journal[:size]})


def _refused_or_whole(bench: Bench, state: State) -> str | None:
    root = bench.laid_out(state)
    try:
        return bench.missing(root, claims(root))
    except LedgerDamaged:
        return None


def power_cases(bench: Bench, mixtures: int = 2) -> Iterator[Case]:
    """What a power cut can leave, each different state once."""
    seen: set[int] = set()
    for trace in bench.traces:
        for state in power_cuts(trace, CLAIMS, mixtures):
            name = digest(state)
            if name not in seen:
                seen.add(name)
                yield partial(bench.resumes, state)


def real_cases(bench: Bench) -> Iterator[Case]:
    """Real kills at random system calls of the second process."""
    draw, calls = Random(2), bench.traces[1][-1].call
    begin = state_of(bench.traces[0][-1].files)
    for number in range(150):
        yield partial(_killed, bench, begin, draw.randrange(calls), number)


def _killed(bench: Bench, begin: State, call: int, number: int) -> str | None:
    root = bench.laid_out(begin)
    if kill_at(partial(drive, root, bench.trials), call) != -9:
        return f"number {number} was not killed"
    return bench.ends_well(root)


PARTS: Mapping[str, Callable[[Bench], Iterator[Case]]] = {
    "kill": kill_cases,
    "torn": torn_cases,
    "journal": journal_cases,
    "page": page_cases,
    "lost": lost_cases,
    "power": power_cases,
    "real": real_cases,
}
