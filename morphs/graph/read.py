"""Graphs from their JSON or their short text form."""

from morphs.errors import CodecError, GraphError
from morphs.graph.arch import ArchGraph
from morphs.graph.codec import nodes_from_json, require_text
from morphs.graph.show import parse_node


def graph_from_json(text: str) -> ArchGraph:
    """The graph of `text`. Raises CodecError for anything that is not a well-formed graph document."""
    try:
        return ArchGraph(nodes_from_json(text))
    except CodecError:
        raise
    except (GraphError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise CodecError(f"graph: the document does not describe a well-formed graph: {error}") from None


def parse_graph(text: str) -> ArchGraph:
    """The graph that `text` describes in the short text form; lines may also be separated by `;`.

    Raises CodecError naming the line, GraphError where the graph breaks a rule.
    """
    require_text(text, "graph")
    lines = [line.strip() for line in text.replace(";", "\n").splitlines()]
    return ArchGraph(parse_node(line) for line in lines if line and not line.startswith("#"))
