"""Which models come in, and what of them can be morphed: torchvision, timm, transformers, and modules as users write.

Each model runs in a process of its own; its record is kept in zoo.jsonl beside this file, so that the script goes on
where it stopped. timm and transformers are optional. Weights are random: nothing is downloaded.

    python runs/benchmarks/zoo.py --quick            a few models of each set
    python runs/benchmarks/zoo.py --set torchvision  one set
    python runs/benchmarks/zoo.py timm:deit_tiny_patch16_224  one model
    python runs/benchmarks/zoo.py --table            what has a record so far, as the table of morphs/README.md
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import signal
from pathlib import Path
from typing import Any

import torch
from _common import figure, finish, guarded
from _state import append, read
from _zoo.measure import measure
from _zoo.models import names

RECORDS = Path(__file__).with_suffix(".jsonl")
Record = dict[str, Any]
TARGET = 0.95  # of the parameters
PATIENCE = 20  # times its processor time that a model may take on a busy machine
COLUMNS = (
    "set", "models", "torch exports (? not known)", "imported",
    "difference ≤ 1e-12, eval and train", "parameters at a free width, median",
    "≥ 95 % of them", "≥ 95 % in layers that some move changes", "up to 20 exact moves: drift ≤ 1e-9",
    "then trained: a gradient everywhere", "export, and copy of the copy",
)  # fmt: skip


def main() -> None:
    """Run what has no record yet, and sum up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="SET:MODEL", help="these alone")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--set", dest="only")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--single", action="store_true", help="in float32, for models too large otherwise")
    parser.add_argument("--timeout", type=float, default=300, help="processor seconds for one model")
    given = parser.parse_args()
    done: dict[str, Record] = {} if given.quick else {r["model"]: r for r in read(RECORDS)}
    if given.table:
        print("\n".join(_table(done)))
        return
    wanted = given.models or [*names(given.only, given.quick)]
    for name in wanted:
        if name not in done:
            done[name] = _apart(name, given.timeout, torch.float32 if given.single else torch.float64)
            if not given.quick:
                append(RECORDS, done[name])
            print(_line(done[name]), flush=True)
    _sum_up([done[name] for name in wanted])


def _apart(name: str, timeout: float, dtype: torch.dtype) -> Record:
    """The record of a model, made in a process of its own; where it can, one that has torch loaded already."""
    failed = {"model": name, "exports": None, "imports": False}
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(name, sender, timeout, dtype))
    process.start()
    sender.close()
    try:
        if receiver.poll(PATIENCE * timeout):
            return receiver.recv()
        return {**failed, "error": f"did not end in {PATIENCE * timeout:g} s"}
    except EOFError:
        process.join()
        late = process.exitcode == -signal.SIGXCPU
        return {
            **failed,
            "error": f"took more than {timeout:g} s" if late else f"ended with {process.exitcode}",
        }
    finally:
        process.kill()
        process.join()


def _send(name: str, sender: Any, timeout: float, dtype: torch.dtype) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(timeout), resource.RLIM_INFINITY))
    try:
        sender.send(measure(name, dtype))
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        sender.send({"model": name, "exports": None, "imports": False, "error": text})


def _line(r: Record) -> str:
    if not r["imports"]:
        return f"{r['model']}: not imported: {r.get('error', r.get('export_error'))}"
    failed = "; ".join(f"{key}: {value}" for key, value in r.items() if key.endswith("_error"))
    return (f"{r['model']}: {r['nodes']} nodes ({r['aten']} aten), {r['parameters_share']:.1%} of the parameters, "
            f"differs {r['difference_eval']:.1g} / {r['difference_train']:.1g}, {r.get('moves', 0)} moves drift "
            f"{r.get('drift', float('nan')):.1g} {failed}")  # fmt: skip


def _changing(r: Record) -> float:
    """The share of parameters that some move changes; at least that at a free width, which older records have alone."""
    return r.get("changing_share", r["parameters_share"])


def _limits(r: Record) -> tuple[float, float]:
    """Of the difference and of the drift."""
    return (1e-5, 1e-4) if r.get("type") == "torch.float32" else (1e-12, 1e-9)


def _exact(r: Record) -> bool:
    return max(r["difference_eval"], r["difference_train"]) <= _limits(r)[0]


def _known(records: list[Record]) -> str:
    unknown = sum(r["exports"] is None for r in records)
    return f"{sum(bool(r['exports']) for r in records)}" + (f" ({unknown}?)" if unknown else "")


def _table(done: dict[str, Record]) -> list[str]:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for group in dict.fromkeys(name.partition(":")[0] for name in done):
        all_of = [r for name, r in done.items() if name.partition(":")[0] == group]
        came = [r for r in all_of if r["imports"]]
        shares = sorted(r["parameters_share"] for r in came)
        moved = [r for r in came if r.get("moves")]
        cells = (
            group, len(all_of), _known(all_of), len(came), f"{sum(map(_exact, came))}",
            f"{shares[len(shares) // 2]:.1%}" if shares else "", sum(share >= TARGET for share in shares),
            sum(_changing(r) >= TARGET for r in came),
            f"{sum(r['drift'] <= _limits(r)[1] for r in moved)} of {len(moved)}",
            f"{sum(not r['without_gradient'] for r in moved)}",
            f"{sum(r.get('round_trip', False) for r in came)}, {sum(r.get('same_graph', False) for r in came)}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _sum_up(records: list[Record]) -> None:
    exported = [r for r in records if r["exports"]]
    came = [r for r in records if r["imports"]]
    trips = 100 * sum(r.get("round_trip", False) for r in came) / max(len(came), 1)
    drifts = [r["drift"] for r in came if r.get("moves")]
    free, most = (
        100 * sum(share(r) >= TARGET for r in came) / max(len(came), 1)
        for share in (lambda r: r["parameters_share"], _changing)
    )
    worst = max((max(r["difference_eval"], r["difference_train"]) for r in came), default=0.0)
    finish(__file__, [
        figure("models", len(records), "", None),
        figure("models that torch exports", len(exported), "", None),
        figure("imported, of those", 100 * sum(r["imports"] for r in exported) / max(len(exported), 1), "%", ">= 100"),
        figure("largest difference, eval and train", worst, "", "<= 1e-12"),
        figure("models with 95 % of the parameters at a free width", free, "%", None),
        figure("models with 95 % of the parameters in layers that some move changes", most, "%", None),
        figure("largest drift after the moves", max(drifts, default=0.0), "", "<= 1e-9"),
        figure("export round trips", trips, "%", ">= 100"),
    ])  # fmt: skip


if __name__ == "__main__":
    guarded(main)
