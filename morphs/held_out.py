"""The data that a move looks at: checked, and in part kept back to measure its drift on."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from morphs.errors import NeedsData
from morphs.examples import beyond, readable
from morphs.graph.arch import ArchGraph
from morphs.move import Batch

EVERY = 5  # one example in five is kept back …
MOST = 128  # … until there are so many
DRY = "; batches is an iterator, which an earlier step has read to its end: give a list or a loader"


class ReadOnce:
    """Passes batches of an iterator on, and knows how many it `read` and whether that `ended`."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self.read, self.ended = 0, False

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            self.read += 1
            yield batch
        self.ended = True


class Checked:
    """Passes batches on that fit the inputs of `graph`. Raises NeedsData at one that doesn't."""

    def __init__(self, batches: Any, graph: ArchGraph) -> None:
        if not isinstance(batches, Iterable):
            raise NeedsData(
                f"batches is of type {type(batches).__name__}; give an iterable of (inputs, targets)"
            )
        self._batches: Iterable[Batch] = batches
        self._shapes = {node.name: graph.shape(node.name) for node in graph.inputs}
        self._ops = [node.op for node in graph.inputs]

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self._batches):
            fault = self._fault(batch)
            if fault is not None:
                raise NeedsData(f"batch {number} {fault}")
            inputs, targets = batch
            tensors = (inputs,) if isinstance(inputs, Tensor) else inputs
            given = tuple(map(readable, tensors, self._ops))
            yield (given[0] if isinstance(inputs, Tensor) else given), targets

    def _fault(self, batch: Any) -> str | None:
        """What is wrong with a batch, and the remedy."""
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            return f"is of type {type(batch).__name__}; give pairs (inputs, targets)"
        tensors: Any = (batch[0],) if isinstance(batch[0], Tensor) else batch[0]
        if not isinstance(tensors, (tuple, list)) or len(tensors) != len(self._shapes):
            return f"has no tensor for each of the inputs {', '.join(self._shapes)}; give one for each"
        for tensor, (name, shape), op in zip(tensors, self._shapes.items(), self._ops, strict=True):
            if not isinstance(tensor, Tensor) or tuple(tensor.shape[1:]) != shape or tensor.dim() == 0:
                found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
                return f'has {found} for the input "{name}"; give a tensor of shape (N, {", ".join(map(str, shape))})'
            if not bool(torch.isfinite(tensor).all()):
                return f'holds NaN or infinity for the input "{name}"; give finite numbers'
            fault = beyond(tensor, op)
            if fault is not None:
                return f'{fault} for the input "{name}"; give those'
        if len({len(tensor) for tensor in (*tensors, batch[1])}) > 1:
            return f"holds {len(tensors[0])} inputs and {len(batch[1])} targets; give as many of both"
        return None


class HeldOut:
    """Passes batches on, with `hold` without every fifth example, which it keeps; with `record`, it keeps the rest too.

    It is consumed as far as the move reads, so the source may be endless.
    """

    def __init__(self, batches: Iterable[Batch], hold: bool, record: bool) -> None:
        self._batches, self._most, self._record = batches, MOST if hold else 0, record
        self._kept: list[tuple[Tensor, ...]] = []
        self.passed: list[Batch] = []

    def __iter__(self) -> Iterator[Batch]:
        seen, kept = 0, 0
        for inputs, targets in self._batches:
            tensors = (inputs,) if isinstance(inputs, Tensor) else inputs
            number = torch.arange(seen, seen + len(tensors[0]))
            seen += len(number)
            back = (number % EVERY == EVERY - 1).nonzero()[: max(0, self._most - kept), 0]
            kept += len(back)
            on = inputs, targets
            if len(back):
                self._kept.append(tuple(t[back.to(t.device)] for t in tensors))
                stay = torch.ones(len(number), dtype=torch.bool)
                stay[back] = False
                less = tuple(t[stay.to(t.device)] for t in tensors)
                on = (less[0] if isinstance(inputs, Tensor) else less), targets[stay.to(targets.device)]
            if self._record:
                self.passed.append(on)
            yield on

    @property
    def probe(self) -> tuple[Tensor, ...] | None:
        """The inputs kept back so far; None before there are two, without which no batch norm has statistics."""
        if sum(len(parts[0]) for parts in self._kept) < 2:
            return None
        return tuple(torch.cat(parts) for parts in zip(*self._kept, strict=True))
