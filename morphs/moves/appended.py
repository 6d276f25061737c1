"""What follows when a tensor gets more columns at its end: the index maps of all parameters that read it."""

import numpy as np

from morphs.graph.arch import ArchGraph
from morphs.graph.ops import Axis, Role, Trait
from morphs.move import Origin
from morphs.moves.columns import Index
from morphs.network import Key

FOLLOWED = (Trait.INVARIANT, Trait.ABSORB, Trait.STACK, Trait.FLATTEN)


def appended(graph: ArchGraph, name: str, count: int) -> dict[Key, Origin]:
    """Where the parameters of the readers of `name` come from, when `count` new columns follow its own.

    New columns pass through pools, norms, activations, flattening and concatenation, up to the convolutions and linear
    layers that take them in. Raises ValueError saying where they can't.
    """
    maps: dict[str, Index] = {
        name: np.concatenate([np.arange(graph.shape(name)[0]), np.full(count, -1)]).astype(np.int64)
    }
    found: dict[Key, Origin] = {}
    for node in graph:
        if node.name == name or all(source not in maps for source in node.inputs):
            continue
        trait, params = node.op.trait, node.op.params(graph.input_shapes(node.name))
        if trait is Trait.SINK:
            raise ValueError("it reaches the output")
        if trait is Trait.OPAQUE:
            raise ValueError(f'it is fixed by the operator "{node.name}"')
        if trait is Trait.TIE:
            raise ValueError(f'it is tied to other channels at node "{node.name}"')
        if params and graph.is_shared(node.name):
            raise ValueError(f'node "{node.name}", which reads it, shares its parameters')
        if node.op.groups > 1:
            raise ValueError(f'the convolution "{node.name}", which reads it, has groups')
        if node.op.role is Role.WIDTH_NORM or trait not in FOLLOWED:
            raise ValueError(f'node "{node.name}", which reads it, works across channels')
        if node.op.rows is not None and node.op.rows.centred:
            raise ValueError(f'the layer "{node.name}", which reads it, standardises its weight')
        if any(param.axes[:1] == (Axis.IN,) for param in params.values()):
            raise ValueError(f'the convolution "{node.name}", which reads it, is transposed')
        shapes = zip(node.inputs, graph.input_shapes(node.name), strict=True)
        read = [
            maps.get(source, np.arange(shape[0])) for source, shape in shapes if shape
        ]  # not of single numbers
        axis = Axis.IN if trait is Trait.ABSORB else Axis.OUT
        for parameter, param in params.items():
            if axis in param.axes:
                axes = tuple(read[0] if along is axis else None for along in param.axes)
                found[node.name, parameter] = Origin((node.name, parameter), axes)
        if trait is not Trait.ABSORB:
            maps[node.name] = _written(graph, node.name, trait, read)
    return found


def _written(graph: ArchGraph, name: str, trait: Trait, read: list[Index]) -> Index:
    """The map of what a node writes, from those of what it reads."""
    if trait is Trait.FLATTEN:
        times = graph.shape(name)[0] // graph.input_shapes(name)[0][0]
        return np.where(
            np.repeat(read[0], times) < 0, -1, (read[0][:, None] * times + np.arange(times)).reshape(-1)
        )
    if trait is Trait.STACK:
        starts = np.cumsum([0, *(shape[0] for shape in graph.input_shapes(name))])
        return np.concatenate(
            [np.where(part < 0, -1, part + start) for part, start in zip(read, starts, strict=False)]
        )
    return read[0]
