"""Compact: a new layer with as few neurons as its data needs (CompNet, Lu, Ma and Faltings)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import ClassVar, Literal, Self

import torch

from morphs.choices import Choices
from morphs.errors import DriftExceeded, NeedsData, ShapeError
from morphs.graph.activations import ACTIVATIONS
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Activation, Conv2d, Layer, Linear, Pair, Role, Trait
from morphs.move import NEW, Context, Made, Move, Options, Preserves
from morphs.moves.compact_fit import fit
from morphs.moves.compact_rows import deviation, read_rows
from morphs.moves.deepen import Deepen
from morphs.moves.editing import chosen, layer_at, layers, pair
from morphs.network import Network
from morphs.solve.compact import Aim, AllDropped, ErrorTooSmall
from morphs.typed import Positive

How = Literal["alg1", "alg2", "alg3", "random", "norm", "contribution"]


@dataclass(frozen=True)
class Compact(Move):
    """Insert a layer and φ before the convolution or linear layer `node`, L₂; fit both to data and drop neurons.

    The new layer, W_new1, starts random with `channels` neurons, as φ needs (He, Kumar); L₂'s weights become
    W_new2, fitted by least squares so that L₂ still writes what it wrote, O(2)′ (equations 2, 11). `how` chooses
    the neurons that stay:

    alg1          λ-sparse β on the columns of W_new1 (equation 1), then W_new2 on what is left
    alg2          the same in turns with W_new1 (§2.2.1)
    alg3          W_new2 first, then λ-sparse β on its rows (equation 3)
    random, norm  by chance, or the filters of largest norm; `contribution`: those of largest ‖A_i W_i,:‖

    Exactly one of `penalty` (λ), `keep` (share of `channels`) and `error` (of L₂'s output, relative to its spread)
    says how many. With the last two, λ is found on a path of rising λ; in Algorithms 1 and 2, where only the product
    λα decides which neurons stay, α is, at λ = 0.1. Only `keep` fixes the child's graph without data, so it alone is
    listed. Where the text is silent or wrong:

    * Standardising is of every column in Algorithms 1 and 2, and of all vec(T_i) and vec(O) in Algorithm 3: O's
      spread is not mentioned there, but only so does λ = 0.1 mean the same for every layer. The Gram of T is divided
      by N·D₂ as in equation 9; equation 3's N would only rescale λ. With a bias, columns of A and O are centred and
      the bias takes their means; without one they aren't, since nothing could give the means back.
    * β needs no bounds in Algorithms 1, 2 (§2.3.1: it stays in [0, 1]); in Algorithm 3 it may leave them, and does.
    * "while i < max_itr or ‖β‖₀ < c" would never end; it is read as "until β no longer changes", with λ raised along a
      path until ‖β‖₀ ≤ c where a width is asked for.
    * C = A₁ diag(β) in §2.5 has no matching shapes (it is the formula of He, Zhang and Sun, whose β sits on a layer's
      *inputs*). The minimiser of equation 1 is W_i / β_i; it undoes β, so Algorithm 2 keeps the neurons of
      Algorithm 1 and differs by the scale of W_new1 alone.
    * Algorithm 3 returns W_new2 without β. Here β is folded into it; with `refit` (default) the kept rows are
      fitted again instead, which undoes the Lasso's shrinking. Algorithms 1 and 2 always refit, as printed.
    * AᵀA may be singular (collinear or dead neurons, fewer rows than columns): `ridge`, relative to the columns' mean
      square, or with ridge=0 the solution of least norm. Constant neurons are dropped first.

    For convolutions a row is one output position: `positions` of them are drawn in each image, until there are
    `rows` (or the batches end). `child.notes` says how many were used, λ, the neurons kept and L₂'s relative error on
    these rows, which fewer rows than columns make small whatever the data: what the child lost is its drift.
    Nothing larger than the Gram matrix, (channels · K²)² in float64, and 64 MB of rows is held.

    kernel: of a new convolution, odd, padded to keep the size (default 3×3 before a convolution). Before a linear layer
    None means a linear layer, and a kernel a convolution before the flatten that it reads. max_drift: refuse a child
    of a larger drift in eval mode on examples held out of the batches (or the probe).
    """

    name: ClassVar[str] = "compact"
    summary: ClassVar[str] = "insert a layer fitted to data, with the neurons that a sparse regression keeps"
    choices: ClassVar[Choices] = {
        "how": ..., "activation": ..., "kernels": Pair, "keep": float, "ratio": Positive, "min_channels": int,
        "rows": ...,
    }  # fmt: skip

    node: str
    channels: int
    how: How = "alg3"
    keep: float | None = None
    penalty: float | None = None
    error: float | None = None
    alpha: float = 0.1
    kernel: Pair | None = None
    activation: str = "relu"
    refit: bool = True
    ridge: float = 1e-6
    rows: int = 20_000
    positions: int = 32
    max_drift: float | None = None

    @property
    def preserves(self) -> Preserves:
        """Approximate."""
        return Preserves.APPROXIMATE

    @property
    def most_drift(self) -> float | None:
        """max_drift."""
        return self.max_drift

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Options: how, activation, kernels, keep, ratio (of channels to the wider side of L₂), min_channels, rows."""
        least = chosen(options, "min_channels", (4,))[0]
        rows = chosen(options, "rows", (4096,))[0]
        for name, op in layers(graph):
            entry, shape = _entry(graph, name)
            width = max(op.width, shape[0])
            kernels = [pair(k) for k in chosen(options, "kernels", ((3, 3),))]
            if not op.convolution:
                kernels = [None, *(kernels if entry != graph[name].inputs[0] else ())]
            choices = (
                chosen(options, "how", ("alg3",)),
                chosen(options, "activation", ("relu",)),
                chosen(options, "ratio", (2,)),
                chosen(options, "keep", (0.5,)),
            )
            for kernel, how, activation, ratio, keep in product(kernels, *choices):
                channels = max(least, int(ratio * width))
                yield cls(name, channels, how, float(keep), kernel=kernel, activation=activation, rows=rows)

    def netmorph(self, graph: ArchGraph, channels: int | None = None) -> Deepen:
        """The paper's baseline at the same site: the exact factoring with `channels` (NetMorph-Oracle's is the width
        that was kept), or with all of them (NetMorph-Redundant). Raises IllegalMove across a flatten.
        """
        op = layer_at(self, graph, self.node)
        kernel = self._kernel(op) or (1, 1)
        if not op.convolution and self.kernel is not None:
            raise self.refuse("no factoring reaches across a flatten", "leave out kernel")
        return Deepen(self.node, "netmorph", channels or self.channels, kernel, op.kernel, self.activation)

    # -- the graph -------------------------------------------------------------------------------------

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph: exact with `keep`; with `penalty` or `error`, the widest that the data may lead to."""
        self._check(graph)
        return self._inserted(graph, self._width() or self.channels)

    def settle(self, parent: ArchGraph, graph: ArchGraph, made: Made) -> ArchGraph:
        """The child's graph with as many neurons as the data left."""
        kept = len(made[self._names(parent)[0], "weight"][0])
        return self._inserted(parent, kept)

    def _inserted(self, graph: ArchGraph, width: int) -> ArchGraph:
        new, phi = self._names(graph)
        source, _ = self._source(graph)
        op = self._op(layer_at(self, graph, self.node), width)
        act = Node(phi, Activation(self.activation), (new,))
        first = graph[self.node]
        while source not in first.inputs:  # across a flatten: the first node after it reads φ instead
            first = graph[first.inputs[0]]
        try:
            return graph.update(Node(new, op, (source,)), act, replace(first, inputs=(phi,)))
        except ShapeError as error:
            raise self.refuse(str(error), "choose another kernel") from None

    def _names(self, graph: ArchGraph) -> tuple[str, str]:
        conv = self._kernel(layer_at(self, graph, self.node)) is not None
        return graph.fresh("conv" if conv else "fc"), graph.fresh("act")

    def _kernel(self, op: Layer) -> Pair | None:
        return (self.kernel or (3, 3)) if op.convolution else self.kernel

    def _op(self, op: Layer, width: int) -> Layer:
        kernel = self._kernel(op)
        if kernel is None:
            return Linear(width)
        return Conv2d(width, kernel, padding=(kernel[0] // 2, kernel[1] // 2))

    def _source(self, graph: ArchGraph) -> tuple[str, tuple[int, ...]]:
        """What the new layer reads, and its shape."""
        node = graph[self.node]
        if not node.op.convolution and self.kernel is not None:
            return _entry(graph, self.node)
        return node.inputs[0], graph.shape(node.inputs[0])

    def _width(self) -> int | None:
        return None if self.keep is None else max(1, round(self.keep * self.channels))

    def _check(self, graph: ArchGraph) -> None:
        """Raise IllegalMove for an impossible site or setting."""
        op = layer_at(self, graph, self.node)
        if op.groups != 1:
            fact = f'node "{self.node}" has {op.groups} groups'
            raise self.refuse(fact, "choose a convolution without groups")
        if not op.convolution and len(graph.shape(self.node)) > 1:
            raise self.refuse(f'node "{self.node}" reads tokens', "choose a layer that reads vectors or maps")
        if self.activation not in ACTIVATIONS:
            raise self.refuse(
                f"activation {self.activation} is unknown", f"choose one of {', '.join(ACTIVATIONS)}"
            )
        kernel = self._kernel(op)
        if kernel is not None and any(k < 1 or k % 2 == 0 for k in kernel):
            raise self.refuse(f"kernel {kernel} does not keep the size", "use odd kernels")
        if not op.convolution and kernel is not None and len(_entry(graph, self.node)[1]) != 3:
            fact = f'node "{self.node}" does not read a flatten that nothing else reads'
            raise self.refuse(fact, "leave out kernel")
        self._check_settings()

    def _check_settings(self) -> None:
        if sum(given is not None for given in (self.keep, self.penalty, self.error)) != 1:
            raise self.refuse(
                "one of keep, penalty, error decides the width", "give exactly one, such as keep=0.5"
            )
        if self.keep is None and self.how in ("random", "norm", "contribution"):
            raise self.refuse(f"how={self.how} has no λ", "give keep, such as keep=0.5")
        ranges = {
            "keep": (self.keep, self.keep is None or 0 < self.keep <= 1, "a share above 0, up to 1"),
            "penalty": (self.penalty, self.penalty is None or self.penalty >= 0, "0 or more"),
            "error": (self.error, self.error is None or 0 < self.error < 1, "a share between 0 and 1"),
            "alpha": (self.alpha, self.alpha >= 0, "0 or more"),
            "ridge": (self.ridge, self.ridge >= 0, "0 or more"),
            "channels": (self.channels, self.channels >= 1, "1 or more"),
            "rows": (self.rows, self.rows >= 2, "2 or more"),
            "positions": (self.positions, self.positions >= 1, "1 or more"),
            "max_drift": (self.max_drift, self.max_drift is None or self.max_drift >= 0, "0 or more"),
        }
        for field, (value, holds, remedy) in ranges.items():
            if not holds:
                raise self.refuse(f"{field}={value} is out of range", f"give {remedy}")

    # -- the weights -----------------------------------------------------------------------------------

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """W_new1 with its zero bias, and W_new2 with L₂'s bias."""
        source, shape = self._source(parent.graph)
        after = layer_at(self, parent.graph, self.node)
        op = self._op(after, self.channels)
        size = (self.channels, shape[0], *(op.kernel if op.convolution else ()))
        first = torch.randn(size, generator=context.generator, dtype=torch.float64)
        first *= deviation(self.activation, prod(size[1:]))
        try:
            rows = read_rows(
                parent, source, self.node, op, self.activation, self.rows, self.positions, context
            )
            aim = Aim(self.penalty, self._width(), self.error, self.alpha, self.ridge)
            fitted = fit(self.how, aim, self.refit, rows, first.to(rows.weight.dtype), context.generator)
        except NeedsData as error:
            raise NeedsData(f'{self.name}: node "{self.node}": {error}') from None
        except AllDropped as error:
            fact = f'penalty={self.penalty} drops all {self.channels} neurons before node "{self.node}"'
            raise self.refuse(fact, f"give one well below {error.args[0]:.3g}, or keep=0.5") from None
        except ErrorTooSmall:
            fact = f'all {self.channels} neurons before node "{self.node}" leave more than error={self.error}'
            raise self.refuse(fact, "give a larger error, or more channels") from None
        context.notes.update(fitted.notes)
        new, _ = self._names(parent.graph)
        kept = len(fitted.first)
        second = fitted.second.T
        if after.convolution:
            second = second.reshape(-1, kept, *after.kernel)
        made = {
            (new, "weight"): fitted.first,
            (new, "bias"): torch.zeros(kept),
            (self.node, "weight"): second.contiguous(),
        }
        if fitted.bias is not None:
            made[self.node, "bias"] = fitted.bias
        return {key: (tensor.to(parent.dtype), NEW) for key, tensor in made.items()}

    def judge(self, found: float, drift_of: Callable[[Move], float]) -> None:
        """Raise DriftExceeded, with a width that would do, where the drift is more than max_drift."""
        if self.max_drift is None or found <= self.max_drift:
            return

        def at(width: int) -> float:
            share = width / self.channels
            return drift_of(replace(self, keep=share, penalty=None, error=None, max_drift=None))

        place = f'{self.name}: node "{self.node}"'
        fact = f"{place}: drift on held-out data is {found:.3g}, over max_drift={self.max_drift}"
        low, high = 1, self.channels
        least = at(high)
        if least > self.max_drift:
            raise DriftExceeded(
                f"{fact}; even all {self.channels} channels drift by {least:.3g}: give more channels or rows"
            )
        for _ in range(5):  # each is a fit
            middle = (low + high) // 2
            if middle == low:
                break
            low, high = (low, middle) if at(middle) <= self.max_drift else (middle, high)
        share = round(high / self.channels, 4)
        raise DriftExceeded(f"{fact}; keep={share} ({high} of {self.channels} channels) would do")


def _entry(graph: ArchGraph, name: str) -> tuple[str, tuple[int, ...]]:
    """What a new layer before `name` could read, and its shape: before the flatten, where `name` alone reads one."""
    source = read = graph[name].inputs[0]
    while len(graph.consumers(source)) == 1:
        op, before = graph[source].op, graph[source].inputs
        if op.trait is Trait.FLATTEN:
            return before[0], graph.shape(before[0])
        if op.role is not Role.DROPOUT:
            break
        source = before[0]
    return read, graph.shape(read)
