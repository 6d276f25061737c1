"""What the benchmark scripts share: a scratch folder, the environment, the one line of JSON at the end."""

from __future__ import annotations

import json
import operator
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from nas.base.errors import UserError
from nas.train.precision import cpu_flags, native_bf16

OUT = Path(__file__).parent / "out"  # what scripts keep between calls; git ignores it
OUT.mkdir(exist_ok=True)

Figure = dict[str, Any]
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}


def figure(name: str, value: float, unit: str, target: str | None) -> Figure:
    """One measured value. `target` is a comparison such as ">= 2.5"; without one, `holds` is null."""
    holds = None
    if target is not None:
        sign, number = target.split()
        holds = bool(_COMPARE[sign](value, float(number)))
    return {"name": name, "value": value, "unit": unit, "target": target, "holds": holds}


def finish(script: str, figures: Sequence[Figure]) -> None:
    """Print the figures for people, then as the last line one JSON object for machines."""
    width = max(len(f["name"]) for f in figures)
    for f in figures:
        target = (
            "" if f["target"] is None else f"   target {f['target']}: {'holds' if f['holds'] else 'MISSED'}"
        )
        print(f"{f['name']:<{width}}  {f['value']:>10.4g} {f['unit']}{target}")
    name = "/".join(Path(script).resolve().parts[-3:])  # runs/benchmarks/… or runs/papers/…
    report = {
        "script": name,
        "command": shlex.join(["python", name, *sys.argv[1:]]),
        "environment": environment(),
        "figures": list(figures),
    }
    print(json.dumps(report), flush=True)


def guarded(main: Callable[[], None]) -> None:
    """Call `main`; what its user got wrong ends in one line and exit code 2."""
    try:
        main()
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)


def environment() -> dict[str, Any]:
    """Processor, cores, its matrix instructions, versions, threads, and how busy the machine was meanwhile."""
    flags = cpu_flags()
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "avx512_bf16": "avx512_bf16" in flags,
        "amx_bf16": "amx_bf16" in flags,
        "bf16": native_bf16("cpu"),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def cpu_model() -> str:
    """The processor's name, with family and model where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = told.get("model name", platform.machine())
    return f"{name} (family {told['cpu family']}, model {told['model']})" if "cpu family" in told else name
