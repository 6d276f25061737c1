"""Every script of runs/benchmarks and runs/papers with --quick, as a user starts it: does it run, and is it right?

Whether it is fast is not asked here. The default run has the two of least work; `pytest -m benchmark` has the others.
"""

import json
import os

import pytest
from runs_support import ROOT, started

DATA = os.environ.get("NAS_DATA", "")
LONG = pytest.mark.benchmark
NEEDS = (
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA, reason="needs published data sets under $NAS_DATA"),
    LONG,
)


def case(script: str, *options: str, marks: tuple[pytest.MarkDecorator, ...] = ()) -> object:
    return pytest.param(script, options, marks=marks, id=script)


CASES = (
    case("benchmarks/gpu_sharing.py", "--device", "cpu"),
    case("benchmarks/preservation.py"),
    case("benchmarks/training_memory.py"),
    case("benchmarks/compact_speed.py", marks=(LONG,)),
    case("benchmarks/copy_speed.py", marks=(LONG,)),
    case("benchmarks/equal_cost.py", marks=(LONG,)),
    case("benchmarks/first_result.py", marks=(LONG,)),
    case("benchmarks/large_run.py", marks=(LONG,)),
    case("benchmarks/live_page.py", marks=(LONG,)),
    case("benchmarks/morph_speed.py", marks=(LONG,)),
    case("benchmarks/gpu_speed.py", "--device", "cpu", "--data-root", DATA, marks=NEEDS),
    case("benchmarks/own_data.py", marks=(LONG,)),
    case("benchmarks/parallel.py", "--executor", "local", marks=(LONG,)),
    case("benchmarks/signals.py", marks=(LONG,)),
    case("benchmarks/surroundings.py", marks=(LONG,)),
    case("benchmarks/time_left.py", marks=(LONG,)),
    case("benchmarks/overhead.py", "--data-root", DATA, marks=NEEDS),
    case("benchmarks/policy_regret.py", "--table", f"{DATA}/nasbench201", marks=NEEDS),
    case("benchmarks/train_speed.py", "--data-root", DATA, marks=NEEDS),
    case("benchmarks/budget.py", marks=(LONG,)),
    case("benchmarks/worker_memory.py", marks=(LONG,)),
    case("benchmarks/zoo.py", marks=(LONG,)),
    case("papers/compnet.py", "--data-root", DATA, marks=NEEDS),
    case("papers/nash.py", "--data-root", DATA, marks=NEEDS),
    case("papers/network_morphism.py", "--data-root", DATA, marks=NEEDS),
)


@pytest.mark.parametrize(("script", "options"), CASES)
def test_a_script_with_quick(script: str, options: tuple[str, ...]) -> None:
    done = started(script, "--quick", *options)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["script"] == f"runs/{script}"
    assert set(told) == {"script", "command", "environment", "figures"}
    assert told["figures"]
    # A figure without a unit is a count or an error, which a busy machine doesn't change.
    wrong = [each["name"] for each in told["figures"] if each["holds"] is False and not each["unit"]]
    assert wrong == []


def test_every_script_is_tried() -> None:
    folders = (ROOT / "runs" / "benchmarks", ROOT / "runs" / "papers")
    scripts = {path for folder in folders for path in folder.glob("*.py") if not path.name.startswith("_")}
    assert {f"{path.parent.name}/{path.name}" for path in scripts} == {each.id for each in CASES}


@LONG
def test_a_gpu_that_is_not_there_is_one_line() -> None:
    done = started("benchmarks/gpu_sharing.py", "--quick", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cuda" in line
    assert not done.stdout
