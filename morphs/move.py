"""What a move is: a frozen value that names its site and its choice, apart from being listed or applied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from itertools import pairwise, zip_longest
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from morphs.choices import Choices, check_menu
from morphs.errors import IllegalMove, NeedsData, ShapeError, UnsupportedModule
from morphs.examples import in_type
from morphs.graph.arch import ArchGraph
from morphs.graph.codec import canonical_json
from morphs.graph.dtypes import first_foreign_read
from morphs.limits import Limits, require_limits
from morphs.network import Key, Network
from morphs.textform import format_call

Batch = tuple[Tensor | tuple[Tensor, ...], Tensor]  # inputs [N, ...], one for each Input, and targets [N]
Loss = Callable[[Tensor, Tensor], Tensor]
Options = Mapping[str, Any]
Index = np.ndarray[Any, np.dtype[np.int64]]  # of each child index the parent's, or −1


class Preserves(Enum):
    """What a bound move declares about the child's function."""

    EXACT = "exact"  # in eval and in train mode
    EXACT_IN_EVAL = "exact in eval"
    APPROXIMATE = "approximate"


@dataclass(frozen=True)
class Origin:
    """Where a child's parameter came from.

    source: the parent's parameter, or None when all is new. axes: for each axis the parent's index of every
    child index, −1 where it is new; None where the axis is unchanged. entries, instead of axes where those can't
    say it: an array of the child's shape that holds the parent's flat index of every number, −1 where it is new.
    """

    source: Key | None
    axes: tuple[Index | None, ...] = ()
    entries: Index | None = None

    def gather(self, parent: Tensor, fill: float = 0.0) -> Tensor:
        """`parent` carried along the index maps, new entries set to `fill`."""
        if self.entries is not None:
            index = torch.from_numpy(self.entries).to(parent.device)
            return parent.reshape(-1)[index.clamp(min=0)].masked_fill(index < 0, fill)
        moved = parent
        for axis, index in enumerate(self.axes):
            if index is not None:
                moved = _along(moved, axis, index, fill)
        return moved

    def after(self, before: Mapping[Key, Origin], parent: Mapping[Key, Tensor]) -> Origin:
        """The origin in `parent` of what has this origin in a child of `parent`.

        before: the child's own origins; what they leave out is from itself.
        """
        first = before.get(self.source, Origin(self.source)) if self.source is not None else self
        if first.source is None:
            return first
        if self.entries is None and first.entries is None:
            axes = zip_longest(self.axes, first.axes)
            return Origin(first.source, tuple(_after(then, index) for then, index in axes))
        weight = parent[first.source]
        places = torch.arange(weight.numel(), dtype=torch.float64).reshape(weight.shape)
        found = self.gather(first.gather(places, fill=-1), fill=-1)
        return Origin(first.source, entries=found.long().numpy())


def _after(then: Index | None, first: Index | None) -> Index | None:
    """The index map `then` of a child, followed by `first`, the child's own from its parent."""
    if then is None or first is None:
        return first if then is None else then
    return np.where(then < 0, -1, first[np.maximum(then, 0)])


def _along(tensor: Tensor, axis: int, index: Index, fill: float) -> Tensor:
    """`tensor` with `index` applied to one axis, −1 becoming `fill`. A few runs of neighbours are copied as blocks,
    which is faster than column by column.
    """
    breaks = np.flatnonzero(index[1:] != index[:-1] + (index[:-1] >= 0)) + 1
    if len(breaks) > 3:
        picked = torch.from_numpy(np.maximum(index, 0)).to(tensor.device)
        new = torch.from_numpy(np.flatnonzero(index < 0)).to(tensor.device)
        moved = tensor.index_select(axis, picked)
        return moved.index_fill_(axis, new, fill) if len(new) else moved
    moved = tensor.new_empty((*tensor.shape[:axis], len(index), *tensor.shape[axis + 1 :]))
    bounds = [0, *breaks.tolist(), len(index)]
    for start, stop in pairwise(bounds):
        part, first = moved.narrow(axis, start, stop - start), int(index[start])
        part.fill_(fill) if first < 0 else part.copy_(tensor.narrow(axis, first, stop - start))
    return moved


@dataclass(frozen=True, eq=False)
class Origins(Mapping[Key, Origin]):
    """Where each of a child's `weights` came from: as `made` says, and the parameters it leaves out from themselves."""

    weights: Mapping[Key, Tensor] = field(repr=False)
    made: Mapping[Key, Origin]

    def __getitem__(self, key: Key) -> Origin:
        if key not in self.weights:
            raise KeyError(key)
        return self.made[key] if key in self.made else Origin(key)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


NEW = Origin(None)
Made = Mapping[Key, tuple[Tensor, Origin]]


@dataclass(frozen=True)
class Context:
    """What a move may look at besides the parent: explicit randomness, and data where it was given.

    loss: from outputs and targets to a number. notes: where a move writes down what it found.
    """

    generator: torch.Generator
    batches: Iterable[Batch] | None = None
    loss: Loss | None = None
    notes: dict[str, float] = field(default_factory=dict[str, float])

    def loss_of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of `outputs` [N, ...]; where none was given, the cross entropy of classes [N], scores [N, C].

        Raises NeedsData when none was given for other targets, for classes that the outputs don't have, or when it
        does not give a number.
        """
        whole = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
        if self.loss is not None:
            value = self.loss(outputs, targets if whole else targets.to(outputs.dtype))
            if value.numel() != 1 or not value.requires_grad:
                fact = f"the loss gave a tensor of shape {tuple(value.shape)}"
                raise NeedsData(
                    f"{fact}; give a function that makes one differentiable number of the outputs"
                )
            return value.reshape(())
        if not whole or targets.dim() != 1 or outputs.dim() != 2:
            fact = f"outputs of shape {tuple(outputs.shape)} and targets of {targets.dtype}, {tuple(targets.shape)},"
            raise NeedsData(f"{fact} have no default loss; pass loss=")
        low, high, classes = int(targets.min()), int(targets.max()), outputs.shape[1]
        if low < 0 or high >= classes:
            fact = f"targets reach from {low} to {high}, and the network has {classes} classes"
            raise NeedsData(f"{fact}; give targets from 0 to {classes - 1}, or pass loss=")
        return nn.functional.cross_entropy(outputs, targets.long())

    def examples(self, most: int, dtype: torch.dtype) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        """The first `most` inputs of the batches, on the CPU in `dtype`; with each part all targets of its batch."""
        left = most
        for inputs, targets in self.batches or ():
            tensors = (inputs,) if isinstance(inputs, Tensor) else inputs
            some = tuple(in_type(tensor[:left].cpu(), dtype) for tensor in tensors)
            if len(some[0]):
                yield some, targets
            left -= len(some[0])
            if left <= 0:
                return


@dataclass(frozen=True)
class Move(ABC):
    """A rewriting of graph and weights together.

    Its fields name the site and the choice and are JSON values, so that a move has a text form,
    `widen(node=c3, to=96, how=replicate)`, which `morphs.parse` reads back.
    """

    name: ClassVar[str]
    summary: ClassVar[str]  # one line for listings
    choices: ClassVar[Choices] = {}  # what the options of `sites` may hold; see `morphs.choices`

    @property
    def preserves(self) -> Preserves:
        """What this bound move declares."""
        return Preserves.EXACT

    @classmethod
    @abstractmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Every conceivable bound move of this menu: `sites` keeps the legal ones, `refused` the others."""

    @abstractmethod
    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph. Raises IllegalMove with fact, place and remedy."""

    @abstractmethod
    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """The child's new or changed tensors; what is left out is shared with the parent."""

    def settle(self, parent: ArchGraph, graph: ArchGraph, made: Made) -> ArchGraph:
        """The child's graph once `fill` is done, for moves whose widths the data decides; `graph` by default."""
        return graph

    @property
    def most_drift(self) -> float | None:
        """The drift in eval mode that an approximate move refuses to exceed; None for any."""
        return None

    def judge(self, found: float, drift_of: Callable[[Move], float]) -> None:
        """Raise DriftExceeded, with a remedy, where the drift `found` is more than `most_drift`.

        drift_of: the drift of another move's child, on the same parent, seed and data.
        """
        return

    def offer(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph, for a listing. Raises IllegalMove as `reshape` does, and also where the move may be
        applied by name but should not be listed: it can fail for some weights, or would rarely be useful.
        """
        return self.reshape(graph)

    def check_weights(self, network: Network) -> None:  # noqa: B027 (most moves take any weights)
        """Raise IllegalMove where the graph admits this move and the weights don't. A move that does so has no
        sites on a bare graph.
        """

    def check_types(self, parent: ArchGraph, graph: ArchGraph) -> None:
        """Raise IllegalMove where a node of the child's graph would read numbers that are not in the floating type of
        the weights, and did not in the parent's.
        """
        found = first_foreign_read(parent, graph)
        if found is not None:
            reader, source = found
            fact = f'node "{source}", which "{reader}" would read, is not in the floating type of the weights'
            raise self.refuse(fact, "choose another node")

    @classmethod
    def sites(
        cls, network: Network | ArchGraph, limits: Limits | None = None, options: Options | None = None
    ) -> Iterator[Self]:
        """Every legal, fully bound move of this kind, with children that keep `limits`.

        options: the move's finite menu, a mapping from choice to values; what it leaves out has defaults.

        Raises ParseError for a menu that `morphs.choices` refuses, LimitsError and UnsupportedModule for what are no
        limits and no network.
        """
        return (move for move, reason in cls._judged(network, limits, options) if reason is None)

    @classmethod
    def refused(
        cls, network: Network | ArchGraph, limits: Limits | None = None, options: Options | None = None
    ) -> Iterator[Refusal]:
        """Every conceivable move of this kind that `sites` leaves out, with the reason in a sentence."""
        return (
            Refusal(move, reason)
            for move, reason in cls._judged(network, limits, options)
            if reason is not None
        )

    @classmethod
    def _judged(
        cls, network: Network | ArchGraph, limits: Limits | None, options: Options | None
    ) -> Iterator[tuple[Self, str | None]]:
        """Every candidate, with the reason against it or None. The arguments are checked at once."""
        if not isinstance(network, (Network, ArchGraph)):  # pyright: ignore[reportUnnecessaryIsInstance]
            fact = f"{cls.name}: a {type(network).__name__} is neither a Network nor an ArchGraph"
            raise UnsupportedModule(f"{fact}; make one with morphs.from_torch(module, example_inputs)")
        require_limits(limits, cls.name)
        return cls._judge_each(network, limits, {} if options is None else check_menu(cls, options))

    @classmethod
    def _judge_each(
        cls, network: Network | ArchGraph, limits: Limits | None, options: Options
    ) -> Iterator[tuple[Self, str | None]]:
        graph = network.graph if isinstance(network, Network) else network
        for move in dict.fromkeys(cls.candidates(graph, options)):  # menus may lead to one move twice
            try:
                child = move.offer(graph)
                move.check_types(graph, child)
                if isinstance(network, Network):
                    move.check_weights(network)
                elif cls.check_weights is not Move.check_weights:
                    raise move.refuse("it depends on the weights", "list the sites of a network")
            except (IllegalMove, ShapeError) as error:
                yield move, str(error)
                continue
            broken = limits.violation(child) if limits is not None else None
            yield move, broken and f"{cls.name}: {broken}; choose a smaller step or raise the limit"

    def __str__(self) -> str:
        return format_call(self.name, [], {f.name: getattr(self, f.name) for f in fields(self)})

    def to_json(self) -> str:
        """Canonical JSON: the name and every field."""
        return canonical_json({"move": self.name, **{f.name: getattr(self, f.name) for f in fields(self)}})

    def refuse(self, fact: str, remedy: str) -> IllegalMove:
        """An IllegalMove that says which move, the fact and the remedy."""
        return IllegalMove(f"{self.name}: {fact}; {remedy}")


@dataclass(frozen=True)
class Refusal:
    """A conceivable move that is not a site, and why: a sentence of fact, place and remedy."""

    move: Move
    reason: str
