from xml.etree import ElementTree

from morphs import graph_to_svg, parse_graph

RESIDUAL = """x = input(size=[3, 8, 8])
c0 = conv2d(x, channels=4, kernel=3, padding=1)
r0 = relu(c0)
c1 = conv2d(r0, channels=4, kernel=[1, 3], padding=[0, 1], groups=2)
b1 = batch_norm(c1)
a1 = add(b1, r0)
s1 = conv2d(a1, channels=4, kernel=1)
c2 = conv2d(a1, channels=4, kernel=1)
a2 = add(c2, s1)
g = adaptive_avg_pool2d(a2)
f = flatten(g)
fc = linear(f, features=2)
y = output(fc)"""


def words(svg: str) -> list[str]:
    return [
        element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ]


def test_every_node_is_drawn_once_with_op_and_shape() -> None:
    drawn = words(graph_to_svg(parse_graph(RESIDUAL)))
    for node in parse_graph(RESIDUAL):
        assert drawn.count(node.name) == 1
    assert "conv 1×3 groups 2" in drawn
    assert drawn.count("4×8×8") == 8


def test_boxes_do_not_overlap() -> None:
    boxes = [
        (float(r.attrib["x"]), float(r.attrib["y"]))
        for r in ElementTree.fromstring(graph_to_svg(parse_graph(RESIDUAL))).iter()
        if r.tag.endswith("rect") and r.attrib["width"] != "5"
    ]
    assert len(set(boxes)) == len(boxes) == 13


def test_a_skip_over_layers_runs_in_a_lane() -> None:
    svg = graph_to_svg(parse_graph(RESIDUAL))
    assert svg.count('class="mg-skip"') == 1
    assert svg.count('class="mg-tip') == 9 + 1  # straight edges and the skip


def test_one_tensor_read_twice_is_drawn() -> None:
    assert "add" in words(graph_to_svg(parse_graph("x = input(size=[3]); a = add(x, x); y = output(a)")))
