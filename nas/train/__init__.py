"""Training: a run of an optimizer on a module, bit for bit the same for the same seed and thread count.

`steps_for` returns the number of steps of a candidate at a given cost; `train` takes them.
"""

from nas.config.training import Precision, TrainConfig
from nas.train.loop import OptimizerState, Paused, TrainReport, train
from nas.train.precision import Arithmetic, choose_arithmetic, forward_macs, native_bf16, put
from nas.train.schedule import learning_rate, steps_for

__all__ = [
    "Arithmetic",
    "OptimizerState",
    "Paused",
    "Precision",
    "TrainConfig",
    "TrainReport",
    "choose_arithmetic",
    "forward_macs",
    "learning_rate",
    "native_bf16",
    "put",
    "steps_for",
    "train",
]
