"""How good the estimate of the time left is: that of the screen, against what was left in truth.

Five kinds of search on digits: by generations, with a budget, with a cost, with restarts, and without generations
(evolution). Each time a worker reports a step, the estimate is noted; from a third of the run on it should be within
30 % of the truth, or within two seconds, near the end. Also: how often it rose.

    python runs/benchmarks/time_left.py [--quick] [--kind NAME]
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from _common import OUT, figure, finish

import nas
from nas.progress.state import RunProgress
from nas.progress.views import PlainView
from nas.run.events import Outcome

KINDS: Mapping[str, Mapping[str, Any]] = {
    "generations": {"generations": 6, "epochs": 15},
    "budget": {"budget": 75},
    "cost": {"cost": 3e11},
    "restarts": {"generations": 5, "epochs": 15, "schedule": "restarts"},
    "evolution": {"generations": 5, "epochs": 6, "policy": "evolution"},
}
QUICK = {"generations": 1, "epochs": 1}
NEAR, SECONDS = 0.3, 2.0


class Noting(PlainView):
    """A view that prints nothing and notes (time, estimate)."""

    def __init__(self) -> None:
        self.progress = RunProgress()
        super().__init__(None, self.progress)
        self.noted: list[tuple[float, float | None]] = []
        self.ended = 0.0

    def on_step(self, key: str, step: int, steps: int, loss: float) -> None:
        """Note what a screen would show now."""
        super().on_step(key, step, steps, loss)
        self.noted.append((time.monotonic(), self.progress.left()))

    def on_run_end(self, outcome: Outcome) -> None:
        """The end that was to be told."""
        self.ended = time.monotonic()


def main() -> None:
    """Run each kind once, and print the share of good estimates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two kinds, one short generation each")
    parser.add_argument("--kind", choices=tuple(KINDS), help="this one alone")
    arguments = parser.parse_args()
    chosen = [arguments.kind] if arguments.kind else list(KINDS)[: 2 if arguments.quick else None]
    figures = []
    for kind in chosen:
        settings = {**KINDS[kind], **(QUICK if arguments.quick and "budget" not in KINDS[kind] else {})}
        if arguments.quick and "budget" in settings:
            settings["budget"] = 30
        share, rises, median = measured(OUT / f"time-left-{kind}", settings)
        target = None if arguments.quick else ">= 0.9"
        figures += [
            figure(f"{kind}: good estimates from a third on", share, "of all", target),
            figure(f"{kind}: median error", median, "of the truth", None if arguments.quick else "<= 0.3"),
            figure(f"{kind}: rises of more than a second", rises, "of all", None),
        ]
    finish(__file__, figures)


def measured(run: Path, settings: Mapping[str, Any]) -> tuple[float, float, float]:
    """(share of good estimates, share of rises, median relative error) from a third of the run on."""
    shutil.rmtree(run, ignore_errors=True)
    view, begun = Noting(), time.monotonic()
    nas.search("digits", run=run, quiet=True, callbacks=[view], workers=1, **settings)
    end = view.ended
    late = [(at, left) for at, left in view.noted if at - begun > (end - begun) / 3]
    known = [(end - at, left) for at, left in late if left is not None]
    errors = [abs(left - truth) / truth for truth, left in known]
    good = [abs(left - truth) <= max(NEAR * truth, SECONDS) for truth, left in known]
    rises = [after - before > 1 for (_, before), (_, after) in pairwise(known)]
    for truth, left in known[:: max(1, len(known) // 12)]:
        print(f"  {run.name}: {truth:6.1f} s left in truth, {left:6.1f} s told")
    print(
        f"{run.name}: {end - begun:.0f} s, {len(late)} estimates from a third on, {len(late) - len(known)} unknown"
    )
    return sum(good) / max(1, len(late)), sum(rises) / max(1, len(rises)), sorted(errors)[len(errors) // 2]


if __name__ == "__main__":
    main()
