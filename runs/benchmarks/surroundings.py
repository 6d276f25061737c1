"""Does anything around a search change its result, end it, or make it write outside its folder?

One small search in the usual surroundings, then the same in random ones (`_surroundings.py`): locale, time zone, mask
and limits, standard streams, signals, current folder, the run's name, the environment of Python, OpenMP and the C
library, … Each has to end with the same digest, without a traceback, and with nothing written but the run.

Then the finished search is replayed with each variable that may decide arithmetic. Either it is refused with the
variable's name, or the bits are the same.

Each case is a line in out/surroundings.jsonl: started again, the script goes on from there.

    python runs/benchmarks/surroundings.py [--cases N] [--quick]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import _state
from _common import OUT, figure, finish
from _surroundings import PLAIN, Surrounding, drawn, enter, folder_of, with_variables

from nas.base.errors import NasError
from nas.ledger import read

SIZE = ["--children", "2", "--generations", "2", "--epochs", "0.5", "--final-share", "0.3", "--threads", "1"]
ARITHMETIC: tuple[dict[str, str], ...] = (
    {"MKL_CBWR": "COMPATIBLE"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"DNNL_MAX_CPU_ISA": "SSE41"},
    {"ATEN_CPU_CAPABILITY": "default"}, {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}, {"MKL_DYNAMIC": "FALSE"},
    {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, {"ONEDNN_CPU_ISA_HINTS": "PREFER_YMM"}, {"OMP_THREAD_LIMIT": "1"},
    {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"}, {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F"},
    {"OMP_DYNAMIC": "true"}, {"OPENBLAS_CORETYPE": "Prescott"}, {"KMP_DETERMINISTIC_REDUCTION": "1"},
    {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}, {"NVIDIA_TF32_OVERRIDE": "1"}, {"MKL_DEBUG_CPU_TYPE": "5"},
    {"MKL_NUM_STRIPES": "3"}, {"MKL_THREADING_LAYER": "SEQUENTIAL"}, {"MKL_INTERFACE_LAYER": "ILP64"},
    {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0"}, {"ONEDNN_JIT_PROFILE": "0"}, {"ONEDNN_VERBOSE": "2"},
    {"MKL_FAST_MEMORY_LIMIT": "0"}, {"MKL_VERBOSE": "1"}, {"TORCH_MKLDNN_MATMUL_MIN_DIM": "1"},
    {"MKL_CBWR": "AUTO,STRICT"}, {"KMP_AFFINITY": "compact"}, {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
    {"USE_NNPACK": "0"}, {"LRU_CACHE_CAPACITY": "1"}, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
)  # fmt: skip


def main() -> None:
    """Try the cases that are missing, print what came of all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=100, help="random surroundings")
    parser.add_argument("--quick", action="store_true", help="two surroundings and one variable")
    arguments = parser.parse_args()
    cases, variables = (2, ARITHMETIC[:1]) if arguments.quick else (arguments.cases, ARITHMETIC)
    name = "surroundings_quick" if arguments.quick else "surroundings"
    place, state = OUT / name, OUT / f"{name}.jsonl"
    if arguments.quick:
        state.unlink(missing_ok=True)
    begin = time.perf_counter()
    base = usual(place)
    done = {record["case"] for record in _state.read(state)}
    for number in range(cases):
        if f"search {number}" not in done:
            record = search(place, drawn(random.Random(f"surrounding {number}")), base)
            _state.append(state, {"case": f"search {number}", **record})
            print(f"search {number}: {record}", flush=True)
    for each in variables:
        text = " ".join(f"{key}={value}" for key, value in each.items())
        if f"replay {text}" not in done:
            record = replay(place, each)
            _state.append(state, {"case": f"replay {text}", **record})
            print(f"replay {text}: {record}", flush=True)
    records = _state.read(state)
    searches = [record for record in records if record["case"].startswith("search")]
    replays = [record for record in records if record["case"].startswith("replay")]
    finish(
        __file__,
        [
            figure("random surroundings", len(searches), "", f">= {cases}"),
            figure("searches that did not end", sum(not r["final"] for r in searches), "", "<= 0"),
            figure("other digests", sum(r["final"] and not r["same"] for r in searches), "", "<= 0"),
            figure("tracebacks", sum(r["traceback"] for r in records), "", "<= 0"),
            figure("files outside the run's folder", sum(len(r["strays"]) for r in searches), "", "<= 0"),
            figure("variables that may decide arithmetic", len(replays), "", f">= {len(variables)}"),
            figure("of them refused by name", sum(r["refused"] for r in replays), "", None),
            figure("of them without effect", sum(r["same"] for r in replays), "", None),
            figure(
                "other bits without a word",
                sum(not r["refused"] and not r["same"] for r in replays),
                "",
                "<= 0",
            ),
            figure("wall time of this call", time.perf_counter() - begin, "s", None),
        ],
    )


def usual(place: Path) -> str:
    """The digest of the search in the usual surroundings, made if need be."""
    run = place / "usual"
    if digest_of(run) is None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        code, said = started(PLAIN, place, ["search", "digits", *SIZE, "--run", str(run)])
        if code:
            raise SystemExit(f"the search in the usual surroundings failed: {said}")
    digest = digest_of(run)
    assert digest is not None
    return digest


def digest_of(run: Path) -> str | None:
    """The digest of a run that came to its end; else None."""
    with suppress(NasError):
        view = read(run)
        return view.digest if view.final is not None else None
    return None


def search(place: Path, around: Surrounding, base: str) -> dict[str, object]:
    """Search in this surrounding; what came of it."""
    there = (place / "there").resolve()
    shutil.rmtree(there, ignore_errors=True)
    there.mkdir()
    here = folder_of(around.folder, there)
    before = set(there.rglob("*"))
    apart = around.folder == "root"  # the run is named by its whole path
    run = (there if apart else here).resolve() / around.run
    named = str(run) if apart else around.run
    words = ["search", "digits", *SIZE, "--workers", str(around.workers), f"--run={named}"]
    code, said = started(around, here, [*words, *["--quiet"] * around.quiet])
    digest = digest_of(run)
    after = (path for path in set(there.rglob("*")) - before if run not in (path, *path.parents))
    return {
        "around": around.described(), "code": code, "final": digest is not None, "same": digest == base,
        "traceback": "Traceback" in said, "said": said[-600:],
        "strays": [ascii(path.name) for path in after if path not in run.parents],
    }  # fmt: skip


def replay(place: Path, variables: dict[str, str]) -> dict[str, object]:
    """Replay the usual search with these variables; what came of it."""
    run = place / "replay"
    shutil.rmtree(run, ignore_errors=True)
    code, said = started(
        with_variables(**variables), place, ["replay", str(place / "usual"), "--run", str(run)]
    )
    return {
        "code": code, "refused": code == 2 and any(name in said for name in variables), "same": code == 0,
        "traceback": "Traceback" in said, "said": said[-600:],
    }  # fmt: skip


def started(around: Surrounding, here: Path, words: list[str]) -> tuple[int, str]:
    """The exit code and standard error of `nas` in this surrounding; −1000 where it doesn't end."""
    environment = {"HOME": str(here), "TMPDIR": str(here), **os.environ, **around.environment}
    command = [sys.executable, "-P", "-c", "from nas.cli.entry import main; main()", *words]
    complaints = OUT / "surroundings.err"
    with complaints.open("wb") as error:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": error}
        terminal = None
        if around.streams == "terminal":
            terminal, inner = os.openpty()
            streams["stdout"] = inner
        process = subprocess.Popen(
            command, **streams, cwd=here, start_new_session=True, preexec_fn=lambda: enter(around),
            env={key: value for key, value in environment.items() if value is not None},
        )  # fmt: skip
        if terminal is not None:
            os.close(inner)
            threading.Thread(target=drain, args=(terminal,), daemon=True).start()
        try:
            code = process.wait(1800)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait() - 1000
    return code, complaints.read_text(encoding="utf-8", errors="backslashreplace")


def drain(terminal: int) -> None:
    """Read what is written to a terminal, until nobody has it open."""
    with suppress(OSError):
        while os.read(terminal, 65536):
            pass
    os.close(terminal)


if __name__ == "__main__":
    main()
