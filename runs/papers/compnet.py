"""Tables 1 and 2 of CompNet (Lu, Ma, Faltings): LeNet4 -> LeNet5 on MNIST; VGG15 -> 16 -> 17 and 18 -> 19 on CIFAR-10.

A parent is trained, a convolution inserted where the paper inserts it, and the child trained on: with Algorithms 1, 2
and 3, with NetMorph at the width of Algorithm 2 (Oracle) and at the width before sparsifying (Redundant), each for
equally many epochs. The redundant network from scratch gets the parent's epochs and the child's together, at the
parent's rate, as in the paper (2,000 beside 1,000 and 1,000). Widths of the algorithms are the paper's own (Table 1),
reached by `keep`, so that the arms differ in how neurons are chosen. Apart from that, `choice` lines show what the
literal lambda = alpha = 0.1 keeps, and how the function fares when as many neurons are dropped by other rules.

The validation split (1/20 of the training images) draws the curves; the test split is read once by each arm, at its
end. Each result is one line of a state file; what is there is not run again.

    python runs/papers/compnet.py --data-root DIR [--seeds 0 1 2] [--only lenet|vgg] [--quick | --full]
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))
from _common import environment, finish, guarded  # noqa: E402
from _compnet_charitable import compacted  # noqa: E402
from _compnet_report import figures, line, report  # noqa: E402
from _compnet_rows import ARMS, CHANCE, QUICK, ROWS, Row  # noqa: E402
from _state import Record, append, read  # noqa: E402
from _vgg import vgg  # noqa: E402

import morphs  # noqa: E402
from morphs import Compact, Network  # noqa: E402
from morphs.errors import NoFactoring  # noqa: E402
from nas.base.seeds import derive  # noqa: E402
from nas.data import Augment, SearchData, load_search_data, load_test_split, train_batches  # noqa: E402
from nas.train import TrainConfig, train  # noqa: E402
from nas.train.evaluate import evaluate  # noqa: E402

OUT = HERE / "out"  # trained parents; git ignores it

LENET4 = """
    x = input(size=[1, 28, 28])
    c1 = conv2d(x, channels=20, kernel=5); r1 = relu(c1); m1 = max_pool2d(r1, kernel=2)
    c2 = conv2d(m1, channels=50, kernel=5); r2 = relu(c2); m2 = max_pool2d(r2, kernel=2)
    f = flatten(m2); fc1 = linear(f, features=500); r3 = relu(fc1); fc2 = linear(r3, features=10); y = output(fc2)
"""


@dataclass(frozen=True)
class Setting:
    """Epochs of parent and child, points on a child's curve, `divide`: how much narrower than the paper VGG is."""

    lenet: tuple[float, float]
    vgg: tuple[float, float]
    divide: int
    points: int
    rows: int
    images: int | None = None  # of validation and test split each; None is all


SETTINGS = {
    "hour": Setting((2, 0.5), (5, 1), 8, 10, 20_000),  # an hour of two cores
    "full": Setting((200, 100), (300, 100), 1, 100, 40_000),  # a GPU's day; the paper's widths
    "quick": Setting((0.02, 0.01), (0.005, 0.005), 16, 1, 1500, 200),
}
# The paper trains with 5e-3 and 3e-4 for hundreds of epochs; a few epochs need more.
TRAIN = {
    "lenet": TrainConfig(lr=0.02, weight_decay=1e-6, label_smoothing=0.0, batch_size=64, clip_norm=5.0),
    "vgg": TrainConfig(lr=0.02, weight_decay=1e-6, label_smoothing=0.0, batch_size=64, clip_norm=1.0, warmup_steps=100),
}  # fmt: skip
CHILD_LR = 0.005  # of all grown arms: a high rate would throw away what they inherit
DATA = {"lenet": "mnist", "vgg": "cifar10"}


@dataclass(frozen=True)
class Run:
    """What every step of a call shares."""

    name: str
    setting: Setting
    state: Path
    root: Path | None
    device: str

    def key(self, kind: str, row: str, arm: str, seed: int) -> tuple[str, str, str, str, int]:
        """What tells one result from another."""
        return self.name, kind, row, arm, seed


def main() -> None:
    """Run what is missing, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, default=None, help="torchvision's folder of data sets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=tuple(TRAIN))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--state", type=Path, default=HERE / "compnet.jsonl")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--full", action="store_true", help="the paper's size: a day on a GPU")
    length.add_argument("--quick", action="store_true", help="a minute: the same code, nothing learned")
    arguments = parser.parse_args()
    name = "full" if arguments.full else "quick" if arguments.quick else "hour"
    state = OUT / "compnet_quick.jsonl" if arguments.quick else arguments.state
    if arguments.quick:
        state.unlink(missing_ok=True)
    run = Run(name, SETTINGS[name], state, arguments.data_root, arguments.device)
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    rows = [row for row in (QUICK if arguments.quick else ROWS) if arguments.only in (None, row.net)]
    for seed in seeds:  # the first seed of every row, then the others
        for row in rows:
            if seed < row.seeds or arguments.quick:
                for record in one_row(run, row, seed):
                    print(line(record), flush=True)
    records = [r for r in read(state) if r["setting"] == name]
    print("\n".join(report(records)))
    finish(__file__, figures(records))


def one_row(run: Run, row: Row, seed: int) -> Iterator[Record]:
    """Everything of one row and seed that the state file lacks."""
    folder, found = yield from parent(run, row, seed)
    if found["test"] < CHANCE and run.name != "quick":
        yield {**found, "arm": f"parent at chance, {row.name} left out"}
        return
    net, done = morphs.load(folder), results(run)
    wanted = [("arm", arm) for arm in ARMS]
    if row.name == ROWS[0].name or (row.inserted == row.parent == "relu"):
        wanted = [*(("choice", text) for text in choices(row, run.setting)), *wanted]
    for kind, arm in wanted:
        if run.key(kind, row.name, arm, seed) not in done:
            make = choose if kind == "choice" else train_arm
            record = base(run, row, seed, kind, arm) | make(run, row, seed, arm, net, found)
            append(run.state, record)
            yield record


def results(run: Run) -> dict[tuple[str, str, str, str, int], Record]:
    """What the state file has of this setting."""
    rows = [r for r in read(run.state) if r["setting"] == run.name]
    return {run.key(r["kind"], r["row"], r["arm"], r["seed"]): r for r in rows}


def parent(run: Run, row: Row, seed: int) -> Generator[Record, None, tuple[Path, Record]]:
    """Where the row's trained parent is, and its line. Yields the lines of what had to be trained for it."""
    if row.after:
        before = next(other for other in ROWS if other.name == row.after)
        folder, arm = child_folder(run, before, seed), ARMS[0]
        key = run.key("arm", before.name, arm, seed)
        if key not in results(run):
            yield from one_row(run, before, seed)
        found = results(run)[key]
        if not (folder / "graph.json").exists():  # measured, but its network is gone
            source, line = yield from parent(run, before, seed)
            train_arm(run, before, seed, arm, morphs.load(source), line)
        return folder, found | {"validation": found["curve"][-1][1]}
    key = run.key("parent", row.shared, "parent", seed)
    folder = OUT / run.name / f"compnet_{row.shared.replace(' ', '_')}_{seed}"
    done = results(run)
    if key not in done or not (folder / "graph.json").exists():
        record = trained_parent(run, row, seed, folder) | {"row": row.shared}
        if key not in done:
            append(run.state, record)
            yield record
        done[key] = record
    return folder, done[key]


def child_folder(run: Run, row: Row, seed: int) -> Path:
    """Where a row's trained child of Algorithm 1 is, which another row may begin with."""
    return OUT / run.name / f"compnet_{''.join(filter(str.isalnum, row.name))}_{ARMS[0]}_{seed}"


def trained_parent(run: Run, row: Row, seed: int, folder: Path) -> Record:
    """Train and keep a parent."""
    data, test = splits(row.net, seed, run.root, run.setting.images)
    text = LENET4 if row.net == "lenet" else vgg(row.base, 64 // run.setting.divide, row.parent)
    net = morphs.init(morphs.parse_graph("\n".join(text.split(";"))), derive(seed, row.net, "init"))
    epochs = getattr(run.setting, row.net)[0]
    trained, curve, seconds = fitted(run, TRAIN[row.net], net, data, epochs, derive(seed, "parent"))
    morphs.save(trained, folder)
    scores = evaluate(trained.to_torch(), test, data, device=run.device)
    return base(run, row, seed, "parent", "parent") | {
        "test": scores.accuracy, "validation": curve[-1][1], "params": morphs.cost(trained.graph).params,
        "seconds": seconds,
    }  # fmt: skip


def scaled(row: Row, setting: Setting) -> tuple[int, tuple[int, ...]]:
    """Neurons before and after sparsifying, at this setting's width."""
    divide = setting.divide if row.net == "vgg" else 1
    return row.redundant // divide, tuple(round(kept / divide) for kept in row.kept)


def move(row: Row, setting: Setting, **changes: Any) -> Compact:
    """The insertion of this row."""
    return Compact(
        row.node,
        scaled(row, setting)[0],
        kernel=(3, 3),
        activation=row.inserted,
        rows=setting.rows,
        **changes,
    )


def choices(row: Row, setting: Setting) -> list[str]:
    """The literal settings, then as many neurons as Algorithm 2 kept in the paper by every rule."""
    before, after = scaled(row, setting)
    share = after[1] / before
    literal = [f"{how} literal" for how in ("alg1", "alg2", "alg3")]
    rules = ("alg1", "alg2", "alg3", "alg3 unfitted", "random", "random again", "norm", "contribution")
    charitable = [
        f"{how} charitable {size}" for how in ("alg1", "alg3") for size in ("literal", f"{share:.3f}")
    ]
    return [*literal, *(f"{how} {share:.3f}" for how in rules), "alg3 1.000", *charitable]


def choose(run: Run, row: Row, seed: int, text: str, net: Network, _: Record) -> Record:
    """The child that one rule makes, without training: what it keeps, and what the network still knows."""
    data, _test = splits(row.net, seed, run.root, run.setting.images)
    how, *words, last = text.split()
    aim = {"penalty": 0.1} if last == "literal" else {"keep": float(last)}
    unfitted = "unfitted" in words or (how, last) == ("alg3", "literal")
    draw, given = derive(seed, "new layer", "again" in words) >> 1, batches(data, seed)
    began = time.process_time()
    if "charitable" in words:
        share = None if last == "literal" else float(last)
        grown, notes = compacted(how, net, move(row, run.setting, keep=1.0), share, draw, given)
    else:
        bound = move(row, run.setting, how=how, refit=not unfitted, **aim)
        child = morphs.apply(net, bound, seed=draw, batches=given, measure=False)
        grown, notes = child.network, dict(child.notes)
    seconds = time.process_time() - began
    scores = evaluate(grown.to_torch(), data.val, data, device=run.device)
    return {"notes": notes, "after": scores.accuracy, "seconds": round(seconds, 1)}


def train_arm(run: Run, row: Row, seed: int, arm: str, net: Network, parent: Record) -> Record:
    """Grow as the arm says, train, and test once."""
    data, test = splits(row.net, seed, run.root, run.setting.images)
    before, after = scaled(row, run.setting)
    began = time.process_time()
    child, kept, notes = grown(run, row, seed, arm, net, before, after, data)
    morphing = time.process_time() - began
    lengths, config = getattr(run.setting, row.net), TRAIN[row.net]
    epochs = lengths[1]
    if arm == "Scratch":
        epochs = sum(lengths)
    else:
        config = replace(config, lr=CHILD_LR)
    trained, curve, seconds = fitted(run, config, child, data, epochs, derive(seed, row.name, "train"))
    if arm == ARMS[0]:
        morphs.save(trained, child_folder(run, row, seed))
    reached = next((at for at, value in curve if value >= parent["validation"]), None)
    return {
        "before": before, "kept": kept, "after": curve[0][1], "curve": curve, "epochs_to_parent": reached,
        "test": evaluate(trained.to_torch(), test, data, device=run.device).accuracy, "notes": notes, "epochs": epochs,
        "params": morphs.cost(child.graph).params, "morph_seconds": round(morphing, 1), "seconds": seconds,
    }  # fmt: skip


def grown(
    run: Run,
    row: Row,
    seed: int,
    arm: str,
    net: Network,
    before: int,
    after: tuple[int, ...],
    data: SearchData,
) -> tuple[Network, int, Record]:
    """The arm's network before its training, its width, and notes."""
    draw = derive(seed, "new layer") >> 1
    bound = move(row, run.setting, keep=1.0)
    if arm == "Scratch":
        return morphs.init(bound.reshape(net.graph), draw), before, {}
    if arm.startswith("NetMorph"):
        width = before if arm.endswith("Redundant") else after[1]
        try:
            found = morphs.apply(net, bound.netmorph(net.graph, width), seed=draw)
        except NoFactoring as error:  # the message names a width that works
            wider = int(re.findall(r"use (\d+) channels", str(error))[0])
            found, width = morphs.apply(net, bound.netmorph(net.graph, wider), seed=draw), wider
        assert found.drift is not None
        return found.network, width, {"drift": found.drift.eval}
    number = int(arm[3])
    bound = move(row, run.setting, how=f"alg{number}", keep=after[number - 1] / before)
    made = morphs.apply(net, bound, seed=draw, batches=batches(data, seed))
    assert made.drift is not None
    return made.network, after[number - 1], {**made.notes, "drift": made.drift.eval}


def fitted(
    run: Run, config: TrainConfig, net: Network, data: SearchData, epochs: float, seed: int
) -> tuple[Network, list[tuple[float, float]], float]:
    """Train: the network, (epochs, validation accuracy) along the way, and processor seconds."""
    steps = max(1, round(epochs * len(data.train) / config.batch_size))
    module = net.to_torch()
    curve = [(0.0, evaluate(module, data.val, data, device=run.device).accuracy)]
    marks = {round(steps * i / run.setting.points) for i in range(1, run.setting.points + 1)}

    def look(step: int, _: int, __: float) -> None:
        if step in marks:
            value = evaluate(copy.deepcopy(module), data.val, data, device=run.device).accuracy
            curve.append((round(step * config.batch_size / len(data.train), 4), value))

    began = time.process_time()
    train(module, data, steps=steps, config=config, seed=seed, device=run.device, on_step=look)
    return net.with_weights_from(module), curve, round(time.process_time() - began, 1)


def batches(data: SearchData, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Training images as they are, for the fits; at most 20 times 256 of them."""
    draws = torch.Generator().manual_seed(derive(seed, "batches"))
    plain = Augment(flip=False, crop=0)
    return islice(train_batches(data.train, 256, draws, data.mean, data.std, plain), 20)


@cache
def splits(net: str, seed: int, root: Path | None, images: int | None) -> tuple[SearchData, Any]:
    """Training and validation data (1/20 held out by the seed), and the test split."""
    data = load_search_data(DATA[net], root, seed, 0.05)
    if net == "lenet":
        data = replace(data, augment=Augment(flip=False, crop=0))
    test = load_test_split(DATA[net], root, seed)
    if images is not None:
        data = replace(data, val=data.val.subset(torch.arange(images)))
        test = test.subset(torch.arange(images))
    return data, test


def base(run: Run, row: Row, seed: int, kind: str, arm: str) -> Record:
    """What every line says."""
    return {
        "setting": run.name, "kind": kind, "row": row.name, "arm": arm, "seed": seed,
        "finished": time.strftime("%Y-%m-%d %H:%M"), "environment": environment(),
    }  # fmt: skip


if __name__ == "__main__":
    guarded(main)
