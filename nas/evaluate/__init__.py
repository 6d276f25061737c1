"""Evaluation: accuracy and loss of a module on a split."""

from nas.evaluate.scores import Scores, evaluate

__all__ = ["Scores", "evaluate"]
