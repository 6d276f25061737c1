"""Applying a move: checked, measured, the parent untouched."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from morphs.drift import Drift, allowance, drift
from morphs.errors import (
    DriftExceeded,
    LimitExceeded,
    MorphError,
    NeedsData,
    ParseError,
    WeightsError,
)  # fmt: skip
from morphs.graph.arch import ArchGraph
from morphs.held_out import DRY, Checked, HeldOut, ReadOnce
from morphs.limits import Limits, require_limits
from morphs.move import Batch, Context, Loss, Move, Origin, Origins, Preserves
from morphs.move_text import Moves, parse, parse_chain
from morphs.moves import MOVES
from morphs.network import Key, Network, check_network
from morphs.textform import split
from morphs.typed import build, field_types


@dataclass(frozen=True, eq=False)
class Child:
    """The network a move produced.

    move: as it was applied. drift: how far its outputs are from its parent's; None when that wasn't measured.
    origin: where each parameter came from. notes: what the move found: error, rows used, spread, …
    """

    network: Network
    move: Move
    drift: Drift | None
    origin: Mapping[Key, Origin]
    notes: Mapping[str, float] = field(default_factory=dict[str, float])

    def __reduce__(self) -> tuple[Any, ...]:  # read-only views of mappings can't be pickled or copied
        return _remade, (self.network, self.move, self.drift, dict(self.origin), dict(self.notes))


def _remade(
    network: Network, move: Move, drift: Drift | None, origin: dict[Key, Origin], notes: dict[str, float]
) -> Child:
    return Child(network, move, drift, Origins(network.weights, origin), MappingProxyType(notes))


def apply(
    network: Network,
    move: Move | str,
    seed: int = 0,
    batches: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    probe: Tensor | tuple[Tensor, ...] | None = None,
    measure: bool = True,
    limits: Limits | None = None,
    moves: Moves = MOVES,
) -> Child:
    """The child that `move` (a value or its text) makes of `network`, which stays as it was.

    seed: of all randomness in new weights. batches: an iterable of (inputs, targets) for moves that look at
    data. loss: from outputs and targets to a number, for those that look at it; by default the cross entropy of
    classes. probe: inputs [N, ...] on which the drift is measured; without one, those of approximate moves that read
    data are held out of it, one example in five up to 128, and other moves are measured on standard normal noise.
    limits: on the child's cost, checked on the graph before any weight is made; so is that its new weights fit in
    this machine's memory. moves: the move classes that a text may name, ours by default.

    Raises ParseError, IllegalMove, LimitExceeded; NeedsData, also where batches don't fit the inputs; DriftExceeded
    when the child does not compute what the move declares (float64: 1e-10; float32: the larger of 1e-5 and ten
    times the parent's own float32-against-float64 error); WeightsError when the parent's weights aren't finite or the
    probe doesn't fit.
    """
    bound_move = _read(network, move, seed, moves)
    require_limits(limits, "apply")
    graph = bound_move.reshape(network.graph)
    bound_move.check_types(network.graph, graph)
    broken = limits.violation(graph) if limits is not None else None
    if broken is not None:
        raise LimitExceeded(f"{bound_move}: {broken}; choose a smaller step or raise the limit")
    _check_memory(bound_move, network, graph)
    versions = network.versions()
    bad = network.nonfinite(versions)
    if bad:
        raise WeightsError(
            f'{bound_move.name}: tensor {bad[0][1]} of node "{bad[0][0]}" holds NaN or infinity; fix the parent first'
        )
    bound_move.check_weights(network)
    bounded = bound_move.most_drift is not None
    source = None
    if batches is not None:
        batches = Checked(batches, network.graph)
        if bound_move.preserves is Preserves.APPROXIMATE:
            source = HeldOut(batches, hold=probe is None, record=bounded)
    context = Context(torch.Generator().manual_seed(seed), source or batches, loss)
    made = bound_move.fill(network, graph, context)
    graph = bound_move.settle(network.graph, graph, made)
    result = network.derived(graph, {key: tensor for key, (tensor, _) in made.items()})
    origin = Origins(result.weights, {key: origin for key, (_, origin) in made.items()})
    after = network.versions()
    if after != versions:
        touched = next(key for key in versions if after[key] != versions[key])
        raise MorphError(f"{bound_move}: it wrote into the parent's {touched}; a move must not, report this")
    if probe is None and source is not None:
        probe = source.probe
    found = drift(network, result, probe, seed) if measure or bounded else None
    if found is not None:
        _check_drift(network, bound_move, found, probe, seed)
    if found is not None and source is not None:
        passed = source.passed
        bound_move.judge(
            found.eval, lambda move: _drift_eval(apply(network, move, seed, passed, loss, probe=probe))
        )
    return Child(result, bound_move, found, origin, MappingProxyType(context.notes))


def _read(network: Any, move: Any, seed: Any, moves: Moves) -> Move:
    """`move` as a value whose fields have their types, also where it was made in Python, which checks none."""
    check_network(network, "apply")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise ParseError(f"apply: seed {seed!r:.40} is not a seed; give a whole number from 0 to 2**63 - 1")
    if isinstance(move, str):
        if len(split(move, ";")) > 1:
            raise ParseError(f"apply: {move!r:.80} are several moves; give them to morphs.apply_chain")
        return parse(move, moves)
    if not isinstance(move, Move):
        raise ParseError(
            f"apply: {move!r:.80} is not a move; give a value such as morphs.Widen(node, to), or its text"
        )
    try:
        return build(type(move), {name: getattr(move, name) for name in field_types(type(move))})
    except TypeError as error:
        raise ParseError(f"{move.name}: {error}") from None


def _check_memory(move: Move, parent: Network, graph: ArchGraph) -> None:
    """Raise LimitExceeded when the child's new tensors alone are larger than this machine's memory."""
    old, size = parent.graph.params, torch.empty((), dtype=parent.dtype).element_size()
    new = sum(prod(spec.shape) for key, spec in graph.params.items() if old.get(key) is not spec) * size
    if not hasattr(os, "sysconf"):  # Windows
        return
    here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if new > here:
        raise LimitExceeded(
            f"{move}: its weights would take {new / 2**30:.0f} GiB and this machine has {here / 2**30:.0f}; "
            "choose a smaller step"
        )


def _drift_eval(child: Child) -> float:
    assert child.drift is not None
    return child.drift.eval


def _check_drift(
    network: Network, move: Move, found: Drift, probe: Tensor | tuple[Tensor, ...] | None, seed: int
) -> None:
    """Raise DriftExceeded when `found` is more than `move` declares and the network's precision explains."""
    if found.within(move.preserves, allowance(network)):
        return
    coarse = allowance(network, probe, seed, measure=True)
    if not found.within(move.preserves, coarse):
        remedy = "report this" if network.dtype == torch.float64 else "convert the network to float64 first"
        raise DriftExceeded(
            f"{move}: drift is {found.eval:.1e} in eval and {found.train:.1e} in train mode, over "
            f"{coarse.eval:.1e} and {coarse.train:.1e}, though it declares {move.preserves.value}; {remedy}"
        )


def apply_chain(
    network: Network,
    chain: str | Iterable[Move | str],
    seed: int = 0,
    batches: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    probe: Tensor | tuple[Tensor, ...] | None = None,
    measure: bool = True,
    limits: Limits | None = None,
    moves: Moves = MOVES,
) -> Iterator[Child]:
    """The children of a chain of moves, one after the other; step i draws from seed + i. See `apply`.

    Its errors say which step of several failed, counted from 1. Every step reads batches from their start, so an
    iterator, which can be read once, suits chains with one move that looks at data.
    """
    if not isinstance(chain, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ParseError(
            f"apply_chain: {chain!r:.80} is not a chain; give a list of moves, or their text separated by ;"
        )
    steps = parse_chain(chain, moves) if isinstance(chain, str) else tuple(chain)
    once = ReadOnce(batches) if isinstance(batches, Iterator) else None
    for step, move in enumerate(steps):
        before = once.read if once else 0
        try:
            child = apply(network, move, seed + step, once or batches, loss, probe, measure, limits, moves)
        except MorphError as error:
            if len(steps) > 1:
                dry = before and once and once.ended and isinstance(error, NeedsData)
                error.args = (f"step {step + 1}: {error}{DRY if dry else ''}",)
            raise
        yield child
        network = child.network
