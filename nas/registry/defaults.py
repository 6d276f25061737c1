"""The default registry of this package."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from morphs import MOVES
from nas.execute.make_executor import make_executor
from nas.policies.builtin import OBJECTIVES, POLICIES, SAMPLERS
from nas.registry.registry import Registry, SpaceEntry
from search_spaces import SPACES, Shape

# The default settings of each space. A recipe or the command line overrides them. Tuned on validation splits.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "digits": {
        "data": "digits",
        "val_fraction": 0.2,
        "limits": {"macs": 400_000},  # so that a run takes at most three minutes on two slow cores
        "generations": 6,
        "moves_per_child": 3,
        "epochs": 80,
        "select": "loss",
        "train": {"lr": 0.05, "batch_size": 64, "warmup_steps": 50, "clip_norm": 1.0},
    },
    "mlp": {
        "data": "mnist",
        "generations": 6,
        "moves_per_child": 1,
        "select": "loss",
        "epochs": 15,
        "final_share": 0.4,
        "train": {"lr": 0.05, "warmup_steps": 50, "clip_norm": 1.0, "weight_decay": 1e-4},
    },
    "lenet": {
        "data": "mnist",
        "generations": 6,
        "moves_per_child": 1,
        "select": "loss",
        "epochs": 2,
        "train": {"lr": 0.05, "warmup_steps": 50, "clip_norm": 1.0},
    },
    "cifar_quick": {
        "data": "cifar10",
        "generations": 8,
        "epochs": 2,
        "train": {"lr": 0.05, "warmup_steps": 50, "clip_norm": 2.0},
    },
    "nash": {"data": "cifar10", "generations": 8, "epochs": 2, "train": {"lr": 0.1, "warmup_steps": 50}},
    "residual": {
        "data": "cifar10",
        "generations": 4,
        "moves_per_child": 1,
        "select": "loss",
        "epochs": 2,
        "train": {"lr": 0.3, "warmup_steps": 50, "label_smoothing": 0.1, "weight_decay": 5e-4},
    },
    "conv1d": {
        "generations": 4,
        "moves_per_child": 2,
        "epochs": 10,
        "train": {"lr": 0.05, "warmup_steps": 50, "clip_norm": 1.0},
    },
    "transformer": {
        "generations": 4,
        "moves_per_child": 1,
        "select": "loss",
        "epochs": 10,
        "train": {"optimizer": "adamw", "warmup_steps": 50, "clip_norm": 1.0},
    },
    "auto": {
        "generations": 4,
        "epochs": 10,
    },  # and the training of the space that it chooses: see `suited_training`
}

EXAMPLES: Mapping[str, Shape] = {"conv1d": (1, 128), "transformer": (64,)}
TOKENS: Mapping[str, int] = {"transformer": 1000}  # of these examples

# A trained model stands where others end their schedule: at the rate that suits a fresh network its first steps would
# undo what it has learned: a small network on digits, at 95.6 % on validation, after 60 more steps at 0.05 had 94.4 %,
# at 0.01 96.3 % (means of three seeds). The warm-up lets momentum settle; the limit on gradients is for the first
# batches of data that it doesn't know.
TRAINED: Mapping[str, Any] = {
    "generations": 4,
    "moves_per_child": 1,
    "epochs": 2,
    "train": {"lr": 0.01, "warmup_steps": 100, "clip_norm": 1.0},
}

# AdamW's steps are about as long as the rate, whatever the gradients, so these replace what spaces and TRAINED say.
ADAMW: Mapping[str, Any] = {"train": {"lr": 0.003, "weight_decay": 0.05}}
ADAMW_TRAINED: Mapping[str, Any] = {"train": {"lr": 0.0005}}

REGISTRY = Registry(
    moves=MOVES,
    spaces=MappingProxyType(
        {
            name: SpaceEntry(space, DEFAULTS[name], EXAMPLES.get(name, (1, 8, 8)), TOKENS.get(name))
            for name, space in SPACES.items()
        }
    ),
    policies=POLICIES,
    samplers=SAMPLERS,
    executors=MappingProxyType({"local": make_executor, "ray": make_executor}),
    objectives=OBJECTIVES,
    data=MappingProxyType({}),  # ours are loaded by name or from a folder: see nas.data.load
)
