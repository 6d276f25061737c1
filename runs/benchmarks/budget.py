"""Is a budget of wall time kept, also on a machine that is busy or becomes busy?

`nas search digits --budget` as a user runs it, timed from outside, imports and report included: with nothing else from
here; beside busy processes; and beside busy processes that begin when the final training does. What else runs on the
machine counts as well: the load is in the last line. A search that is refused at its start, since the budget is too
small for the machine, keeps the budget too, and is counted.

    python runs/benchmarks/budget.py [--budget 60] [--busy 10] [--repeats 3] [--quick]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from _common import figure, finish

from nas.ledger import read

CASES = ("alone", "busy", "becoming busy")


def main() -> None:
    """Run each case several times, print the seconds and the largest share of the budget."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=60.0, help="seconds")
    parser.add_argument("--busy", type=int, default=10, help="processes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="20 s that become busy, once")
    arguments = parser.parse_args()
    budget, repeats, cases = arguments.budget, arguments.repeats, CASES
    if arguments.quick:
        budget, repeats, cases = 20.0, 1, CASES[-1:]
    figures, refused = list[dict[str, object]](), 0
    for case in cases:
        ended = [searched(case, budget, arguments.busy) for _ in range(repeats)]
        refused += sum(not finished for _, finished in ended)
        seconds = [took for took, _ in ended]
        figures += [
            figure(f"{case}: wall time of {budget:g} s (n = {repeats}), median", median(seconds), "s", None),
            figure(f"{case}: the longest, over the budget", max(seconds) / budget, "", "<= 1.1"),
        ]
    finish(__file__, [*figures, figure("refused at the start", refused, "", None)])


def searched(case: str, budget: float, busy: int) -> tuple[float, bool]:
    """Seconds of a search by the clock, and whether it was not refused."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        run = Path(folder) / "run"
        if case == "busy":
            stack.enter_context(load(busy))
        began = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "nas",
            "search",
            "digits",
            "--budget",
            f"{budget:g}s",
            "--run",
            str(run),
        ]
        driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert driver.stdout is not None
        for line in driver.stdout:
            if case == "becoming busy" and "final training:" in line:
                stack.enter_context(load(busy))
        code, took = driver.wait(), time.monotonic() - began
        if code not in (0, 2):
            raise SystemExit(f"the search ended with code {code}")
        final = read(run).final if code == 0 else None
        said = "refused" if final is None else f"final training: {final.steps} of {final.job.steps} steps"
        print(f"{case}: {took:.1f} s of {budget:g} s; {said}", flush=True)
        return took, code == 0


@contextmanager
def load(processes: int) -> Generator[None]:
    """Keep the machine busy with so many processes."""
    running = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
