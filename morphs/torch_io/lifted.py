"""Which buffers are nodes with a width of their own: those added to a stream whose width they let change."""

from collections.abc import Iterable

from morphs.graph import ops
from morphs.graph.arch import ArchGraph
from morphs.graph.widths import channel_groups
from morphs.torch_io.lazy import LEARNED
from morphs.torch_io.program import Call

PASSING = frozenset((ops.Trait.RESHAPE, ops.Trait.PERMUTE, ops.Trait.SLICE, ops.Trait.DROP))


def lifted_buffers(calls: Iterable[Call]) -> set[str]:
    """The keys of the buffers and constants among what is to be nodes."""
    lifted = (call.args for call in calls if call.target == LEARNED)
    return {args["held"].key for args in lifted if args["source"] != "parameter"}


def gives_width(graph: ArchGraph, name: str) -> bool:
    """Whether the tensor of node `name` is added or multiplied, whole or in part, along a width that may change.

    Anywhere else it is better left to operators, as masks are: they ask nothing of its other axes.
    """
    if name not in graph:
        return False
    op, widths = graph[name].op, channel_groups(graph)
    spans = widths.spans[name]
    wide = graph.shape(name)[op.axis] > 1 and bool(spans)
    return wide and all(widths.groups[span.group].fixed is None for span in spans) and _combined(graph, name)


def _combined(graph: ArchGraph, name: str) -> bool:
    """Whether all that read `name`, past parts and reshapes of it, add or multiply it."""
    readers = [graph[reader] for reader, _ in graph.consumers(name)]
    return all(
        isinstance(node.op, ops.Add | ops.Multiply)
        or (node.op.trait in PASSING and _combined(graph, node.name))
        for node in readers
    )
