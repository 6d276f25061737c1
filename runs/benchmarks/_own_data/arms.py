"""The ways to get a network from one's own data within some minutes, each scored on the same test examples."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType

import torch
from torch import nn

from _own_data import automl
from _own_data.task import Found, Task, loaded, rows_of
from nas.base.errors import UserError
from nas.data import train_batches
from nas.data.augment import NONE
from nas.data.baseline import baseline_scores
from nas.ledger.scores import LINEAR, SIMPLE, merit
from nas.train.evaluate import evaluate

BATCH, RATE = 32, 1e-3
PATIENCE = 1 / 3  # of the time, without a lower validation loss, ends the fixed network's training


def search(task: Task) -> Found:
    """`nas search auto` with a budget, and nothing else said."""
    shutil.rmtree(task.folder, ignore_errors=True)
    ends = (
        ["--cost", "2e7", "--most-epochs", "20"]
        if task.seconds is None
        else ["--budget", f"{task.seconds:g}s"]
    )
    nas = [sys.executable, "-m", "nas"]
    given = ["--data", task.spec, "--seed", str(task.seed), "--run", str(task.folder), "--quiet"]
    done = subprocess.run(
        [*nas, "search", "auto", *given, *ends], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    told = subprocess.run(
        [*nas, "status", str(task.folder), "--json"], capture_output=True, text=True, check=True
    )
    status = json.loads(told.stdout)
    shutil.rmtree(task.folder, ignore_errors=True)
    kept = ("best_score", "best_params", "generation", "complete", "remarks")
    facts = {"used": status["seconds"], **{name: status[name] for name in kept}}
    return Found(status["test_score"], status["score"], len(loaded(task)[1]), facts)


def fixed(task: Task) -> Found:
    """A small network of fixed size, trained by Adam for the same time, or until a third of that time has brought no
    lower validation loss; the weights with the least one, of all epochs.
    """
    data, test = loaded(task)
    torch.manual_seed(task.seed)
    module = network(data.input_shape, data.outputs)
    optimizer = torch.optim.Adam(module.parameters(), lr=RATE, weight_decay=1e-4)
    seconds = 1.0 if task.seconds is None else task.seconds
    size = min(BATCH, len(data.train))
    order = torch.Generator().manual_seed(task.seed)
    batches = train_batches(data.train, size, order, data.mean, data.std, NONE)
    best, least, epochs = deepcopy(module.state_dict()), float("inf"), 0
    began = found = time.monotonic()
    while (now := time.monotonic()) - began < seconds and now - found < seconds * PATIENCE:
        module.train()
        for x, y in islice(batches, len(data.train) // size):
            optimizer.zero_grad()
            data.task.mean_loss(module(x), y).backward()
            optimizer.step()
        epochs += 1
        loss = evaluate(module, data.val, data).loss
        if loss < least:
            best, least, found = deepcopy(module.state_dict()), loss, time.monotonic()
    module.load_state_dict(best)
    value = evaluate(module, test, data).values[data.task.scores[0].name]
    return Found(value, data.task.main, len(test), {"epochs": epochs, "used": time.monotonic() - began})


def network(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Two hidden layers of 64 for vectors; two convolutions of 32 and 64 channels and a layer of 64 for images."""
    if len(shape) == 1:
        layers = [nn.Linear(shape[0], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs)]
        return nn.Sequential(*layers)
    c, h, w = shape
    return nn.Sequential(
        nn.Conv2d(c, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * (h // 4) * (w // 4), 64), nn.ReLU(), nn.Linear(64, outputs),
    )  # fmt: skip


def _baseline(name: str) -> Callable[[Task], Found]:
    def run(task: Task) -> Found:
        data, test = loaded(task)
        return Found(baseline_scores(data, {"test": test})[f"{name}_test"], data.task.main, len(test), {})

    return run


def forest(task: Task) -> Found:
    """scikit-learn's random forest as it comes, on the pixels or numbers."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    data, test = loaded(task)
    x, held = rows_of(data, data.train), rows_of(data, test)
    if data.task.targets == "values":
        values = RandomForestRegressor(random_state=task.seed).fit(x, data.train.labels[:, 0]).predict(held)
        score = float((torch.as_tensor(values) - test.labels[:, 0]).square().mean().sqrt())
    else:
        score = (
            RandomForestClassifier(random_state=task.seed).fit(x, data.train.labels).score(held, test.labels)
        )
    return Found(float(score), data.task.main, len(test), {})


@dataclass(frozen=True)
class Arm:
    """One way. tables, images: what it is for. lacks: why it can't be run here; empty if it can."""

    run: Callable[[Task], Found]
    tables: bool = True
    images: bool = True
    lacks: Callable[[], str] = lambda: ""


SEARCH, FIXED, BASELINES = "search", "fixed", (SIMPLE, LINEAR)
ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        SEARCH: Arm(search),
        FIXED: Arm(fixed),
        SIMPLE: Arm(_baseline(SIMPLE)),
        LINEAR: Arm(_baseline(LINEAR)),
        "forest": Arm(forest),
        "autogluon": Arm(automl.autogluon, images=False, lacks=automl.autogluon_lacks),
        "autokeras": Arm(automl.autokeras, tables=False, lacks=automl.autokeras_lacks),
    }
)


def gain(main: str, one: float, other: float) -> float:
    """By how much `one` is better than `other`."""
    return merit(main, one) - merit(main, other)
