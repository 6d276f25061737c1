"""Tasks: which one targets suggest, and that losses and scores are those of scikit-learn and torch."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from nas.base.errors import DataError, UserError
from nas.data.task import Task, as_asked, suggested, task_of

DRAW = torch.Generator().manual_seed(0)
CLASSES = torch.tensor([0] * 30 + [1] * 6 + [2] * 4)
OUT = torch.randn(40, 3, generator=DRAW)
FLAGS = (torch.rand(40, 3, generator=DRAW) > 0.6).float()
VALUES = 50 + 7 * torch.randn(40, 2, generator=DRAW)


def scores(task: Task, out: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    return {score.name: score.measure(out, y) for score in task.scores}


def test_targets_suggest_their_task() -> None:
    assert suggested(CLASSES) == "classification"
    assert suggested(FLAGS) == "multi-label"
    assert suggested(VALUES) == suggested(FLAGS[:, :1]) == "regression"


def test_a_classification() -> None:
    task = task_of(None, CLASSES, ("a", "b", "c"))
    assert scores(task, OUT, CLASSES) == {"accuracy": metrics.accuracy_score(CLASSES, OUT.argmax(1))}
    torch.testing.assert_close(task.mean_loss(OUT, CLASSES), cross_entropy(OUT, CLASSES))
    smooth = task.training_loss(OUT, CLASSES, 0.1)
    torch.testing.assert_close(smooth, cross_entropy(OUT, CLASSES, label_smoothing=0.1))
    assert (task.main, task.criterion("loss"), task.criterion(None)) == ("accuracy", "loss", "accuracy")


def test_classes_of_unequal_size_count_alike() -> None:
    task = task_of("balanced", CLASSES, ("a", "b", "c"))
    assert task.criterion(None) == "max balanced_accuracy"
    found = scores(task, OUT, CLASSES)["balanced_accuracy"]
    assert found == pytest.approx(metrics.balanced_accuracy_score(CLASSES, OUT.argmax(1)))
    each = cross_entropy(OUT, CLASSES, reduction="none")
    by_class = [each[number == CLASSES].mean() for number in range(3)]
    torch.testing.assert_close(task.losses(OUT, CLASSES).mean(), torch.stack(by_class).mean())


def test_several_labels() -> None:
    task = task_of(None, FLAGS, ("a", "b", "c"))
    said = (OUT > 0).numpy()
    assert scores(task, OUT, FLAGS) == {
        "f1": pytest.approx(metrics.f1_score(FLAGS.numpy(), said, average="micro")),
        "exact_match": pytest.approx(metrics.accuracy_score(FLAGS.numpy(), said)),
    }
    torch.testing.assert_close(task.mean_loss(OUT, FLAGS), binary_cross_entropy_with_logits(OUT, FLAGS))


def test_values() -> None:
    task = task_of(None, VALUES, ("x", "y"))
    out = OUT[:, :2]
    said = out.double() * VALUES.double().std(0, correction=0) + VALUES.double().mean(0)
    assert scores(task, out, VALUES) == {
        "rmse": pytest.approx(np.sqrt(metrics.mean_squared_error(VALUES, said))),
        "mae": pytest.approx(metrics.mean_absolute_error(VALUES, said)),
        "r2": pytest.approx(metrics.r2_score(VALUES, said)),
    }
    assert task.criterion(None) == "min rmse"
    assert task.criterion("r2") == "max r2"
    assert float(task.mean_loss(torch.zeros(40, 2), VALUES)) == pytest.approx(1, rel=1e-5)


def test_targets_become_what_the_task_takes() -> None:
    whole = torch.tensor([[2.0], [0.0], [1.0]])
    assert as_asked(whole, "classification", "x").tolist() == [2, 0, 1]
    assert as_asked(torch.eye(3)[[2, 0, 1]], "balanced", "x").tolist() == [2, 0, 1]
    assert as_asked(torch.tensor([3, -4]), "regression", "x").tolist() == [[3.0], [-4.0]]
    with pytest.raises(DataError, match="class numbers"):
        as_asked(VALUES, "classification", "x")
    with pytest.raises(DataError, match="matrix of 0 and 1"):
        as_asked(CLASSES, "multi-label", "x")


OWN: dict[str, str] = {
    "def make(y): return nas.Task('classes', loss, (nas.Score('top2', top2),), select='loss')": "loss",
    "def make(y): return nas.Task('values', loss, (nas.Score('gap', top2, lower=True),))": "min gap",
    "def make(y): return nas.Task('values', loss, (nas.Score('gap', top2),), select='gape')": "no score gape",
    "def make(y): return 3": "return a nas.Task",
    "def make(y): raise KeyError('x')": "KeyError",
}


@pytest.mark.parametrize(("code", "answer"), OWN.items())
def test_a_task_of_ones_own(code: str, answer: str, module: Any) -> None:
    spec = module(
        "import nas\nfrom torch.nn.functional import cross_entropy\n"
        "def loss(out, y): return cross_entropy(out, y, reduction='none')\n"
        "def top2(out, y): return float((out.topk(2).indices == y[:, None]).any(1).double().mean())\n" + code
    )
    if answer in ("loss", "min gap"):
        task = task_of(spec, CLASSES, ("a", "b", "c"))
        assert (task.name, task.outputs, task.criterion(None)) == (spec, ("a", "b", "c"), answer)
        assert 0 < task.scores[0].measure(OUT, CLASSES) < 1
        return
    with pytest.raises(UserError, match=answer):
        task_of(spec, CLASSES, ("a", "b", "c"))


@pytest.fixture
def module(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a module; the name of its function `make`."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(text: str) -> str:
        name = f"own_task_{abs(hash(text)):x}"
        (tmp_path / f"{name}.py").write_text(text)
        return f"{name}:make"

    return written


def test_a_loss_that_is_one_number_is_refused() -> None:
    task = Task("classes", cross_entropy, task_of(None, CLASSES, ()).scores, name="mine")
    with pytest.raises(UserError, match="one number for each"):
        task.losses(OUT, CLASSES)
