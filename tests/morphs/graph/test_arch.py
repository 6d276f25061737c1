"""ArchGraph: rules with errors that name node and rule, canonical order, immutability, edits."""

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import graphs

import morphs
from morphs.errors import GraphError, ShapeError
from morphs.graph.arch import ArchGraph
from morphs.graph.node import Node, natural_key
from morphs.graph.ops import Activation, Add, BatchNorm, Conv2d, Flatten, Input, Output, Reshape

X, OUT = Node("x", Input((2, 4, 4))), Node("out", Output(), ("r",))
RELU = Node("r", Activation("relu"), ("x",))

BROKEN = {
    'node "r": two nodes have this name': [X, RELU, RELU, OUT],
    "node '1a': a name is dotted words": [X, RELU, Node("1a", Flatten(), ("x",)), OUT],
    'node "r": activation reads 1 tensors, not 2': [X, Node("r", Activation("relu"), ("x", "x")), OUT],
    'node "r": add reads 2 or more tensors, not 1': [X, Node("r", Add(), ("x",)), OUT],
    "node \"r\": it reads 'z', which does not exist": [X, Node("r", Activation("relu"), ("z",)), OUT],
    'node "s": it reads the output node "out"': [X, RELU, OUT, Node("s", Flatten(), ("out",))],
    "node \"r\": owner 'z' owns no parameters": [X, Node("r", Activation("relu"), ("x",), "z"), OUT],
    'node "r": its op differs from that of its owner "s"': [
        X, Node("s", Activation("tanh"), ("x",)), Node("r", Activation("relu"), ("s",), "s"), OUT,
    ],
    "graph: it has 0 output nodes": [X, RELU],
    "graph: it has no input node": [Node("r", Activation("relu"), ("r",)), OUT],
    'node "dead": no path leads from it to the output': [X, RELU, OUT, Node("dead", Flatten(), ("x",))],
    "form a cycle": [X, Node("a", Add(), ("x", "r")), Node("r", Activation("relu"), ("a",)), OUT],
    'node "r": reshape can\'t make \\(5,\\) of \\(2, 4, 4\\)': [X, Node("r", Reshape((5,)), ("x",)), OUT],
    'node "r": it needs other parameter shapes than its owner "s"': [
        X, Node("s", Conv2d(3, (1, 1)), ("x",)), Node("r", Conv2d(3, (1, 1)), ("s",), "s"), OUT,
    ],
}  # fmt: skip


@pytest.mark.parametrize("said", BROKEN)
def test_errors_name_node_and_rule(said):
    with pytest.raises(GraphError, match=said) as caught:
        ArchGraph(BROKEN[said])
    assert "\n" not in str(caught.value)


def test_no_error_repeats_a_huge_name_or_one_with_newlines():
    for nodes in (
        [X, Node("r", Activation("relu"), ("z\n" * 9999,)), OUT],
        [X, Node("\n" * 9999, Flatten(), ("x",))],
    ):
        with pytest.raises(GraphError) as caught:
            ArchGraph(nodes)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


@given(graph=graphs(), data=st.data())
def test_values_do_not_depend_on_the_order_nodes_are_given_in(graph, data):
    shuffled = ArchGraph(data.draw(st.permutations(list(graph))))
    assert shuffled == graph
    assert hash(shuffled) == hash(graph)
    assert [n.name for n in shuffled] == [n.name for n in graph]
    assert shuffled.fingerprint == graph.fingerprint
    assert graph.update() == graph


@given(graph=graphs())
def test_order_and_reachability_are_networkxs(graph):
    dag = graph.networkx()
    assert [n.name for n in graph] == list(nx.lexicographical_topological_sort(dag, key=natural_key))
    for node in graph:
        assert graph.ancestors(node.name) == nx.ancestors(dag, node.name)
        assert sorted(graph.consumers(node.name)) == sorted(
            (r, d["slot"]) for _, r, d in dag.out_edges(node.name, data=True)
        )
        assert [
            s for s, _, d in sorted(dag.in_edges(node.name, data=True), key=lambda e: e[2]["slot"])
        ] == list(node.inputs)


def test_c2_comes_before_c10():
    assert sorted(["c10", "c2", "b", "c1.b", "c02"], key=natural_key) == ["b", "c1.b", "c02", "c2", "c10"]


def test_nothing_handed_out_changes_the_graph():
    graph = ArchGraph([X, RELU, OUT])
    before = graph.fingerprint
    graph.networkx().remove_node("r")
    with pytest.raises(TypeError):
        graph.params["r", "weight"] = None  # pyright: ignore
    with pytest.raises(AttributeError):
        graph["r"].inputs = ()  # pyright: ignore
    assert ArchGraph(graph).fingerprint == before == graph.fingerprint


def test_edits_are_new_graphs():
    graph = ArchGraph([X, RELU, OUT])
    norm = Node(graph.fresh("norm"), BatchNorm(), ("x",))
    grown = graph.update(norm, *graph.rewired("x", norm.name, keep=[norm.name]))
    assert grown["r"].inputs == ("norm1",)
    assert "norm1" not in graph
    assert grown.fresh("norm") == "norm2"
    assert grown.fresh("norm", taken=["norm2"]) == "norm3"
    assert grown.update(*grown.rewired("norm1", "x"), removed=["norm1"]) == graph


def test_twice_the_same_tensor_is_two_edges():
    graph = ArchGraph([X, Node("r", Add(), ("x", "x")), OUT])
    assert graph.consumers("x") == (("r", 0), ("r", 1))
    assert graph.networkx().number_of_edges("x", "r") == 2


def test_an_unknown_node_is_an_error_that_lists_the_nodes():
    with pytest.raises(GraphError, match=r'"q".*x, r, out'):
        ArchGraph([X, RELU, OUT])["q"]


def test_a_long_chain_needs_no_recursion():
    chain = [Node(f"r{i}", Activation("relu"), (f"r{i - 1}" if i else "x",)) for i in range(3000)]
    graph = ArchGraph([X, *chain, Node("out", Output(), ("r2999",))])
    assert len(graph.ancestors("out")) == 3001
    assert next(morphs.Deepen.sites(graph)).node == "r0"
    assert len(morphs.channel_groups(graph).groups) == 1


def test_shape_errors_are_graph_errors():
    assert issubclass(ShapeError, GraphError)
