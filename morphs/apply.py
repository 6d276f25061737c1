"""Applying a move: checked, measured, the parent untouched."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from morphs.drift import Drift, bound, drift, own_error
from morphs.errors import DriftExceeded, LimitExceeded, MorphError, ParseError
from morphs.limits import Limits
from morphs.move import Batch, Context, Loss, Made, Move, Origin
from morphs.moves import MOVES
from morphs.network import Key, Network
from morphs.textform import parse_call, split
from morphs.typed import build


@dataclass(frozen=True, eq=False)
class Child:
    """The network a move produced, with the move, its measured drift and where each parameter came from."""

    network: Network
    move: Move
    drift: Drift | None  # None when it wasn't measured
    origin: Mapping[Key, Origin]


def parse(text: str) -> Move:
    """The move of its text form, such as `widen(node=c3, to=96)`; fields left out take their defaults.

    Raises ParseError saying what is wrong.
    """
    try:
        name, positional, keywords = parse_call(text)
        known = {move.name: move for move in MOVES}
        if name not in known:
            raise ValueError(f"there is no move {name}; choose one of {', '.join(known)}")
        if positional:
            raise ValueError(f"{positional[0]!r} has no key; write key=value")
        return build(known[name], keywords, partial=True)
    except (ValueError, TypeError) as error:
        raise ParseError(f"move {text.strip()[:120]!r}: {error}") from None


def parse_chain(text: str) -> tuple[Move, ...]:
    """The moves of a chain, parted by `;`; an empty text is the empty chain."""
    return tuple(parse(part) for part in split(text, ";"))


def apply(
    network: Network,
    move: Move | str,
    seed: int = 0,
    batches: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    probe: Tensor | tuple[Tensor, ...] | None = None,
    measure: bool = True,
    limits: Limits | None = None,
) -> Child:
    """The child that `move` (a value or its text) makes of `network`, which stays as it was.

    seed: of all randomness in new weights. batches: an iterable of (inputs, targets) for moves that look at
    data. probe: inputs [N, ...] on which the drift is measured. limits: on the child's cost, checked on the
    graph before any weight is made.

    Raises ParseError, IllegalMove, LimitExceeded, NeedsData; DriftExceeded when the child computes something
    else than the move declares (float64: 1e-10; float32: the larger of 1e-5 and ten times the parent's own
    float32-against-float64 error); WeightsError when the parent's weights aren't finite.
    """
    bound_move = parse(move) if isinstance(move, str) else move
    versions = {key: tensor._version for key, tensor in network.weights.items()}  # pyright: ignore
    graph = bound_move.reshape(network.graph)
    broken = limits.violation(graph) if limits is not None else None
    if broken is not None:
        raise LimitExceeded(f"{bound_move}: {broken}; choose a smaller step or raise the limit")
    context = Context(torch.Generator().manual_seed(seed), batches, loss)
    made = bound_move.fill(network, graph, context)
    child, origin = _inherit(network, graph.params, made)
    result = Network(graph, child)
    touched = [key for key, tensor in network.weights.items() if tensor._version != versions[key]]  # pyright: ignore
    if touched:
        raise MorphError(
            f"{bound_move}: it wrote into the parent's {touched[0]}; a move must not, report this"
        )
    found = drift(network, result, probe, seed) if measure else None
    if found is not None and not found.within(bound_move.preserves, bound(network)):
        allowed = max(bound(network), 10 * own_error(network, probe, seed) if bound(network) > 1e-10 else 0)
        if not found.within(bound_move.preserves, allowed):
            raise DriftExceeded(
                f"{bound_move}: drift is {found.eval:.1e} in eval and {found.train:.1e} in train mode, over "
                f"{allowed:.1e}, though it declares {bound_move.preserves.value}; convert the network to float64 first"
            )
    return Child(result, bound_move, found, MappingProxyType(origin))


def apply_chain(
    network: Network,
    moves: str | Iterable[Move | str],
    seed: int = 0,
    batches: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    probe: Tensor | tuple[Tensor, ...] | None = None,
    measure: bool = True,
    limits: Limits | None = None,
) -> Iterator[Child]:
    """The children of a chain of moves, one after the other; step i draws from seed + i. See `apply`."""
    chain = parse_chain(moves) if isinstance(moves, str) else tuple(moves)
    for step, move in enumerate(chain):
        child = apply(network, move, seed + step, batches, loss, probe, measure, limits)
        yield child
        network = child.network


def _inherit(
    parent: Network, params: Mapping[Key, object], made: Made
) -> tuple[dict[Key, Tensor], dict[Key, Origin]]:
    """The move's tensors, and for all other parameters the parent's own."""
    weights: dict[Key, Tensor] = {}
    origin: dict[Key, Origin] = {}
    for key in params:
        weights[key], origin[key] = made[key] if key in made else (parent.weights[key], Origin(key))
    return weights, origin
