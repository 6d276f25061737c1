"""The `nas` command. Function bodies do their own imports, so that help and listings don't wait for torch."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from nas.base.errors import Refused, UserError
from nas.base.printing import say, warn_of_bug
from nas.base.streams import prepare_streams
from nas.base.text import printable
from nas.cli import generated_options, options
from nas.cli.exit_codes import OneLine, stoppable

STARTED = time.monotonic()  # before torch is imported, which takes seconds: a budget counts them too


@contextmanager
def _starting(quiet: bool) -> Generator[None]:
    """Show "starting" on a terminal while torch is imported, which takes seconds; clear it afterwards."""
    shown = not quiet and sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb")
    if shown:
        sys.stdout.write("starting …\r")
        sys.stdout.flush()
    try:
        yield
    finally:
        if shown:
            sys.stdout.write("          \r")
            sys.stdout.flush()


@contextmanager
def _processes(quiet: bool) -> Generator[Any]:
    """Yield the fork server, or None where workers are not forked. Everything that a run needs is imported inside."""
    # Huge pages save a sixth of the time of small networks, which often allocate. torch reads this when imported.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    with ExitStack() as stack:
        with _starting(quiet):
            from nas.execute.worker_processes import fork_processes

            processes = fork_processes()
            if processes is not None:
                stack.enter_context(closing(processes))
            import_module("nas.cli.run_commands")
        yield processes


app = typer.Typer(
    cls=OneLine, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Grow neural networks: search architectures by moves that keep what a network has learned.",
    epilog="A run is a folder and survives any crash: continue it with nas resume RUN. Start with: nas search digits",
)  # fmt: skip


@app.callback()
def options_of_all(version: options.Version = False) -> None:
    """Options before any command."""


@app.command()
@generated_options.takes(generated_options.of_search())
def search(
    context: typer.Context,
    what: options.What = None,
    model: options.From = None,
    run: options.NewRun = None,
    watch: options.Watch = False,
    log: options.Log = None,
    quiet: options.Quiet = False,
    **given: Any,
) -> None:
    """Search for a good network, and train the best one found.

    The search is recorded in a folder as it runs; Ctrl-C or a crash loses at most the children in training. A space
    may have its own defaults.
    """
    overrides = generated_options.values(given)
    if what is None and model is None:
        raise UserError(
            "missing argument 'SPACE|RECIPE'; write auto for a space that suits the data (nas spaces)"
        )
    with _processes(quiet) as processes:
        from nas.cli import run_commands

        command = shlex.join(["nas", *context.obj])
        session = run_commands.Session(quiet=quiet, command=command, processes=processes, began=STARTED)
        session = run_commands.observed(session, watch, log)
        raise typer.Exit(run_commands.search(what, overrides, run, session, model))


AGAIN = tuple(option.name for option in generated_options.named_again())


@app.command()
@generated_options.takes(generated_options.named_again(), generated_options.of_place(), again=True)
def resume(
    context: typer.Context,
    run: options.Run,
    budget: options.MoreTime = None,
    generations: options.MoreGenerations = None,
    to: options.LongerRun = None,
    force: options.Force = False,
    watch: options.Watch = False,
    log: options.Log = None,
    quiet: options.Quiet = False,
    **given: Any,
) -> None:
    """Continue a run that was stopped or killed, or show again how it ended.

    A run keeps its settings, except those that decide no results, such as workers and executor. A finished run stays
    as it is: with --budget +TIME or --generations +N its search continues in a new run, from the network that it found.
    """
    again, place = _parted(given)
    with _processes(quiet) as processes:
        from nas.cli import run_commands

        command = shlex.join(["nas", *context.obj])
        session = run_commands.continuing(quiet, force, again, place, processes, command)
        session = run_commands.observed(replace(session, began=STARTED), watch, log)
        raise typer.Exit(run_commands.resume(run, session, budget, generations, to))


@app.command()
@generated_options.takes(generated_options.named_again(), generated_options.of_place(), again=True)
def replay(
    context: typer.Context,
    source: options.Run,
    run: options.NewRun = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    **given: Any,
) -> None:
    """Repeat a finished run in a new folder, with the same decisions.

    What the seed doesn't decide is taken from the run's ledger: the order in which trials ended, which were cut off,
    where a budget ended the search, the latency table. If the result differs, the exit code is 1 and the first
    difference is printed.
    """
    again, place = _parted(given)
    with _processes(quiet) as processes:
        from nas.cli import run_commands

        command = shlex.join(["nas", *context.obj])
        session = run_commands.continuing(quiet, force, again, place, processes, command)
        raise typer.Exit(run_commands.replay(source, run, session))


def _parted(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into the names given again for a run, and the settings of how it is carried out."""
    found = generated_options.values(given)
    again = {name: value for name, value in found.items() if name in AGAIN}
    return again, {name: value for name, value in found.items() if name not in AGAIN}


@app.command()
def status(run: options.Run, json: options.Json = False) -> None:
    """Show the status of a run. It may be running."""
    from nas.cli import tables
    from nas.inspect.status import find_run, run_status

    found = run_status(find_run(run))
    if json:
        say(found.to_json())
    else:
        tables.show(tables.status(found))


REPAIR = ("space", "moves", "data", "task", "data_root")  # the options that training again needs


@app.command()
@generated_options.takes(
    (
        option
        for option in (*generated_options.named_again(), *generated_options.of_place())
        if option.name in REPAIR
    ),
    again=True,
)
def fsck(
    run: options.Run,
    repair: options.Repair = False,
    trial: options.Remake = None,
    json: options.Json = False,
    **given: Any,
) -> None:
    """Check every trial and every checkpoint of a run against its hash. Exit code 1 if something is lost.

    The run may be running; nothing in it is changed. With --repair it must have stopped: lost checkpoints are
    recreated by the same moves and training, on the same kind of machine with the same versions.
    """
    from nas.cli import tables
    from nas.inspect.status import find_run

    again, place = _parted(given)
    if (trial or again or place) and not repair:
        raise UserError(
            "fsck: --trial, --space, --moves, --data, --task and --data-root are for recreating checkpoints; add "
            "--repair"
        )
    folder = find_run(run)
    from nas.inspect.fsck import check

    with tables.progress("checking") as tick:
        found = check(folder, tick)
    refused = None
    if repair and found.readable and (trial or not found.clean):
        from nas.inspect.repair import repair as repaired
        from nas.registry.plugins import with_plugins

        try:
            with stoppable(), tables.progress("repairing") as tick:
                found = repaired(
                    folder, found, trial or (), again.pop("data", None), tick, place, **again,
                    registry=with_plugins(),
                )  # fmt: skip
        except Refused as error:
            refused = error
    if json:
        say(found.to_json())
    else:
        tables.show(tables.checked(found))
    if refused is not None:
        raise refused
    raise typer.Exit(0 if found.clean else 1)


@app.command()
def report(runs: options.Runs) -> None:
    """Rewrite RUN/report.html, one file that any browser opens. With more runs it compares the first with them."""
    from nas.inspect.status import find_run

    folder, *others = map(find_run, runs)
    from nas.report import write_report
    from nas.report.compare import compared

    with stoppable():
        say(str(write_report(folder, [compared(other) for other in others])))


@app.command()
def watch(runs: options.Runs, port: options.Port = 8765) -> None:
    """Serve the report of a run on this machine, in a browser, growing while the search runs. Ctrl-C ends it.

    Nothing is written, and nobody else's machine can reach it: it listens on 127.0.0.1 alone.
    """
    from nas.inspect.status import find_run

    folders = [find_run(run) for run in runs]
    from nas.report.serve import Server, serve

    with stoppable():
        server = Server(folders, port)
        server.live.snapshot()  # so that a run that can't be read is an error of the command
        say(f"{server.url} shows {', '.join(map(str, folders))}; Ctrl-C ends it")
        serve(server)


@app.command()
def runs(folder: options.Folder = Path("runs"), sort: options.Sort = options.Order.DATE) -> None:
    """List runs, newest first."""
    from nas.cli import tables
    from nas.inspect.status import run_folders, statuses

    found = statuses(run_folders(folder))
    if found:
        tables.show(tables.runs(tables.ordered(found, sort)))
    else:
        say(f"no runs in {folder}; start one with: nas search digits")


@app.command()
def rm(runs: options.RunNames, yes: options.Yes = False) -> None:
    """Remove runs: their folders, with all that the searches have found.

    Other files that lie in such a folder stay, and so does the folder.
    """
    from nas.inspect.removal import remove
    from nas.inspect.status import find_run

    found = list(dict.fromkeys(find_run(name) for name in runs))
    if not yes:
        if not sys.stdin.isatty():
            raise UserError("rm: there is nobody to ask; add --yes")
        typer.confirm(printable(f"remove {', '.join(map(str, found))}?"), abort=True)
    for run in found:
        say(remove(run))


@app.command()
def export(
    run: options.Run,
    to: options.To,
    trial: options.Trial = None,
    onnx: options.Onnx = False,
) -> None:
    """Write a found network as plain PyTorch: model.py, weights, a model card, and model.pt2 for torch.export.

    Each file is run in another process and compared with the network.
    """
    from nas.inspect.status import find_run

    folder = find_run(run)
    from nas.export import export_trial

    with stoppable():
        written = export_trial(folder, trial, to, onnx)
    say(str(written))
    if sys.stdout.isatty() and (written / "__main__.py").exists():
        say(f"next  python {shlex.quote(str(written))} predict FILE")


@app.command()
def morph(
    model: options.Model,
    moves: options.Moves = None,
    to: options.MorphTo = None,
    sites: options.Sites = False,
    refused: options.RefusedMoves = False,
    trial: options.Trial = None,
    shape: options.InputShape = None,
    data: options.MoveData = None,
    data_root: options.DataRoot = None,
    optimizer: options.OptimizerState = None,
    onnx: options.Onnx = False,
    seed: options.MoveSeed = 0,
) -> None:
    """Apply moves to your own model, each checked and measured, and export the result as nas export does.

    MODEL is package.module:function, which returns an nn.Module (and example inputs); a .pt2 of torch.export; the
    folder of an export or of morphs.save; or a run. With --sites or --refused, MOVE... are names of moves to list.
    """
    from nas.cli import morph as morphing
    from nas.cli import tables

    size = None if shape is None else morphing.parse_shape(shape)
    texts = moves or []
    if sites or refused:
        if to is not None or (sites and refused):
            raise UserError(
                "morph: --sites and --refused list moves and write nothing; give one of them, without --to"
            )
        with stoppable():
            if sites:
                for move in morphing.sites(model, texts, size, trial):
                    say(str(move))
            else:
                for refusal in morphing.refused(model, texts, size, trial):
                    say(f"{refusal.move}  {refusal.reason}")
        return
    with stoppable():
        found = morphing.morph(model, texts, to, size, data, data_root, seed, trial, optimizer, onnx)
        tables.show(tables.children(found))
    say(str(to))


@app.command()
def moves() -> None:
    """List the moves that change networks."""
    from nas.cli import listing, tables
    from nas.registry.plugins import with_plugins

    tables.show(listing.moves(with_plugins()))


@app.command()
def spaces() -> None:
    """List search spaces and recipes."""
    from nas.cli import listing, tables
    from nas.registry.plugins import with_plugins

    tables.show(listing.spaces(with_plugins()))


@app.command()
def policies() -> None:
    """List search policies with their settings."""
    from nas.cli import listing, tables
    from nas.registry.plugins import with_plugins

    tables.show(listing.policies(with_plugins()))


def main() -> None:
    """Run the command on the command line's words, and exit."""
    prepare_streams()
    sys.excepthook = warn_of_bug
    app(prog_name="nas")
