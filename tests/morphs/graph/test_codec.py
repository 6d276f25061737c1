"""JSON and the short text form: round trips, a golden fingerprint, hostile documents."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import graphs

import morphs
from morphs.errors import CodecError, GraphError

GOLDEN_TEXT = """
    x = input(size=[3, 16, 16])
    c1 = conv2d(x, channels=8, kernel=3, padding=1, bias=false)
    n1 = batch_norm(c1)
    r1 = relu(n1)
    c2 = conv2d(r1, channels=8, kernel=[3, 1], padding=[1, 0], groups=8, padding_mode=reflect)
    p2 = p_activation(c2, fn=leaky_relu, args=[0.2], per_channel=true)
    c3 = conv2d(p2, channels=8, kernel=3, padding=1, bias=false, owner=c1b)
    c1b = conv2d(r1, channels=8, kernel=3, padding=1, bias=false)
    a = add(r1, c3, c1b)
    k = concat(a, r1)
    m = max_pool2d(k, kernel=2)
    g = adaptive_avg_pool2d(m)
    f = flatten(g)
    d = dropout(f, p=0.1)
    l = linear(d, features=10)
    out = output(l)
"""
GOLDEN = "93e1b6d589cb691653b97f927bc8ac28fb103673a7b7704ae6d042bdcccdfe56"


def test_the_fingerprint_of_a_graph_never_changes():
    assert morphs.parse_graph(GOLDEN_TEXT).fingerprint == GOLDEN


@given(graph=graphs())
def test_graphs_go_through_json_and_text(graph):
    assert morphs.graph_from_json(graph.to_json()) == graph
    assert morphs.graph_from_json(graph.to_json()).to_json() == graph.to_json()
    assert morphs.parse_graph(graph.text()) == graph
    assert morphs.parse_graph(graph.text()).text() == graph.text()
    assert json.loads(graph.to_json())["format"] == 1


def document(**changes) -> dict:
    base = json.loads(
        morphs.parse_graph("x = input(size=[4]); l = linear(x, features=2); out = output(l)").to_json()
    )
    return {**base, **changes}


def node(**changes) -> dict:
    return {
        "name": "l",
        "op": {"kind": "linear", "features": 2, "bias": True},
        "inputs": ["x"],
        "owner": "l",
        **changes,
    }


def with_node(**changes) -> str:
    nodes = [n for n in document()["nodes"] if n["name"] != "l"]
    return json.dumps(document(nodes=[*nodes, node(**changes)]))


HOSTILE = {
    "empty": "",
    "no JSON": "{",
    "not an object": "[1]",
    "nested deep": "[" * 100_000,
    "nested deep objects": '{"format":1,"nodes":' + '{"a":' * 100_000,
    "another version": json.dumps(document(format=2)),
    "a true version": json.dumps(document(format=True)),
    "no nodes": json.dumps(document(nodes=None)),
    "too many nodes": json.dumps(document(nodes=[0] * 100_001)),
    "a node that is a number": json.dumps(document(nodes=[1])),
    "a nameless node": with_node(name=None),
    "a name with a newline": with_node(name="a\nb"),
    "an unknown kind": with_node(op={"kind": "__import__"}),
    "a kind that is a list": with_node(op={"kind": ["linear"]}),
    "no op": with_node(op=None),
    "an unknown field": with_node(op={"kind": "linear", "features": 2, "bias": True, "evil": 1}),
    "an unknown key": with_node(evil=1),
    "a missing field": with_node(op={"kind": "linear", "features": 2}),
    "a text for a number": with_node(op={"kind": "linear", "features": "2", "bias": True}),
    "a bool for a number": with_node(op={"kind": "linear", "features": True, "bias": True}),
    "a float for a number": with_node(op={"kind": "linear", "features": 2.0, "bias": True}),
    "a number below its range": with_node(op={"kind": "linear", "features": -2, "bias": True}),
    "a number with 5000 digits": with_node().replace("2", "9" * 5000, 1),
    "NaN": with_node(op={"kind": "dropout", "p": float("nan")}),
    "infinity": with_node(op={"kind": "dropout", "p": 1.0}).replace("1.0", "1e999"),
    "a float too large": with_node(op={"kind": "dropout", "p": 7}).replace("7", "1" + "0" * 400),
    "an input that is a number": with_node(inputs=[3]),
    "an input that does not exist": with_node(inputs=["y"]),
    "itself as input": with_node(inputs=["l"]),
    "an owner that does not exist": with_node(owner="z"),
    "a dead node": with_node(name="q", owner="q"),
    "two of a name": json.dumps(document(nodes=[*document()["nodes"], node()])),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_document_is_one_codec_error(case):
    with pytest.raises(CodecError) as caught:
        morphs.graph_from_json(HOSTILE[case])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert "; " in str(caught.value), "no remedy"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100)
@given(data=st.data(), value=json_values)
def test_any_value_anywhere_in_a_document_is_taken_or_refused(data, value):
    doc = document()
    place = data.draw(st.sampled_from(doc["nodes"]))
    place = data.draw(st.sampled_from((place, place["op"])))
    place[data.draw(st.sampled_from(sorted(place)))] = value
    try:
        graph = morphs.graph_from_json(json.dumps(doc))
    except CodecError:
        return
    assert morphs.graph_from_json(graph.to_json()) == graph


@settings(max_examples=100)
@given(text=st.text(max_size=60) | st.from_regex(r"x = \w+\([\w=\[\],\"{}.;-]*\)", fullmatch=True))
def test_any_text_is_a_graph_or_one_error(text):
    with pytest.raises(GraphError) as caught:
        morphs.parse_graph(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x", "name = op"),
        ("x = input size", "name"),
        ("x = inptu(size=[3])", "inptu .* input, output"),
        ("x = input(size=[3], size=[3])", "'size'"),
        ("x = input(siez=[3])", "siez; there are size"),
        ("x = input()", "size"),
        ("x = input(size=[3.5])", "size.*3.5"),
        ("x = input(size=3)", "size: 3 "),
        ("x = input(size=" + "[" * 99_999 + ")", " 8 "),
        ("x = input(size=" + "[" * 9_999 + "]" * 9_999 + ")", " 8 "),
        ("x = relu(3)", "input"),
        ("x = dropout(y, p=1e999)", "p: "),
        ("x = dropout(y, p=" + "9" * 4000 + ")", "p: "),
        ("x = relu(y, owner=[1])", "owner"),
    ],
)  # fmt: skip
def test_errors_in_the_text_form_name_the_line(line, said):
    with pytest.raises(CodecError, match=said) as caught:
        morphs.parse_graph(line)
    assert "line 'x" in str(caught.value)


def test_the_text_form_takes_comments_and_semicolons_and_leaves_defaults_out():
    graph = morphs.parse_graph(
        "# a comment\nx = input(size=[2, 4, 4]); m = max_pool2d(x, kernel=[2, 2], stride=2);out=output(m)"
    )
    assert graph.text() == "x = input(size=[2, 4, 4])\nm = max_pool2d(x, kernel=2)\nout = output(m)"
