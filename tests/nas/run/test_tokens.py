"""Searches on tokens: which of two tokens occurs more often, learned from embeddings."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_support import Inline
from torch import Tensor, nn

import morphs
import nas
from morphs import parse_graph
from nas.api.models import starting
from nas.base.errors import UserError
from nas.data import ValueSplit, load_search_data, load_test_split
from nas.ledger import read_config
from nas.registry.configure import configure, make_config
from nas.registry.defaults import REGISTRY
from nas.run.events import Silent
from nas.run.lifecycle import replay, search
from nas.run.longer import More, longer
from nas.run.suited import suited_training, told

TOKENS, LENGTH = 8, 12
FLOATS = f"x = input(size=[{LENGTH}]); fc = linear(x, features=2); y = output(fc)"
WORDS = f"""x = input(size=[{LENGTH}], tokens={{0}}); e = embedding(x, count={{0}}, features=4); m = mean(e, axes=[0])
    fc = linear(m, features=2); y = output(fc)"""
FAST: dict[str, Any] = {
    "children": 1,
    "generations": 1,
    "quiet": True,
    "threads": 1,
    "workers": 1,
    "epochs": 6,
}


def examples(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sequences in which token 3 or token 5 occurs more often, the rest at random."""
    draw = np.random.default_rng(seed)
    x = draw.integers(0, TOKENS, (2 * count, LENGTH))
    more = (x == 3).sum(1) - (x == 5).sum(1)
    chosen = np.flatnonzero(more)[:count]
    return x[chosen], (more[chosen] > 0).astype(int)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("tokens") / "tokens.npz"
    x, y = examples(600)
    np.savez(file, x=x, y=y)
    return f"npz:{file}"


@pytest.fixture(scope="module")
def run(spec: str, tmp_path_factory: pytest.TempPathFactory) -> nas.Run:
    """By a worker of its own. Not to be changed."""
    return nas.search("auto", data=spec, run=tmp_path_factory.mktemp("runs") / "run", **FAST)


def test_a_search_learns_what_the_commonest_answer_does_not_know(run: nas.Run) -> None:
    result = run.best.record.result
    assert result is not None
    assert run.test is not None
    assert run.test["accuracy"] > 0.85
    assert result.baselines["simple_test"] < 0.65
    assert result.baselines["linear_test"] > 0.85
    assert len(result.mistakes["confusion"]) == 2
    assert [trial.record.job.moves for trial in run.trials if trial.record.job.moves]
    described = read_config(run.folder)
    assert described.described.data.tokens == TOKENS
    assert described.config["config"]["train"]["optimizer"] == "adamw"
    assert run.report().exists()


def test_it_replays_and_goes_on_with_what_it_found(run: nas.Run, tmp_path: Path) -> None:
    again = replay(run.folder, tmp_path / "again", Silent(), "", executor=Inline)
    assert again.view.digest == run.digest
    more = longer(run.folder, tmp_path / "more", More(generations=1), Silent(), "", executor=Inline)
    assert more.test is not None
    assert more.test.values["accuracy"] > 0.85
    train = read_config(tmp_path / "more").config["config"]["train"]
    assert (train["optimizer"], train["lr"]) == ("adamw", 0.0005)


def test_an_export_says_what_the_network_says_of_lines_of_tokens(
    run: nas.Run, spec: str, tmp_path: Path
) -> None:
    folder = run.export(tmp_path / "out")
    test = load_test_split(spec, None, 0)
    assert isinstance(test, ValueSplit)
    rows = test.inputs[:20]
    lines = [(" ", ", ")[number % 2].join(map(str, row)) for number, row in enumerate(rows.tolist())]
    (tmp_path / "rows.txt").write_text("\n".join(["", *lines]))
    called = subprocess.run(
        [sys.executable, str(folder), "predict", str(tmp_path / "rows.txt")],
        capture_output=True,
        text=True,
        check=True,
    )
    with torch.no_grad():
        wanted = run.best.network.to_torch().eval()(rows).argmax(1).tolist()
    said = [line.partition(": ")[2].split()[0] for line in called.stdout.splitlines()]
    assert said == [str(index) for index in wanted]
    assert "MEAN" not in (folder / "model.py").read_text()
    wrong = ("1 2 3", " ".join(["8"] * LENGTH), " ".join(["-1"] * LENGTH), "x" * 9, "")
    files = [tmp_path / f"wrong{number}.txt" for number in range(len(wrong))]
    for file, text in zip(files, wrong, strict=True):
        file.write_text(text)
    failed = subprocess.run(
        [sys.executable, str(folder), "predict", *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (failed.returncode, failed.stdout) == (1, "")
    assert [line.partition(": ")[0] for line in failed.stderr.splitlines()] == [str(file) for file in files]


class Bag(nn.Module):
    """The mean of embeddings."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.rows, self.last = nn.Embedding(tokens, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.rows(x).mean(1))


def test_a_model_that_reads_tokens_is_started_from(spec: str, tmp_path: Path) -> None:
    given = {**FAST, "data": spec, "epochs": 0.2, "workers": 1}
    config = configure("model", {name: given[name] for name in given if name != "quiet"}, trained=True)[0]
    outcome = search(config, tmp_path / "run", Silent(), "", Inline, start=starting(Bag(30)))
    assert outcome.test is not None
    train = read_config(tmp_path / "run").config["config"]["train"]
    assert (train["optimizer"], train["lr"]) == ("adamw", 0.0005)


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ({"space": "mlp"}, "mlp is not for tokens"),
        ({"start": Bag(5)}, f"{TOKENS} tokens"),
        ({"start": nn.Linear(LENGTH, 2)}, f"{TOKENS} tokens"),
        ({"space": "transformer", "data": examples(60)[0] / 1}, "reads tokens"),
        ({"start": Bag(9), "data": examples(60)[0] / 1}, "inputs"),
        ({"start": morphs.init(parse_graph(FLOATS)), "data": None}, "reads floats"),
        ({"start": morphs.init(parse_graph(WORDS.format(5))), "data": None}, "reads 5 tokens"),
        ({"start": morphs.init(parse_graph(WORDS.format(9))), "data": examples(60)[0] / 1}, "reads tokens"),
    ],
)
def test_what_does_not_fit_tokens_is_refused(
    spec: str, tmp_path: Path, given: dict[str, Any], fact: str
) -> None:
    data = (given["data"], examples(60)[1]) if given.get("data") is not None else spec
    with pytest.raises(UserError, match=fact) as error:
        nas.search(**{**FAST, **given, "data": data}, run=tmp_path / "run")
    assert "\n" not in str(error.value)


def test_the_optimizer_and_the_decay_suit_tokens(spec: str) -> None:
    data = load_search_data(spec, None, 0)

    def train(space: str, fresh: bool = True, **given: Any) -> tuple[str, float, float]:
        config = make_config(space, {"data": spec, "generations": 1, "train": given})
        made = suited_training(config, data, REGISTRY, fresh).train
        return made.optimizer, made.lr, made.weight_decay

    assert train("auto") == train("transformer") == ("adamw", 0.003, 0.05)
    assert train("auto", lr=0.01) == ("adamw", 0.01, 0.05)
    assert train("auto", optimizer="sgd") == train("transformer", optimizer="sgd") == ("sgd", 0.05, 5e-4)
    assert train("auto", fresh=False) == ("adamw", 0.0005, 0.05)
    before = make_config("auto", {"data": spec, "generations": 1})
    assert any("adamw" in text for text in told(before, suited_training(before, data, REGISTRY), 400))
