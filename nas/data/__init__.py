"""Data sets: loading, splits fixed by seed, and whole-batch augmentation.

A search gets `load_search_data` (training and validation split); only the final step of a run calls
`load_test_split`. `train_batches` and `eval_batches` turn either kind of split into normalised batches.
"""

from nas.data.augment import Augment
from nas.data.batches import eval_batches, train_batches
from nas.data.load import DATASETS, default_root, is_kept, load_search_data, load_test_split, runs_code
from nas.data.task import Score, Task
from nas.data.types import ImageSplit, SearchData, Split, StreamSplit, ValueSplit

__all__ = [
    "DATASETS",
    "Augment",
    "ImageSplit",
    "Score",
    "SearchData",
    "Split",
    "StreamSplit",
    "Task",
    "ValueSplit",
    "default_root",
    "eval_batches",
    "is_kept",
    "load_search_data",
    "load_test_split",
    "runs_code",
    "train_batches",
]
