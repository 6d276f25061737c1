"""A user's model, named on a command line or given in Python, for `nas morph` and `nas search --from`.

A model is `package.module:function`, a file of torch.export (.pt2), the folder of an export or of `morphs.save`, or a
run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

import morphs
from morphs import Network
from morphs.errors import MorphError
from morphs.files import GRAPH_FILE
from nas.base.errors import RunError, UserError
from nas.base.user_code import call_named
from nas.data import SearchData
from nas.export import ModelCard, read_card, trial_network
from nas.inspect.status import find_run
from nas.ledger import read, read_config
from nas.ledger.shared import is_run
from nas.run.start import Starting

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
KINDS = "a package.module:function, a .pt2 of torch.export, the folder of an export, or a run"
Given = str | Path | nn.Module | Network | ExportedProgram


@dataclass(frozen=True)
class Model:
    """A network and where it is from. card: what is known of a classifier that a search found."""

    network: Network
    name: str
    card: ModelCard | None = None


def open_model(
    given: Given, shape: Sequence[int] | None = None, trial: str | None = None, tokens: int | None = None
) -> Model:
    """The model that a user named or gave.

    shape: of one input without its batch axis, for modules that come without example inputs. trial: of a run,
    "generation.slot"; None means the final network or the best so far. tokens: the input is of whole numbers below
    this. Raises UserError, in one line with the place and
    the remedy, for what can't be read or copied, and RunError or LedgerDamaged for a damaged run.
    """
    name = str(given) if isinstance(given, (str, Path)) else type(given).__name__
    try:
        found = _opened(given, name, None if shape is None else _example(shape, tokens), trial)
    except MorphError as error:
        raise UserError(f"{name}: {error}") from None
    return found if isinstance(found, Model) else Model(found, name)


def starting(given: Given) -> Starting:
    """What makes the network that a search starts from, once its data are known.

    A module's code is read for inputs of their shape. The network is in float32, as all that a search trains. Of a run
    on the same data whose final network learned from the validation examples, which are to judge, it is the one before
    that. Raises what `open_model` raises.
    """

    def start(data: SearchData) -> Network:
        try:
            trial = _trial_before_final(given, data)
            return open_model(given, data.input_shape, trial, data.tokens).network.to(torch.float32)
        except UserError as error:
            read = "" if data.tokens is None else f"; the data have {data.tokens:,} tokens, numbered from 0"
            raise UserError(f"search: the model to start from: {error}{read}") from None

    return start


def _trial_before_final(given: Given, data: SearchData) -> str | None:
    """The trial of a run before its final training, if that learned from the validation examples of `data`."""
    if not isinstance(given, (str, Path)):
        return None
    try:
        run = Path(given).expanduser() if is_run(Path(given).expanduser()) else find_run(str(given))
    except RunError:
        return None
    final = read(run).final
    learned = (
        final is not None
        and final.job.training.judged
        and read_config(run).described.data.digest == data.digest
    )
    return final.job.parent if final is not None and learned else None


def _opened(given: Given, name: str, example: Tensor | None, trial: str | None) -> Network | Model:
    if not isinstance(given, (str, Path)):
        return _network(given, name, example)
    path = Path(given).expanduser()
    if is_run(path):
        return _of_run(path, name, trial)
    if trial is not None:
        raise UserError(f"{name}: it is not a run, and has no trial {trial}; leave out --trial")
    if path.is_dir():
        if not (path / GRAPH_FILE).exists():
            raise UserError(f"{name}: it is a folder without a {GRAPH_FILE}; name {KINDS}")
        return Model(morphs.load(path), name, read_card(path))
    if path.suffix == ".pt2":
        return morphs.from_program(path)
    if path.is_file():
        raise UserError(
            f"{name}: it is a file of weights or of code, which is no model by itself; name {KINDS}, such as a "
            "function that loads these weights into a module and returns it"
        )
    if _FUNCTION.fullmatch(name):
        return _network(call_named(name, "the model", UserError), name, example)
    try:
        return _of_run(find_run(name), name, trial)
    except RunError as error:
        raise UserError(f"{name}: it is no model ({error}); name {KINDS}") from None


def _of_run(run: Path, name: str, trial: str | None) -> Model:
    network, card = trial_network(run, trial)
    return Model(network, name, card)


def _network(made: object, name: str, example: Tensor | None) -> Network:
    """The network of what a function returned, or a user gave: a module, perhaps with example inputs, or a network."""
    pair: list[Any] = list(cast(Sequence[Any], made)) if isinstance(made, (tuple, list)) else [made]
    if len(pair) == 1 and isinstance(made, Network):
        return made
    if len(pair) == 1 and isinstance(made, ExportedProgram):
        return morphs.from_program(made)
    if not pair or not isinstance(pair[0], nn.Module) or len(pair) > 2:
        raise UserError(
            f"{name} returned a {type(made).__name__}; return an nn.Module, or (nn.Module, example inputs)"
        )
    if example is not None:
        return morphs.from_torch(pair[0], example)
    if len(pair) == 2:
        return morphs.from_torch(pair[0], pair[1])
    raise UserError(f"{name} returns no example inputs; give their shape with --input, like 3,32,32")


def _example(shape: Sequence[int], tokens: int | None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if tokens is not None:
        return torch.randint(tokens, (2, *shape), generator=generator)
    return torch.randn(2, *shape, generator=generator)
