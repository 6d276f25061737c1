"""The commands in this process: listings, help, and every kind of wrong input."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import make_run
from typer.testing import CliRunner, Result

import nas
from nas.base.errors import NasError
from nas.cli.commands import app

COMMANDS = (
    "search",
    "resume",
    "replay",
    "status",
    "fsck",
    "report",
    "watch",
    "runs",
    "export",
    "morph",
    "moves",
    "spaces",
    "policies",
)


def call(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), prog_name="nas")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "data"))
    return tmp_path


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",), *((command, "--help") for command in COMMANDS)])
def test_help(args: tuple[str, ...]) -> None:
    done = call(*args)
    assert done.exit_code == 0
    assert "Usage: nas" in done.stdout


def test_moves_shows_each_with_an_example() -> None:
    import morphs

    done = call("moves")
    assert done.exit_code == 0
    for kind in morphs.MOVES:
        assert f"{kind.name}  {kind.summary}" in done.stdout
    examples = [line.split(None, 1)[1] for line in done.stdout.splitlines() if line.startswith("  example")]
    assert [morphs.parse(example).name for example in examples] == [kind.name for kind in morphs.MOVES]
    assert "fields              node: str, to: int, how: replicate|zero" in done.stdout
    assert "\x1b" not in done.stdout


def test_spaces_shows_sizes_and_recipes(home: Path) -> None:
    assert "cifar_nash nash cifar10" in " ".join(call("spaces").stdout.split())
    (home / "runs/recipes").mkdir(parents=True)
    (home / "runs/recipes/mine.toml").write_text('# A try.\nspace = "mlp"\n')
    (home / "runs/recipes/broken.toml").write_text("space = ")
    done = call("spaces")
    assert done.exit_code == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert any(line.startswith("mlp mnist 7,850 7,840 ") for line in lines)
    assert any(line.startswith("conv1d – ") and "– –" not in line for line in lines)
    assert "mine mlp mnist A try." in lines
    assert any(line.startswith("broken – – can't be read") for line in lines)


def test_runs_are_sorted_and_removed(home: Path) -> None:
    make_run(home / "runs/one", final=True)
    make_run(home / "runs/two")
    ran = {
        order: call("runs", "--sort", order) for order in ("date", "test", "val", "params", "time", "disk")
    }
    assert all(done.exit_code == 0 for done in ran.values())
    by_test = ran["test"].stdout
    assert by_test.index("one") < by_test.index("two")  # which has no test score yet
    refused = call("rm", "one")  # nobody can be asked
    assert refused.exit_code == 2
    assert (home / "runs/one").exists()
    assert call("rm", "one", "nowhere", "--yes").exit_code == 2
    assert (home / "runs/one").exists()
    assert call("rm", "one", "runs/two", "--yes").exit_code == 0
    assert list((home / "runs").iterdir()) == []


def test_runs_and_status(home: Path) -> None:
    assert call("runs").stdout == "no runs in runs; start one with: nas search digits\n"
    make_run(home / "runs/one", final=True)
    shutil.copytree(home / "runs/one", home / "runs/two")
    (home / "runs/two/ledger.db").write_bytes(b"x" * 5000)
    done = call("runs")
    assert done.exit_code == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "one finished digits on digits 1/3 95.00 % 94.00 % 1,234 40s" in lines
    assert any(line.startswith("two: ") and "ledger.db" in line for line in lines)
    assert call("runs", "runs").stdout == done.stdout
    assert f"{home}/runs/one" in call("runs", str(home / "runs")).stdout
    shown = call("status", "one")
    assert shown.exit_code == 0
    for fact in (
        "state                finished",
        "test accuracy        94.00 %",
        "nas export runs/one --to DIR",
    ):
        assert fact in shown.stdout
    document = json.loads(call("status", "one", "--json").stdout)
    assert (document["state"], document["complete"], document["test_accuracy"]) == ("finished", 3, 0.94)


WRONG = {
    "serach": "no such command 'serach'; did you mean 'search'?",
    "search": "missing argument 'SPACE|RECIPE'; write auto for a space that suits the data (nas spaces)",
    "search digts": "did you mean digits?",
    "search digits extra": "see nas search --help",
    "search digits --log excel": "choose one of csv, tensorboard, mlflow, wandb",
    "watch nothing": "list the runs with: nas runs",
    "search digits --frob": "see nas search --help",
    "search digits --seed": "see nas search --help",
    "search digits --seed x": "'--seed'",
    "search digits --seed -1": "'--seed'",
    "search digits --seed 4294967296": "seed",
    "search digits --children 0": "'--children': it should be greater than or equal to 1",
    "search digits --generations -3": "'--generations'",
    "search digits --workers 0": "'--workers'",
    "search digits --threads 0": "'--threads'",
    "search digits --epochs 0": "epochs",
    "search digits --epochs nan": "epochs",
    "search digits --epochs inf": "epochs",
    "search digits --epochs much": "'--epochs'",
    "search digits --final-share 1": "final_share",
    "search digits --final-share -0.1": "'--final-share'",
    "search digits --final never": "'never' is not one of 'continue', 'restart'",
    "search digits --policy luck": "choose one of hill-climb, evolution, local-search, pareto, random",
    "search digits --policy evolutoin": "did you mean evolution?",
    "search digits --policy no.such:Policy": "no module no for --policy",
    "search digits --policy nas.policies:Nothing": "module nas.policies has no callable 'Nothing'",
    "search digits --policy nas.base.seeds:derive": "an int has no method propose",
    "search digits --move-sampler luck": 'there is no move sampler "luck"; choose one of uniform, tpe, predictor',
    "search digits --policy evolution --rungs 2": "evolution has no setting rungs; choose hill-climb, which has it",
    "search digits --objective macs": "hill-climb has no setting objective; choose pareto, which has it",
    "search digits --policy pareto --objective beauty": 'no objective "beauty"; choose one of params, macs, latency',
    "search digits --executor cloud": 'there is no executor "cloud"; choose one of local, ray',
    "search digits --set population=3": "hill-climb has no setting population; choose evolution, which has it",
    "search digits --set rungs=9": "rungs: input should be less than or equal to 8, not 9",
    "search digits --set rungs": "write NAME=VALUE",
    "search digits --set network.depth=3": "write NAME=VALUE",
    "search digits --set train.lrr=3": "did you mean lr?",
    "search digits --moves widn": 'there is no move "widn"; did you mean widen?',
    "search digits --moves no.such:Move": "no module no for --moves",
    "search digits --moves nas.base.seeds:derive": "is not a move; give a subclass of morphs.Move",
    "search no.such:space": "no module no for the search space",
    "search nas.base.seeds:derive --generations 1 --data digits": "return a search_spaces.Space",
    "search digits --address auto": "address is a setting of Ray; add --executor ray",
    "search digits --executor ray --storage relative/place": "give an absolute path or a URI like s3://",
    "search digits --policy random --move-sampler tpe": "random draws moves uniformly; omit tpe",
    "search digits --executor ray --address ray://host": "run on a machine of the cluster",
    "search digits --executor ray --gpus-per-child 0.25": "add --device cuda",
    "search digits --executor ray --device cuda:1 --gpus-per-child 0.5": "use cuda",
    "search digits --budget soon": "10m",
    "search digits --budget 0": "10m",
    "search digits --budget -5m": "10m",
    "search digits --child-timeout 0s": "10m",
    "search digits --limit params": "params=2e6",
    "search digits --limit params=x": "params=2e6",
    "search digits --limit params=nan": "params=2e6",
    "search digits --limit weight=3": "choose one of params",
    "search digits --limit params=-1": "positive",
    "search digits --limit params=10": "raise that limit",
    "search digits --budget 1ms": "10m",
    "search digits --budget 0.2s": "raise --budget",
    "search digits --device quux": 'device "quux"',
    "search digits --device meta": 'device "meta"',
    "search digits --data nope": "unknown data set",
    "search digits --data imagefolder:nowhere": "nowhere",
    "search digits --data no.module:here": "no.module",
    "search digits --run file": "file",
    "search digits --run full": "full",
    "search digits --run file/below": "file/below",
    "search nowhere.toml": "nowhere.toml can't be read",
    "search broken.toml": "is not TOML",
    "search binary.toml": "can't be read",
    "search spaceless.toml": "names no space",
    "search odd.toml": "frob",
    "resume nowhere": '"nowhere"',
    "replay nowhere": '"nowhere"',
    "resume full": "full ",
    "resume file": "file ",
    "status nowhere": '"nowhere"',
    "report nowhere": '"nowhere"',
    "export nowhere --to x": '"nowhere"',
    "export nowhere": "missing option '--to'",
    "runs file": "can't be listed",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_input_is_one_line_and_leaves_nothing(home: Path, line: str) -> None:
    (home / "full").mkdir()
    (home / "full/note").touch()
    texts = {"broken": "space = ", "spaceless": "epochs = 3", "odd": 'space = "digits"\nfrob = 1', "file": ""}
    for name, text in texts.items():
        (home / (name if name == "file" else f"{name}.toml")).write_text(text)
    (home / "binary.toml").write_bytes(bytes(range(256)))
    before = sorted(home.rglob("*"))
    done = call(*line.split())
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("nas: ")
    assert done.stderr.count("\n") == 1
    assert WRONG[line] in done.stderr
    assert sorted(home.rglob("*")) == before


def test_without_ray_its_executor_is_refused_in_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.split(".")[0] == "ray" or name.startswith("nas.execute.ray")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = call("search", "digits", "--executor", "ray")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("nas: executor ray: Ray can't be imported (")
    assert done.stderr.endswith('); pip install "ray[tune]", or use --executor local\n')
    assert list(home.iterdir()) == []


def broken(run: Path, how: str) -> None:
    if how == "config":
        (run / "config.json").write_text("{")
    elif how == "no config":
        (run / "config.json").unlink()
    elif how == "ledger":
        (run / "ledger.db").write_bytes(b"x" * 4096)
    elif how == "no ledger":
        (run / "ledger.db").unlink()
    elif how == "empty ledger":
        (run / "ledger.db").write_bytes(b"")


@pytest.mark.parametrize("how", ["config", "no config", "ledger", "no ledger", "empty ledger"])
@pytest.mark.parametrize(
    "command", ["status one", "resume one", "report one", "export one --to x", "status one --json"]
)
def test_a_damaged_run_is_one_line_and_left_as_it_is(home: Path, how: str, command: str) -> None:
    run = make_run(home / "runs/one")
    broken(run, how)
    before = {
        path: path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file() and path.name != "lock"
    }
    done = call(*command.split())
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("nas: ")
    assert done.stderr.count("\n") == 1
    assert before == {
        path: path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file() and path.name != "lock"
    }


def test_failures_of_a_run_are_one_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    from morphs.errors import IllegalMove
    from nas.cli import run_commands

    for error in (
        NasError("it did not\n  work; try again"),
        IllegalMove("no; yes"),
        PermissionError(13, "denied", "f"),
    ):

        def fail(*_: object, error: Exception = error) -> int:
            raise error

        monkeypatch.setattr(run_commands, "resume", fail)
        done = call("resume", "x")
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)


def test_what_nobody_expected_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.cli import run_commands

    def fail(*_: object) -> int:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(run_commands, "resume", fail)
    assert isinstance(call("resume", "x").exception, ZeroDivisionError)


def imported(*args: str) -> set[str]:
    """The modules that a command loads, in a process of its own."""
    code = (
        "import sys\nfrom nas.cli.commands import app\n"
        "try:\n    app(sys.argv[1:], prog_name='nas')\nexcept SystemExit:\n    pass\n"
        "print('\\n' + ' '.join(sys.modules))"
    )
    root = str(Path(nas.__file__ or "").parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": root},
    )
    return set(done.stdout.splitlines()[-1].split())


def test_quick_commands_load_nothing_heavy(home: Path) -> None:
    make_run(home / "runs/one")
    heavy = {"torch", "torchvision", "ray", "sklearn", "plotly", "networkx"}
    for args in ((), ("search", "--help"), ("runs",), ("status", "one"), ("status", "nowhere")):
        assert not imported(*args) & heavy, args
    assert "optuna" not in imported("--help")
    assert not imported("moves") & {"ray", "optuna", "plotly"}
