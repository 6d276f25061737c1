"""Random surroundings of a process: what is around a command that should not matter to it."""

from __future__ import annotations

import os
import random
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

GONE = None  # a variable that is not set
ENVIRONMENTS: Mapping[str, tuple[dict[str, str | None], ...]] = {
    "locale": (
        {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}, {"LANG": "tr_TR.UTF-8", "LC_ALL": GONE},
        {"LC_ALL": "de_DE.ISO-8859-1"}, {"LC_ALL": "not-a-locale"}, {"LC_NUMERIC": "de_DE.UTF-8"},
        {"LANG": GONE, "LC_ALL": GONE, "LC_CTYPE": GONE}, {"LC_ALL": "C", "PYTHONUTF8": "0"},
    ),
    "time zone": (
        {"TZ": "Asia/Kathmandu"}, {"TZ": "UTC+23:59"}, {"TZ": "::/etc/passwd"}, {"TZ": ""},
        {"TZ": "America/St_Johns", "SOURCE_DATE_EPOCH": "0"},
    ),
    "threads": (
        {"OMP_NUM_THREADS": "3"}, {"OMP_NUM_THREADS": "many"}, {"OMP_NUM_THREADS": "0"}, {"OMP_NUM_THREADS": GONE},
        {"MKL_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "7"}, {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"},
        {"OMP_WAIT_POLICY": "active", "KMP_BLOCKTIME": "infinite"}, {"OMP_SCHEDULE": "dynamic,1"},
        {"OMP_NESTED": "true", "OMP_MAX_ACTIVE_LEVELS": "9"}, {"GOMP_CPU_AFFINITY": "0"}, {"OMP_STACKSIZE": "64k"},
        {"OMP_DISPLAY_ENV": "true"}, {"TORCH_NUM_THREADS": "5", "NUMEXPR_NUM_THREADS": "x"},
    ),
    "python": (
        {"PYTHONHASHSEED": "0"}, {"PYTHONHASHSEED": "4294967295"}, {"PYTHONOPTIMIZE": "1"}, {"PYTHONOPTIMIZE": "2"},
        {"PYTHONMALLOC": "debug"}, {"PYTHONMALLOC": "malloc"}, {"PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1"},
        {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "utf-16"}, {"PYTHONIOENCODING": "cp037:strict"},
        {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "/nowhere"}, {"PYTHONFAULTHANDLER": "1"},
        {"PYTHONTRACEMALLOC": "1"}, {"PYTHONINTMAXSTRDIGITS": "640"}, {"PYTHONSTARTUP": "/nowhere.py"},
        {"PYTHONASYNCIODEBUG": "1", "PYTHONSAFEPATH": "1"}, {"PYTHONWARNINGS": "ignore", "PYTHONUTF8": "1"},
        {"PYTHONBREAKPOINT": "os:abort"},
    ),
    "terminal": (
        {"TERM": GONE}, {"TERM": "dumb"}, {"TERM": "no such terminal"}, {"COLUMNS": "1", "LINES": "1"},
        {"COLUMNS": "0"}, {"COLUMNS": "wide"}, {"COLUMNS": "99999"}, {"NO_COLOR": "1"},
        {"FORCE_COLOR": "1", "TERM": "xterm-256color"}, {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1"},
    ),
    "home": (
        {"HOME": GONE, "USER": GONE, "LOGNAME": GONE}, {"HOME": "/proc"}, {"HOME": ""}, {"HOME": "relative"},
        {"XDG_CACHE_HOME": "/dev/null", "XDG_CONFIG_HOME": "/dev/null"}, {"HOME": "/nowhere", "SHELL": GONE},
    ),
    "temporary": (
        {"TMPDIR": "/nowhere"}, {"TMPDIR": "/proc"}, {"TMPDIR": "/dev/null"}, {"TMPDIR": ""},
        {"TORCHINDUCTOR_CACHE_DIR": "/dev/null/x", "TRITON_CACHE_DIR": "/dev/null/x"},
    ),
    "memory": (
        {"MALLOC_PERTURB_": "165"}, {"MALLOC_ARENA_MAX": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"},
        {"MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_TOP_PAD_": "0"}, {"THP_MEM_ALLOC_ENABLE": "0"},
        {"GLIBC_TUNABLES": "nonsense"},
    ),
    "other": (
        {"PATH": ""}, {"PATH": GONE}, {"LD_BIND_NOW": "1"}, {"CUDA_VISIBLE_DEVICES": ""}, {"LONG": "x" * 100_000},
        {"NOT_UTF8": os.fsdecode(b"\xff\xfe"), "WITH_NEWLINE": "a\nb"}, {"COLORTERM": "\x1b[31m"},
        {"CUDA_VISIBLE_DEVICES": "99", "CUDA_LAUNCH_BLOCKING": "1"}, {"CI": "true", "DEBUG": "1", "VERBOSE": "1"},
        {"RAY_ADDRESS": "10.255.255.1:1", "MASTER_ADDR": "nowhere", "WORLD_SIZE": "8", "RANK": "3"},
        {"OPTUNA_STORAGE": "sqlite:////nowhere", "PGHOST": "nowhere"}, {"SQLITE_TMPDIR": "/nowhere"},
        {"http_proxy": "http://10.255.255.1:1", "SSL_CERT_FILE": "/nowhere"}, {"TQDM_DISABLE": "x", "PAGER": "false"},
    ),
}  # fmt: skip
MEGA = 2**20
LIMITS: tuple[tuple[str, int], ...] = (
    ("RLIMIT_NOFILE", 64), ("RLIMIT_NOFILE", 128), ("RLIMIT_STACK", MEGA), ("RLIMIT_STACK", 64 * MEGA),
    ("RLIMIT_CORE", 0), ("RLIMIT_FSIZE", 16 * MEGA), ("RLIMIT_MEMLOCK", 0), ("RLIMIT_MSGQUEUE", 0),
    ("RLIMIT_SIGPENDING", 1), ("RLIMIT_AS", 20_000 * MEGA), ("RLIMIT_DATA", 8_000 * MEGA),
)  # fmt: skip
UMASKS = (0o000, 0o002, 0o077, 0o027, 0o177)
FOLDERS = ("root", "not UTF-8", "shadows", "a link", "long")
STREAMS = ("closed", "closed input", "closed error", "full", "full error", "terminal", "null")
SIGNALS = ("CHLD ignored", "CHLD blocked", "all blocked", "HUP ignored", "PIPE default", "INT ignored")
NAMES = (
    "run",
    "./run",
    "a b",
    "-run",
    "ключ",
    os.fsdecode(b"l\xe4ufe"),
    "a\nb",
    "$(id)",
    "x" * 200,
    "a#b?c=d%20e",
)


@dataclass(frozen=True)
class Surrounding:
    """One surrounding. Empty values change nothing. folder: the kind of current folder. run: the run's name."""

    environment: Mapping[str, str | None]
    umask: int = 0o022
    limit: tuple[str, int] | None = None
    folder: str = ""
    streams: str = ""
    signals: str = ""
    run: str = "run"
    nice: int = 0
    processor: int | None = None
    workers: int = 2
    quiet: bool = False

    def described(self) -> dict[str, Any]:
        """What is unusual, for a record; bytes that are not UTF-8 as escapes."""
        plain = Surrounding({})
        found = {name: value for name, value in vars(self).items() if value != getattr(plain, name)}
        return {name: repr(value)[:300] for name, value in found.items()}


PLAIN = Surrounding({})


def drawn(draw: random.Random) -> Surrounding:
    """A random surrounding, in which each circumstance is unusual with probability 1/3."""

    def sometimes(values: tuple[Any, ...], usual: Any) -> Any:
        return draw.choice(values) if draw.random() < 1 / 3 else usual

    found: dict[str, str | None] = {}
    for values in ENVIRONMENTS.values():
        found |= sometimes(values, {})
    return Surrounding(
        found, umask=sometimes(UMASKS, 0o022), limit=sometimes(LIMITS, None), folder=sometimes(FOLDERS, ""),
        streams=sometimes(STREAMS, ""), signals=sometimes(SIGNALS, ""), run=sometimes(NAMES, "run"),
        nice=sometimes((2, 5), 0), processor=sometimes((0,), None), workers=sometimes((1, 3, 5), 2),
        quiet=sometimes((True,), False),
    )  # fmt: skip


def with_variables(**variables: str) -> Surrounding:
    """The usual surrounding with these variables."""
    return replace(PLAIN, environment=variables)


def folder_of(kind: str, place: Path) -> Path:
    """The current folder of this kind, inside `place`, made if need be. What Python could import there is a trap."""
    if kind == "root":
        return Path("/")
    names = {"not UTF-8": os.fsdecode(b"f\xfcr"), "long": "/".join(["y" * 60] * 5), "a link": "link"}
    folder = place / names.get(kind, "here")
    if kind == "a link":
        (place / "target").mkdir()
        folder.symlink_to("target")
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "shadows":
        for name in ("json", "numpy", "torch", "nas", "random", "sitecustomize", "optuna", "typing"):
            (folder / f"{name}.py").write_text("import os; os.abort()")
    return folder


def enter(around: Surrounding) -> None:
    """In the new process, before the command begins: all that is not its environment."""
    os.umask(around.umask)
    os.nice(around.nice)
    if around.processor is not None:
        os.sched_setaffinity(0, {around.processor})
    for name in ("INT", "QUIT", "HUP"):  # whatever this script was started with
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_DFL)
    if around.signals == "all blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    elif around.signals:
        name, how = around.signals.split()
        number = getattr(signal, f"SIG{name}")
        if how == "blocked":
            signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        else:
            signal.signal(number, signal.SIG_IGN if how == "ignored" else signal.SIG_DFL)
    if around.limit is not None:
        number, value = getattr(resource, around.limit[0]), around.limit[1]
        most = resource.getrlimit(number)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(number, (value, value))
    closed = {"closed": (0, 1, 2), "closed input": (0,), "closed error": (2,)}
    for descriptor in closed.get(around.streams, ()):
        os.close(descriptor)
    full = {"full": 1, "full error": 2}
    if around.streams in full:
        os.dup2(os.open("/dev/full", os.O_WRONLY), full[around.streams])
