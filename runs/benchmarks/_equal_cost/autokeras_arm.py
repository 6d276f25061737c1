"""AutoKeras on the same arrays, for as long as the engine took: it has no budget of multiply-adds.

Its `ImageClassifier` starts with large networks that it fetches pre-trained (EfficientNet-B7 needs 5 GB of memory even
for digits), so this is its `AutoModel` over plain convolutional networks, with its normalisation and augmentation.

It is not a dependency: `pip install autokeras six "keras<3.13"` (AutoKeras 3.0.0 does not work with Keras 3.15, and one
of its own dependencies needs six). It computes with PyTorch unless KERAS_BACKEND says otherwise, with one thread.
"""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from _equal_cost.outcome import Outcome, Point
from _equal_cost.problem import Problem
from nas.base.errors import UserError
from nas.base.seeds import derive
from nas.data import ImageSplit, Split
from nas.train.evaluate import Scores

Arrays = tuple[np.ndarray, np.ndarray]


def lacks() -> str:
    """Why the arm can't be run here; empty if it can."""
    missing = [name for name in ("autokeras", "six") if find_spec(name) is None]
    return f"{missing[0]} is not installed" if missing else ""


def searched(problem: Problem, seconds: float, folder: Path) -> Outcome:
    """Search for `seconds` on the arrays of a problem. Raises UserError if that is not enough for one epoch."""
    train, val, test = map(_arrays, (problem.data.train, problem.data.val, problem.test))
    return searched_arrays(train, val, test, problem.seed, seconds, folder)


def searched_arrays(
    train: Arrays, val: Arrays, test: Arrays, seed: int, seconds: float, folder: Path
) -> Outcome:
    """Search for `seconds`; the epoch that runs then is cut short, and the best network so far is handed out.

    Arrays are images [N, H, W, C] and classes [N]. Raises UserError if that is not enough for one epoch.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import autokeras
    import keras

    began = time.perf_counter()
    curve: list[Point] = []
    images = autokeras.ImageInput()
    classifier = autokeras.AutoModel(
        images, autokeras.ClassificationHead()(autokeras.ImageBlock(block_type="vanilla")(images)),
        max_trials=1000, directory=folder, overwrite=True, objective="val_accuracy",
        seed=derive(seed, "autokeras") % 2**31,
    )  # fmt: skip

    class Deadline(keras.callbacks.Callback):
        """Stops the training at the deadline, and lets no other begin."""

        def __deepcopy__(self, _: Any) -> Deadline:
            return Deadline()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if time.perf_counter() - began > seconds:
                self.model.stop_training = True
                classifier.tuner.oracle.max_trials = 1  # 0 would be no limit

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            best = max([float((logs or {}).get("val_accuracy", 0.0)), *(y for _, _, y in curve)])
            curve.append((0.0, time.perf_counter() - began, best))

    classifier.fit(*train, validation_data=val, callbacks=[Deadline()], verbose=0)
    took = time.perf_counter() - began
    if not curve:
        raise UserError(f"autokeras: {seconds:.0f} s are not enough for one epoch")

    def scores(part: Arrays) -> Scores:
        loss, accuracy = classifier.evaluate(*part, verbose=0)
        return Scores({"accuracy": float(accuracy)}, float(loss))

    return Outcome(None, scores(val), {}, took, tuple(curve), test=scores(test))


def _arrays(part: ImageSplit) -> Arrays:
    assert isinstance(part, Split)
    return part.pixels.numpy(), part.labels.numpy()
