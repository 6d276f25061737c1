from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from export_support import graph, state
from safetensors.torch import load_file

from morphs import Network, cost, init
from nas.base.errors import LedgerDamaged, RunError, UserError
from nas.export import export_trial
from nas.ledger import Job, Ledger, Result

DATA = {
    "name": "toys",
    "classes": ["a", "b", "c"],
    "mean": [0.4, 0.5],
    "std": [0.2, 0.3],
    "input_shape": [2, 8, 8],
}
CONFIG = {
    "config": {},
    "command": "nas search toys --seed 3",
    "data": DATA,
}


def net(seed: int) -> Network:
    return init(graph("residual"), seed=seed)


def tell(
    ledger: Ledger, place: tuple[int, int], kind: str, parent: str | None, scores: Mapping[str, float] | None
) -> None:
    """A trial whose network is `net(10 * generation + slot)`; one without scores fails."""
    network = net(10 * place[0] + place[1])
    moves = "widen(node=c1, to=8, how=replicate)" if kind == "child" else ""
    number = ledger.ask(Job(kind, *place, parent, moves, 0, 10, network.graph.to_json()))
    if scores is None:
        ledger.fail(number, "diverged")
    else:
        costs = cost(network.graph)
        ledger.store.put(network)
        ledger.tell(
            number, Result(network.graph.fingerprint, network.digest, scores, costs.params, costs.macs)
        )


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    def make(final: bool, config: Mapping[str, Any] = CONFIG) -> Path:
        with Ledger.create(tmp_path / "run-007", config) as ledger:
            tell(ledger, (0, 0), "seed", None, {"val_accuracy": 0.5, "val_loss": 1.0})
            tell(ledger, (1, 0), "parent", "0.0", {"val_accuracy": 0.6})
            tell(ledger, (1, 1), "child", "0.0", {"val_accuracy": 0.7})
            tell(ledger, (1, 2), "child", "0.0", None)
            tell(ledger, (2, 0), "child", "1.1", {"val_accuracy": 0.65})
            if final:
                tell(
                    ledger,
                    (3, 0),
                    "final",
                    "1.1",
                    {"val_accuracy": 0.69, "test_accuracy": 0.68, "test_loss": 0.9},
                )
            else:
                ledger.ask(Job("final", 3, 0, "1.1", "", 0, 10, graph("residual").to_json()))
        return tmp_path / "run-007"

    return make


def exported(to: Path) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in load_file(to / "weights.safetensors").items()}


def same(to: Path, seed: int) -> bool:
    return exported(to) == {name: tensor.tolist() for name, tensor in state(net(seed)).items()}


def test_the_final_network_is_the_default(made: Callable[..., Path], tmp_path: Path) -> None:
    run, to = made(final=True), tmp_path / "to"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert export_trial(run, None, to) == to
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert same(to, 30)
    lines = (to / "README.md").read_text().splitlines()
    for line in (
        "# run-007, trial 3.0",
        "| accuracy | 68.00 % | test split, read once, after the search ended |",
        "| loss | 0.9000 | test split, read once, after the search ended |",
        "Created by `nas search toys --seed 3`.",
        "Classes, in the order of the outputs: a, b, c.",
    ):
        assert line in lines, line
    assert any(line.startswith("With ") and f"torch {torch.__version__}"[:9] in line for line in lines)
    steps = [line.split(";")[0] for line in lines if line[:1].isdigit()]
    assert steps == [
        "1. trial 0.0 (seed): no change to the architecture",
        "2. trial 1.1 (child): `widen(node=c1, to=8, how=replicate)`",
        "3. trial 3.0 (final): no change to the architecture",
    ]
    assert 'MEAN = (0.4, 0.5)\nSTD = (0.2, 0.3)\nCLASSES = ("a", "b", "c")\n' in (to / "model.py").read_text()


def test_else_the_best_of_the_search(made: Callable[..., Path], tmp_path: Path) -> None:
    export_trial(made(final=False), None, tmp_path / "to")
    assert same(tmp_path / "to", 20)  # the last generation's, though an earlier one scored higher
    assert "never measured on the test split" in (tmp_path / "to" / "README.md").read_text()


def test_any_complete_trial_can_be_named(made: Callable[..., Path], tmp_path: Path) -> None:
    export_trial(made(final=True), "1.0", tmp_path / "to")
    assert same(tmp_path / "to", 10)


@pytest.mark.parametrize(
    ("trial", "fact"),
    [("9.9", "does not exist"), ("1.2", "is failed"), ("3.0", "is running"), ("", "does not exist")],
)
def test_other_trials_are_refused_by_name(
    made: Callable[..., Path], tmp_path: Path, trial: str, fact: str
) -> None:
    with pytest.raises(UserError) as caught:
        export_trial(made(final=False), trial, tmp_path / "to")
    assert str(caught.value) == f"export: trial {trial} {fact}; choose one of 0.0, 1.0, 1.1, 2.0"
    assert not (tmp_path / "to").exists()


def test_a_run_without_a_complete_trial(tmp_path: Path) -> None:
    Ledger.create(tmp_path / "run", CONFIG).close()
    with pytest.raises(UserError, match=rf"^export: {tmp_path / 'run'} .*nas resume"):
        export_trial(tmp_path / "run", None, tmp_path / "to")


def test_no_run_a_used_target_and_odd_descriptions_are_refused(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=str(tmp_path / "nothing")):
        export_trial(tmp_path / "nothing", None, tmp_path / "to")
    run = made(final=True, config={**CONFIG, "data": {}})
    with pytest.raises(UserError, match="is not empty"):
        export_trial(run, None, run)
    with pytest.raises(RunError, match=r"config.json has .* no data set; restore it from a copy"):
        export_trial(run, None, tmp_path / "to")


def test_a_damaged_checkpoint_is_not_exported(made: Callable[..., Path], tmp_path: Path) -> None:
    run = made(final=True)
    weights = run / "checkpoints" / net(30).digest / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(LedgerDamaged):
        export_trial(run, None, tmp_path / "to")
    assert not (tmp_path / "to").exists()
