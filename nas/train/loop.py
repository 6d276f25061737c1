"""The training loop. Legend: B batch, C channels, H height, W width."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from nas.base.errors import TrainingFailed, UserError
from nas.config.training import TrainConfig
from nas.data import SearchData, Task, train_batches
from nas.train.averaging import Average
from nas.train.divergence import LossWatch, non_finite
from nas.train.optimizer import Optimizer, make_optimizer
from nas.train.precision import Arithmetic, choose_arithmetic, forward_macs, native_bf16, put
from nas.train.schedule import learning_rate, position

OnStep = Callable[[int, int, float], None]
Lengths = tuple[tuple[int, int], ...]
Lengthen = Callable[[int, int], int]
OptimizerState = tuple[Mapping[str, Tensor], ...]
LOOK_EVERY = 50  # steps between checks of the losses on an accelerator


@dataclass(frozen=True)
class Paused:
    """The state of a run between two steps, apart from the weights: enough to continue as if it had never stopped.

    step: steps done. state: the optimizer's, such as its momentum: mappings of parameter names to tensors of the
    parameters' shapes, on the CPU. random: states of the generators that dropout draws from, first the CPU's, then the
    accelerator's. losses: the last ones.
    """

    step: int
    state: OptimizerState = field(repr=False)
    random: tuple[Tensor, ...] = field(repr=False)
    losses: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True)
class TrainReport:
    """The result of a run. loss: mean over the last tenth of its steps; seconds: wall time; precision:
    "bf16" or "fp32"; paused: the state in which it ended; ended: whether no step is left; lengths: how its length was
    changed, from the beginning; averaged: the module with the average weights, if asked for.
    """

    steps: int
    images: int
    loss: float
    seconds: float
    precision: str
    paused: Paused = field(repr=False, compare=False)
    ended: bool = True
    lengths: Lengths = ()
    averaged: nn.Module | None = field(default=None, repr=False, compare=False)

    @property
    def state(self) -> OptimizerState:
        """The optimizer's state: see `Paused`."""
        return self.paused.state


@dataclass(frozen=True)
class _Span:
    """Steps of a run of `steps` from `first` on, up to step `until` (None: to the end), whichever comes first. The run
    begins at step `start` of a schedule of `total` steps. The rate decays over the last `decay` steps of the schedule
    (None: follows a cosine over all of it). The weights are averaged over the last `average` steps of the run. lengths:
    changes of `steps` on the way.
    """

    first: int
    until: int | None
    steps: int
    start: int
    total: int
    decay: int | None
    average: int
    lengths: Lengths


def train(
    module: nn.Module,
    data: SearchData,
    *,
    steps: int,
    config: TrainConfig,
    seed: int,
    device: torch.device | str = "cpu",
    on_step: OnStep | None = None,
    start: int = 0,
    total: int | None = None,
    state: OptimizerState | None = None,
    teacher: nn.Module | None = None,
    since: Paused | None = None,
    until: int | None = None,
    decay: int | None = None,
    average: int = 0,
    lengths: Lengths = (),
    lengthen: Lengthen | None = None,
) -> TrainReport:
    """Train `module` in place for `steps` batches of data.train; it ends in train mode, on `device`.

    On a CPU the same module, data, arguments and number of threads give the same weights bit for bit. The loop
    reads no global generator and restores the state of all of them.

    seed:         decides batches, augmentation and dropout.
    on_step:      called after each step with (steps done, steps, latest known loss); keep it cheap.
    start, total: the steps are start … start + steps - 1 of a schedule of `total` (default start + steps), for a
                  run that continues from another run's weights with other batches.
    decay:        instead of a cosine, a constant rate that falls over the last `decay` steps of the schedule.
    average:      also average the weights over this many last steps (0: don't); the report has the averaged module.
    state:        initial state of the optimizer, such as its momentum, as in an earlier report; default 0.
    teacher:      a network with the same outputs, whose outputs `module` learns along with the labels, with weight
                  `config.distill` in the loss (Hinton, Vinyals and Dean, arXiv 1503.02531, at temperature 1). It
                  is not changed.
    since, until: take only the steps from the pause of an earlier call with the same arguments, whose weights
                  `module` has, up to step `until` or the end: the parts together give the same bits as the whole.
    lengths:      changes of `steps` on the way, as (steps done, new number of steps): see `position`.
    lengthen:     called after each step with (steps done, steps); returns the number of steps from here on. A change is
                  added to `lengths`, with which another call gives the same bits.
    Raises TrainingFailed if the loss or a weight is not finite, UserError if module, data and numbers do not fit,
    DataError for an unreadable image. The module is then unusable.
    """
    began = time.perf_counter()
    span = _span(steps, start, total, since, until, decay, average, lengths)
    where = torch.device(device)
    module.to(where).train()
    macs = forward_macs(module, data.input_shape, data.outputs, data.tokens is not None)
    arithmetic = choose_arithmetic(config.precision, macs, native_bf16(where))
    batch_source = torch.Generator().manual_seed(seed)
    dropout_seed = int(torch.randint(2**62, (), generator=batch_source))
    every = 1 if where.type == "cpu" else LOOK_EVERY
    watch = LossWatch(steps, every, _remedy(config), span.first, since.losses if since else ())
    inherited = (state if since is None else since.state) or ()
    held = non_finite(module)  # a mask of -inf, say
    with put(module, where, arithmetic), _seeded(where, dropout_seed, since), _reproducible(where):
        batches = train_batches(
            data.train, config.batch_size, batch_source, data.mean, data.std, data.augment, where,
            _dtype(module), arithmetic.memory_format, span.first,
        )  # fmt: skip
        with closing(cast(Generator[tuple[Tensor, Tensor]], batches)):
            optimizer = make_optimizer(module, config)
            optimizer.put(
                {
                    p: [values[name] for values in inherited]
                    for name, p in module.named_parameters()
                    if inherited and name in inherited[0]
                }
            )
            taught = nullcontext() if teacher is None else put(teacher.to(where).eval(), where, arithmetic)
            mean = Average(module)
            with taught:
                done, changed = _run(
                    module, data.task, teacher, optimizer, batches, span, config, arithmetic, where, watch, mean,
                    on_step, lengthen,
                )  # fmt: skip
            random = _generators(where)
            averaged = mean.averaged(batches, arithmetic) if average else None
        watch.look()
        kept = _by_kind({name: optimizer.state_of(p) for name, p in module.named_parameters()})
    if bad := sorted(non_finite(module) - held):
        raise TrainingFailed(f"{bad[0]} is not finite after {done} steps of training; {_remedy(config)}")
    seconds = time.perf_counter() - began
    taken, paused = done - span.first, Paused(done, kept, random, watch.recent)
    taken_images, ended = taken * config.batch_size, done >= _end(span.steps, changed)
    return TrainReport(
        taken, taken_images, watch.final, seconds, arithmetic.name, paused, ended, changed, averaged
    )


def _run(
    module: nn.Module,
    task: Task,
    teacher: nn.Module | None,
    optimizer: Optimizer,
    batches: Iterator[tuple[Tensor, Tensor]],
    span: _Span,
    config: TrainConfig,
    arithmetic: Arithmetic,
    device: torch.device,
    watch: LossWatch,
    mean: Average,
    on_step: OnStep | None,
    lengthen: Lengthen | None,
) -> tuple[int, Lengths]:
    """Take the steps; return how many are done, and all changes of their number."""
    parameters = list(optimizer.parameters)
    projections = [part.project_ for part in module.modules() if callable(getattr(part, "project_", None))]
    forward = _compiled(module) if config.compile else module
    step, lengths = span.first, span.lengths
    end = _end(span.steps, lengths)
    while step < (end if span.until is None else min(span.until, end)):
        x, y = next(batches)
        # Entered anew for each step: autocast caches its casts of the weights until it exits.
        with torch.autocast(device.type, torch.bfloat16) if arithmetic.bf16 else nullcontext():
            out = forward(x)
            told = None if teacher is None else _told(teacher, x, task)
        loss = _loss(_at_least_float(out), y, told, task, config)
        loss.backward()
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        at = span.start + position(step, span.steps, lengths)
        optimizer.step(learning_rate(at, span.total, config, span.decay))
        for project in projections:
            cast(Callable[[], None], project)()
        if step >= span.steps - span.average:
            mean.add()
        newest = watch.add(loss)
        step += 1
        if on_step is not None:
            on_step(step, end, newest)
        if lengthen is not None and (length := lengthen(step, end)) != end:
            lengths, end = (*lengths, (step, length)), length
    return step, lengths


def _by_kind(states: Mapping[str, tuple[Tensor, ...]]) -> OptimizerState:
    """The states of all parameters that have one, as one mapping for each kind of tensor, on the CPU."""
    kinds = max(1, *map(len, states.values()))
    return tuple(
        {name: state[kind].detach().cpu().contiguous() for name, state in states.items() if state}
        for kind in range(kinds)
    )


def _end(steps: int, lengths: Lengths) -> int:
    return lengths[-1][1] if lengths else steps


def _told(teacher: nn.Module, x: Tensor, task: Task) -> Tensor:
    """Return what the teacher's outputs tell: probabilities, say."""
    with torch.no_grad():
        return task.as_targets(_at_least_float(teacher(x)))


def _loss(out: Tensor, y: Tensor, told: Tensor | None, task: Task, config: TrainConfig) -> Tensor:
    """Return the loss of the task, mixed by `distill` with that of what the teacher tells."""
    hard = task.training_loss(out, y, config.label_smoothing)
    if told is None:
        return hard
    return (1 - config.distill) * hard + config.distill * task.imitation_loss(out, told)


def _span(
    steps: int, start: int, total: int | None, since: Paused | None, until: int | None, decay: int | None,
    average: int, lengths: Lengths,
) -> _Span:  # fmt: skip
    last = start + steps if total is None else total
    if steps < 1 or start < 0 or start + steps > last:
        raise UserError(
            f"training: steps {start} … {start + steps} of {last} are not valid; take at least 1, within the total"
        )
    end = _end(steps, lengths)
    first = 0 if since is None else since.step
    if not 0 <= first < (end if until is None else min(end, until)):
        raise UserError(
            f"training: steps {first} to {until} are not a part of {end}; pause between 0 and {end}"
        )
    if not 0 <= average <= (steps if since is None and until is None else 0):
        raise UserError(
            f"training: the last {average} steps of a part can't be averaged; average a whole run"
        )
    before = (0, *(done for done, _ in lengths))
    if any(not (a < done <= length) for a, (done, length) in zip(before, lengths, strict=False)) or any(
        length <= done for (_, length), (done, _) in pairwise(lengths)
    ):
        raise UserError(f"training: {steps} steps can't be changed to {lengths} on the way")
    return _Span(first, until, steps, start, last, decay, average, lengths)


def _remedy(config: TrainConfig) -> str:
    clip = "set clip_norm" if config.clip_norm is None else f"clip_norm (now {config.clip_norm:g})"
    return f"lower lr (now {config.lr:g}), use warmup_steps, or {clip}"


def _dtype(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _at_least_float(out: Tensor) -> Tensor:
    return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out


def _compiled(module: nn.Module) -> Callable[[Tensor], Tensor]:
    # Without the reset, the ninth network in a process would exceed the recompilation limit and run uncompiled.
    torch.compiler.reset()
    return cast(Callable[[Tensor], Tensor], torch.compile(module, dynamic=False))


@contextmanager
def _seeded(device: torch.device, seed: int, since: Paused | None) -> Generator[None]:
    """Seed the global generators, which dropout draws from, or restore them from a pause; undo that afterwards."""
    accelerators = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=accelerators, device_type="cuda"):
        torch.default_generator.manual_seed(seed)
        if accelerators:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        if since is not None:
            torch.default_generator.set_state(since.random[0])
            if accelerators:
                torch.cuda.set_rng_state(since.random[1], device)
        yield


def _generators(device: torch.device) -> tuple[Tensor, ...]:
    """Return the states of the global generators that dropout draws from."""
    own = torch.default_generator.get_state()
    return (own, torch.cuda.get_rng_state(device)) if device.type == "cuda" else (own,)


@contextmanager
def _reproducible(device: torch.device) -> Generator[None]:
    """Use deterministic convolution algorithms on CUDA; do nothing on other devices."""
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
