"""Does `nas search digits` beat its own seed network kept in training for as long as the search took?

For each seed: the search (as a user runs it), then in the same wall time its seed network trained on without
growing, and the architecture the search ended with trained from scratch. All three read the test split once.
Arms use the search's own training settings. The two rivals train in one cosine, side by side with one thread each:
on networks of this size two threads are slower than one. State is kept in runs/benchmarks/out, so that an
interrupted benchmark goes on.

    python runs/benchmarks/first_result.py [--seeds 0 1 2 3 4] [--quick]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _common import OUT, figure, finish

import morphs
from nas.base.seeds import derive
from nas.data import SearchData, eval_batches, load_search_data, load_test_split
from nas.ledger import Store, read, read_config
from nas.registry.configure import check_config
from nas.run.budget import seconds_per_step
from nas.train import train

SPACE = "digits"


def main() -> None:
    """Run what is missing, print the table and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--quick", action="store_true", help="one seed, a few short generations")
    parser.add_argument("--again", action="store_true", help="forget what an earlier call measured")
    arguments = parser.parse_args()
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    rows = [one_seed(seed, arguments.quick, arguments.again) for seed in seeds]
    print_table(rows)
    gained = [row["search"] - row["seed_network"] for row in rows]
    finish(
        __file__,
        [
            figure("search seconds, most", max(row["seconds"] for row in rows), "s", "<= 180"),
            figure("search correct minus seed network correct, median", median(gained), "images", "> 0"),
            figure("wins over the seed network", sum(g > 0 for g in gained), f"of {len(rows)}", None),
            figure(
                "test accuracy, search, median",
                median(row["search"] for row in rows) / rows[0]["images"],
                "",
                None,
            ),
        ],
    )


def one_seed(seed: int, quick: bool, again: bool) -> dict[str, Any]:
    """The three arms of one seed; from the state file if they were measured before."""
    state = OUT / f"first_result{'_quick' if quick else ''}_{seed}.json"
    if state.exists() and not again:
        return json.loads(state.read_text())
    run = OUT / f"first_result_run_{seed}"
    shutil.rmtree(run, ignore_errors=True)
    short = ["--generations", "1", "--epochs", "5"] if quick else []
    begin = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "nas",
        "search",
        SPACE,
        "--seed",
        str(seed),
        "--run",
        str(run),
        "--quiet",
    ]
    subprocess.run([*command, *short], check=True)
    seconds = time.perf_counter() - begin
    config = check_config(read_config(run).config["config"])
    data = load_search_data(config.data, None, seed, config.val_fraction)
    test = load_test_split(config.data, None, seed)
    view = read(run)
    final = view.final
    assert final is not None
    assert final.result is not None
    grown = Store(run / "checkpoints").get(final.result.weights)
    seed_graph = morphs.graph_from_json(view.trial("0.0").job.graph)
    rivals = {"seed_network": seed_graph, "from_scratch": grown.graph}
    with ProcessPoolExecutor(len(rivals), get_context("spawn")) as pool:
        asked = {
            name: pool.submit(rival, graph.to_json(), str(run), seconds) for name, graph in rivals.items()
        }
        right = {name: torch.tensor(answer.result()) for name, answer in asked.items()}
    right["search"] = correct(grown.to_torch(), test, data)
    row: dict[str, Any] = {
        "seed": seed,
        "seconds": seconds,
        "images": len(test),
        "params": final.result.params,
        "seed_params": morphs.cost(seed_graph).params,
        "digest": view.digest,
        **{name: int(hits.sum()) for name, hits in right.items()},
        "search_only": int((right["search"] & ~right["seed_network"]).sum()),
        "seed_network_only": int((right["seed_network"] & ~right["search"]).sum()),
    }
    state.write_text(json.dumps(row))
    return row


def rival(graph_json: str, run: str, seconds: float) -> list[bool]:
    """Which test images a graph gets right after `seconds` of training from fresh weights, with the run's settings."""
    torch.set_num_threads(1)
    config = check_config(read_config(Path(run)).config["config"])
    data = load_search_data(config.data, None, config.seed, config.val_fraction)
    graph = morphs.graph_from_json(graph_json)
    pace = seconds_per_step(graph, data, config.train, steps=400)
    module = morphs.init(graph, derive(config.seed, "rival")).to_torch()
    begin = time.perf_counter()
    steps = round(seconds / pace)
    train(module, data, steps=steps, config=config.train, seed=derive(config.seed, "rival", "train"))
    took = time.perf_counter() - begin
    print(f"  rival of {morphs.cost(graph).params} parameters: {steps} steps in {took:.0f} s", flush=True)
    return correct(module, load_test_split(config.data, None, config.seed), data).tolist()


def correct(module: torch.nn.Module, test: Any, data: SearchData) -> torch.Tensor:
    """Which test images [N] the module classifies correctly."""
    module.eval()
    with torch.inference_mode():
        parts = [module(x).argmax(1) == y for x, y in eval_batches(test, 256, data.mean, data.std)]
    return torch.cat(parts)


def print_table(rows: list[dict[str, Any]]) -> None:
    """The table for the README."""
    images, small = rows[0]["images"], rows[0]["seed_params"]
    print(
        f"| seed | search s | parameters (seed network {small}) | correct of {images}: search | seed network "
        "| only search / only seed network right | same architecture from scratch |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['seed']} | {row['seconds']:.0f} | {row['params']} | {row['search']} | {row['seed_network']} "
            f"| {row['search_only']} / {row['seed_network_only']} | {row['from_scratch']} |"
        )


if __name__ == "__main__":
    main()
