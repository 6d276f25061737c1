"""The first experiments of Network Morphism (Wei et al., arXiv 1603.01670) on real data, our figures beside theirs.

Figure 7: softmax regression on MNIST grows a hidden layer of 50 units. Figure 8 (a), (b) and Table 1: Caffe's
cifar10_quick (cifar_111) grows to cifar_211 and cifar_222 on CIFAR-10. NetMorph and Net2Net grow from the same trained
parents; the same networks from scratch, and the parents trained on, get as many multiply-adds as the chain they are
compared with. Each arm trains for a length fixed beforehand, under one cosine, and reads the test split once, at its
end; curves are of the validation split.

The paper states neither learning rate nor augmentation: as in Caffe's recipe there is no augmentation, batches are of
100, momentum is 0.9. Nothing in an arm depends on what another reached. Results are appended to a state file, one line
of JSON for each arm and seed, and what is there is not run again.

    python runs/papers/network_morphism.py --data-root DIR [--seeds 0 1 2] [--jobs 2] [--quick | --full]
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# A worker's large tensors come and go: huge pages save a third of the time of a step. Read before torch allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))
from _arms import ARMS, BY_NAME, Length, epochs, macs  # noqa: E402
from _common import environment, finish, guarded  # noqa: E402
from _report import curves, figures, table  # noqa: E402
from _state import Record, append, read  # noqa: E402

import morphs  # noqa: E402
from nas.base.seeds import derive  # noqa: E402
from nas.data import Augment, SearchData, load_search_data, load_test_split  # noqa: E402
from nas.train import TrainConfig, train  # noqa: E402
from nas.train.evaluate import evaluate  # noqa: E402

OUT = HERE / "out"  # trained networks, which later arms grow from; git ignores it
LENGTHS = {
    "hour": Length(mnist=(10, 36), cifar=(4, 1), points=6),
    "full": Length(mnist=(91, 91), cifar=(80, 80), points=80),  # 50,000 and 40,000 iterations
    "quick": Length(mnist=(0.1, 0.1), cifar=(0.02, 0.01), points=2, images=200),
}
# Learning rates by a short look at the validation split of seed 100, which is not reported: MNIST 0.02 and 0.05 (3,000
# steps), CIFAR-10 0.01, 0.02 and 0.04 (300 steps; the last diverged). A child on CIFAR-10 begins at its parent's first
# rate: both methods' children then diverge or forget within steps, unless gradients are clipped. At 0.003, clipped or
# not, they don't, and learn no more (half an epoch of cifar_211, seed 100).
TRAIN = {
    "mnist": TrainConfig(lr=0.05, weight_decay=1e-4, label_smoothing=0.0, batch_size=100),
    "cifar10": TrainConfig(lr=0.01, weight_decay=5e-4, label_smoothing=0.0, batch_size=100),
}
CHILD_CLIP = {"mnist": None, "cifar10": 1.0}  # norm to which the gradients of grown networks are clipped


def main() -> None:
    """Run what is missing, print the table, draw the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, default=None, help="torchvision's folder of data sets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--state", type=Path, default=HERE / "network_morphism.jsonl")
    parser.add_argument("--only", choices=tuple(TRAIN), help="one data set")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--full", action="store_true", help="the paper's length: hours on a GPU")
    length.add_argument("--quick", action="store_true", help="a minute: the same code, nothing learned")
    arguments = parser.parse_args()
    setting = "full" if arguments.full else "quick" if arguments.quick else "hour"
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    arms = [arm.name for arm in ARMS if arguments.only in (None, arm.data)]
    wanted = [(name, seed) for seed in seeds for name in arms]
    state = OUT / "quick.jsonl" if arguments.quick else arguments.state
    if arguments.quick:
        state.unlink(missing_ok=True)
    for record in run(wanted, setting, state, arguments):
        print(
            f"{record['seed']}  {record['arm']:<36} drift {record['drift']:.1e}  start {record['curve'][0][1]:.4f}  "
            f"test {record['test']:.4f}  {record['steps']} steps  {record['seconds']:.0f} s",
            flush=True,
        )
    rows = [r for r in read(state) if r["setting"] == setting and (r["arm"], r["seed"]) in set(wanted)]
    print(table(rows, ARMS))
    if not arguments.quick:
        for data in {BY_NAME[r["arm"]].data for r in rows}:
            path = arguments.state.with_name(f"network_morphism_{data}.svg")
            path.write_text(curves([r for r in rows if BY_NAME[r["arm"]].data == data]))
    finish(__file__, figures(rows))


def run(wanted: list[tuple[str, int]], setting: str, state: Path, arguments: Any) -> Iterator[Record]:
    """Train what the state file lacks, parents before children, and keep each result durably."""
    found = {(r["arm"], r["seed"]) for r in read(state) if r["setting"] == setting}
    done = {key for key in found if (folder(setting, *key) / "graph.json").exists()}
    # What was measured but whose network is gone is trained again only where a child needs it.
    missing = [key for key in wanted if key not in found]
    needed = {(a, seed) for name, seed in missing for a in ancestors(name)} - done
    queue = [key for key in wanted if key in needed or key not in found]
    running: dict[Future[Record], tuple[str, int]] = {}
    with ProcessPoolExecutor(
        arguments.jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        while queue or running:
            ready = [k for k in queue if (after := BY_NAME[k[0]].after) is None or (after, k[1]) in done]
            for key in ready[: arguments.jobs - len(running)]:
                queue.remove(key)
                running[pool.submit(one_arm, *key, setting, arguments.data_root, arguments.device)] = key
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                key = running.pop(future)
                record = future.result()
                if key not in found:
                    append(state, record)
                done.add(key)
                yield record


def one_arm(name: str, seed: int, setting: str, root: Path | None, device: str) -> Record:
    """Grow, train and test one arm."""
    arm, length = BY_NAME[name], LENGTHS[setting]
    data, test = splits(arm.data, seed, root, length.images)
    fresh = morphs.init(morphs.parse_graph(arm.seed), derive(seed, arm.data))
    parent = morphs.load(folder(setting, arm.after, seed)) if arm.after else fresh
    network, drift = arm.make(parent, derive(seed, name))
    config = TRAIN[arm.data]
    if arm.after:
        config = replace(config, clip_norm=CHILD_CLIP[arm.data])
    steps = max(1, round(epochs(name, length) * len(data.train) / config.batch_size))
    module = network.to_torch()
    curve = [(0, evaluate(module, data.val, data, device=device).accuracy)]
    marks = {round(steps * i / length.points) for i in range(1, length.points + 1)}

    def look(step: int, _: int, __: float) -> None:
        if step in marks:  # a copy: the module in training keeps its memory layout
            curve.append((step, evaluate(copy.deepcopy(module), data.val, data, device=device).accuracy))

    report = train(
        module,
        data,
        steps=steps,
        config=config,
        seed=derive(seed, name, "train"),
        device=device,
        on_step=look,
    )
    trained = network.with_weights_from(module)
    scores = evaluate(module, test, data, device=device)
    morphs.save(trained, folder(setting, name, seed))
    return {
        "setting": setting, "arm": name, "seed": seed, "test": scores.accuracy, "drift": drift, "curve": curve,
        "steps": steps, "epochs": round(steps * config.batch_size / len(data.train), 3), "lr": config.lr,
        "clip_norm": config.clip_norm,
        "params": morphs.cost(network.graph).params, "macs": macs(name), "precision": report.precision,
        "seconds": round(report.seconds, 1), "finished": time.strftime("%Y-%m-%d %H:%M"),
        "environment": environment(),
    }  # fmt: skip


@cache
def splits(name: str, seed: int, root: Path | None, images: int | None) -> tuple[SearchData, Any]:
    """Training and validation data (1/20 held out by the seed) without augmentation, and the test split."""
    data = load_search_data(name, root, seed, 0.05)
    data = replace(data, augment=Augment(flip=False, crop=0))
    test = load_test_split(name, root, seed)
    if images is not None:
        data = replace(data, val=data.val.subset(torch.arange(images)))
        test = test.subset(torch.arange(images))
    return data, test


def ancestors(name: str) -> tuple[str, ...]:
    """The arms that an arm grows from."""
    after = BY_NAME[name].after
    return (*ancestors(after), after) if after else ()


def folder(setting: str, name: str, seed: int) -> Path:
    """Where an arm's trained network is."""
    return OUT / setting / f"{name.replace(' ', '_').replace(',', '')}_{seed}"


if __name__ == "__main__":
    guarded(main)
