"""The scores of a task and its mean loss. Legend: N examples, B batch, K outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nas.base.errors import TrainingFailed
from nas.data import ImageSplit, SearchData, eval_batches
from nas.train import Precision, choose_arithmetic, forward_macs, native_bf16, put
from nas.train.precision import eval_mode

BATCH_NUMBERS = (
    400_000  # input values in a batch, 130 CIFAR images; larger batches need more memory and are no faster
)
TOKEN_NUMBERS = 32  # as many as a small network makes of each token


@dataclass(frozen=True)
class Scores:
    """values: the task's scores, by name. loss: the mean of the task's loss, not smoothed.

    losses, hits: the loss of each example [N], and whether its class has the largest output; on the CPU, as measured.
    said, sure: of a classification, the class with the largest output [N] and its probability [N].
    """

    values: Mapping[str, float]
    loss: float
    losses: Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)
    hits: Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)
    said: Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)
    sure: Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)

    @property
    def accuracy(self) -> float:
        """The share of examples whose class has the largest output, of a task that has this score."""
        return self.values["accuracy"]


def evaluate(
    module: nn.Module,
    split: ImageSplit,
    data: SearchData,
    *,
    batch_size: int | None = None,
    precision: Precision = "fp32",
    device: torch.device | str = "cpu",
) -> Scores:
    """Score `module` on `split` in eval mode; it stays on `device`, its modes and weights unchanged.

    split:     any split of the data set; it is normalised by data.mean and data.std.
    precision: as in TrainConfig. "fp32" gives the scores of the exported network; "auto" took 0.4 to 0.75 of
               the time on a CPU with avx512_bf16 and changed accuracy by 0.001 (5,000 images of CIFAR-10).
    Raises TrainingFailed if an output is not finite, UserError if module and data do not fit.
    """
    where = torch.device(device)
    numbers = math.prod(data.input_shape) * (1 if data.tokens is None else TOKEN_NUMBERS)
    batch_size = batch_size or max(4, min(500, BATCH_NUMBERS // numbers))
    module.to(where)
    macs = forward_macs(module, data.input_shape, data.outputs, data.tokens is not None)
    arithmetic = choose_arithmetic(precision, macs, native_bf16(where))
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    task = data.task
    outs: list[Tensor] = []
    correct: list[Tensor] = []
    losses: list[Tensor] = []
    sums: list[Tensor] = []
    with put(module, where, arithmetic), eval_mode(module), torch.inference_mode():
        for x, y in eval_batches(
            split, batch_size, data.mean, data.std, where, dtype, arithmetic.memory_format
        ):
            with torch.autocast(where.type, torch.bfloat16) if arithmetic.bf16 else nullcontext():
                out: Tensor = module(x)
            out = out if dtype == torch.float64 else out.float()
            outs.append(out)
            correct.append(task.hits(out, y))
            losses.append(task.losses(out, y))
            sums.append(task.total_loss(out, y))
        # Read once at the end, so that an accelerator does not wait after each batch.
        hits, each, lost = torch.cat(correct).cpu(), torch.cat(losses).cpu(), torch.stack(sums).tolist()
    loss = math.fsum(lost) / len(split) if all(map(math.isfinite, lost)) else math.nan
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"the loss on {len(split)} images of {data.name} is not finite; train with a lower learning rate"
        )
    whole = torch.cat(outs).cpu()
    values = {score.name: float(score.measure(whole, split.labels)) for score in task.scores}
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingFailed(
                f"the score {name} on {len(split)} examples of {data.name} is {value}; choose another with --select"
            )
    if task.targets != "classes":
        return Scores(values, loss, each, hits)
    sure, said = whole.softmax(dim=1).max(dim=1)
    return Scores(values, loss, each, hits, said, sure)
