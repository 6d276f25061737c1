"""InsertNorm: a batch norm that starts as the identity on the calibration data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from morphs.errors import NeedsData
from morphs.examples import in_type
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import BatchNorm, Output, Role
from morphs.move import NEW, Context, Made, Move, Options, Preserves
from morphs.moves.editing import feeds_output, insert_after, inside, read_by, require, width_axis
from morphs.network import Network

NORM = BatchNorm()  # what is inserted


@dataclass(frozen=True)
class InsertNorm(Move):
    """Put a batch norm after `node`, all four of γ, β, μ, σ² calibrated on the given batches.

    With μ, σ² of the data, γ = √(σ² + ε) and β = μ it is the identity in eval mode. In train mode it
    normalises each batch by that batch's own statistics, which differ from the calibration's: hence exact in
    eval only.
    """

    name: ClassVar[str] = "insert_norm"
    summary: ClassVar[str] = "a batch norm calibrated on data, identity in eval mode"

    node: str

    @property
    def preserves(self) -> Preserves:
        """Exact in eval."""
        return Preserves.EXACT_IN_EVAL

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """After every convolution or linear layer."""
        return (cls(node.name) for node in graph if node.op.layer is not None or node.op.slides is not None)

    def offer(self, graph: ArchGraph) -> ArchGraph:
        """Not listed: a norm of the network's output, and a second norm of one layer."""
        require(graph, self.name, self.node)
        if feeds_output(graph, self.node):
            raise self.refuse(f'node "{self.node}" feeds the output', "choose a layer inside the network")
        reader = read_by(graph, self.node, Role.NORM)
        if reader is not None:
            fact = f'node "{self.node}" is normalised by "{reader}" already'
            raise self.refuse(fact, "choose another layer")
        return self.reshape(graph)

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        node = inside(self, graph, self.node)
        shape = graph.shape(node.name)
        if width_axis(graph, node.name) != 0 or len(shape) > 4:
            fact = f'node "{self.node}" writes {shape}, whose width is not the first axis'
            raise self.refuse(fact, "choose a vector, a signal, a map or a volume")
        norm = graph.fresh("norm")
        return insert_after(graph, node.name, Node(norm, NORM, (node.name,)))

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """The four vectors, from one pass over the batches in eval mode and float64."""
        try:
            return calibrated(parent, self.node, graph, context)
        except NeedsData as error:
            raise NeedsData(f'{self.name}: the norm at node "{self.node}": {error}') from None


def calibrated(parent: Network, node: str, graph: ArchGraph, context: Context) -> Made:
    """The tensors of the norm that `graph` has after `node` of `parent`. Raises NeedsData without saying where."""
    norm = parent.graph.fresh("norm")
    mean, variance, count = _statistics(parent, node, context)
    values = {
        "weight": torch.sqrt(variance + NORM.eps),
        "bias": mean.clone(),  # tensors of one network don't share memory
        "running_mean": mean,
        "running_var": variance,
    }
    made = {(norm, name): (value.to(parent.dtype), NEW) for name, value in values.items()}
    made[norm, "num_batches_tracked"] = (torch.tensor(count), NEW)
    return made


def truncated(network: Network, node: str) -> Network:
    """The part of `network` that computes `node`, which becomes its output."""
    graph = network.graph
    kept = graph.ancestors(node) | {node}
    # a use whose owner is cut off owns a copy of the owner's parameters
    nodes = [n if n.owner in kept else Node(n.name, n.op, n.inputs) for n in graph if n.name in kept]
    part = ArchGraph([*nodes, Node(graph.fresh("part"), Output(), (node,))])
    return Network(part, {(n, name): network.weights[graph[n].owner, name] for n, name in part.params})


def _statistics(parent: Network, node: str, context: Context) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Mean and biased variance [C] of what `node` writes, over all batches, and the number of batches."""
    if context.batches is None:
        raise NeedsData("it is calibrated on data and none was given; pass batches=")
    part = truncated(parent, node)
    module = part.to(torch.float64).to_torch().eval()
    read = [place for place, given in enumerate(parent.graph.inputs) if given.name in part.graph]
    mean, spread, seen, count = torch.zeros(()), torch.zeros(()), 0, 0  # spread: sum of squared deviations
    with torch.no_grad():
        for inputs, *_ in context.batches:
            tensors = (inputs,) if isinstance(inputs, Tensor) else inputs
            out = module(*(in_type(tensors[i].cpu(), torch.float64) for i in read)).transpose(0, 1).flatten(1)
            if out.shape[1] == 0:
                continue
            new, size = out.mean(1), out.shape[1]
            share = size / (seen + size)
            spread = spread + (out - new[:, None]).square().sum(1) + (new - mean).square() * seen * share
            mean = mean + (new - mean) * share
            seen, count = seen + size, count + 1
    if seen < 2:
        raise NeedsData(f"the batches hold {seen} values for each channel; give at least 2")
    return mean, spread / seen, count
