"""Edits of a well-formed graph, checked where they change something and nowhere else.

Listing the moves on a graph makes thousands of children of it, which differ in a few nodes. `edited` looks at
those and, downstream of them, as far as shapes or depths change.
"""

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from math import floor

from morphs.errors import ShapeError
from morphs.graph.check import NAME
from morphs.graph.node import Node
from morphs.graph.ops import Trait
from morphs.graph.state import Facts, Readers, State, alike, facts_of, sharing


def edited(before: State, readers: Readers, changed: Iterable[Node], removed: Iterable[str]) -> State | None:
    """The state after an edit; None where this short way does not show that the graph is well formed.

    None does not say that it isn't: the long way, `state_of`, decides that and says what is wrong.
    """
    gone = frozenset(removed)
    edit = {node.name: node for node in changed if node.name not in gone}
    nodes = {**before.nodes, **edit}
    for name in gone:
        nodes.pop(name, None)
    if not (_sound(before, nodes, edit) and _all_read(before, nodes, edit, gone, readers)):
        return None
    places = _places(before, edit, gone)
    found = _propagate(before, nodes, edit, places, readers) if places is not None else None
    if places is None or found is None:
        return None
    facts, fresh = found
    totals = before.totals
    for name in fresh:
        if name in before.nodes:
            totals = totals.plus(before.nodes[name], before.facts[name], -1)
        totals = totals.plus(nodes[name], facts[name])
    for name in gone & before.nodes.keys():
        totals = totals.plus(before.nodes[name], facts.pop(name), -1)
        del places[name]
    shared = sharing(nodes) if _shares(before, edit, gone) else before.shared
    for owner, users in shared.items():
        if not all(alike(facts[user], facts[owner]) for user in users):
            return None
    known = before.__dict__.get("depth")  # where it was worked out
    earlier = None if known is None else (known, readers, tuple(edit))
    return State(nodes, facts, places, shared, totals, _widest(before, facts, fresh | gone), earlier)


def _widest(before: State, facts: Mapping[str, Facts], touched: frozenset[str]) -> int:
    """Width of the widest layer; all are looked at only where the widest of before may be gone."""
    old = max([before.facts[name].width for name in touched if name in before.facts], default=0)
    new = max([facts[name].width for name in touched if name in facts], default=0)
    if new >= before.width or old < before.width:
        return max(new, before.width)
    return max(known.width for known in facts.values())


def _shares(before: State, edit: Mapping[str, Node], gone: frozenset[str]) -> bool:
    """Whether the edit may change which nodes share parameters."""
    old = (before.nodes[name] for name in (*edit, *gone) if name in before.nodes)
    return any(node.owner != node.name for node in (*edit.values(), *old))


def _sound(before: State, nodes: Mapping[str, Node], edit: Mapping[str, Node]) -> bool:
    """Whether each changed node keeps the rules on names, slots, owners and the ends of the network."""
    for name, node in edit.items():
        old = before.nodes.get(name)
        if old is None and (not NAME.fullmatch(name) or len(name) > 200):
            return False
        before_op = node.op if old is None else old.op
        if (old is None or old.op.trait is not node.op.trait) and (node.op.is_end or before_op.is_end):
            return False
        least, most = node.op.arity
        if len(node.inputs) < least or (most is not None and len(node.inputs) > most):
            return False
        for source in node.inputs:
            if source not in nodes or nodes[source].op.trait is Trait.SINK:
                return False
        family = [nodes.get(user) for user in (node.owner, *before.shared.get(name, ()))]
        if any(one is None or one.owner != node.owner or one.op != node.op for one in family):
            return False
    return True


def _all_read(
    before: State, nodes: Mapping[str, Node], edit: Mapping[str, Node], gone: frozenset[str], readers: Readers
) -> bool:
    """Whether every node that is left is read by one that is left, and no node that is gone is read.

    In a graph without cycles whose only unread node is the output, a path leads from every node to it.
    """
    for name in gone & before.nodes.keys():
        if before.nodes[name].op.is_end:
            return False
        if any(reader not in edit and reader not in gone for reader, _ in readers.get(name, ())):
            return False
    read = {source for node in edit.values() for source in node.inputs}
    old = (before.nodes[name] for name in (*edit, *gone) if name in before.nodes)
    doubtful = {source for node in old for source in node.inputs} | (edit.keys() - before.nodes.keys())
    return all(
        name in read
        or name not in nodes
        or any(reader not in edit and reader not in gone for reader, _ in readers.get(name, ()))
        for name in doubtful
    )


def _places(before: State, edit: Mapping[str, Node], gone: frozenset[str]) -> dict[str, float] | None:
    """Places for the new nodes too, each just after the last that it reads; None when some edge runs backward."""
    waiting = [node for name, node in edit.items() if name not in before.places]
    places = dict(before.places) if waiting or gone else before.places
    while waiting:
        ready = [node for node in waiting if all(source in places for source in node.inputs)]
        if not ready:
            return None
        for node in ready:
            last = max((places[source] for source in node.inputs), default=-1.0)
            places[node.name] = (last + floor(last) + 1) / 2
        waiting = [node for node in waiting if node.name not in places]
    forward = all(places[source] < places[node.name] for node in edit.values() for source in node.inputs)
    return places if forward else None


def _propagate(
    before: State, nodes: Mapping[str, Node], edit: Mapping[str, Node], places: Mapping[str, float],
    readers: Readers,
) -> tuple[dict[str, Facts], frozenset[str]] | None:  # fmt: skip
    """Facts of all nodes, and for which of them they were computed again: the changed ones and those downstream of
    them, as far as shapes change. None where shapes don't fit.
    """
    facts = dict(before.facts)
    queue = [(places[name], name) for name in edit]
    heapify(queue)
    fresh = set(edit)
    while queue:
        name = heappop(queue)[1]
        node = nodes[name]
        try:
            facts[name] = facts_of(node.op, tuple([facts[source].shape for source in node.inputs]))
        except ShapeError:
            return None
        if name not in before.nodes or facts[name].shape == before.facts[name].shape:
            continue
        for reader, _ in readers.get(name, ()):
            if reader in nodes and reader not in fresh:
                fresh.add(reader)
                heappush(queue, (places[reader], reader))
    return facts, frozenset(fresh)
