"""Other people's AutoML on the same examples, for the same wall time.

None is a dependency. `pip install "autogluon.tabular[lightgbm,catboost,xgboost,fastai]"` for the tables; what AutoGluon
does with images starts from weights that it fetches. `pip install autokeras six "keras<3.13"` for the images.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from _equal_cost.autokeras_arm import lacks as autokeras_lacks
from _equal_cost.autokeras_arm import searched_arrays

from _own_data.task import Found, Task, loaded, rows_of
from nas.data import ImageSplit, Split, eval_batches

__all__ = ["autogluon", "autogluon_lacks", "autokeras", "autokeras_lacks"]

LEAST = 20.0  # seconds with --quick


def autogluon_lacks() -> str:
    """Why AutoGluon can't be run here; empty if it can."""
    return "" if find_spec("autogluon") else "autogluon.tabular is not installed"


def autogluon(task: Task) -> Found:
    """AutoGluon as it comes on a table, scaled and one-hot as all arms get it; it holds out what it likes."""
    import pandas as pd
    from autogluon.tabular import TabularPredictor

    data, test = loaded(task)
    values = data.task.targets == "values"

    def frame(*parts: Split) -> pd.DataFrame:
        made = pd.DataFrame(np.concatenate([rows_of(data, part).numpy() for part in parts]))
        made.columns = [f"x{number}" for number in made.columns]
        made["target"] = torch.cat([part.labels.reshape(len(part), -1)[:, 0] for part in parts]).numpy()
        return made

    predictor = TabularPredictor(
        "target", problem_type="regression" if values else "binary" if data.outputs == 2 else "multiclass",
        eval_metric="root_mean_squared_error" if values else "accuracy", path=str(task.folder), verbosity=0,
    )  # fmt: skip
    predictor.fit(
        frame(data.train, data.val),
        time_limit=task.seconds or LEAST,
        presets="best_quality",
        num_cpus=task.threads,
    )
    score = predictor.evaluate(frame(test))[predictor.eval_metric.name]
    return Found(abs(float(score)), data.task.main, len(test), {"model": predictor.model_best})


def autokeras(task: Task) -> Found:
    """AutoKeras over plain convolutional networks, as in `equal_cost.py`."""
    data, test = loaded(task)

    def arrays(part: ImageSplit) -> tuple[np.ndarray, np.ndarray]:
        found = [x for x, _ in eval_batches(part, 500, data.mean, data.std)]
        return torch.cat(found).permute(0, 2, 3, 1).numpy(), part.labels.numpy()

    given = map(arrays, (data.train, data.val, test))
    found = searched_arrays(*given, task.seed, task.seconds or LEAST, task.folder)
    assert found.test is not None
    return Found(found.test.accuracy, data.task.main, len(test), {"used": found.seconds})
