"""Children that share one GPU: how many an hour with 1, 2, 4 and 8 at once, and are they the same children?

The same search, once for each number of workers of the local executor, all of them on one device: three generations
of eight competitors (seven children and their parent), so that eight at once have as much to do as one. A number's
rate is that of the competitors from the first one's begin to the last one's end: with what starting a worker costs
(each has a connection to the GPU of its own), storing and deciding, and with the wait for a generation's last; but
without the seed network and the final training, which are alone. Scores are compared child by child, for as long as
the searches go on with the same children: where a score differs, the next generation's may have other moves.

    python runs/benchmarks/gpu_sharing.py [--device cuda|cpu] [--quick]
    python runs/benchmarks/gpu_sharing.py --space nash --data cifar10 --data-root DIR
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _common import Figure, figure, finish, guarded
from parallel import competitors, search_seconds, seconds_of, sized

from nas.base.errors import UserError
from nas.config.run_config import RunConfig
from nas.execute.local import LocalExecutor
from nas.ledger import LedgerView
from nas.run.events import Silent
from nas.run.lifecycle import search

WORKERS = (1, 2, 4, 8)


def main() -> None:
    """Run the search with each number of workers and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cpu: to see that the script works")
    parser.add_argument("--space", default="digits")
    parser.add_argument("--data", help="the space's own unless given")
    parser.add_argument("--data-root", type=Path, help="where published data sets lie")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each child, alone on the device")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="1 and 2 workers, one generation of tiny children"
    )
    arguments = parser.parse_args()
    settings = {"device": usable(arguments.device), "seed": arguments.seed}
    if arguments.data is not None:
        settings["data"] = arguments.data
    if arguments.data_root is not None:
        settings["data_root"] = str(arguments.data_root)
    torch.set_num_threads(1)
    settings |= {"generations": 1, "children": 3} if arguments.quick else {"generations": 3, "children": 7}
    # At least a fiftieth of an epoch: a whole one of CIFAR-10 may take far longer than asked for.
    config = sized(0.1 if arguments.quick else arguments.seconds, settings, arguments.space, least=0.02)
    finish(__file__, share(config, WORKERS[:2] if arguments.quick else WORKERS))


def usable(device: str) -> str:
    """The device. Raises UserError where it is a GPU that isn't there."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"{device}: there is no CUDA here; run on a machine with a GPU, or with --device cpu")
    return device


def share(config: RunConfig, workers: Sequence[int]) -> list[Figure]:
    """The figures of the search by each number of workers; the first is what the others are compared with."""
    views: dict[int, LedgerView] = {}
    for count in workers:
        with tempfile.TemporaryDirectory(prefix="nas-sharing-") as folder:
            ours = config.model_copy(update={"workers": count})
            views[count] = search(ours, Path(folder) / "run", Silent(), "", LocalExecutor).view
        print(
            f"{count} at once: {len(competitors(views[count]))} competitors of {seconds_of(views[count]):.2f} s "
            f"(median), digest {views[count].digest[:16]}",
            flush=True,
        )
    rates = {count: hourly(view) for count, view in views.items()}
    alone = rates[workers[0]]
    told = [scores(view) for view in views.values()]
    return [
        *(figure(f"children an hour, {count} at once", rate, "", None) for count, rate in rates.items()),
        *(
            figure(f"ratio to {workers[0]} at once, {count} at once", rates[count] / alone, "", None)
            for count in workers[1:]
        ),
        *(
            figure(f"a child, median, {count} at once", seconds_of(view), "s", None)
            for count, view in views.items()
        ),
        figure("different ledger digests", len({view.digest for view in views.values()}), "", "== 1"),
        figure("children that all of the searches have", len(shared(told)), "", None),
        figure("largest difference of a child's validation accuracy", spread(told), "", "<= 0"),
        figure(
            "trials failed", sum(r.state == "failed" for v in views.values() for r in v.trials), "", "<= 0"
        ),
    ]


def hourly(view: LedgerView) -> float:
    """Competitors an hour, from the first one's begin to the last one's end."""
    return 3600 * len(competitors(view)) / search_seconds(view)


def scores(view: LedgerView) -> dict[tuple[str, str, str], float]:
    """The validation accuracy of each competitor, by its place, moves and graph."""
    jobs = {record.key: record.job for record in view.complete}
    return {
        (key, jobs[key].moves, jobs[key].graph): result.scores["val_accuracy"]
        for key, result in competitors(view).items()
    }


def shared(told: Sequence[Mapping[Any, float]]) -> set[Any]:
    """What is there in each."""
    return set.intersection(*(set(each) for each in told))


def spread(told: Sequence[Mapping[Any, float]]) -> float:
    """The largest difference, between any two, of what both have; 0 where nothing is."""
    return max(
        (
            abs(one[key] - other[key])
            for one, other in itertools.combinations(told, 2)
            for key in shared([one, other])
        ),
        default=0.0,
    )


if __name__ == "__main__":
    guarded(main)
