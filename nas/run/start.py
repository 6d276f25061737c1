"""What a run keeps from its very start: images given as arrays, and the trained network that it begins with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from morphs import ArchGraph, Network
from nas.base.errors import UserError
from nas.config.run_config import RunConfig
from nas.data import SearchData, is_kept
from nas.data.run_arrays import read_kept, write_kept
from nas.ledger import Store
from nas.ledger.ledger import CHECKPOINTS
from nas.ledger.types import is_digest

Starting = Callable[[SearchData], Network]


def graph_of(given: Network | None) -> ArchGraph | None:
    """Its graph, if there is one."""
    return None if given is None else given.graph


def check_fits(graph: ArchGraph, data: SearchData) -> None:
    """Raise UserError unless `graph` reads the inputs of the data and has as many outputs."""
    outputs, shape = data.outputs, data.input_shape
    noun = "images" if len(shape) == 3 else "inputs"
    wanted = f"has {outputs} classes" if data.task.targets == "classes" else f"needs {outputs} outputs"
    inputs = [node.op.shape(()) for node in graph.inputs]
    if len(inputs) != 1 or graph.output.op.kind == "outputs":
        raise UserError(
            "search: the model must read one input, such as an image, and return one vector, such as a score for each "
            "class; return such a part of it from a package.module:function"
        )
    _check_tokens(graph.inputs[0].op.vocabulary, data)
    if inputs[0] != shape:
        raise UserError(
            f"search: the model reads {list(inputs[0])}, and the {noun} of {data.name} are {list(shape)}; name a "
            f"function that returns the module, so that it is read for {noun} of this size, or give images of that "
            "size (imagefolder:PATH?size=N)"
        )
    scores = graph.shape(graph.output.name)
    if scores != (outputs,):
        raise UserError(
            f"search: the model returns {list(scores)}, and {data.name} {wanted}; replace its last "
            f"layer before you give it, such as model.fc = torch.nn.Linear(model.fc.in_features, {outputs})"
        )


def _check_tokens(vocabulary: int | None, data: SearchData) -> None:
    """Raise UserError unless a model that reads so many tokens, or None, reads those of the data."""
    if vocabulary is None and data.tokens is not None:
        raise UserError(
            f"search: the model reads floats, and {data.name} has tokens, whole numbers; give floats, or a model that "
            "begins with an embedding"
        )
    if vocabulary is not None and data.tokens is None:
        raise UserError(
            f"search: the model reads tokens, and {data.name} has none; give whole numbers [N, T], or return the part "
            "of the model that follows the embedding"
        )
    if vocabulary is not None and data.tokens is not None and vocabulary < data.tokens:
        raise UserError(
            f"search: the model reads {vocabulary:,} tokens, and {data.name} has {data.tokens:,}; number them as the "
            "model does"
        )


def keep_data(run: Path, config: RunConfig) -> None:
    """Copy the arrays that are kept in the replayed run into `run`."""
    if is_kept(config.data) and (source := Path(str(config.data_root))) != run.absolute():
        write_kept(run, read_kept(source, config.data))


def keep_start(run: Path, given: Network | None) -> None:
    """Store the network that a search starts from, before there is a run, so that no run is without it."""
    if given is not None:
        run.mkdir(parents=True, exist_ok=True)
        store = Store(run / CHECKPOINTS)
        store.make()
        store.put(given)


def start_of(run: Path, config: RunConfig) -> Network | None:
    """The network that a run started from; None if that was a space's seed network. Raises RunError, LedgerDamaged."""
    return None if config.start is None else Store(run / CHECKPOINTS).get(config.start)


def is_store(folder: Path) -> bool:
    """Whether there is nothing but checkpoints in a folder."""
    try:
        return all(is_digest(entry.name) or entry.name.startswith(".tmp-") for entry in folder.iterdir())
    except OSError:
        return False
