"""The `nas` command. Bodies import what they need themselves: help and listings must not wait for torch."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from nas.base.errors import Refused, UserError
from nas.cli import options
from nas.cli.exit_codes import OneLine


@contextmanager
def _starting(quiet: bool) -> Generator[None]:
    """A word on a terminal while torch is imported, which takes seconds; wiped away afterwards."""
    shown = not quiet and sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb")
    if shown:
        print("starting …", end="\r", flush=True)
    try:
        yield
    finally:
        if shown:
            print("          ", end="\r", flush=True)


@contextmanager
def _processes(quiet: bool) -> Generator[Any]:
    """What workers are started by, where they are forked; everything that a run needs is imported inside."""
    # Large tensors come and go: huge pages save a sixth of the time of small networks. Read when torch is imported.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    with ExitStack() as stack:
        with _starting(quiet):
            from nas.execute.processes import fork_processes

            processes = fork_processes()
            if processes is not None:
                stack.enter_context(closing(processes))
            import_module("nas.cli.drive")
        yield processes


app = typer.Typer(
    cls=OneLine,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Grow neural networks: search architectures by moves that keep what a network has learned.",
    epilog="A run is a folder and survives any end: go on with nas resume RUN. Start with: nas search digits",
)


@app.command()
def search(
    context: typer.Context,
    what: options.What,
    data: options.Data = None,
    data_root: options.DataRoot = None,
    run: options.NewRun = None,
    keep: options.Keep = None,
    ledger: options.LedgerUrl = None,
    seed: options.Seed = None,
    budget: options.Budget = None,
    generations: options.Generations = None,
    children: options.Children = None,
    epochs: options.Epochs = None,
    final_share: options.FinalShare = None,
    final: options.FinalHow = None,
    limit: options.LimitOption = None,
    policy: options.PolicyOption = None,
    objective: options.ObjectiveOption = None,
    latency_from: options.LatencyFrom = None,
    rungs: options.Rungs = None,
    move_sampler: options.MoveSamplerOption = None,
    executor: options.ExecutorOption = None,
    address: options.Address = None,
    gpus_per_child: options.GpusPerChild = None,
    storage: options.Storage = None,
    workers: options.Workers = None,
    threads: options.Threads = None,
    device: options.Device = None,
    child_timeout: options.ChildTimeout = None,
    quiet: options.Quiet = False,
) -> None:
    """Search for a good network, and train the best one found.

    The search is recorded in a folder as it goes; Ctrl-C or a crash loses at most the children in training.
    """
    given: dict[str, Any] = {
        **_place(data_root, executor, address, gpus_per_child, storage, workers),
        "data": data,
        "seed": seed,
        "budget": budget,
        "generations": generations,
        "children": children,
        "epochs": epochs,
        "final_share": final_share,
        "final": final,
        "limits": limit,
        "policy": policy,
        "objective": objective,
        "latency_from": latency_from,
        "rungs": rungs,
        "move_sampler": move_sampler,
        "threads": threads,
        "device": device,
        "child_timeout": child_timeout,
        "keep": keep,
        "ledger": ledger,
    }
    overrides = {
        name: str(value) if isinstance(value, StrEnum) else value
        for name, value in given.items()
        if value is not None and value != []
    }
    with _processes(quiet) as processes:
        from nas.cli import drive

        command = shlex.join(["nas", *context.obj])
        raise typer.Exit(drive.search(what, overrides, run, quiet, command, processes))


@app.command()
def resume(
    run: options.Run,
    data: options.SameData = None,
    policy: options.SamePolicy = None,
    data_root: options.SameDataRoot = None,
    executor: options.OtherExecutor = None,
    address: options.OtherAddress = None,
    gpus_per_child: options.OtherGpusPerChild = None,
    storage: options.OtherStorage = None,
    workers: options.OtherWorkers = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Go on with a run that was stopped or killed, or say again how it ended.

    A run keeps its settings, but where it is carried out may change: they decide nothing. One that is finished stays
    finished: for a longer one start a new run.
    """
    place = _place(data_root, executor, address, gpus_per_child, storage, workers)
    with _processes(quiet) as processes:
        from nas.cli import drive

        raise typer.Exit(drive.resume(run, force, quiet, data, policy, place, processes))


@app.command()
def replay(
    context: typer.Context,
    source: options.Run,
    run: options.NewRun = None,
    data: options.SameData = None,
    policy: options.SamePolicy = None,
    data_root: options.SameDataRoot = None,
    executor: options.OtherExecutor = None,
    address: options.OtherAddress = None,
    gpus_per_child: options.OtherGpusPerChild = None,
    storage: options.OtherStorage = None,
    workers: options.OtherWorkers = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a finished run again, in a new folder: the same decisions, whatever they depended on.

    What the seed doesn't decide is taken from the run's ledger: the order in which trials ended, which were cut off,
    where a budget ended the search, the latency table. Exit code 1 where it came to something else, and to what.
    """
    place = _place(data_root, executor, address, gpus_per_child, storage, workers)
    with _processes(quiet) as processes:
        from nas.cli import drive

        command = shlex.join(["nas", *context.obj])
        raise typer.Exit(drive.replay(source, run, force, quiet, data, policy, place, command, processes))


def _place(
    data_root: Path | None,
    executor: options.Executor | None,
    address: str | None,
    gpus_per_child: float | None,
    storage: str | None,
    workers: int | None,
) -> dict[str, Any]:
    """Those of the settings that were given which say where a run is carried out, and decide nothing."""
    given: dict[str, Any] = {
        "data_root": None if data_root is None else str(data_root.expanduser().absolute()),
        "executor": None if executor is None else str(executor),
        "address": address,
        "gpus_per_child": gpus_per_child,
        "storage": storage,
        "workers": workers,
    }
    return {name: value for name, value in given.items() if value is not None}


@app.command()
def status(run: options.Run, json: options.Json = False) -> None:
    """Say how a run stands. It may be running."""
    from nas.cli import tables
    from nas.inspect.status import find_run, run_status

    found = run_status(find_run(run))
    if json:
        print(found.to_json())
    else:
        tables.show(tables.status(found))


@app.command()
def fsck(
    run: options.Run,
    repair: options.Repair = False,
    trial: options.Remake = None,
    data: options.SameData = None,
    data_root: options.SameDataRoot = None,
    json: options.Json = False,
) -> None:
    """Check a run against its hashes: every trial, every checkpoint. Exit code 1 where something is lost.

    The run may be going on, and nothing is changed in it. With --repair it must have stopped: what is lost is made
    again by the moves and the training that made it, on the same kind of machine with the same versions.
    """
    from nas.cli import tables
    from nas.inspect.status import find_run

    if (trial or data or data_root) and not repair:
        raise UserError(
            "fsck: --trial, --data and --data-root are for making checkpoints again; add --repair"
        )
    folder = find_run(run)
    from nas.inspect.fsck import check

    with tables.progress("checking") as tick:
        found = check(folder, tick)
    refused = None
    if repair and found.readable and (trial or not found.clean):
        from nas.inspect.repair import repair as repaired

        try:
            with tables.progress("repairing") as tick:
                place = _place(data_root, None, None, None, None, None)
                found = repaired(folder, found, trial or (), data, tick, place)
        except Refused as error:
            refused = error
    if json:
        print(found.to_json())
    else:
        tables.show(tables.checked(found))
    if refused is not None:
        raise refused
    raise typer.Exit(0 if found.clean else 1)


@app.command()
def report(run: options.Run) -> None:
    """Write RUN/report.html anew: one file, to be opened in any browser."""
    from nas.inspect.status import find_run

    folder = find_run(run)
    from nas.report import write_report

    print(write_report(folder))


@app.command()
def runs(folder: options.Folder = Path("runs")) -> None:
    """List runs, newest first."""
    from nas.cli import tables
    from nas.inspect.status import run_folders, statuses

    found = statuses(run_folders(folder))
    if found:
        tables.show(tables.runs(found))
    else:
        print(f"no runs in {folder}; start one with: nas search digits")


@app.command()
def export(
    run: options.Run,
    to: options.To,
    trial: options.Trial = None,
) -> None:
    """Write a found network as plain PyTorch: model.py, weights and a model card."""
    from nas.inspect.status import find_run

    folder = find_run(run)
    from nas.export import export_trial

    print(export_trial(folder, trial, to))


@app.command()
def morph(
    model: options.Model,
    moves: options.Moves,
    to: options.To,
    shape: options.InputShape = None,
    data: options.MoveData = None,
    data_root: options.DataRoot = None,
    seed: options.MoveSeed = 0,
) -> None:
    """Apply moves to a model of your own, each checked and measured, and save what comes of it.

    MODEL is a folder that morphs.save or this command wrote, or package.module:function, which returns an nn.Module.
    Go on from DIR with morphs.load(DIR).to_torch().
    """
    from nas.cli import tables
    from nas.cli.morph import morph, parse_shape

    size = None if shape is None else parse_shape(shape)
    tables.show(tables.children(morph(model, moves, to, size, data, data_root, seed)))
    print(to)


@app.command()
def moves() -> None:
    """List the moves that networks grow by."""
    from nas.cli import listing, tables

    tables.show(listing.moves())


@app.command()
def spaces() -> None:
    """List search spaces and recipes."""
    from nas.cli import listing, tables

    tables.show(listing.spaces())


def main() -> None:
    """The console script."""
    app(prog_name="nas")
