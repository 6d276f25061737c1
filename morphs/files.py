"""A network in a folder: canonical JSON for the graph, safetensors for the weights. Nothing is unpickled.

An export (`morphs.export`) is such a folder too, whose tensors have the names of the module's state.
"""

import json
import os
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from morphs.errors import CodecError, WeightsError
from morphs.graph.arch import ArchGraph
from morphs.graph.codec import MAX_BYTES, canonical_json
from morphs.graph.node import Key
from morphs.graph.read import graph_from_json
from morphs.network import Network
from morphs.torch_io.keys import state_keys

GRAPH_FILE, WEIGHTS_FILE = "graph.json", "weights.safetensors"


def save(network: Network, folder: str | os.PathLike[str]) -> None:
    """Write graph.json and weights.safetensors into `folder`, which is made if need be.

    Raises CodecError where that is a file, or lies below one. A full or failing disk is an OSError.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CodecError(f"save: {place} is, or lies below, a file; name a folder") from None
    graph, weights = pack(network)
    (place / GRAPH_FILE).write_text(graph, encoding="ascii")
    (place / WEIGHTS_FILE).write_bytes(weights)


def load(folder: str | os.PathLike[str]) -> Network:
    """The network that `save` or `export` wrote into `folder`.

    Raises CodecError or WeightsError when a file is missing, damaged or doesn't fit the graph.
    """
    place = Path(folder)
    try:
        for name in (GRAPH_FILE, WEIGHTS_FILE):  # a FIFO would block, a device never end
            if (place / name).exists() and not (place / name).is_file():
                raise CodecError(f"load: {place / name} is not a file; name a folder that `save` wrote")
        if (place / GRAPH_FILE).stat().st_size > MAX_BYTES:
            raise CodecError(
                f"load: {place / GRAPH_FILE} has more than {MAX_BYTES} bytes; it is not a saved graph"
            )
        text = (place / GRAPH_FILE).read_text(encoding="ascii")
        graph = graph_from_json(text)
        size, most = (place / WEIGHTS_FILE).stat().st_size, _most_bytes(graph)
        if size > most:
            fact = f"it has {size} bytes, and its graph's weights at most {most}"
            raise WeightsError(f"load: {place / WEIGHTS_FILE} is damaged ({fact}); restore it from a copy")
        data = (place / WEIGHTS_FILE).read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise CodecError(
            f"load: {place} is not a saved network ({error}); name a folder that `save` wrote"
        ) from None
    return _network(graph, data, str(place / WEIGHTS_FILE))


def _most_bytes(graph: ArchGraph) -> int:
    """How large a file with a graph's weights may be: eight bytes for each number, and the header."""
    return MAX_BYTES + 8 * sum(prod(param.shape) for param in graph.params.values())


def pack(network: Network) -> tuple[str, bytes]:
    """What `save` writes, to be sent elsewhere: the graph's canonical JSON, and the weights as safetensors."""
    tensors = {  # clones: safetensors refuses tensors that share memory
        f"{owner}.{name}": t.cpu().clone(memory_format=torch.contiguous_format)
        for (owner, name), t in network.weights.items()
    }
    return network.graph.to_json(), save_tensors(tensors, metadata(network) or None)


def metadata(network: Network) -> dict[str, str]:
    """What the header of a file of weights says of the keys that came from a module."""
    places = [[owner, name, key] for (owner, name), key in network.keys.items()]
    return {"keys": canonical_json(places)} if places else {}


def unpack(graph_json: str, weights: bytes, place: str = "the weights") -> Network:
    """The network that `pack` packed, or of the files of an export. place: what an error calls the weights.

    Raises CodecError or WeightsError when either is damaged or they don't fit each other.
    """
    return _network(graph_from_json(graph_json), weights, place)


def _network(graph: ArchGraph, weights: bytes, place: str) -> Network:
    try:
        tensors = load_tensors(weights)
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(f"load: {place} is damaged ({error}); restore it from a copy") from None
    header = _metadata(weights)
    keys = _keys(header, place)
    if header.get("names") == "state":
        return _of_state(graph, tensors, keys, place)
    keyed = {(name.rpartition(".")[0], name.rpartition(".")[2]): tensor for name, tensor in tensors.items()}
    return Network(graph, keyed, keys)


def _of_state(graph: ArchGraph, tensors: dict[str, Tensor], keys: dict[Key, str], place: str) -> Network:
    """The network of an export, whose tensors have the names of its module's state."""
    weights: dict[Key, Tensor] = {}
    for key, name in state_keys(graph, keys).items():
        if name not in tensors:
            raise WeightsError(f"load: {place} has no tensor {name}; restore it from a copy")
        alone = graph.params[key].shape == () and tensors[name].numel() == 1
        weights[key] = tensors[name].reshape(()) if alone else tensors[name]
    return Network(graph, weights, keys)


def _metadata(data: bytes) -> dict[str, str]:
    """What safetensors has in its header besides tensors, which its reader leaves out."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]).get("__metadata__", {})


def _keys(header: dict[str, str], place: str) -> dict[Key, str]:
    try:
        held = json.loads(header.get("keys", "[]"))
        return {(str(owner), str(name)): str(key) for owner, name, key in held}
    except (ValueError, TypeError) as error:
        raise WeightsError(f"load: {place} is damaged ({error}); restore it from a copy") from None
