"""Chooses settings that suit the data, where nobody gave them: how much is held out, how images change, the batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, log2
from typing import Any

from nas.base.text import percent, plural
from nas.config.run_config import RunConfig
from nas.data import SearchData, ValueSplit
from nas.data.augment import NONE
from nas.registry.defaults import ADAMW, ADAMW_TRAINED
from nas.registry.registry import Registry
from search_spaces.auto import choice

SMALL = 10_000  # examples; below it their number decides
VALIDATED = 100  # examples to judge by: with fewer, a score is off by 5 points and more
MOST_HELD = 0.25  # of the training examples: what is held out is not learned from
BATCHES = 12  # in an epoch
LEAST_BATCH = 16  # batch norm needs some
SHIFT = 14  # a shift is at most this part of a side, so that what is in an image stays in it
WARM = 0.05  # of the training is warm-up
OF_SGD = ("lr", "weight_decay")  # what spaces state for that optimizer alone
OF_SPACE = ("moves_per_child", "select")  # what a space decides besides its training
DECAY_OF_VECTORS = 0.01  # networks without norms fit tables of hundreds of rows too closely without it
LEAST_STEPS = 40  # of a trial; after fewer it is judged by the noise of its first steps


def suited_training(config: RunConfig, data: SearchData, registry: Registry, fresh: bool = True) -> RunConfig:
    """`config` with the training of the space that `auto` chooses for `data`, and with an optimizer and a weight decay
    that suit what they are. A search that is not `fresh` begins with a trained network, which has settings of its own;
    of these only the optimizer may change.
    """
    training: dict[str, Any] = {}
    chosen = choice(data.input_shape, data.tokens).__name__
    if fresh and config.space == "auto" and (entry := registry.spaces.get(chosen)):
        free = {name: value for name, value in entry.defaults.items() if name in OF_SPACE}
        config = config.model_copy(
            update={name: value for name, value in free.items() if name in config.fitted}
        )
        training |= entry.defaults.get("train", {})
    if fresh and len(data.input_shape) == 1 and data.tokens is None:
        training["weight_decay"] = DECAY_OF_VECTORS
    if config.train.optimizer != "sgd":
        training = {name: value for name, value in training.items() if name not in OF_SGD}
    elif data.tokens is not None and "optimizer" in config.fitted:
        rates = ADAMW["train"] if fresh else {**ADAMW["train"], **ADAMW_TRAINED["train"]}
        training |= {"optimizer": "adamw", **rates}
    training = {name: value for name, value in training.items() if name in config.fitted}
    return config.model_copy(update={"train": replace(config.train, **training)})


def suited_data(config: RunConfig, data: SearchData) -> RunConfig:
    """`config` with a validation split and an augmentation that suit `data`, which is to be loaded again if they
    differ, and with the examples of the final training.
    """
    update: dict[str, object] = {}
    count = len(data.train) + len(data.val)
    if "val_fraction" in config.fitted and data.held_out and count * config.val_fraction < VALIDATED:
        wanted = ceil(100 * min(MOST_HELD, VALIDATED / count)) / 100
        update["val_fraction"] = max(config.val_fraction, wanted)
    if "augment" in config.fitted and data.augment == NONE and _shifts(data):
        update["augment"] = f"shifts={_shifts(data)}"
    # A cost is for comparisons of trainings on the same examples.
    if "final_data" in config.fitted and data.held_out and count < SMALL and config.cost is None:
        update["final_data"] = "all"
    return config.model_copy(update=update)


def _shifts(data: SearchData) -> int:
    """The most pixels by which an image is shifted; 0 for many images, and for what is not an image."""
    if isinstance(data.train, ValueSplit) or len(data.train) > SMALL:
        return 0
    return min(data.train.shape[1:]) // SHIFT


def suited_batches(config: RunConfig, images: int) -> RunConfig:
    """`config` with batches, a warm-up and trials that suit so many training examples.

    The warm-up is a part of the training as far as epochs and generations tell; a budget may shorten it (`warmed`).
    """
    batch = config.train.batch_size
    if "batch_size" in config.fitted:
        batch = min(batch, max(LEAST_BATCH, 2 ** round(log2(max(1.0, images / BATCHES)))))
        config = config.model_copy(update={"train": replace(config.train, batch_size=batch)})
    if config.budget is not None or config.cost is not None:
        return config  # which say how long it is trained
    if "epochs" in config.fitted and config.epochs * images < LEAST_STEPS * batch:
        config = config.model_copy(update={"epochs": LEAST_STEPS * batch / images})
    trials = 1 + (config.generations or 0)
    return warmed(config, config.epochs * images / batch * trials / (1 - config.final_share))


def warmed(config: RunConfig, steps: float) -> RunConfig:
    """`config` with a warm-up that suits a training of so many steps."""
    warm = min(config.train.warmup_steps, int(WARM * steps))
    if "warmup_steps" not in config.fitted or warm == config.train.warmup_steps:
        return config
    return config.model_copy(update={"train": replace(config.train, warmup_steps=warm)})


def told(before: RunConfig, config: RunConfig, images: int) -> Sequence[str]:
    """What was chosen for so many training examples, a sentence each."""
    said: list[str] = []
    if config.val_fraction != before.val_fraction:
        said.append(
            f"validation: {percent(config.val_fraction, 0)} of the training examples instead of "
            f"{percent(before.val_fraction, 0)}, since there are few; --val-fraction sets it"
        )
    old, new = before.train, config.train
    if new.optimizer != old.optimizer:
        said.append(f"optimizer: {new.optimizer}, which suits tokens; --optimizer sets another")
    if new.batch_size != old.batch_size:
        said.append(
            f"batches: {new.batch_size} examples, so that an epoch of {plural(images, 'example')} has several; "
            "--batch-size sets it"
        )
    if new.warmup_steps < old.warmup_steps:
        said.append(
            f"warm-up: {plural(new.warmup_steps, 'step')} instead of {old.warmup_steps}, since the training is short; "
            "--set train.warmup_steps=N sets it"
        )
    if config.final_data != before.final_data:
        said.append(
            "final training: on the validation examples too, since there are few; its validation score is that before "
            "it; --final-data train leaves them out"
        )
    if config.budget is None and config.cost is None and config.epochs != before.epochs:
        said.append(f"trials: {config.epochs:.3g} epochs each, about {LEAST_STEPS} steps; --epochs sets it")
    return said
