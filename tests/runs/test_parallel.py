"""A small sample of runs/benchmarks/parallel.py: what parallel children gain, and what plain processes do."""

from pathlib import Path
from typing import Any

import pytest
from benchmark_support import script
from engine_support import tiny

from nas.run.events import Silent
from nas.run.lifecycle import search


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return search(tiny(workers=2), tmp_path_factory.mktemp("parallel") / "run", Silent(), "")


def test_plain_processes_train_the_networks_of_a_search_again(run: Any) -> None:
    parallel = script("parallel")
    shares = parallel.halves(run.view)
    assert sorted(key for share in shares for key in share) == sorted(parallel.competitors(run.view))
    assert all(shares)
    assert parallel.processes(Path(run.run), shares) > 0


def test_what_of_the_workers_time_is_spent_on_children(run: Any) -> None:
    parallel = script("parallel")
    spans = parallel.busy_spans(run.view)
    assert len(spans) == 6
    assert 0 <= parallel.gaps(run.view) <= 1
    assert parallel.gaps(run.view) / 2 <= parallel.idle(run.view) < 1
    assert 0 < parallel.search_seconds(run.view) <= run.seconds
