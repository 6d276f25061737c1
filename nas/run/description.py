"""What a run records about itself: its settings, and whatever else decides its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from nas.base.machine import machine
from nas.config.run_config import RunConfig
from nas.data import SearchData
from nas.data.table import Column


def describe(
    config: RunConfig, data: SearchData, command: str, code: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """The contents of a run's config.json: the settings and whatever else decides its results.

    code: SHA-256 of the source of each piece of user code, by name.
    """
    return {
        **({"user_code": dict(code)} if code else {}),
        "config": config.model_dump(mode="json"),
        "command": command,
        "machine": machine(),
        "data": {
            "name": data.name,
            "classes": list(data.classes),
            "mean": list(data.mean),
            "std": list(data.std),
            "input_shape": list(data.input_shape),
            **({"tokens": data.tokens} if data.tokens is not None else {}),
            "images": {"train": len(data.train), "validation": len(data.val)},
            "digest": data.digest,
            "former": data.former,
            "reading": asdict(data.reading) if data.reading else None,
            **({"table": [_column(column) for column in data.table]} if data.table else {}),
            "notes": list(data.notes),
        },
        "task": data.task.described(),
    }


def _column(column: Column) -> dict[str, Any]:
    """A column as JSON values."""
    categories = None if column.categories is None else list(column.categories)
    return {**asdict(column), "categories": categories}
