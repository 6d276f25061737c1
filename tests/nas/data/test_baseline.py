"""The baselines against scikit-learn's own."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import root_mean_squared_error

from nas.data import SearchData, Split, ValueSplit, load_search_data
from nas.data.augment import NONE
from nas.data.baseline import FEATURES, baseline_scores, minimised
from nas.data.splits import mean_std
from nas.data.task import task_of


def table(x: Any, y: Any, task: str | None = None) -> SearchData:
    """A quarter of the rows, one in four, is for validation."""
    held = torch.arange(len(x)) % 4 == 0
    targets = torch.as_tensor(y)
    targets = targets.float()[:, None] if task == "regression" else targets
    inputs = torch.as_tensor(x).float()
    train, val = (ValueSplit(inputs[part], targets[part]) for part in (~held, held))
    classes = tuple(map(str, range(targets.shape[1] if targets.ndim > 1 else int(targets.max()) + 1)))
    mean, std = mean_std(train)
    found = task_of(task, train.labels, classes)
    return SearchData("table", train, val, found.outputs, mean, std, NONE, "", task=found)


def arrays(data: SearchData) -> list[Any]:
    std = np.array(data.std)
    parts = [
        ((part.inputs.double().numpy() - data.mean) / std, part.labels.numpy())
        for part in (data.train, data.val)
    ]  # type: ignore[union-attr]
    return [array for part in parts for array in part]


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    data = table(*datasets.load_wine(return_X_y=True))
    x, y, held, truth = arrays(data)
    found = baseline_scores(data, {"val": data.val})
    expected = LogisticRegression(max_iter=5000).fit(x, y).score(held, truth)
    assert found["linear_val"] == pytest.approx(expected)
    assert found["simple_val"] == pytest.approx((truth == np.bincount(y).argmax()).mean())


def test_ridge_regression_is_that_of_scikit_learn() -> None:
    data = table(*datasets.load_diabetes(return_X_y=True), "regression")
    x, y, held, truth = arrays(data)
    found = baseline_scores(data, {"val": data.val})
    expected = root_mean_squared_error(truth, Ridge(1.0).fit(x, y).predict(held))
    assert found["linear_val"] == pytest.approx(expected, rel=1e-4)
    assert found["simple_val"] == pytest.approx(
        root_mean_squared_error(truth, np.full_like(truth, y.mean())), rel=1e-5
    )


@pytest.mark.parametrize("task", ["multi-label", "balanced"])
def test_other_tasks_have_baselines_that_learn(task: str) -> None:
    x, y = datasets.load_wine(return_X_y=True)
    flags = np.eye(3)[y].astype("float32")
    flags[:, 2] = 1 - flags[:, 2]
    found = baseline_scores(data := table(x, flags if task == "multi-label" else y, task), {"val": data.val})
    assert found["linear_val"] > 0.9 > found["simple_val"] > 0.3


def test_a_task_of_ones_own_has_none() -> None:
    data = table(*datasets.load_wine(return_X_y=True))
    assert baseline_scores(replace(data, task=replace(data.task, name="own:task")), {"val": data.val}) == {}


def test_images_are_pixels_and_large_ones_are_made_smaller() -> None:
    data = load_search_data("digits", None, 0, 0.1)
    assert baseline_scores(data, {"val": data.val})["linear_val"] > 0.92
    side = 64
    assert side * side > FEATURES
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    pixels = torch.randint(0, 100, (40, side, side, 1), generator=draw, dtype=torch.uint8)
    pixels[labels == 1, : side // 2] += 100
    split = Split.of_pixels(pixels, labels)
    task = task_of(None, labels, ("a", "b"))
    found = SearchData("images", split, split, ("a", "b"), (0.5,), (0.3,), NONE, "", task=task)
    assert baseline_scores(found, {"val": split})["linear_val"] == 1


def test_the_least_of_a_convex_function_is_found() -> None:
    goal = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)
    scale = torch.tensor([1.0, 100.0, 0.01], dtype=torch.float64)
    found = minimised(
        lambda x: ((x - goal).square() * scale).sum() + (x - goal).pow(4).sum(), torch.zeros_like(goal)
    )
    assert torch.allclose(found, goal, atol=1e-2)
