"""The memory of a training: estimated before the start, and a batch chosen that fits."""

import subprocess
import sys
from pathlib import Path

import pytest
from engine_support import Inline, Recorder, tiny

import morphs
from nas.base.errors import UserError
from nas.base.machine import available_memory
from nas.data import load_search_data
from nas.run import memory
from nas.run.lifecycle import search
from nas.run.memory import SHARE, fitted, training_bytes
from nas.run.plan import Plan, make_plan

ROOT = Path(__file__).parents[3]


def plan_of(**changes: object) -> Plan:
    config = tiny(**changes)
    return make_plan(config, load_search_data("digits", None, 3))


def test_a_batch_that_fits_is_left_alone() -> None:
    plan = plan_of(workers=1)
    enough = int(training_bytes(plan.space.seed, plan.config.train.batch_size) / SHARE) + 2
    assert fitted(plan, enough) == (plan, None)


def test_the_largest_half_that_fits_in_every_worker_is_taken_and_said() -> None:
    plan = plan_of(workers=2)
    for batch in (32, 8, 2):
        room = int(2 * training_bytes(plan.space.seed, batch) / SHARE) + 2
        changed, said = fitted(plan, room)
        assert changed.config.train.batch_size == batch
        assert said is not None
        for named in (f"of {batch} ", "instead of 64", "--workers", "batch_size"):
            assert named in said


def test_what_fits_with_no_batch_is_refused_with_the_remedies() -> None:
    with pytest.raises(UserError) as error:
        fitted(plan_of(workers=3), 1000)
    for named in ("--workers (now 3)", "size=", "batches of 2"):
        assert named in str(error.value)


def test_the_memory_of_another_machine_is_not_judged() -> None:
    plan = plan_of(executor="ray", address="auto", workers=1)
    assert fitted(plan, 1) == (plan, None)


def test_a_search_starts_with_what_fits_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(workers=1, generations=1)
    seed = plan_of().space.seed
    monkeypatch.setattr(memory, "available_memory", lambda: int(training_bytes(seed, 16) / SHARE) + 2)
    said: list[str] = []

    class Hears(Recorder):
        def on_notice(self, text: str) -> None:
            said.append(text)

    outcome = search(config, tmp_path / "run", Hears(), "", Inline)
    assert len(said) == 1
    assert '"batch_size":16' in (tmp_path / "run" / "config.json").read_text().replace(" ", "")
    assert outcome.view.final is not None


MEASURE = """
import re, sys, torch, morphs
from pathlib import Path
from nas.data.types import Augment, SearchData, Split
from nas.run.memory import training_bytes, BASE
from nas.train import TrainConfig, train
from search_spaces import SPACES
torch.set_num_threads(1)
split = Split(torch.zeros(64, 3, 64, 64, dtype=torch.uint8), torch.arange(64) % 2)
data = SearchData("x", split, split, ("a", "b"), (0.5,) * 3, (0.2,) * 3, Augment(False, 0), "0")
graph = SPACES["nash"]((3, 64, 64), 2).seed
peaks = []
for batch in (2, 64):
    Path("/proc/self/clear_refs").write_text("5")  # forget an inherited peak
    train(morphs.init(graph).to_torch(), data, steps=2, config=TrainConfig(batch_size=batch, precision="fp32"), seed=0)
    peaks.append(1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
print((peaks[1] - peaks[0]) / (training_bytes(graph, 64) - training_bytes(graph, 2)))
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="this system doesn't tell a peak of memory"
)
def test_the_estimate_is_not_less_than_what_training_takes_nor_much_more() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 0.3 < float(done.stdout) < 1.0


def files(folder: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_container_leaves_less_than_the_machine(tmp_path: Path) -> None:
    free = {"meminfo": "MemTotal: 100 kB\nMemAvailable:   8000 kB\n"}
    none = files(tmp_path / "a", {**free, "self/cgroup": "0::/\n"})
    assert available_memory(none, tmp_path / "none") == 8000 * 1024
    own = files(tmp_path / "b", {**free, "self/cgroup": "0::/outer/inner\n"})
    two = files(
        tmp_path / "two",
        {
            "outer/inner/memory.max": "max\n", "outer/inner/memory.current": "5\n", "outer/memory.max": "5000\n",
            "outer/memory.current": "4000\n", "outer/memory.stat": "anon 3\ninactive_file 500\n",
        },
    )  # fmt: skip
    assert available_memory(own, two) == 1500
    old = files(tmp_path / "c", {**free, "self/cgroup": "3:cpu:/x\n9:memory:/jobs\n"})
    one = files(
        tmp_path / "one",
        {"memory/jobs/memory.limit_in_bytes": "700\n", "memory/jobs/memory.usage_in_bytes": "900\n"},
    )
    assert available_memory(old, one) == 0
    assert available_memory(tmp_path / "nowhere", tmp_path) is None


def test_the_memory_of_a_run_is_limited_with_its_own_batches() -> None:
    seed = plan_of().space.seed
    fits = morphs.training_memory(seed, 64)
    assert plan_of(limits={"memory": fits}).space.seed == seed
    with pytest.raises(UserError, match="--limit memory="):
        plan_of(limits={"memory": fits - 1})
