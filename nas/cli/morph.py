"""`nas morph`: applies moves to a user's model from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import morphs
from morphs import Child, Network
from morphs.errors import MorphError, NeedsData
from nas.base.errors import UserError
from nas.base.user_code import call_named
from nas.data import load_search_data
from nas.execute.task import calibration
from nas.export.write import check_target

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def morph(
    model: str,
    moves: Sequence[str],
    to: Path,
    shape: Sequence[int] | None = None,
    data: str | None = None,
    root: Path | None = None,
    seed: int = 0,
) -> Iterator[Child]:
    """Yield the children of a chain of moves one by one; after the last, save its network in the folder `to`.

    model: a folder that `morphs.save` (or this) wrote, or `package.module:function`, which returns an nn.Module
    or a pair (nn.Module, example inputs). shape: of one input without its batch axis, if the function returns no
    example. moves: texts, each a move or a chain. data: a data set, for moves that look at data.
    Raises UserError for wrong input, before anything is written.
    """
    if not moves:
        raise UserError("morph: there is no move to apply; give one or more, such as 'widen(node=c1, to=64)'")
    check_target(to)
    network = _network(model, shape)
    batches = _batches(data, root, seed) if data else None
    child = None
    try:
        chain = [move for text in moves for move in morphs.parse_chain(text)]
        for child in morphs.apply_chain(network, chain, seed, batches, nn.functional.cross_entropy):
            yield child
    except NeedsData as error:
        raise UserError(f"morph: {error}; name a data set with --data") from None
    except MorphError as error:
        raise UserError(f"morph: {error}") from None
    if child is not None:
        morphs.save(child.network, to)


def _network(model: str, shape: Sequence[int] | None) -> Network:
    if Path(model).is_dir():
        try:
            return morphs.load(model)
        except MorphError as error:
            raise UserError(f"morph: {error}") from None
    if not _FUNCTION.fullmatch(model):
        raise UserError(
            f"morph: {model} is neither a folder with a saved network nor a package.module:function; give one of these"
        )
    made = call_named(model, "the model", UserError)
    module, example = _parted(model, made, shape)
    try:
        return morphs.from_torch(module, example)
    except MorphError as error:
        raise UserError(f"morph: {model}: {error}") from None


def _parted(model: str, made: object, shape: Sequence[int] | None) -> tuple[nn.Module, Any]:
    """The module and its example inputs, a batch of two."""
    pair = list(cast(Sequence[Any], made)) if isinstance(made, (tuple, list)) else [made]
    if not isinstance(pair[0], nn.Module) or len(pair) > 2:
        raise UserError(
            f"morph: {model} returned a {type(made).__name__}; return an nn.Module, or (nn.Module, example inputs)"
        )
    if len(pair) == 2:
        return pair[0], pair[1]
    if shape is None:
        raise UserError(
            f"morph: {model} returns no example inputs; give their shape with --input, like 3,32,32"
        )
    return pair[0], torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def _batches(data: str, root: Path | None, seed: int) -> list[tuple[Tensor, Tensor]]:
    held = load_search_data(data, root, seed)
    return list(calibration(held, seed))


def parse_shape(text: str) -> tuple[int, ...]:
    """(3, 32, 32) of "3,32,32". Raises UserError."""
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f'"{text}" is not a shape; write whole numbers with commas, like 3,32,32')
    return tuple(int(part) for part in parts)
