"""`nas morph`: applies moves to a user's model from the command line, and lists those that are legal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path

from torch import Tensor, nn

import morphs
from morphs import MOVES, Child, Move, Network, Refusal
from morphs.errors import MorphError, NeedsData
from nas.api.models import Model, open_model
from nas.base.errors import UserError
from nas.cli import optimizer_file
from nas.data import load_search_data
from nas.execute.task import calibration
from nas.export import Ancestor, ModelCard, export
from nas.export.write import check_target


def morph(
    model: str,
    moves: Sequence[str],
    to: Path | None,
    shape: Sequence[int] | None = None,
    data: str | None = None,
    root: Path | None = None,
    seed: int = 0,
    trial: str | None = None,
    optimizer: Path | None = None,
    onnx: bool = False,
) -> Iterator[Child]:
    """Yield the children of a chain of moves one by one; after the last, export its network to the folder `to`.

    model, shape, trial: see `nas.api.models.open_model`. moves: texts, each a move or a chain. data: a data set, for
    moves that look at data. optimizer: a file with the state_dict of the model's optimizer; that of the child's is
    written beside the export, as optimizer.pt. onnx: write model.onnx too.
    Raises UserError for wrong input, before anything is written.
    """
    if not moves:
        raise UserError("morph: there is no move to apply; give one or more, such as 'widen(node=c1, to=64)'")
    alone = _without_site(moves)
    if alone is not None:
        raise UserError(_with_site(alone, open_model(model, shape, trial).network))
    if to is None:
        raise UserError("morph: there is no place for the result; add --to DIR, or list moves with --sites")
    check_target(to)
    found = open_model(model, shape, trial)
    state = None if optimizer is None else optimizer_file.read(optimizer, found.network)
    steps, child = [Ancestor(found.name, "parent")], None
    for child in _children(found.network, moves, data, root, seed):
        steps.append(Ancestor(f"move {len(steps)}", "child", str(child.move), _count(child.network)))
        state = None if state is None else state.carried(child)
        yield child
    if child is not None:
        export(child.network, to, _grown(found, steps), onnx, tuple(steps))
        if state is not None:
            state.write(to / "optimizer.pt")


def sites(
    model: str, asked: Sequence[str], shape: Sequence[int] | None = None, trial: str | None = None
) -> Iterator[Move]:
    """The legal moves on a model, each with all its fields. asked: names of moves; none means all."""
    kinds, network = _kinds(asked), open_model(model, shape, trial).network
    return (move for kind in kinds for move in kind.sites(network))


def refused(
    model: str, asked: Sequence[str], shape: Sequence[int] | None = None, trial: str | None = None
) -> Iterator[Refusal]:
    """The conceivable moves on a model that are not legal, with the reason. asked: as for `sites`."""
    kinds, network = _kinds(asked), open_model(model, shape, trial).network
    return (refusal for kind in kinds for refusal in kind.refused(network))


def _kinds(asked: Sequence[str]) -> list[type[Move]]:
    known = {kind.name: kind for kind in MOVES}
    for name in asked:
        if name not in known:
            raise UserError(
                f"morph: {name!r:.80} is not the name of a move, and a listing takes names alone; choose from "
                f"{', '.join(known)}, or leave it out for all"
            )
    return [known[name] for name in asked] or [*MOVES]


def _without_site(texts: Sequence[str]) -> type[Move] | None:
    """The first move that is given by its name alone and must know where."""
    bare = {part.strip().removesuffix("()") for text in texts for part in text.split(";")}
    needs = (kind for kind in MOVES if any(field.default is MISSING for field in fields(kind)))
    return next((kind for kind in needs if kind.name in bare), None)


def _with_site(kind: type[Move], network: Network) -> str:
    """What is wrong with the name of a move alone, and a site of it on the network, to be pasted."""
    fact = f"morph: {kind.name} says neither where nor how"
    site = next(iter(kind.sites(network)), None)
    if site is None:
        return f"{fact}, and has no site on this model; list the reasons with --refused"
    return f"{fact}; write for example '{site}', or list them all with --sites"


def _children(
    network: Network, moves: Sequence[str], data: str | None, root: Path | None, seed: int
) -> Iterator[Child]:
    try:
        chain = [move for text in moves for move in morphs.parse_chain(text)]
        batches = _batches(data, root, seed) if data else None
        yield from morphs.apply_chain(network, chain, seed, batches, nn.functional.cross_entropy)
    except NeedsData as error:
        raise UserError(f"morph: {error}; name a data set with --data") from None
    except MorphError as error:
        raise UserError(f"morph: {error}") from None


def _count(network: Network) -> int:
    return network.graph.totals.weights


def _grown(model: Model, steps: Sequence[Ancestor]) -> ModelCard | None:
    """The card of what a model became; None where the model has none."""
    if model.card is None:
        return None
    card = model.card
    return replace(card, name=f"{card.name}, grown", scores=(), lineage=(*card.lineage, *steps[1:]))


def _batches(data: str, root: Path | None, seed: int) -> list[tuple[Tensor, Tensor]]:
    held = load_search_data(data, root, seed)
    return list(calibration(held, seed))


def parse_shape(text: str) -> tuple[int, ...]:
    """(3, 32, 32) of "3,32,32". Raises UserError."""
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f'"{text}" is not a shape; write whole numbers with commas, like 3,32,32')
    return tuple(int(part) for part in parts)
