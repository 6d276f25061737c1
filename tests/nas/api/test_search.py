"""The Python API, from the call to what a run answers; searches in this process, but for one with real workers."""

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_support import TINY, Inline, Recorder
from typer.testing import CliRunner

import nas
from nas.api import watched_run
from nas.api.options import configuration
from nas.base.errors import NasError, RunError, UserError
from nas.cli.commands import app
from nas.data.run_arrays import FILE
from nas.ledger import read_config
from nas.run import lifecycle
from nas.run.events import Silent

ROOT = Path(__file__).parents[3]
SMALL = {name: value for name, value in TINY.items() if name not in ("space", "data")}


def pictures(count: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    return (draw.integers(0, 100, (count, 8, 8)) + 100 * labels[:, None, None]).astype(np.uint8), labels


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials are performed in this process."""
    monkeypatch.setattr(watched_run, "make_executor", lambda *facts, processes: Inline(*facts))


def quick(run: Path, **changes: Any) -> nas.Run:
    return nas.search("digits", run=run, quiet=True, **{**SMALL, "generations": 1, **changes})


class Presses:
    """Ctrl-C, as a terminal or a notebook sends it, when a trial has ended; again while the run is put away."""

    def on_trial_end(self, record: nas.TrialRecord) -> None:
        if record.key == "1.1":
            signal.raise_signal(signal.SIGINT)


def test_a_search_of_a_script_comes_to_the_same_as_the_engine(tmp_path: Path, capfd: Any) -> None:
    settings, _ = configuration("digits", {**SMALL, "data": "digits"})
    whole = lifecycle.search(settings, tmp_path / "whole", Silent(), "", Inline)
    before = signal.getsignal(signal.SIGINT)
    run = nas.search("digits", data="digits", run=tmp_path / "run", **SMALL)
    assert run.finished
    assert run.digest == whole.view.digest
    assert signal.getsignal(signal.SIGINT) is before
    out, err = capfd.readouterr()
    assert "generation 2: best" in out
    assert "\x1b" not in out
    assert not err


def test_a_run_answers_what_it_is_asked(finished: Any, tmp_path: Path) -> None:
    run = nas.open_run(finished.run)
    assert run == nas.Run(finished.run)
    assert run.best.record == finished.outcome.best
    assert run.test == {"accuracy": finished.outcome.test.accuracy, "loss": finished.outcome.test.loss}
    assert run.scores["test_accuracy"] == run.test["accuracy"]
    assert [trial.key for trial in run.trials] == [record.key for record in run.view.trials]
    assert run.trials[-1] == run.best == run.trial(run.best.key)
    assert [trial.key for trial in run.trials[:2]] == ["0.0", "1.0"]
    network, module = run.best.network, run.best.module()
    assert isinstance(module, torch.nn.Module)
    assert network.graph.fingerprint == run.best.record.result.fingerprint
    assert run.status.state == "finished"
    assert run.report() == finished.run / "report.html"
    (finished.run / "report.html").unlink()
    assert (run.export(tmp_path / "out") / "model.py").is_file()
    table = run.trials.to_pandas()
    assert list(table["trial"]) == [trial.key for trial in run.trials]
    assert table["val_accuracy"].iloc[-1] == run.scores["val_accuracy"]
    assert "finished" in repr(run)
    assert "<table>" in run._repr_html_()
    assert run.resume(quiet=True) == run


def test_pandas_is_needed_only_for_its_table(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pandas"):
        nas.open_run(finished.run).trials.to_pandas()
    assert nas.open_run(finished.run).trials[0].row()["trial"] == "0.0"


def test_a_folder_that_is_lost_still_has_a_repr(tmp_path: Path) -> None:
    run = nas.Run(tmp_path)
    assert str(tmp_path) in repr(run)
    assert "damaged" in run._repr_html_()
    with pytest.raises(RunError):
        nas.open_run(tmp_path)


def test_a_name_in_markup_is_escaped(finished: Any, tmp_path: Path) -> None:
    odd = tmp_path / "<b>"
    odd.symlink_to(finished.run, target_is_directory=True)
    assert "<b>" not in nas.Run(odd)._repr_html_()


@pytest.mark.usefixtures("inline")
def test_arrays_become_part_of_the_run_and_the_command_line_goes_on_with_them(tmp_path: Path) -> None:
    images, labels = pictures()
    run = quick(tmp_path / "first", data=(images, labels), callbacks=[Presses()])
    assert not run.finished
    assert run.status.state == "stopped"
    moved = tmp_path / "moved"
    run.folder.rename(moved)
    done = CliRunner().invoke(app, ["resume", str(moved), "--quiet"], obj=["resume"])
    assert done.exit_code == 0, done.output
    whole = quick(tmp_path / "whole", data=(torch.from_numpy(images), labels))
    assert nas.Run(moved).digest == whole.digest
    again = nas.replay(whole, run=tmp_path / "again", quiet=True)
    assert again.digest == whole.digest
    assert (again.folder / FILE).read_bytes() == (whole.folder / FILE).read_bytes()


@pytest.mark.usefixtures("inline")
def test_changed_arrays_are_noticed(tmp_path: Path) -> None:
    run = quick(tmp_path / "run", data=pictures(), callbacks=[Presses()])
    other = quick(tmp_path / "other", data=pictures(seed=1))
    (run.folder / FILE).write_bytes((other.folder / FILE).read_bytes())
    with pytest.raises(UserError, match="holds arrays:"):
        run.resume(quiet=True)
    (run.folder / FILE).write_bytes(b"\x80nonsense")
    with pytest.raises(UserError, match="can't be read"):
        run.resume(quiet=True)


@pytest.mark.usefixtures("inline")
def test_what_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="params"):
        quick(tmp_path / "run", data=pictures(), limits={"params": 10})
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    with pytest.raises(RunError):
        quick(tmp_path / "mine", data=pictures())
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_wrong_names_are_user_errors(tmp_path: Path) -> None:
    for wrong in ({"childrn": 2}, {"budget": "soon"}, {"device": "cuda:77"}, {"callbacks": [object()]}):
        with pytest.raises(UserError):
            quick(tmp_path / "run", data="digits", **wrong)
    with pytest.raises(UserError, match="generations"):
        nas.Run(tmp_path).resume(generations=3)
    with pytest.raises(UserError):
        nas.search("nowhere", generations=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"space": None},
        {"limits": {"params": "x"}},
        {"limits": [3]},
        {"moves": [str]},
        {"callbacks": 3},
    ],
    ids=str,
)
def test_arguments_of_another_type_are_user_errors(tmp_path: Path, wrong: dict[str, Any]) -> None:
    given = {"space": "digits", "generations": 1, "run": tmp_path / "run", **wrong}
    with pytest.raises(UserError, match=next(iter(wrong))):
        nas.search(given.pop("space"), **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("inline")
def test_arguments_are_kept_for_the_record(tmp_path: Path) -> None:
    run = quick(tmp_path / "run", data=pictures(), limits={"params": 1e5}, budget="2h", callbacks=[Presses()])
    described = read_config(run.folder).config
    assert described["config"]["limits"]["params"] == 100_000
    assert described["config"]["budget"] == 7200
    assert described["command"].startswith("nas.search('digits', budget='2h', generations=1, seed=3")


@pytest.mark.usefixtures("inline")
def test_ctrl_c_returns_an_unfinished_run_that_resumes_to_the_same(tmp_path: Path) -> None:
    run = quick(tmp_path / "run", data="digits", callbacks=[Presses()])
    assert not run.finished
    assert run.best.state == "complete"
    whole = quick(tmp_path / "whole", data="digits")
    assert run.resume(quiet=True).digest == whole.digest


@pytest.mark.usefixtures("inline")
def test_ctrl_c_before_a_trial_has_ended_is_a_run_too_and_before_the_run_it_is_raised(tmp_path: Path) -> None:
    class Starts:
        def on_generation_start(self, generation: int, jobs: Sequence[Any]) -> None:
            signal.raise_signal(signal.SIGINT)

    run = quick(tmp_path / "run", data="digits", callbacks=[Starts()])
    assert not run.finished
    with pytest.raises(NasError):
        _ = run.best

    class Torn:
        def __len__(self) -> int:
            signal.raise_signal(signal.SIGINT)
            return 2

        def __getitem__(self, index: int) -> Any:
            raise AssertionError

    with pytest.raises(KeyboardInterrupt):
        quick(tmp_path / "none", data=Torn())
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("inline")
def test_callbacks_hear_of_everything_in_order_beside_the_view(tmp_path: Path) -> None:
    class Some:
        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_step(self, key: str, step: int, steps: int, loss: float) -> None:
            self.heard.append(key)

        def on_generation_end(self, generation: int, best: nas.TrialRecord) -> None:
            self.heard.append(f"generation {generation}")

    some, all_ = Some(), Recorder()
    run = quick(tmp_path / "run", data="digits", callbacks=[some, all_])
    assert all_.told == [record.key for record in sorted(run.view.trials, key=lambda record: record.finished)]
    assert [heard for heard in some.heard if heard.startswith("g")] == ["generation 0", "generation 1"]
    assert {heard for heard in some.heard if heard[0] != "g"} == {trial.key for trial in run.trials}


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    "event",
    ["on_run_start", "on_generation_start", "on_step", "on_trial_end", "on_generation_end", "on_run_end"],
)
def test_what_a_callback_raises_reaches_the_caller_and_the_run_goes_on(event: str, tmp_path: Path) -> None:
    class Own(Exception):
        pass

    def fail(*_: object) -> None:
        raise Own

    with pytest.raises(Own):
        quick(tmp_path / "run", data="digits", callbacks=[type("Bad", (), {event: fail})()])
    whole = quick(tmp_path / "whole", data="digits")
    assert nas.resume(tmp_path / "run", quiet=True).digest == whole.digest


@pytest.mark.usefixtures("inline")
def test_a_search_in_another_thread_needs_no_signals(tmp_path: Path) -> None:
    found: list[nas.Run] = []
    thread = threading.Thread(target=lambda: found.append(quick(tmp_path / "run", data="digits")))
    thread.start()
    thread.join()
    assert found[0].finished


def test_importing_nas_loads_nothing_heavy_and_has_all_its_names() -> None:
    code = (
        "import sys, nas; assert not {'torch', 'optuna', 'pydantic', 'numpy', 'rich'} & set(sys.modules);"
        "assert set(nas.__all__) <= set(dir(nas)); [getattr(nas, name) for name in nas.__all__];"
        "assert not {'ray', 'pandas', 'IPython', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    with pytest.raises(AttributeError):
        _ = nas.nothing  # pyright: ignore


def test_a_finished_search_is_continued_in_a_run_of_its_own(tmp_path: Path, inline: None) -> None:
    first = quick(tmp_path / "first", generations=0, most_epochs=1)
    second = nas.resume(first, generations="+1", quiet=True)
    assert second.folder == tmp_path / "first-more-1"
    assert second.finished
    assert second.status.after == str(first.folder)
    assert str(second.status.command).startswith("nas.resume(")
    assert second.trial("0.0").record.job.graph == first.best.network.graph.to_json()
    third = second.resume(budget="+40s", generations="+1", to=tmp_path / "third", quiet=True)
    assert (third.folder, third.finished) == (tmp_path / "third", True)
    for wrong in ({"budget": 60}, {"generations": 1}, {"to": "other"}):
        with pytest.raises(UserError):
            first.resume(quiet=True, **wrong)  # type: ignore[arg-type]
