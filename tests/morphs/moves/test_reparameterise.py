"""Reparameterise: one layer for two, exact at borders, refused where no one layer computes the same."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import lively

import morphs
from morphs.errors import IllegalMove, ShapeError

TEXT = """
    x = input(size=[3, 6, 6])
    c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
    n = batch_norm(c)
    d = conv2d(n, channels=2, kernel=3)
    e = conv2d(d, channels=5, kernel=[3, 1], bias=false)
    s = scale(e)
    t = tanh(s)
    f = flatten(t)
    h = linear(f, features=6)
    m = batch_norm(h, affine=false)
    u = scale(m, per_channel=false)
    l = linear(u, features=4)
    o = linear(l, features=3, bias=false)
    out = output(o)
"""

AFTER = {
    "reparameterise(node=n, how=norm)": """
        c = conv2d(x, channels=4, kernel=3, padding=1)
        d = conv2d(c, channels=2, kernel=3)""",
    "reparameterise(node=e, how=pair)": """
        d = conv2d(n, channels=5, kernel=[5, 3])
        s = scale(d)""",
    "reparameterise(node=s, how=scale)": """
        e = conv2d(d, channels=5, kernel=[3, 1], bias=false)
        t = tanh(e)""",
    "reparameterise(node=m, how=norm)": """
        h = linear(f, features=6)
        u = scale(h, per_channel=false)""",
    "reparameterise(node=o, how=pair)": """
        l = linear(u, features=3)
        out = output(l)""",
}


@pytest.fixture
def net() -> morphs.Network:
    return lively(morphs.parse_graph(TEXT))


@pytest.mark.parametrize("move", AFTER)
def test_before_and_after(net, move):
    child = morphs.apply(net, move)
    assert child.drift.eval <= 1e-12
    assert (child.drift.train <= 1e-12) == (child.move.how != "norm")
    before, after = (set(graph.text().splitlines()) for graph in (net.graph, child.network.graph))
    wanted = [line.strip() for line in AFTER[move].strip().splitlines()]
    assert [line for line in wanted if line not in after] == []
    assert after - before <= set(wanted)
    assert len(child.network.graph) == len(net.graph) - 1


def test_everything_merges_until_two_layers_are_left(net):
    chain = [
        "reparameterise(node=n, how=norm)", "reparameterise(node=d, how=pair)", "reparameterise(node=e, how=pair)",
        "reparameterise(node=s, how=scale)",
        "reparameterise(node=m, how=norm)", "reparameterise(node=u, how=scale)", "reparameterise(node=l, how=pair)",
        "reparameterise(node=o, how=pair)",
    ]  # fmt: skip
    *_, last = morphs.apply_chain(net, chain)
    found = morphs.drift(net, last.network)
    assert found.eval <= 1e-11
    assert [node.name for node in last.network.graph] == ["x", "c", "t", "f", "h", "out"]


@given(data=st.data())
def test_pairs_of_convolutions_are_exact_wherever_they_are_taken(data):
    """Any geometry: strides, dilations, groups, paddings and their modes; refused or exact to rounding."""
    pick = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731

    def convolution(padded: bool) -> str:
        kernel = [pick(1, 2, 3), pick(1, 2, 3)]
        padding = [pick(0, 1) if padded else 0, pick(0, 1, 2) if padded else 0]
        return (
            f"channels=4, kernel={kernel}, stride={[pick(1, 2), pick(1, 1, 3)]}, dilation={[pick(1, 2), pick(1, 3)]}, "
            f"padding={padding}, padding_mode={pick('zeros', 'reflect', 'circular')}, groups={pick(1, 1, 2, 4)}, "
            f"bias={pick('true', 'false')}"
        )

    text = f"""
        x = input(size=[4, 17, 19]); c = conv2d(x, {convolution(True)}); d = conv2d(c, {convolution(pick(False, True))})
        out = output(d)"""
    try:
        net = lively(morphs.parse_graph(text))
    except ShapeError:  # a window larger than what it reads
        return
    try:
        child = morphs.apply(net, "reparameterise(node=d, how=pair)")
    except IllegalMove:
        return
    assert max(child.drift.eval, child.drift.train) <= 1e-12
    assert len(child.network.graph) == 3


MERGED = {  # (first, second) and the convolution that both make
    ("kernel=3, stride=2, padding=1", "kernel=3"): "kernel=7, stride=2, padding=1",
    ("kernel=1, bias=false", "kernel=3, padding=1"): "kernel=3, padding=1",
    ("kernel=1", "kernel=3, padding=1, padding_mode=reflect"): "kernel=3, padding=1, padding_mode=reflect",
    ("kernel=3, dilation=2", "kernel=3, dilation=4"): "kernel=7, dilation=2",
    ("kernel=[1, 3], padding=[0, 1], bias=false", "kernel=[3, 1], padding=[1, 0]"): "kernel=3, padding=1",
    ("kernel=3, groups=4, padding=1, bias=false", "kernel=1, bias=false"): "kernel=3, padding=1, bias=false",
    ("kernel=3, groups=4", "kernel=3, groups=2, stride=2"): "kernel=5, groups=2, stride=2",
    ("kernel=3, groups=4", "kernel=3, groups=4"): "kernel=5, groups=4",
    ("kernel=1, stride=2", "kernel=1, stride=2"): "kernel=1, stride=4",
}


@pytest.mark.parametrize(("first", "second"), MERGED)
def test_what_two_convolutions_make(first, second):
    net = lively(morphs.parse_graph(
        f"x = input(size=[4, 13, 13]); c = conv2d(x, channels=4, {first}); d = conv2d(c, channels=4, {second});"
        "out = output(d)"
    ))  # fmt: skip
    child = morphs.apply(net, "reparameterise(node=d, how=pair)")
    assert child.drift.eval <= 1e-13
    alone = (
        f"x = input(size=[4, 13, 13]); c = conv2d(x, channels=4, {MERGED[first, second]}); out = output(c)"
    )
    assert child.network.graph == morphs.parse_graph(alone)


def test_a_factoring_merges_back_to_the_layer_it_came_from():
    """Deepen with a P-activation at a = 1, retired, then merged: the parent again, to rounding."""
    for kernel, stride, mode in itertools.product((3, 5), (1, 2), ("zeros", "circular")):
        net = lively(morphs.parse_graph(
            f"x = input(size=[2, 9, 8]); c = conv2d(x, channels=3, kernel={kernel}, stride={stride}, padding=1, "
            f"padding_mode={mode}); out = output(c)"
        ))  # fmt: skip
        chain = f"""deepen(node=c, how=netmorph, channels=40, kernel=[{kernel}, {kernel}], then=[3, 3]);
            retire(node=act1, becomes=identity); reparameterise(node=c, how=pair)"""
        *_, last = morphs.apply_chain(net, chain)
        assert morphs.drift(net, last.network).eval <= 1e-12
        weight = last.network.weights["conv1", "weight"]
        assert weight.shape[2] == kernel + 2
        assert float((weight[:, :, 1:-1, 1:-1] - net.weights["c", "weight"]).abs().max()) <= 1e-12
        assert float(weight[:, :, 0].abs().max()) <= 1e-12


def test_a_norms_group_can_be_fed_by_anything_that_it_alone_reads():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[4, 5, 5]); c = conv2d(x, channels=4, kernel=3, groups=2); n = batch_norm(c)
        d = conv2d(n, channels=4, kernel=3, groups=4); m = batch_norm(d, affine=false); out = output(m)
    """)
    )
    for move in ("reparameterise(node=n, how=norm)", "reparameterise(node=m, how=norm)"):
        assert morphs.apply(net, move).drift.eval <= 1e-13


REFUSED = {
    "reparameterise(node=t, how=norm)": ('"t"', "activation", "batch_norm", "how=norm"),
    "reparameterise(node=n, how=pair)": ('"n"', "batch_norm", "conv2d", "linear", "how=pair"),
    "reparameterise(node=d, how=pair)": ('"d"', '"n"', "batch_norm"),
    "reparameterise(node=u, how=scale)": ('"u"', '"m"', "batch_norm"),
    "reparameterise(node=l, how=pair)": ('"l"', '"u"', "scale"),
    "reparameterise(node=z, how=pair)": ('"z"', "c, n"),
}

ELSEWHERE = {
    "c = conv2d(x, channels=2, kernel=3); d = batch_norm(c); e = add(c, c); f = multiply(e, d)": (
        '"c"',
        '"e"',
    ),
    "c = conv2d(x, channels=2, kernel=1); d = batch_norm(c, track_running_stats=false); f = tanh(d)": (
        '"d"',
    ),
    "c = conv2d(x, channels=2, kernel=1); d = batch_norm(c); f = conv2d(d, channels=2, kernel=1, owner=c)": (
        '"c"',
    ),
    "c = conv2d(x, channels=2, kernel=3, padding=1); d = conv2d(c, channels=2, kernel=3, padding=1); f = tanh(d)": (
        '"d"',
    ),
    "c = conv2d(x, channels=2, kernel=1); d = conv2d(c, channels=2, kernel=3, padding=1); f = tanh(d)": (
        '"d"',
    ),
    "c = conv2d(x, channels=2, kernel=[1, 3], padding=[0, 1], padding_mode=reflect); "
    "d = conv2d(c, channels=2, kernel=[3, 1], padding=[1, 0], padding_mode=circular); f = tanh(d)": ('"d"',),
}


@pytest.mark.parametrize("move", REFUSED)
def test_refusals_state_fact_place_and_remedy(net, move):
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(net, move)
    assert all(name in str(caught.value) for name in ("reparameterise", *REFUSED[move]))


@pytest.mark.parametrize("body", ELSEWHERE)
def test_refusals_in_other_graphs(body):
    graph = morphs.parse_graph(f"x = input(size=[2, 7, 7]); {body}; out = output(f)")
    how = "norm" if graph["d"].op.kind == "batch_norm" else "pair"
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(lively(graph), f"reparameterise(node=d, how={how})")
    assert all(name in str(caught.value) for name in ("reparameterise", *ELSEWHERE[body]))
