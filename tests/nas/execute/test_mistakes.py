"""What the final classifier gets wrong is what a count by hand finds."""

import base64
from dataclasses import replace
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from nas.data import load_search_data
from nas.data.types import Split, ValueSplit
from nas.execute.mistakes import SHOWN, mistakes
from nas.train.evaluate import Scores

DATA = load_search_data("digits", None, 0)


def scores(said: torch.Tensor, sure: torch.Tensor) -> Scores:
    return Scores({}, 0.0, said=said, sure=sure)


def test_confusion_and_surest_errors() -> None:
    split = DATA.val
    assert isinstance(split, Split)
    said = (
        split.labels + (torch.arange(len(split)) % 3 == 0)
    ) % 10  # every third is taken for the next digit
    sure = torch.linspace(0.2, 0.9, len(split))
    found = mistakes(scores(said, sure), split, DATA)
    matrix = np.array(found["confusion"])
    assert matrix.sum() == len(split)
    assert np.trace(matrix) == int((said == split.labels).sum())
    assert [matrix[true, (true + 1) % 10] for true in range(10)] == [
        int(((split.labels == true) & (said != split.labels)).sum()) for true in range(10)
    ]
    wrong = [place for place in range(len(split)) if place % 3 == 0][::-1][:SHOWN]
    assert [entry["place"] for entry in found["surest"]] == wrong
    first = found["surest"][0]
    picture = np.asarray(Image.open(BytesIO(base64.b64decode(first["png"]))))
    assert np.array_equal(picture, split.images[first["place"], 0].numpy())


def test_no_mistakes_and_no_pictures() -> None:
    split = ValueSplit(torch.rand(30, 4), torch.arange(30) % 10)
    assert mistakes(scores(split.labels, torch.ones(30)), split, DATA)["surest"] == []
    found = mistakes(scores((split.labels + 1) % 10, torch.ones(30)), split, DATA)
    assert [entry["place"] for entry in found["surest"]] == list(range(SHOWN))
    assert not any("png" in entry for entry in found["surest"])


def test_a_task_without_classes_has_none() -> None:
    task = replace(DATA.task, targets="values")
    assert mistakes(scores(torch.zeros(1), torch.zeros(1)), DATA.val, replace(DATA, task=task)) == {}
