"""A Ray Tune experiment of one's own whose Searcher is the hill climb: your trainable, architectures that grow.

python runs/examples/ray_tune_searcher.py [--generations 2] [--cpus 2] [--folder DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import ray
import torch
from ray.tune import RunConfig, TuneConfig, Tuner, report, with_parameters
from sklearn.datasets import load_digits
from torch import nn

from nas.adapters import hill_climb
from nas.adapters.ray_searcher import HillClimbSearcher, candidate_of
from nas.ledger import Store
from search_spaces import SPACES

STEPS = 150


def train_candidate(config: dict[str, Any], store: Store) -> None:
    """A trial: the parent's network with the moves applied, trained and scored, in a Ray worker."""
    torch.set_num_threads(1)
    candidate = candidate_of(config)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels)
    network = candidate.network(store, batches=[(x[:128], y[:128])], loss=nn.functional.cross_entropy)
    module = network.to_torch()
    optimizer = torch.optim.SGD(module.parameters(), 0.02, momentum=0.9, nesterov=True)
    draw = torch.Generator().manual_seed(candidate.seed)
    for _ in range(STEPS):
        chosen = torch.randint(1200, (64,), generator=draw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x[chosen]), y[chosen]).backward()
        optimizer.step()
    module.eval()
    with torch.no_grad():
        accuracy = (module(x[1200:]).argmax(1) == y[1200:]).float().mean().item()
    report({"accuracy": accuracy, "weights": store.put(network.with_weights_from(module))})


def main() -> None:
    """Run the experiment, then say what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--generations", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=2, help="trials at once")
    parser.add_argument(
        "--folder", type=Path, default=None, help="for the networks; all workers must reach it"
    )
    arguments = parser.parse_args()
    folder = (arguments.folder or Path(tempfile.mkdtemp())).absolute()
    climb = hill_climb(SPACES["digits"]((1, 8, 8), 10), children=3, seed=0, generations=arguments.generations)
    searcher = HillClimbSearcher(climb, metric="accuracy", mode="max")
    ray.init(address="local", num_cpus=arguments.cpus, include_dashboard=False, log_to_driver=False)
    Tuner(
        with_parameters(train_candidate, store=Store(folder / "networks")),
        tune_config=TuneConfig(
            search_alg=searcher, num_samples=-1, max_concurrent_trials=arguments.cpus, reuse_actors=True
        ),
        run_config=RunConfig(storage_path=str(folder / "tune"), verbose=0),
    ).fit()
    ray.shutdown()
    for record in searcher.view.complete:
        assert record.result is not None
        accuracy = record.result.scores["val_accuracy"]
        print(f"{record.key:>5}  {accuracy:.2%}  {record.job.moves or 'unchanged'}")
    best = searcher.best()
    assert best is not None
    print(
        f"best: {best.key}, {best.result.params if best.result else 0} parameters, in {folder / 'networks'}"
    )


if __name__ == "__main__":
    main()
