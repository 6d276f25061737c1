"""The work of one trial, from the parent's checkpoint to a durable child, for every executor."""

from __future__ import annotations

import base64
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import morphs
from morphs import Network, Preserves, parse_chain
from morphs.errors import MorphError
from morphs.network import Key
from nas.base.errors import TrainingFailed, UserError
from nas.base.machine import threads
from nas.base.moves import known_moves
from nas.base.seeds import derive
from nas.data import ImageSplit, SearchData, train_batches
from nas.data.baseline import baseline_scores
from nas.data.join import with_validation
from nas.execute.executor import Done
from nas.execute.mistakes import mistakes
from nas.ledger import Job, Reached, Result
from nas.ledger.sample import sample_of
from nas.train import OptimizerState, Paused, TrainConfig, TrainReport, train
from nas.train.adamw import betas
from nas.train.deadline import Deadline
from nas.train.evaluate import Scores, evaluate

CALIBRATION_BATCHES = 4
CALIBRATION_IMAGES, LEAST_IMAGES = 128, 32  # in each of them
OnStep = Callable[[int, int, float], None]  # (step, steps, loss)


class Checkpoints(Protocol):
    """Where a task reads its parent and writes its child: the run's store, or networks sent along with a job."""

    def get(self, digest: str) -> Network:
        """The network with that digest."""
        ...

    def put(self, network: Network) -> str:
        """Store a network; return its digest."""
        ...


@dataclass(frozen=True)
class Trained:
    """The networks that a job stores.

    judged: what is scored and kept. last: the weights after the last step, if `judged` is an average. state: what the
    optimizer keeps, such as its momentum, each as a network with that in place of the parameters, if another job may
    continue the training.
    """

    judged: Network
    last: Network | None
    state: tuple[Network, ...] = ()

    @property
    def stored(self) -> tuple[Network, ...]:
        """In the order of `Result.checkpoints`."""
        return tuple(n for n in (self.judged, self.last, *self.state) if n is not None)


@dataclass(frozen=True)
class TaskContext:
    """What every task of a run shares."""

    store: Checkpoints
    config: TrainConfig
    device: str
    threads: int
    load_test: Callable[[], ImageSplit]  # called for the final network only
    moves: tuple[str, ...] = ()  # a user's moves that jobs may use, as package.module:Move


def attempt(number: int, job: Job, site: TaskContext, data: SearchData, progress: OnStep) -> Done:
    """`perform`, with any error as the reason in `Done`. Raises only ConnectionError, when the driver has ended."""
    try:
        return Done(number, perform(job, site, data, progress), None)
    except ConnectionError:
        raise
    except UserError as error:  # about the disk, the ledger or the data
        return Done(number, None, str(error), fault=True)
    except (MorphError, TrainingFailed) as error:
        return Done(number, None, str(error))
    except Exception as error:
        if _out_of_memory(error):
            return Done(number, None, "it ran out of memory; set a limit on parameters or activations")
        trace = traceback.format_exc(limit=-3)[-2000:]
        return Done(number, None, f"it raised {type(error).__name__}: {error}\n{trace}")


def _out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed. On the CPU, torch reports that only in the text of a RuntimeError."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def perform(job: Job, site: TaskContext, data: SearchData, progress: OnStep) -> Result | Reached:
    """Morph, train, evaluate and store one candidate. The same job gives the same result, bit for bit.

    If the training plan has a step to pause at (`until`), the answer is the state reached there. A job that continues
    has that state in `since`, and gives the same bits at the end as a job that never paused.
    Raises MorphError when a move is refused or drifts, TrainingFailed when training diverges.
    """
    with threads(site.threads):
        return _perform(job, site, data, progress)


def _perform(job: Job, site: TaskContext, data: SearchData, progress: OnStep) -> Result | Reached:
    clock = _Clock()
    plan = job.training
    left = plan.left
    deadline = None if left is None else Deadline(left.seconds, left.after, left.pace, left.most)
    begun = _start(job, site, data)
    module = begun.network.to_torch()
    given = evaluate(module, data.val, data, device=site.device) if job.given else None
    clock.lap("morph")
    since = plan.since
    before = dict(since.seconds) if since is not None else {}
    begin = time.time() - before.pop("busy", 0.0)
    report = _train(module, job, site, data, progress, begun.state, deadline) if job.steps else None
    clock.lap("train")
    if report is not None and not report.ended:
        return _reached(report, begun.network, module, site, clock, before, begin)
    judged = report.averaged if report is not None and report.averaged is not None else module
    scores = None if plan.judged else evaluate(judged, data.val, data, device=site.device)
    tested, baselines, missed = _tested(judged, job, site, data)
    end = clock.lap("evaluate")
    trained = _networks(job, begun.network, module, report)
    digest = site.store.put(trained.judged)
    last = None if trained.last is None else site.store.put(trained.last)
    momentum, rest = _put(trained.state, site.store)
    clock.lap("store")
    spent = morphs.cost(begun.network.graph)
    return Result(
        fingerprint=begun.network.graph.fingerprint,
        weights=digest,
        scores={
            **(plan.judged if scores is None else {**_named("val", scores), "val_loss": scores.loss}),
            **({"train_loss": report.loss} if report else {}),
            **({**_named("given", given), "given_loss": given.loss} if given else {}),
            **tested,
        },
        params=spent.params,
        macs=spent.macs,
        drift_eval=begun.drift.eval if begun.drift else None,
        drift_train=begun.drift.train if begun.drift else None,
        seconds={**clock.since(before), "busy_from": begin, "busy_to": end},
        momentum=momentum,
        rest=rest,
        last=last,
        sample=sample_of(scores.losses.numpy(), scores.hits.numpy()).to_text()
        if scores is not None and plan.searching
        else None,
        lengths=report.lengths if report else (),
        main=data.task.main,
        baselines=baselines,
        mistakes=missed,
    )


def networks(job: Job, site: TaskContext, data: SearchData) -> Trained:
    """Recreate the networks that `perform` would store for a job.

    Does not evaluate or store anything. Raises as `perform` does.
    """
    with threads(site.threads):
        begun = _start(job, site, data)
        module = begun.network.to_torch()
        report = _train(module, job, site, data, lambda *_: None, begun.state) if job.steps else None
        return _networks(job, begun.network, module, report)


def _train(
    module: nn.Module, job: Job, site: TaskContext, data: SearchData, progress: OnStep, begun: tuple[Network, ...],
    deadline: Deadline | None = None,
) -> TrainReport:  # fmt: skip
    """Perform the job's training, or the part of it that the job names. begun: the optimizer's state, as networks."""
    plan = job.training
    data = with_validation(data) if plan.judged else data
    state = tuple(
        {name: value.detach() for name, value in each.to_torch().named_parameters()} for each in begun
    )
    paused = None if plan.since is None else _paused(plan.since, state)
    seed = derive(job.seed, "train") if plan.batches is None else plan.batches
    return train(
        module, data, steps=job.steps, config=site.config, seed=seed,
        device=site.device, on_step=_seldom(progress), start=plan.start,
        total=None if plan.total is None else max(plan.total, plan.start + job.steps),
        state=None if paused else state, teacher=_teacher(job, site),
        since=paused, until=plan.until, decay=plan.decay,
        average=averaged_steps(job, site.config), lengths=plan.lengths, lengthen=deadline,
    )  # fmt: skip


def averaged_steps(job: Job, config: TrainConfig) -> int:
    """The last steps of a job over which its weights are averaged; 0: they are not."""
    return round(config.average * job.steps) if job.training.searching else 0


def _networks(job: Job, network: Network, module: nn.Module, report: TrainReport | None) -> Trained:
    last = network.with_weights_from(module)
    averaged = None if report is None or report.averaged is None else report.averaged
    judged = last if averaged is None else network.with_weights_from(averaged)
    if judged.nonfinite():
        raise TrainingFailed(
            f"training: {'.'.join(judged.nonfinite()[0])} is not finite; lower the learning rate"
        )
    total, reached = job.training.total, job.training.start + job.steps
    goes_on = job.training.searching or (total is not None and reached < total)
    state = report.state if report is not None and goes_on else ()
    kept = tuple(_with_parameters(network, values) for values in state)
    return Trained(judged, None if averaged is None else last, kept)


def _reached(
    report: TrainReport,
    network: Network,
    module: nn.Module,
    site: TaskContext,
    clock: _Clock,
    before: Mapping[str, float],
    begin: float,
) -> Reached:
    """Store the networks of a paused training; return its state."""
    busy = time.time() - begin
    weights = site.store.put(network.with_weights_from(module))
    momentum, rest = _put([_with_parameters(network, values) for values in report.state], site.store)
    assert momentum is not None
    clock.lap("store")
    states = tuple(base64.b64encode(bytes(state.tolist())).decode() for state in report.paused.random)
    seconds = {**clock.since(before), "busy": busy}
    return Reached(
        report.paused.step, weights, momentum, states, report.paused.losses, seconds, report.lengths, rest
    )


def _put(state: Sequence[Network], store: Checkpoints) -> tuple[str | None, tuple[str, ...]]:
    """Store what an optimizer keeps; return the digests of the first of it, its momentum, and of the rest."""
    first, *rest = [store.put(network) for network in state] or [None]
    return first, tuple(digest for digest in rest if digest is not None)


def _paused(reached: Reached, state: OptimizerState) -> Paused:
    """The state from which a training continues."""
    states = (base64.b64decode(state, validate=True) for state in reached.random)
    random = tuple(torch.tensor(list(state), dtype=torch.uint8) for state in states)
    return Paused(reached.step, state, random, reached.losses)


def _teacher(job: Job, site: TaskContext) -> nn.Module | None:
    """The parent, if one of the job's moves is approximate, so that the child learns from it; else None. A lineage has
    no teachers: its trials are compared by the loss that they train on.
    """
    if job.training.decay is not None or not any(
        move.preserves is Preserves.APPROXIMATE for move in parse_chain(job.moves, known_moves(site.moves))
    ):
        return None
    return site.store.get(str(job.training.weights)).to_torch()


def _with_parameters(network: Network, values: Mapping[str, Tensor]) -> Network:
    """`network` with `values` in place of its parameters, so that they can be stored as a network."""
    module = network.to_torch()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(values[name]) if name in values else parameter.zero_()
    return network.with_weights_from(module)


@dataclass(frozen=True)
class _Begun:
    """What a job trains. state: the optimizer's, to continue with, as networks. drift: the worst among the moves."""

    network: Network
    state: tuple[Network, ...] = ()
    drift: morphs.Drift | None = None


def _start(job: Job, site: TaskContext, data: SearchData) -> _Begun:
    """The network that a job trains: fresh, its parent's, or a child of it, with the parent's optimizer state."""
    parent, kept = job.training.weights, (job.training.momentum, *job.training.rest)
    graph = morphs.graph_from_json(job.graph)
    if parent is None:
        return _Begun(morphs.init(graph, derive(job.seed, "init")))
    network, state = (
        site.store.get(parent),
        tuple(site.store.get(digest) for digest in kept if digest is not None),
    )
    if not job.moves:
        return _Begun(network, state)
    batches = list(calibration(data, derive(job.seed, "calibrate"), site.config.batch_size))
    worst = morphs.Drift(0.0, 0.0)
    moves, loss = parse_chain(job.moves, known_moves(site.moves)), data.task.mean_loss
    for child in morphs.apply_chain(network, moves, derive(job.seed, "morph") >> 1, batches, loss):
        assert child.drift is not None
        worst = morphs.Drift(max(worst.eval, child.drift.eval), max(worst.train, child.drift.train))
        network = child.network
        state = tuple(replace(network, weights=weights) for weights in _carried(state, child, site.config))
    if network.graph != graph:
        raise MorphError(f"{job.moves}: the graph differs from the job's; please report this bug")
    return _Begun(network, state, worst)


def _carried(
    state: Sequence[Network], child: morphs.Child, config: TrainConfig
) -> Sequence[Mapping[Key, Tensor]]:
    """What the optimizer keeps of the parent's parameters, carried to the child's."""
    values = [network.weights for network in state]
    if config.optimizer == "adamw" and values:
        mean, square, count = values
        return morphs.carry_moments(mean, square, count, child, betas(config))
    return [morphs.carry_values(each, child) for each in values]


def _tested(
    module: nn.Module, job: Job, site: TaskContext, data: SearchData
) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """The final network's scores on the test split, those of the baselines, and the network's mistakes; all are empty
    for any other job.
    """
    if not job.final:
        return {}, {}, {}
    test = site.load_test()
    scores = evaluate(module, test, data, device=site.device)
    if job.training.judged:
        simple = baseline_scores(with_validation(data), {"test": test})
    else:
        simple = baseline_scores(data, {"val": data.val, "test": test})
    return {**_named("test", scores), "test_loss": scores.loss}, simple, mistakes(scores, test, data)


def _named(split: str, scores: Scores) -> dict[str, float]:
    return {f"{split}_{name}": value for name, value in scores.values.items()}


def calibration(
    data: SearchData, seed: int, batch: int = CALIBRATION_IMAGES
) -> Iterator[tuple[Tensor, Tensor]]:
    """A few batches of training data for moves that look at data. batch: images that a training step takes."""
    generator = torch.Generator().manual_seed(seed)
    # A batch that was made small to fit in memory is not exceeded here either.
    size = min(CALIBRATION_IMAGES if batch >= LEAST_IMAGES else batch, len(data.train))
    batches = train_batches(data.train, size, generator, data.mean, data.std, data.augment)
    return islice(batches, CALIBRATION_BATCHES)


def _seldom(progress: OnStep, period: float = 0.2) -> OnStep:
    """`progress`, called at most every `period` seconds and at the end."""
    last = 0.0

    def report(step: int, steps: int, loss: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= period or step == steps:
            last = now
            progress(step, steps, float(loss))

    return report


class _Clock:
    """Wall seconds spent in each named lap."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> float:
        """End the lap `name`; return the time of day in seconds since the epoch."""
        now = time.monotonic()
        self.laps[name] = now - self._last
        self._last = now
        return time.time()

    def since(self, before: Mapping[str, float]) -> dict[str, float]:
        """The laps, added to those of `before`."""
        names = {**before, **self.laps}
        return {name: before.get(name, 0.0) + self.laps.get(name, 0.0) for name in names}
