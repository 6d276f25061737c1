"""Edits: the short way of checking them gives what the long way gives, results and refusals alike."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import graphs

import morphs
from morphs.errors import GraphError
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.edit import edited
from morphs.graph.ops import Activation, Conv2d, Flatten, Input, Output


def known(graph: ArchGraph) -> list:
    """Everything a graph tells."""
    nodes = list(graph)
    return [
        nodes, [graph.shape(n.name) for n in nodes], dict(graph.params), list(graph.params), morphs.cost(graph),
        graph.width, [graph.users(n.name) for n in nodes], [graph.consumers(n.name) for n in nodes],
        [graph.ancestors(n.name) for n in nodes], graph.fingerprint, graph.output, graph.inputs, hash(graph),
    ]  # fmt: skip


def same_either_way(graph: ArchGraph, *changed: Node, removed: tuple[str, ...] = ()) -> ArchGraph | None:
    """The edited graph, or None where both ways refuse it in the same words."""
    nodes = {node.name: node for node in (*graph, *changed)}
    try:
        long = ArchGraph(node for name, node in nodes.items() if name not in removed)
    except GraphError as error:
        refused = error
    else:
        short = graph.update(*changed, removed=removed)
        assert known(short) == known(long)
        assert short == long
        return short
    with pytest.raises(type(refused)) as caught:
        graph.update(*changed, removed=removed)
    assert str(caught.value) == str(refused)
    return None


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
@given(graph=graphs(most=2), data=st.data())
def test_children_of_moves_are_as_if_made_from_scratch(move, graph, data):
    sites = list(move.sites(graph))
    for _ in range(2):
        if sites:
            child = data.draw(st.sampled_from(sites)).reshape(graph)
            assert known(child) == known(ArchGraph(reversed(tuple(child))))
            graph, sites = child, list(move.sites(child))


@given(graph=graphs(most=2), data=st.data())
def test_depths_are_those_of_a_graph_made_anew_whenever_they_are_asked_for(graph, data):
    for _ in range(4):
        moves = [site for move in (morphs.Deepen, morphs.Widen, morphs.AddSkip) for site in move.sites(graph)]
        if not moves:
            return
        if data.draw(st.booleans()):
            assert graph.depth > 0
        graph = data.draw(st.sampled_from(moves)).reshape(graph)
        if data.draw(st.booleans()):
            anew = ArchGraph(graph)
            assert {n.name: graph._state.depth[n.name] for n in graph} == dict(anew._state.depth)


@given(graph=graphs(most=2), data=st.data())
def test_any_edit_is_judged_alike_the_short_and_the_long_way(graph, data):
    for _ in range(4):
        nodes = list(graph)
        names = [*(node.name for node in nodes), "new1", "new2"]
        changed = []
        for node in data.draw(st.lists(st.sampled_from(nodes), max_size=2)):
            inputs = tuple(data.draw(st.sampled_from((i, i, i, *names))) for i in node.inputs)
            owner = data.draw(st.sampled_from((node.owner, node.owner, node.name, *names)))
            op = node.op
            if isinstance(op, Conv2d):
                op = data.draw(
                    st.sampled_from((op, replace(op, channels=op.channels + 1), Activation("relu")))
                )
            changed.append(Node(node.name, op, inputs, owner))
        for name in data.draw(st.sets(st.sampled_from(("new1", "new2", "new1 !")))):
            op = data.draw(st.sampled_from((Activation("relu"), Flatten(), Output(), Input((2,)))))
            changed.append(Node(name, op, (data.draw(st.sampled_from(names)),) * op.arity[0]))
        removed = data.draw(st.lists(st.sampled_from(names), max_size=1))
        graph = same_either_way(graph, *changed, removed=tuple(removed)) or graph


TEXT = """
    x = input(size=[2, 6, 6]); c = conv2d(x, channels=4, kernel=3, padding=1); r = relu(c)
    d = conv2d(r, channels=4, kernel=3, padding=1); a = add(d, r); e = conv2d(a, channels=9, kernel=1); out = output(e)
"""


def test_the_short_way_is_taken_wherever_it_can_be():
    """Otherwise listing the sites of a large network is slow."""
    graph = morphs.parse_graph(TEXT)
    relu = Node("new", Activation("relu"), ("c",))
    edits = [
        ((Node("r", Activation("tanh"), ("c",)),), ()),
        ((relu, *graph.rewired("c", "new", keep=("new",))), ()),
        (graph.rewired("r", "c"), ("r",)),
        ((Node("e", Conv2d(7, (1, 1)), ("a",)),), ()),
    ]
    for changed, removed in edits:
        readers = {node.name: graph.consumers(node.name) for node in graph}
        assert edited(graph._state, readers, changed, removed) is not None
        assert same_either_way(graph, *changed, removed=removed) is not None
    narrower = graph.update(*edits[3][0])
    assert narrower.width == 7


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("r = add(c, a)", "cycle"), ("n = relu(c)", 'node "n"'),
        ("a = add(d, q)", '"a".*q'), ("a = add(d, out)", '"a".*"out"'),
        ("a = relu(d, r)", '"a".* 1 .* 2'), ("x = relu(c)", "input"),
        ("n = output(a)", " 2 output"), ("r = relu(c, owner=d)", '"r".*"d"'),
        ("d = conv2d(r, channels=3, kernel=3, padding=1)", "add"),
        ("r = relu(x)", 'node "c"'),
    ],
)  # fmt: skip
def test_edits_that_break_a_rule_are_refused_by_name(changed, said):
    graph = morphs.parse_graph(TEXT)
    with pytest.raises(GraphError, match=said):
        graph.update(morphs.graph.show.parse_node(changed))
    assert same_either_way(graph, morphs.graph.show.parse_node(changed)) is None
