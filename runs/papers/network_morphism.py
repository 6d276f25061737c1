"""The experiments of Network Morphism (Wei et al., arXiv 1603.01670) on MNIST and CIFAR-10, our figures beside theirs.

Figure 7: softmax regression on MNIST grows a hidden layer of 50 units. Figure 8 and Table 1: Caffe's cifar10_quick
(cifar_111) grows to cifar_211 and cifar_222 by depth, to cifar_2222 and cifar_3333 by subnets. Figure 9: cifar_base
grows its kernels, then its width; with tanh its width. Section 4.4: VGG16 grows a convolution in each of its first
three stages, on CIFAR-10 instead of ImageNet, and its rivals train for several times what the child costs. NetMorph
and Net2Net grow from the same trained parents; the same networks from scratch, and the parents trained on, get as many
multiply-adds as the chain they are compared with. Each arm trains for a length fixed beforehand, under one cosine, and
reads the test split once, at its end; curves are of the validation split.

The paper states neither learning rate nor augmentation: as in Caffe's recipe there is no augmentation, batches are of
100, momentum is 0.9. Nothing in an arm depends on what another reached. Results are appended to a state file, one line
of JSON for each arm and seed, and what is there is not run again.

    python runs/papers/network_morphism.py --data-root DIR [--seeds 0 1 2] [--jobs 2] [--figure 7|8|9|4.4]
        [--quick | --narrow | --full]
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
from _common import environment, finish, guarded  # noqa: E402
from _plan import CIFAR, MNIST, SETTINGS, VGG, arms_of, epochs, kind_of, macs  # noqa: E402
from _report import curves, figures, table  # noqa: E402
from _state import Record, append, read  # noqa: E402

import morphs  # noqa: E402
from nas.base.seeds import derive  # noqa: E402
from nas.data import Augment, SearchData, load_search_data, load_test_split  # noqa: E402
from nas.train import TrainConfig, train  # noqa: E402
from nas.train.evaluate import evaluate  # noqa: E402

OUT = HERE / "out"  # trained networks, which later arms grow from; git ignores it
# Learning rates by a short look at the validation split of seed 100, which is not reported: MNIST 0.02 and 0.05 (3,000
# steps), CIFAR-10 0.01, 0.02 and 0.04 (300 steps; the last diverged). A child on CIFAR-10 begins at its parent's first
# rate: both methods' children then diverge or forget within steps, unless gradients are clipped. At 0.003, clipped or
# not, they don't, and learn no more (half an epoch of cifar_211, seed 100).
TRAIN = {
    MNIST: TrainConfig(lr=0.05, weight_decay=1e-4, label_smoothing=0.0, batch_size=100),
    CIFAR: TrainConfig(lr=0.01, weight_decay=5e-4, label_smoothing=0.0, batch_size=100),
    VGG: TrainConfig(
        lr=0.02, weight_decay=5e-4, label_smoothing=0.0, batch_size=100, clip_norm=1.0, warmup_steps=100
    ),
}
DATA = {MNIST: "mnist", CIFAR: "cifar10", VGG: "cifar10"}
CHILD_CLIP = {MNIST: None, CIFAR: 1.0, VGG: 1.0}  # norm to which the gradients of grown networks are clipped


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
    parser.add_argument(
        "--figure", choices=("7", "8", "9", "4.4"), help="of the paper, or a section; all if not given"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--full", action="store_true", help="the paper's width and length: hours on a GPU")
    length.add_argument(
        "--narrow",
        action="store_true",
        help="CIFAR-10 at a quarter of the width, parents trained out: 3 hours a seed",
    )
    length.add_argument("--quick", action="store_true", help="a minute: the same code, nothing learned")
    arguments = parser.parse_args()
    setting = next((name for name in ("full", "narrow", "quick") if getattr(arguments, name)), "hour")
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    arms = [arm for arm in arms_of(setting).values() if arm.figure.startswith(arguments.figure or "")]
    wanted = [(arm.name, seed) for seed in seeds for arm in arms]
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
    print(table(rows, arms))
    if not arguments.quick:
        for panel in dict.fromkeys(arm.figure for arm in arms):
            shown = {arm.name for arm in arms if arm.figure == panel}
            if drawn := [row for row in rows if row["arm"] in shown]:
                path = arguments.state.with_name(f"network_morphism_{setting}_{_letters(panel)}.svg")
                path.write_text(curves(drawn))
    finish(__file__, figures(rows))


def run(wanted: list[tuple[str, int]], setting: str, state: Path, arguments: Any) -> Iterator[Record]:
    """Train what the state file lacks, parents before children, and keep each result durably."""
    found = {(r["arm"], r["seed"]) for r in read(state) if r["setting"] == setting}
    done = {key for key in found if (folder(setting, *key) / "graph.json").exists()}
    # What was measured but whose network is gone is trained again only where a child needs it.
    missing = [key for key in wanted if key not in found]
    needed = {(a, seed) for name, seed in missing for a in ancestors(setting, name)} - done
    queue = [key for key in wanted if key in needed or key not in found]
    running: dict[Future[Record], tuple[str, int]] = {}
    with ProcessPoolExecutor(
        arguments.jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        while queue or running:
            ready = [
                k for k in queue if (after := arms_of(setting)[k[0]].after) is None or (after, k[1]) in done
            ]
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
    arm, length = arms_of(setting)[name], SETTINGS[setting]
    kind = kind_of(arm)
    data, test = splits(kind, seed, root, length.images)
    fresh = morphs.init(morphs.parse_graph(arm.seed), derive(seed, kind))
    parent = morphs.load(folder(setting, arm.after, seed)) if arm.after else fresh
    network, drift = arm.make(parent, derive(seed, name))
    config = TRAIN[kind]
    if arm.after:
        config = replace(config, clip_norm=CHILD_CLIP[kind])
    steps = max(1, round(epochs(setting, name) * len(data.train) / config.batch_size))
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
        "params": morphs.cost(network.graph).params, "macs": macs(setting, name), "precision": report.precision,
        "seconds": round(report.seconds, 1), "finished": time.strftime("%Y-%m-%d %H:%M"),
        "environment": environment(),
    }  # fmt: skip


@cache
def splits(kind: str, seed: int, root: Path | None, images: int | None) -> tuple[SearchData, Any]:
    """Training and validation data (1/20 held out by the seed), augmented for VGG alone, and the test split."""
    data = load_search_data(DATA[kind], root, seed, 0.05)
    if kind != VGG:
        data = replace(data, augment=Augment(flip=False, crop=0))
    test = load_test_split(DATA[kind], root, seed)
    if images is not None:
        data = replace(data, val=data.val.subset(torch.arange(images)))
        test = test.subset(torch.arange(images))
    return data, test


def ancestors(setting: str, name: str) -> tuple[str, ...]:
    """The arms that an arm grows from."""
    after = arms_of(setting)[name].after
    return (*ancestors(setting, after), after) if after else ()


def folder(setting: str, name: str, seed: int) -> Path:
    """Where an arm's trained network is."""
    return OUT / setting / f"{name.replace(' ', '_').replace(',', '')}_{seed}"


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


if __name__ == "__main__":
    guarded(main)
