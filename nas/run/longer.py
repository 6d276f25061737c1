"""Continues a finished search. Its record stays as it is: the longer search is a new run, which starts from the network
that it found, weights and all, with the same settings except those that were chosen for its length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch

from morphs import Network
from nas.base.errors import RunError, UserError
from nas.base.text import nas_command, plural, span
from nas.config.quantity import parse_duration
from nas.config.run_config import RunConfig
from nas.data import SearchData
from nas.execute.executor import ExecutorFactory
from nas.execute.make_executor import make_executor
from nas.ledger import Store, TrialRecord, read, read_config
from nas.ledger.described import DataFacts
from nas.ledger.ledger import CHECKPOINTS
from nas.ledger.scores import labelled
from nas.registry.configure import configure
from nas.registry.defaults import REGISTRY
from nas.registry.registry import Registry
from nas.run.events import Callback, Outcome
from nas.run.folders import free_longer_folder
from nas.run.lifecycle import Again, check_new, found_again, search, stored_config
from nas.run.start import Starting

ENDS = ("budget", "cost", "generations")
# What nobody gave of these is chosen anew: for a network that is trained already, and larger than the seed network;
UNTRAINED = ("clip_norm", "limits", "lr", "macs", "most_epochs", "warmup_steps")
# and for a budget. A search for more generations keeps what the former ones had.
PACED = ("children", "epochs", "final_share", "grow_share", "parent", "threads")


@dataclass(frozen=True)
class More:
    """How long a search continues: for so many seconds, for so many generations, or what ends first."""

    budget: float | None = None
    generations: int | None = None

    @property
    def command(self) -> str:
        """The command that asks for it, without the run."""
        options = [f"--budget +{self.budget:.12g}s"] if self.budget is not None else []
        options += [f"--generations +{self.generations}"] if self.generations is not None else []
        return " ".join(["resume", *options])

    def __str__(self) -> str:
        ends = [span(self.budget)] if self.budget is not None else []
        ends += [plural(self.generations, "generation")] if self.generations is not None else []
        return f"for {' or '.join(ends)}"


def more_of(budget: object, generations: object) -> More | None:
    """What a user asks for, as texts such as "+2h" and "+5"; None where neither is given. Raises UserError."""
    if budget is None and generations is None:
        return None
    time = None if budget is None else _without_plus("budget", budget, "2h")
    rounds = None if generations is None else _without_plus("generations", generations, "5")
    if rounds is not None and (not re.fullmatch("[0-9]{1,6}", rounds) or int(rounds) < 1):
        raise UserError(f"resume: generations +{rounds:.40} is not a number above 0; write +5, for example")
    try:
        seconds = None if time is None else parse_duration(time)
    except UserError:
        raise UserError(f"resume: budget +{time:.40} is not a time; write +90s, +10m or +1h30m") from None
    return More(seconds, None if rounds is None else int(rounds))


def _without_plus(name: str, given: object, example: str) -> str:
    text = str(given).strip()
    if text.startswith("+"):
        return text.removeprefix("+").strip()
    better = f"+{text}" if text[:1].isdigit() else f"+{example}"
    raise UserError(
        f"resume: {name} {text!r:.40}: a search keeps the settings that it began with, and a finished one can only be "
        f"continued for longer; write {better}"
    )


def folder_for(source: Path, more: More | None, run: str | Path | None) -> Path:
    """The folder in which the run `source` is resumed: its own, or with `more` a new one, which `run` names. Raises
    UserError if there is nothing new.
    """
    if more is None and run is not None:
        raise UserError(
            f"resume: {run} would be the folder of a longer search; add --budget +TIME or --generations +N, or omit it"
        )
    if more is None:
        return source
    return free_longer_folder(source) if run is None else Path(run).expanduser()


def longer(
    source: Path,
    run: Path,
    more: More,
    callback: Callback,
    command: str,
    force: bool = False,
    executor: ExecutorFactory = make_executor,
    registry: Registry = REGISTRY,
    began: float | None = None,
    **again: Unpack[Again],
) -> Outcome:
    """Continue the search of the finished run `source` in the new folder `run`.

    force: although the data have changed. Arguments and errors are otherwise those of `lifecycle.search` and `resume`.
    Raises RunError if `source` is not finished.
    """
    check_new(run, "resume")
    view = read(source)
    if view.final is None:
        raise RunError(
            f"resume: {source} is not finished, and its length is part of its plan; finish it with: "
            f"{nas_command('resume', source)}; then continue it for longer"
        )
    made = read_config(source)
    config = stored_config(source, made.config, registry=registry)
    config, registry = found_again(source, config, registry, more.command, again)
    config, registry = longer_config(config, more, registry)
    config = config.model_copy(update={"after": str(source)})
    # A final network that has learned from the validation examples can't be judged by them any more.
    found = view.incumbent if view.final.job.training.judged else view.final
    assert found is not None
    start = _starting(source, found, made.described.data, force)
    return search(
        config, run, callback, command, executor, registry, began, start,
        (f"continues {source} {more}, from {_named(found)}; the result will be in {run}",),
    )  # fmt: skip


def longer_config(config: RunConfig, more: More, registry: Registry = REGISTRY) -> tuple[RunConfig, Registry]:
    """The configuration of a finished run for a longer search, and `registry` with the code that it names."""
    paced = more.budget is not None and config.schedule == "lineage"
    chosen = (*UNTRAINED, *PACED) if paced else UNTRAINED
    anew = {name for name in chosen if name in config.fitted}
    ends = {"budget": more.budget, "generations": more.generations}
    given: dict[str, Any] = {
        name: value
        for name, value in config.model_dump(mode="json", exclude_none=True).items()
        if name not in {*ENDS, *anew, "fitted", "start", "ledger"}  # a command alone names a database
    }
    given["train"] = _without(given["train"], anew)
    given["limits"] = _without(given.get("limits", {}), anew)
    given["policy_settings"] = _without(given["policy_settings"], anew & {"parent"})
    given |= {name: value for name, value in ends.items() if value is not None}
    found, registry = configure(config.space, given, registry, trained=True)
    still = tuple(name for name in config.fitted if ends.get(name) is None)
    return found.model_copy(update={"fitted": still}), registry


def _without(table: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}


def _starting(source: Path, found: TrialRecord, known: DataFacts, force: bool) -> Starting:
    """What reads the network that the search starts from, and checks that the data are those that it was trained on."""

    def start(data: SearchData) -> Network:
        digest = data.digest if known.former is not None else data.former  # as the run's version made it
        if known.digest != digest and not force:
            raise RunError(
                f"resume: {source}: the content of the data set has changed, so its network may have been trained on "
                "images that would judge it; to continue anyway add --force"
            )
        assert found.result is not None
        return Store(source / CHECKPOINTS).get(found.result.weights).to(torch.float32)

    return start


def _named(found: TrialRecord) -> str:
    assert found.result is not None
    return f"trial {found.key} ({labelled(found.result.main, found.result.value)} on validation)"
