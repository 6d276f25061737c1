"""`nas.search`, `nas.resume`, `nas.replay` and `nas.open_run`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from nas.adapters.loggers import loggers
from nas.api import watched_run
from nas.api.interrupts import interrupts
from nas.api.models import Given, starting
from nas.api.options import called, configuration, place_of
from nas.api.run import Run
from nas.api.watched_run import NamedAgain, Session, with_kept
from nas.base.errors import UserError
from nas.config.run_config import MODEL
from nas.data.run_arrays import KeptParts, parts_of
from nas.inspect.status import find_run
from nas.registry.plugins import with_plugins
from nas.registry.registry import Registry
from nas.run.folders import default_run_folder, free_replay_folder


def search(
    space: str | None = None,
    *,
    start: Given | Run | None = None,
    data: Any = None,
    budget: str | float | None = None,
    generations: int | None = None,
    seed: int | None = None,
    run: str | Path | None = None,
    quiet: bool = False,
    callbacks: Sequence[object] = (),
    watch: bool = False,
    log: Sequence[str] = (),
    registry: Registry | None = None,
    **options: Any,
) -> Run:
    """Search for a good network and train the best one found. Return the finished run.

    space: a search space or a recipe, as `nas search` takes it; with `start` it may be left out.
    start: a trained model to begin with, instead of a space's seed network: an nn.Module, a Network, a Run, or what
    `nas search --from` takes. The run keeps it. Without a space the search uses moves that suit it, and a lower
    learning rate in any case.
    data: what `--data` takes ("cifar10", "imagefolder:PATH", "package.module:function"), the Path of an image folder,
    or images in memory: (images, labels) or a Dataset, of which a test and a validation split are held out; or
    (train, val) or (train, val, test), each of them such a pair or Dataset. Images are arrays or tensors [N, H, W],
    [N, C, H, W] or [N, H, W, C] of integers 0–255 or floats 0–1, labels are integers [N]. In place of images may be
    vectors [N, F] or sequences [N, C, L] of floats, or tokens, whole numbers [N, T]. They are kept in the run's
    folder, so that it can be resumed from anywhere. Without a test split, a quarter of the training images is held out
    as one, the same in all runs.
    budget: wall time in seconds or as text like "20m". run: a new folder; None means the first free
    runs/SPACE-DATA-NNN. quiet: print nothing. callbacks: objects with any of the methods of `nas.Callback`. watch:
    serve the live page meanwhile. log: other tools to log to, as `--log` takes them. registry:
    resolves names; None means `nas.REGISTRY` with the installed plugins. options: any other field of `nas.RunConfig`,
    or a setting of the policy, such as workers=2, device="cuda", rungs=2, limits={"params": 2e6}, train={"lr": 0.1}.

    Ctrl-C, or interrupting the cell of a notebook, stops the search and returns the unfinished run (`run.finished` is
    False): no ended trial is lost, and `run.resume()` continues. If the run's folder doesn't exist yet,
    KeyboardInterrupt is raised. Needs no `if __name__ == "__main__"`: workers don't run the script again.

    Raises UserError for wrong input, before anything is written; NasError if the search has no outcome; and whatever a
    callback raises, after which the run can be resumed.
    """
    watching = (*_each(callbacks), *loggers(log))
    with interrupts() as pressed:
        kept = _kept(data, options.get("task"))
        given = {"budget": budget, "generations": generations, "seed": seed, **options}
        spec = kept.name if kept is not None else f"imagefolder:{data}" if isinstance(data, Path) else data
        what = MODEL if space is None and start is not None else space
        if what is None:
            raise UserError(
                "search: there is no space; name one (see nas spaces), or give a model with start="
            )
        config, known = configuration(what, {**given, "data": spec}, registry, start is not None)
        folder = default_run_folder(config) if run is None else Path(os.path.expanduser(run))
        named = {**given, "data": spec, "start": None if start is None else _name_of(start)}
        session = Session(
            pressed, quiet, watching, called("search", what, named), registry=known, watch=watch
        )
        held = config if kept is None else with_kept(config, folder, kept)
        watched_run.search(
            held, folder, session, kept, None if start is None else starting(_folder_of(start))
        )
    return Run(folder)


def resume(run: Run | str | Path, **how: Any) -> Run:
    """Continue a run that was stopped or killed, or with budget="+2h" or generations="+5" the search of a finished one,
    in a new run. Return the run.

    how: see `Run.resume`. Raises RunError if the run can't be continued.
    """
    return Run(_folder(run)).resume(**how)


def replay(
    source: Run | str | Path,
    *,
    run: str | Path | None = None,
    data: str | None = None,
    task: str | None = None,
    space: str | None = None,
    policy: str | None = None,
    objective: str | None = None,
    moves: Sequence[str] = (),
    force: bool = False,
    quiet: bool = False,
    callbacks: Sequence[object] = (),
    registry: Registry | None = None,
    **place: Any,
) -> Run:
    """Repeat a finished run in a new folder. Return the new run: equal digests mean equal decisions and weights.

    Arguments as for `search` and `Run.resume`. Raises RunError for an unfinished run, or if results may differ here.
    """
    settings, old = place_of(place), _folder(source)
    folder = free_replay_folder(old) if run is None else Path(os.path.expanduser(run))
    again = NamedAgain(data, task, space, policy, objective, tuple(moves))
    known = with_plugins() if registry is None else registry
    command = called("replay", str(old), {**asdict(again), **place})
    with interrupts() as pressed:
        session = Session(pressed, quiet, tuple(callbacks), command, None, known, force, again, settings)
        watched_run.replay(old, folder, session)
    return Run(folder)


def open_run(run: str | Path) -> Run:
    """The run in that folder, or with that name in ./runs; nothing is started. Raises RunError if there is none."""
    return Run(_folder(run))


def _folder_of(start: Given | Run) -> Given:
    return start.folder if isinstance(start, Run) else start


def _name_of(start: Given | Run) -> str:
    given = _folder_of(start)
    return str(given) if isinstance(given, (str, Path)) else type(given).__name__


def _each(callbacks: object) -> tuple[object, ...]:
    """The callbacks of a list of them."""
    if not isinstance(callbacks, (list, tuple)):
        raise UserError(f"callbacks: {callbacks!r:.80} is not a list; write callbacks=[…]")
    return tuple(cast("Sequence[object]", callbacks))


def _folder(run: Run | str | Path) -> Path:
    return run.folder if isinstance(run, Run) else find_run(str(run))


def _kept(data: Any, task: str | None) -> KeptParts | None:
    """The arrays that were given, checked; None if `data` is a name or path."""
    return None if data is None or isinstance(data, (str, Path)) else parts_of(data, task)
