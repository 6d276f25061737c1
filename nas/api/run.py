"""The Python view of a run: its folder, read at each access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.api.trials import Trial, Trials
from nas.base.errors import NasError
from nas.base.text import printable
from nas.ledger import LedgerView, read
from nas.ledger.scores import labelled, value_text

if TYPE_CHECKING:
    from nas.inspect.status import RunStatus
    from nas.registry.registry import Registry


@dataclass(frozen=True, repr=False)
class Run:
    """The run in `folder`, which may be finished, stopped, or driven by another process.

    Every access reads the folder, so the answer is always up to date; for many facts about one moment take `view` or
    `trials` once. Each property raises RunError (or its subclass LedgerDamaged) if the folder can't be read.
    """

    folder: Path

    @property
    def view(self) -> LedgerView:
        """The present contents of the ledger, as policies see them."""
        return read(self.folder)

    @property
    def trials(self) -> Trials:
        """All trials so far."""
        return Trials([Trial(record, self.folder) for record in self.view.trials])

    def trial(self, key: str) -> Trial:
        """The trial at "generation.slot". Raises UserError if there is none."""
        return Trial(self.view.trial(key), self.folder)

    @property
    def best(self) -> Trial:
        """The final network's trial, or the best trial so far. Raises NasError before any trial has ended."""
        view = self.view
        record = view.final or view.best
        if record is None:
            raise NasError(f"{self.folder}: no trial has ended yet; continue with run.resume()")
        return Trial(record, self.folder)

    @property
    def scores(self) -> Mapping[str, float]:
        """The scores of `best`."""
        return self.best.scores

    @property
    def test(self) -> Mapping[str, float] | None:
        """The scores and the loss of the final network on the test split; None before the run is finished."""
        final = self.view.final
        if final is None or final.result is None:
            return None
        scores = final.result.scores.items()
        return {name.removeprefix("test_"): value for name, value in scores if name.startswith("test_")}

    @property
    def finished(self) -> bool:
        """Whether the final network is trained and tested."""
        return self.view.final is not None

    @property
    def digest(self) -> str:
        """A SHA-256 of the run's decisions and results: equal for equal searches."""
        return self.view.digest

    @property
    def status(self) -> RunStatus:
        """The status: state, generation, counts, time, disk."""
        from nas.inspect.status import run_status

        return run_status(self.folder)

    def report(self) -> Path:
        """Rewrite FOLDER/report.html; return its path."""
        from nas.report import write_report

        return write_report(self.folder)

    def export(self, to: str | Path, trial: str | None = None, onnx: bool = False) -> Path:
        """Write a network as plain PyTorch (model.py, weights, a model card, model.pt2) into the folder `to`; return
        its path. Each file is run in another process and compared with the network.

        trial: "generation.slot"; None means `best`. onnx: write model.onnx too. Raises UserError if there is no such
        network, or `to` is not empty.
        """
        from nas.export import export_trial

        return export_trial(self.folder, trial, Path(to), onnx)

    def resume(
        self,
        *,
        budget: str | None = None,
        generations: str | None = None,
        to: str | Path | None = None,
        data: str | None = None,
        task: str | None = None,
        space: str | None = None,
        policy: str | None = None,
        objective: str | None = None,
        moves: Sequence[str] = (),
        force: bool = False,
        quiet: bool = False,
        callbacks: Sequence[object] = (),
        watch: bool = False,
        log: Sequence[str] = (),
        registry: Registry | None = None,
        **place: Any,
    ) -> Run:
        """Continue the run if it was stopped or killed; a finished one is left as it is. Return the run.

        budget, generations: such as "+2h" and "+5": continue the search of this finished run for longer, from the
        network that it found, in the new folder `to` (None: the first free RUN-more-N). Return that new run.
        data, task, space, policy, objective, moves: must be given again if they are "package.module:name": that is
        code, which is never run because a run's file names it. force: continue although versions, machine or data have
        changed. place: how the run is carried out, which decides no results: workers, executor, data_root, address,
        gpus_per_child, storage. Otherwise, watch and log too, as for `nas.search`. Raises RunError if the run can't be
        continued.
        """
        from nas.adapters.loggers import loggers
        from nas.api import watched_run
        from nas.api.interrupts import interrupts
        from nas.api.options import called, place_of
        from nas.registry.plugins import with_plugins
        from nas.run.longer import folder_for, more_of

        settings, more = place_of(place), more_of(budget, generations)
        folder = folder_for(self.folder, more, to)
        names = {"budget": budget, "generations": generations}
        again = watched_run.NamedAgain(data, task, space, policy, objective, tuple(moves))
        known = with_plugins() if registry is None else registry
        watching = (*callbacks, *loggers(log))
        with interrupts() as pressed:
            session = watched_run.Session(
                pressed, quiet, watching, called("resume", str(self.folder), names), None, known, force, again,
                settings, watch=watch,
            )  # fmt: skip
            if more is None:
                watched_run.resume(self.folder, session)
            else:
                watched_run.longer(self.folder, folder, more, session)
        return Run(folder)

    def __repr__(self) -> str:
        try:
            found = self.status
        except (NasError, OSError) as error:
            return f"Run({str(self.folder)!r}: {error})"
        facts = [found.state]
        facts += [f"generation {found.generation}"] if found.generation is not None else []
        facts += [f"best {found.best_trial}"] if found.best_trial is not None else []
        facts += [f"val {labelled(found.score, found.best_score)}"] if found.best_score is not None else []
        facts += [f"test {value_text(found.score, found.test_score)}"] if found.test_score is not None else []
        return f"Run({str(self.folder)!r}: {', '.join(facts)})"

    def _repr_html_(self) -> str:
        from nas.inspect.rows import status_rows
        from nas.inspect.status import status_or_problem

        rows = status_rows(status_or_problem(self.folder))
        cells = (
            f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
            for name, value in ((name, printable(value)) for name, value in rows)
        )
        return f"<table>{''.join(cells)}</table>"
