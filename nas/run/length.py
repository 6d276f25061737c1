"""How long a network should train on few examples: longer than that, it fits them ever better and others worse."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import fmean

from morphs import ArchGraph, init
from nas.base import machine
from nas.base.errors import TrainingFailed
from nas.base.seeds import derive
from nas.config.run_config import RunConfig
from nas.data import SearchData, StreamSplit
from nas.data.join import joined
from nas.data.splits import hold_out
from nas.run.suited import SMALL, VALIDATED
from nas.train import train
from nas.train.evaluate import evaluate

LONGEST = 300.0  # epochs; classes are hardly confused more often after more
LENGTHS = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)  # epochs that are tried
SPLITS = 3  # on each of which all lengths are tried, where a few dozen examples are held out
HELD = 0.2
SHARE = 0.15  # of the budget for trying
BEYOND = 4  # times the best length tried, where the time for trying ended before a longer one was worse


def with_length(config: RunConfig, graph: ArchGraph, data: SearchData, left: float | None) -> RunConfig:
    """`config` with the longest training that suits few examples, if a budget or cost is to end it and nobody gave it.

    Of classes it is LONGEST. Of values, and of tokens, which a network may fit too closely after a few epochs, it is
    measured with the seed network `graph`, if `left`, the seconds of the budget, allows that.
    """
    ends = config.budget is not None or config.cost is not None
    if (
        "most_epochs" not in config.fitted
        or not ends
        or config.schedule != "lineage"
        or len(data.train) > SMALL
    ):
        return config
    longest: float | None = LONGEST
    if (data.task.targets == "values" or data.tokens is not None) and left is not None:
        longest = measured(config, graph, data, SHARE * left)
    return config.model_copy(update={"most_epochs": longest})


def measured(
    config: RunConfig,
    graph: ArchGraph,
    data: SearchData,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """The number of epochs after which the loss of `graph` on held-out examples is least, in the mean of a few splits
    of the training and validation examples. BEYOND times as many as were best if the seconds end before the loss rises.
    """
    end, losses = clock() + seconds, dict[float, float]()
    parts = tuple(_splits(config, data))
    with machine.threads(config.threads):
        for epochs in LENGTHS:
            found: list[float] = []
            for part in parts:
                if clock() > end and losses:
                    return BEYOND * min(losses, key=losses.__getitem__)
                found.append(_loss(config, graph, part, epochs))
            losses[epochs] = fmean(found)
            best = min(losses, key=losses.__getitem__)
            if LENGTHS.index(epochs) - LENGTHS.index(best) >= 2:
                return best
    return min(losses, key=losses.__getitem__)


def _splits(config: RunConfig, data: SearchData) -> Iterator[SearchData]:
    """The run's own split, and others of the same examples if these are few and in memory."""
    yield data
    if len(data.val) > VALIDATED or isinstance(data.train, StreamSplit) or isinstance(data.val, StreamSplit):
        return
    whole = joined(data.train, data.val)
    for number in range(1, SPLITS):
        train_, val = hold_out(whole, HELD, config.seed, f"length {number}")
        yield replace(data, train=train_, val=val)


def _loss(config: RunConfig, graph: ArchGraph, data: SearchData, epochs: float) -> float:
    """The loss on the validation examples after so many epochs, the decay included; infinite if it diverges."""
    steps = max(1, round(epochs * len(data.train) / config.train.batch_size))
    training = replace(config.train, warmup_steps=min(config.train.warmup_steps, steps // 10))
    module = init(graph, derive(config.seed, "length")).to_torch()
    try:
        train(
            module, data, steps=steps, config=training, seed=derive(config.seed, "length"), device=config.device,
            decay=max(1, round(config.final_share * steps)),
        )  # fmt: skip
        return evaluate(module, data.val, data, device=config.device).loss
    except TrainingFailed:
        return float("inf")
