"""Names for generated code: attributes for layers, variables for tensors."""

import keyword
from itertools import chain, count

from torch import nn

from morphs import ArchGraph

RESERVED = frozenset(dir(nn.Module())) | {"self"}


def attribute_names(graph: ArchGraph) -> dict[str, str]:
    """Return an nn.Module attribute for each owner of a layer: its own name if Python and torch allow that.

    Dots become underscores; a name that Python or nn.Module uses gets a trailing underscore. Names are unique and
    never start with an underscore (Python would mangle a name that starts with two).
    """
    owners = dict.fromkeys(node.owner for node in graph)
    wanted = {owner: _safe(owner) for owner in owners}
    names = {owner: owner for owner in owners if wanted[owner] == owner}
    taken = set(names)
    for owner in owners:
        if owner not in names:
            stem = wanted[owner]
            numbered = (f"{stem}_{number}" for number in count(2))
            names[owner] = next(name for name in chain([stem], numbered) if name not in taken)
            taken.add(names[owner])
    return names


def _safe(name: str) -> str:
    flat = name.replace(".", "_")
    if flat.startswith("_"):
        flat = f"layer{flat}"
    return f"{flat}_" if keyword.iskeyword(flat) or flat in RESERVED else flat


def variable_names(graph: ArchGraph) -> dict[str, str]:
    """Return a local variable for each node's output, reused as soon as no later node reads it.

    A node overwrites the first input that it is the last to read, so a chain is `x = …` throughout and a branch
    gets another letter; memory is released as early as possible.
    """
    inputs = [node.name for node in graph.inputs]
    # what reads nothing is told the size of the batch by the first input
    read = {node.name: node.inputs or tuple(inputs[:1]) for node in graph if node.name not in inputs}
    last = {source: name for name, sources in read.items() for source in sources}
    variables: dict[str, str] = {}
    free: list[str] = []
    fresh = chain("xyz", (f"x{number}" for number in count(4)))
    for node in [*inputs, *read]:
        sources = read.get(node, ())
        unused = list(dict.fromkeys(variables[source] for source in sources if last[source] == node))
        variable = unused[0] if unused else free.pop(0) if free else next(fresh)
        variables[node] = variable
        free.extend(name for name in unused if name != variable)
    return variables
