"""Well-formedness: every rule an ArchGraph keeps. Errors name the node and the rule."""

import re

from morphs.errors import GraphError
from morphs.graph.node import Node, leading_to
from morphs.graph.ops import Trait

NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.ASCII)


def check_nodes(nodes: tuple[Node, ...]) -> None:
    """Check names, slots, owners and reachability; cycles and shapes are found where they are computed."""
    by_name: dict[str, Node] = {}
    for node in nodes:
        if not NAME.fullmatch(node.name) or len(node.name) > 200:
            raise GraphError(
                f"node {node.name!r:.80}: a name is dotted words of letters, digits and underscores; rename it"
            )
        if node.name in by_name:
            raise GraphError(f'node "{node.name}": two nodes have this name; rename one')
        by_name[node.name] = node
    for node in nodes:
        _check_slots(node, by_name)
        _check_owner(node, by_name)
    outputs = [node.name for node in nodes if node.op.trait is Trait.SINK]
    if len(outputs) != 1:
        raise GraphError(
            f"graph: it has {len(outputs)} output nodes ({', '.join(outputs)}); leave exactly one"
        )
    if not any(node.op.trait is Trait.SOURCE for node in nodes):
        raise GraphError("graph: it has no input node; add one")
    live = leading_to(outputs[0], by_name)
    dead = [name for name in by_name if name not in live]
    if dead:
        raise GraphError(f'node "{dead[0]}": no path leads from it to the output; connect or remove it')


def _check_slots(node: Node, by_name: dict[str, Node]) -> None:
    least, most = node.op.arity
    if len(node.inputs) < least or (most is not None and len(node.inputs) > most):
        wanted = str(least) if most == least else f"{least} or more"
        raise GraphError(
            f'node "{node.name}": {node.op.kind} reads {wanted} tensors, not {len(node.inputs)}; fix its inputs'
        )
    for source in node.inputs:
        if source not in by_name:
            raise GraphError(
                f'node "{node.name}": it reads {source!r:.80}, which does not exist; name a node'
            )
        if by_name[source].op.trait is Trait.SINK:
            raise GraphError(
                f'node "{node.name}": it reads the output node "{source}"; read its source instead'
            )


def _check_owner(node: Node, by_name: dict[str, Node]) -> None:
    owner = by_name.get(node.owner)
    if owner is None or owner.owner != owner.name:
        raise GraphError(
            f'node "{node.name}": owner {node.owner!r:.80} owns no parameters; name a node that does'
        )
    if owner.op != node.op and owner.op.kind not in node.op.borrows:
        raise GraphError(
            f'node "{node.name}": its op differs from that of its owner "{node.owner}"; make them equal'
        )
