"""Examples kept back from a move that looks at data, to measure its drift on."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from morphs.errors import NeedsData
from morphs.move import Batch

EVERY = 5  # one example in five is kept back …
MOST = 128  # … until there are so many


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
            if len(targets) != len(tensors[0]):
                raise NeedsData(
                    f"a batch holds {len(tensors[0])} inputs and {len(targets)} targets; give as many of both"
                )
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
