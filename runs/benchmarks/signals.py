"""Send a search signals at random moments and continue it: is anything lost, is the end the same?

One undisturbed search, then as many of the same seed as it takes. Each gets a few signals, of a random kind, to a
random process, at a random moment (one in five may fall into the driver's imports), is resumed where that ended it, and
is then left to end:

    INT, TERM, HUP, QUIT, KILL   to the driver, its process group (as a terminal does), a worker, the fork server or all
    STOP                         to one of these, with CONT after up to two seconds

Looked for after each: results that the driver had told on its standard output and that the ledger does not hold;
tracebacks; exit codes and messages other than those of the documentation; processes that outlive their driver. At the
end of each search: files outside the run's folder, and its digest. That must be the undisturbed one, unless a worker
alone was ended, as in every third search: its trial then fails with its reason. (`tests/faults/kills.py` has more
kills, and Ray.)

Each driver is a line in out/signals.jsonl: started again, the script goes on from there.

    python runs/benchmarks/signals.py [--signals N] [--quick]
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import _state
from _common import OUT, figure, finish

from nas.ledger import LedgerView, read
from nas.ledger.view import decided

KINDS = ("INT", "TERM", "HUP", "QUIT", "KILL", "STOP")
TARGETS = ("driver", "group", "worker", "fork server", "all")
PER_SEARCH = 20
PAUSE = 1.5  # seconds between two signals, at most
TOLD = re.compile(r"\s\d+/\d+\s\s(\d+\.\d+)\s\s.*?\s\s(?:val |failed: )")
SIZE = ["--children", "2", "--generations", "6", "--final-share", "0.3", "--workers", "2", "--threads", "1"]
LEAVE = 120.0  # seconds in which all that a dead driver had started has to be gone; it may import first


@dataclass
class Place:
    """Where one size of search is tried. Everything that it writes has to lie in `torn`."""

    folder: Path
    epochs: str
    home: Path = field(init=False)
    torn: Path = field(init=False)
    whole: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home, self.torn = self.folder / "home", self.folder / "runs" / "torn"
        self.whole = self.folder / "whole"
        self.home.mkdir(parents=True, exist_ok=True)
        self.torn.parent.mkdir(exist_ok=True)

    def command(self, run: Path) -> list[str]:
        """The search, or its resumption where there is one to resume."""
        if (run / "ledger.db").exists():
            words = ["resume", str(run)]
        else:
            words = ["search", "digits", *SIZE, "--epochs", self.epochs, "--run", str(run)]
        return [sys.executable, "-c", "from nas.cli.entry import main; main()", *words]

    def start(self, run: Path) -> subprocess.Popen[bytes]:
        """Start it with a home, a folder for temporary files and a current folder that have to stay empty."""
        with (self.folder / "out.log").open("wb") as out, (self.folder / "err.log").open("wb") as err:
            return subprocess.Popen(
                self.command(run), stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                cwd=self.home, env={**os.environ, "HOME": str(self.home), "TMPDIR": str(self.home)},
                preexec_fn=default_signals,
            )  # fmt: skip

    def said(self) -> tuple[str, str]:
        """What the last driver has written on standard output and error."""
        return tuple((self.folder / name).read_text(errors="replace") for name in ("out.log", "err.log"))  # type: ignore[return-value]

    def strays(self) -> list[str]:
        """Files outside the run's folder."""
        found = (*self.home.rglob("*"), *self.torn.parent.iterdir())
        # torch makes an empty folder for what it would compile
        return [
            path.name for path in found if path != self.torn and not path.name.startswith("torchinductor_")
        ]


def main() -> None:
    """Send the signals that are missing, print what came of all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--signals", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="five signals to a shorter search")
    arguments = parser.parse_args()
    signals, epochs = (5, "0.5") if arguments.quick else (arguments.signals, "2")
    name = "signals_quick" if arguments.quick else "signals"
    place, state = Place(OUT / name, epochs), OUT / f"{name}.jsonl"
    if arguments.quick:
        state.unlink(missing_ok=True)
    shutil.rmtree(place.torn, ignore_errors=True)  # of a call that was interrupted
    begin = time.perf_counter()
    expected = undisturbed(place)
    while (done := len(sent_of(state))) < signals:
        ends = sum(record["case"] == "end" for record in _state.read(state))
        one_search(place, state, expected, done, min(PER_SEARCH, signals - done), ends % 3 != 2)
    records, sent = _state.read(state), sent_of(state)
    ends = [record for record in records if record["case"] == "end"]
    drivers = [record for record in records if record["case"] == "driver"]
    kinds = [figure(f"of {kind}", sum(r["kind"] == kind for r in sent), "", None) for kind in KINDS]
    alike = [record for record in ends if not record["failed"]]
    odd = sum(not expected_end(r["signals"], r["code"], r["complaint"]) for r in drivers)
    odd += sum(bool(r["code"] or r["complaint"]) for r in alike)
    finish(
        __file__,
        [
            figure("signals to living drivers", len(sent), "", f">= {signals}"),
            *kinds,
            figure("drivers", len(drivers), "", None),
            figure("told results", sum(r["told"] for r in drivers), "", None),
            figure("told results lost", sum(len(r["lost"]) for r in records), "", "<= 0"),
            figure("tracebacks", sum(r["traceback"] for r in records), "", "<= 0"),
            figure("unexpected exit codes or messages", odd, "", "<= 0"),
            figure("processes that outlived their driver", sum(r["outlived"] for r in drivers), "", "<= 0"),
            figure("files outside the run's folder", sum(len(r["strays"]) for r in ends), "", "<= 0"),
            figure("searches that ended", len(ends), "", None),
            figure("of them without an ended worker's trial", len(alike), "", None),
            figure("of these with another digest", sum(not r["same"] for r in alike), "", "<= 0"),
            figure("wall time of this call", time.perf_counter() - begin, "s", None),
        ],
    )


def sent_of(state: Path) -> list[dict[str, str]]:
    """The signals that were sent, of all calls."""
    return [each for record in _state.read(state) for each in record.get("signals", ())]


def undisturbed(place: Place) -> LedgerView:
    """The undisturbed search, made if need be."""
    if not finished(place.whole):
        shutil.rmtree(place.whole, ignore_errors=True)
        if place.start(place.whole).wait():
            raise SystemExit(f"the undisturbed search failed: {place.said()[1]}")
    return read(place.whole)


def default_signals() -> None:
    """In a new process: ignore no signal, though this script may have been started by nohup or with &."""
    for name in KINDS:
        if name not in ("KILL", "STOP"):
            signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_DFL)


def wait_for_work(process: subprocess.Popen[bytes]) -> None:
    """Return when a worker runs, or the driver has ended."""
    while process.poll() is None and not aim(process.pid, "worker"):
        time.sleep(0.01)


def one_search(place: Place, state: Path, expected: LedgerView, first: int, count: int, whole: bool) -> None:
    """Send a search up to `count` signals, until it has ended; let it end, and record each signal and the end.

    whole: end no worker alone, since its trial would fail and the digest be another.
    """
    number, draw = first, random.Random(f"signals {first}")
    while number < first + count and not finished(place.torn):
        known = held(place.torn)
        process = place.start(place.torn)
        crowd, sent = {process.pid}, list[dict[str, object]]()
        if draw.random() < 0.8:  # else the first may fall into the driver's imports
            wait_for_work(process)
        while number < first + count:
            time.sleep(draw.uniform(0, PAUSE))
            crowd |= below(process.pid)
            if process.poll() is not None:
                break
            kind, target = draw.choice(KINDS), draw.choice(TARGETS)
            if whole and target == "worker" and kind not in ("INT", "STOP"):
                target = "driver"
            victims = aim(process.pid, target)
            crowd |= send(kind, victims, draw)
            sent.append({"number": number, "kind": kind, "target": target, "victims": len(victims)})
            number += 1
            with suppress(subprocess.TimeoutExpired):  # a driver that goes on gets another
                process.wait(0.5)
        code = ended(process, crowd)
        left = outlive(crowd - {process.pid}, LEAVE)
        said, complaint = place.said()
        told = set(TOLD.findall(said))
        if not expected_end(sent, code, complaint):
            print(f"  ODD: code {code}\n{complaint[-2000:]}", flush=True)
        record = {
            "case": "driver", "signals": sent, "code": code, "told": len(told), "outlived": len(left),
            "lost": lost(place.torn, known, told), "traceback": "Traceback" in said + complaint,
            "complaint": complaint[-500:],
        }  # fmt: skip
        _state.append(state, record)
        names = ", ".join(f"{each['kind']} to {each['target']}" for each in sent)
        print(f"{number}: {names or 'none'}: code {code}, {len(told)} told", flush=True)
    known = held(place.torn)
    code = place.start(place.torn).wait()
    said, complaint = place.said()
    view = read(place.torn)
    failed = [record.key for record in view.trials if record.state == "failed"]
    record = {
        "case": "end", "code": code, "failed": failed, "same": view.digest == expected.digest,
        "lost": lost(place.torn, known, set()), "traceback": "Traceback" in said + complaint,
        "complaint": complaint[-500:], "strays": place.strays(),
    }  # fmt: skip
    _state.append(state, record)
    print(f"ended with code {code}, failed {failed}, the same: {record['same']}", flush=True)
    for path in (place.home, place.torn.parent):
        shutil.rmtree(path)
        path.mkdir()


def finished(run: Path) -> bool:
    """Whether the search has come to its end."""
    return (run / "ledger.db").exists() and read(run).final is not None


def expected_end(sent: list[dict[str, object]], code: int, complaint: str) -> bool:
    """Whether a driver's exit code and standard error are what the documentation says after these signals."""
    again = "nas: already stopping, please wait"
    lines = len([line for line in complaint.splitlines() if line and line != again])
    if code == 0:
        return lines == 0
    kinds = {each["kind"] for each in sent if each["target"] in ("driver", "group", "all")}
    stopping = bool({"INT", "TERM"} & kinds)
    hurt = any(each["target"] in ("worker", "fork server", "all") for each in sent)
    if code == 130:
        return stopping and lines == 1
    if code < 0:  # it may have said before that it stops
        return signal.Signals(-code).name.removeprefix("SIG") in kinds and lines <= (stopping or hurt)
    return hurt and lines == 1


def aim(driver: int, target: str) -> list[int]:
    """The processes that get a signal; of a target that is not there, none. Negative: a process group."""
    servers = children(driver)
    workers = [pid for server in servers for pid in children(server)]
    found = {
        "driver": [driver], "group": [-driver], "fork server": servers, "worker": workers[:1],
        "all": [driver, *servers, *workers],
    }  # fmt: skip
    return found[target]


def send(kind: str, victims: list[int], draw: random.Random) -> set[int]:
    """Send the signal; STOP is followed by CONT. Return the processes that were started meanwhile."""
    new = set[int]()
    for name in (kind, "CONT") if kind == "STOP" else (kind,):
        if name == "CONT":
            time.sleep(draw.uniform(0, 2))
            new = {pid for victim in victims for pid in below(abs(victim))}
        for pid in victims:
            with suppress(ProcessLookupError):
                number = getattr(signal, f"SIG{name}")
                os.killpg(-pid, number) if pid < 0 else os.kill(pid, number)
    return new


def ended(process: subprocess.Popen[bytes], crowd: set[int]) -> int:
    """Wait for a driver; add those that it starts meanwhile to the crowd. Return its exit code."""
    limit = time.monotonic() + 120
    while process.poll() is None:
        crowd |= below(process.pid)
        if time.monotonic() > limit:
            print("  HANGS: killed after two minutes", flush=True)
            process.kill()
            return process.wait() - 1000
        time.sleep(0.05)
    return process.returncode


def held(run: Path) -> dict[str, object]:
    """What the ledger holds as ended."""
    if not (run / "ledger.db").exists():
        return {}
    return {record.key: decided(record) for record in read(run).trials if record.state != "running"}


def lost(run: Path, known: dict[str, object], told: set[str]) -> list[str]:
    """The results that were held or told before and are not there, or otherwise."""
    now = held(run)
    return sorted({key for key in known if now.get(key) != known[key]} | (told - now.keys()))


def children(pid: int) -> list[int]:
    """The processes that a process's main thread has started."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def below(pid: int) -> set[int]:
    """All descendants of a process."""
    return {each for child in children(pid) for each in (child, *below(child))}


def outlive(pids: set[int], seconds: float) -> set[int]:
    """Which of these processes are there after so many seconds; they are killed."""
    limit = time.monotonic() + seconds
    while (left := {pid for pid in pids if alive(pid)}) and time.monotonic() < limit:
        time.sleep(0.1)
    for pid in left:
        print(f"  OUTLIVED: {pid}", flush=True)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


def alive(pid: int) -> bool:
    """Whether a process runs; one that was not waited for does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


if __name__ == "__main__":
    main()
