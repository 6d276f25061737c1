"""Export of a trial of a run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from morphs import Network
from nas.base.errors import LedgerDamaged, RunError, UserError
from nas.base.text import nas_command
from nas.data.picture import Reading
from nas.data.table import Column
from nas.data.task import Targets
from nas.export.card import Ancestor, ModelCard, Score
from nas.export.write import check_target, export
from nas.ledger import LedgerView, Result, Store, TrialRecord, read, read_config

FIT = ("centre", "scale")  # of the values of a regression


def export_trial(run: Path, trial: str | None, to: Path, onnx: bool = False) -> Path:
    """Export one trial of the run in folder `run` to the folder `to`, and return `to`.

    trial, and errors: see `trial_network`; and what `export` raises. onnx: with model.onnx.
    """
    check_target(to)
    network, card = trial_network(run, trial)
    export(network, to, card, onnx)
    return to


def trial_network(run: Path, trial: str | None) -> tuple[Network, ModelCard]:
    """The network of one trial of the run in folder `run`, and its card.

    trial: "generation.slot"; None for the final network or, if that is not complete, the best one so far.
    The run is neither locked nor changed. Raises UserError for a trial that does not exist or is not complete,
    RunError or LedgerDamaged if the run can't be read.
    """
    view = read(run)
    record, result = _chosen(run, view, trial)
    config = read_config(run)
    command, data = config.described.command, config.described.data
    if command is None or data.name is None:
        raise RunError(f"export: {run}: config.json has no command or no data set; restore it from a copy")
    network = Store(run / "checkpoints").get(result.weights)
    card = ModelCard(
        name=f"{run.resolve().name}, trial {record.key}",
        dataset=data.name,
        classes=data.classes,
        mean=data.mean,
        std=data.std,
        reading=_stored(run, "data.reading", Reading | None, data.reading),
        table=_stored(run, "data.table", tuple[Column, ...] | None, data.table),
        **_answers(run, config.described.task),
        scores=_scores(_own(record, result)),
        lineage=_lineage(view, record),
        command=command,
        versions={name: known for name, known in config.versions.items() if known != "not installed"},
    )
    return network, card


def _stored(run: Path, name: str, kind: Any, stored: Any) -> Any:
    """A value in config.json, which runs of older versions don't have. Raises RunError."""
    try:
        return TypeAdapter(kind).validate_python(dict(stored) if isinstance(stored, Mapping) else stored)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (name, *first["loc"])))
        raise RunError(
            f"export: {run / 'config.json'}: {where}: {first['msg']}; restore it from a copy"
        ) from None


def _answers(run: Path, task: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the outputs are; runs of older versions are classifications. Raises RunError."""
    if task is None:
        return {}
    facts: Mapping[str, Any] = task.get("facts", {})
    fit = {name: _stored(run, f"task.facts.{name}", tuple[float, ...], facts.get(name, [])) for name in FIT}
    return {"targets": _stored(run, "task.targets", Targets, task.get("targets")), **fit}


def _chosen(run: Path, view: LedgerView, trial: str | None) -> tuple[TrialRecord, Result]:
    if not view.complete:
        raise UserError(
            f"export: {run} has no complete trial yet; continue it with: {nas_command('resume', run)}"
        )
    complete = {record.key: record for record in view.complete}
    record = view.best if trial is None else complete.get(trial)
    if record is None or record.result is None:
        states = {other.key: other.state for other in view.trials}
        fact = f"is {states[trial]}" if trial in states else "does not exist"
        raise UserError(f"export: trial {trial} {fact}; choose one of {_listed(list(complete))}")
    return record, record.result


def _listed(keys: list[str]) -> str:
    if len(keys) <= 30:
        return ", ".join(keys)
    return f"{', '.join(keys[:29])}, … {keys[-1]} ({len(keys)} in all)"


def _lineage(view: LedgerView, record: TrialRecord) -> tuple[Ancestor, ...]:
    """Return the steps from the seed network to `record`."""
    by_key = {other.key: other for other in view.trials}
    steps: list[Ancestor] = []
    key: str | None = record.key
    while key is not None:
        if key not in by_key or len(steps) > len(by_key):
            raise LedgerDamaged(
                f"export: the ancestors of trial {record.key} don't lead to a seed network (at {key}); "
                "restore the run from a copy"
            )
        job, result = by_key[key].job, by_key[key].result
        step = Ancestor(key, job.kind, job.moves)
        if result is not None:
            value = None if job.training.judged else result.value
            step = replace(step, params=result.params, score=result.main, value=value)
        steps.append(step)
        key = job.parent
    return tuple(reversed(steps))


def _own(record: TrialRecord, result: Result) -> Mapping[str, float]:
    """The scores of the network itself; a final one that learned from the validation examples has none on them."""
    seen = bool(record.job.training.judged)
    return {name: value for name, value in result.scores.items() if not (seen and name.startswith("val_"))}


def _scores(scores: Mapping[str, float]) -> tuple[Score, ...]:
    """Split names such as `val_accuracy` into split and metric."""
    parts = ((name.partition("_"), value) for name, value in scores.items())
    return tuple(Score(split, metric, value) for (split, _, metric), value in parts if metric)
