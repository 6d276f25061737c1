"""Each move on a small graph in short text form: what it looks like before and after, and what it refuses."""

import pytest
from strategies import lively, some_batches

import morphs
from morphs.errors import IllegalMove, LimitExceeded, NeedsData, ParseError


def lines(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def after(before: str, move: str) -> str:
    """Text form of what `move` makes of the graph; the move must be exact."""
    net = lively(morphs.parse_graph(before))
    child = morphs.apply(net, move, batches=some_batches(net))
    assert child.drift.eval <= 1e-12
    assert morphs.parse(str(child.move)) == child.move
    return child.network.graph.text()


BEFORE = """
    x = input(size=[3, 8, 8])
    c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
    n = batch_norm(c)
    r = relu(n)
    d = conv2d(r, channels=4, kernel=3, stride=2, padding=1)
    g = adaptive_avg_pool2d(d)
    f = flatten(g)
    l = linear(f, features=10)
    out = output(l)
"""

AFTER = {
    "widen(node=c, to=6)": """
        x = input(size=[3, 8, 8])
        c = conv2d(x, channels=6, kernel=3, padding=1, bias=false)
        n = batch_norm(c)
        r = relu(n)
        d = conv2d(r, channels=4, kernel=3, stride=2, padding=1)
        g = adaptive_avg_pool2d(d)
        f = flatten(g)
        l = linear(f, features=10)
        out = output(l)
    """,
    "deepen(node=r, kernel=[3, 3])": """
        x = input(size=[3, 8, 8])
        c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
        n = batch_norm(c)
        r = relu(n)
        conv1 = conv2d(r, channels=4, kernel=3, padding=1)
        act1 = relu(conv1)
        d = conv2d(act1, channels=4, kernel=3, stride=2, padding=1)
        g = adaptive_avg_pool2d(d)
        f = flatten(g)
        l = linear(f, features=10)
        out = output(l)
    """,
    "deepen(node=n, kernel=[1, 1])": """
        x = input(size=[3, 8, 8])
        c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
        n = batch_norm(c)
        conv1 = conv2d(n, channels=4, kernel=1)
        act1 = relu(conv1)
        r = relu(act1)
        d = conv2d(r, channels=4, kernel=3, stride=2, padding=1)
        g = adaptive_avg_pool2d(d)
        f = flatten(g)
        l = linear(f, features=10)
        out = output(l)
    """,
    "deepen(node=d, how=netmorph, channels=40, kernel=[3, 3], then=[3, 3], activation=tanh, per_channel=false)": """
        x = input(size=[3, 8, 8])
        c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
        n = batch_norm(c)
        r = relu(n)
        conv1 = conv2d(r, channels=40, kernel=3, padding=2)
        act1 = p_activation(conv1, fn=tanh)
        d = conv2d(act1, channels=4, kernel=3, stride=2)
        g = adaptive_avg_pool2d(d)
        f = flatten(g)
        l = linear(f, features=10)
        out = output(l)
    """,
    "deepen(node=d, how=netmorph, channels=4, kernel=[3, 3], then=[1, 1])": """
        x = input(size=[3, 8, 8])
        c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
        n = batch_norm(c)
        r = relu(n)
        conv1 = conv2d(r, channels=4, kernel=3, stride=2, padding=1)
        act1 = p_activation(conv1, fn=relu, per_channel=true)
        d = conv2d(act1, channels=4, kernel=1)
        g = adaptive_avg_pool2d(d)
        f = flatten(g)
        l = linear(f, features=10)
        out = output(l)
    """,
    "deepen(node=l, how=netmorph, channels=7)": """
        x = input(size=[3, 8, 8])
        c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
        n = batch_norm(c)
        r = relu(n)
        d = conv2d(r, channels=4, kernel=3, stride=2, padding=1)
        g = adaptive_avg_pool2d(d)
        f = flatten(g)
        fc1 = linear(f, features=7)
        act1 = p_activation(fc1, fn=relu, per_channel=true)
        l = linear(act1, features=10)
        out = output(l)
    """,
    "grow_kernel(node=d, to=[5, 3])": """
        x = input(size=[3, 8, 8])
        c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
        n = batch_norm(c)
        r = relu(n)
        d = conv2d(r, channels=4, kernel=[5, 3], stride=2, padding=[2, 1])
        g = adaptive_avg_pool2d(d)
        f = flatten(g)
        l = linear(f, features=10)
        out = output(l)
    """,
    "add_skip(source=c, target=r)": """
        x = input(size=[3, 8, 8])
        c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
        n = batch_norm(c)
        r = relu(n)
        scale1 = scale(c)
        skip1 = add(r, scale1)
        d = conv2d(skip1, channels=4, kernel=3, stride=2, padding=1)
        g = adaptive_avg_pool2d(d)
        f = flatten(g)
        l = linear(f, features=10)
        out = output(l)
    """,
    "insert_norm(node=d)": """
        x = input(size=[3, 8, 8])
        c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
        n = batch_norm(c)
        r = relu(n)
        d = conv2d(r, channels=4, kernel=3, stride=2, padding=1)
        norm1 = batch_norm(d)
        g = adaptive_avg_pool2d(norm1)
        f = flatten(g)
        l = linear(f, features=10)
        out = output(l)
    """,
    "insert_activation(node=d, activation=tanh)": """
        x = input(size=[3, 8, 8])
        c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
        n = batch_norm(c)
        r = relu(n)
        d = conv2d(r, channels=4, kernel=3, stride=2, padding=1)
        act1 = p_activation(d, fn=tanh, per_channel=true)
        g = adaptive_avg_pool2d(act1)
        f = flatten(g)
        l = linear(f, features=10)
        out = output(l)
    """,
    "insert_dropout(node=r, p=0.3)": """
        x = input(size=[3, 8, 8])
        c = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
        n = batch_norm(c)
        r = relu(n)
        drop1 = dropout(r, p=0.3)
        d = conv2d(drop1, channels=4, kernel=3, stride=2, padding=1)
        g = adaptive_avg_pool2d(d)
        f = flatten(g)
        l = linear(f, features=10)
        out = output(l)
    """,
}


@pytest.mark.parametrize("move", AFTER)
def test_before_and_after(move):
    assert after(BEFORE, move) == lines(AFTER[move])


REFUSED = {
    "widen(node=l, to=20)": 'widen: node "l" feeds the output, whose width is fixed at 10; choose one of c, d',
    "widen(node=x, to=5)": 'widen: node "x" has the width of the input "x", which is fixed at 3; choose one of c, d',
    "widen(node=f, to=3)": 'widen: 3 is not a wider width for node "f"; give a number above 4',
    "widen(node=q, to=5)": 'widen: there is no node "q"; choose one of c, n, r, d, g, f, l',
    "widen(node=c, to=4)": 'widen: 4 is not a wider width for node "c"; give a number above 4',
    "deepen(node=out)": 'deepen: node "out" is the output; choose the layer it reads',
    "deepen(node=x)": 'deepen: node "x" is an end of the network; choose a node inside',
    "deepen(node=l)": 'deepen: node "l" is an end of the network; choose a node inside',
    "deepen(node=r, kernel=[2, 2])": (
        'deepen: node "r" writes (4, 8, 8), of which no identity has kernel (2, 2); use odd kernels, and 1 on vectors'
    ),
    "deepen(node=r, kernel=[-1, 1])": "deepen: node",
    "deepen(node=f, kernel=[3, 3])": 'deepen: node "f" writes (4,), of which no identity has kernel (3, 3)',
    "deepen(node=r, channels=5)": 'deepen: an identity after "r" keeps the width; leave out channels and then',
    "deepen(node=r, activation=swoosh)": "deepen: activation swoosh is unknown; choose one of relu",
    "deepen(node=r, how=netmorph, channels=5)": 'deepen: node "r" has the op activation; choose a conv2d or linear',
    "deepen(node=d, how=netmorph, kernel=[3, 3])": 'deepen: the width between the factors of "d" is not given; set '
    "channels; 4 are enough for any weights",
    "deepen(node=d, how=netmorph)": "deepen: kernels (1, 1) and (1, 1) can't compose",
    "deepen(node=d, how=netmorph, channels=4, kernel=[1, 1])": "deepen: kernels (1, 1) and (1, 1) can't compose",
    "deepen(node=d, how=netmorph, channels=2, kernel=[3, 3])": 'deepen: node "d": no exact factoring of 4×4 channels',
    "deepen(node=l, how=netmorph, channels=3)": 'deepen: node "l": no exact factoring of 10×4',
    "deepen(node=l, how=netmorph, channels=3, kernel=[3, 3])": 'deepen: node "l" is linear; leave out kernel and then',
    "grow_kernel(node=l, to=[3, 3])": 'grow_kernel: node "l" has the op linear; choose a conv2d',
    "grow_kernel(node=d, to=[4, 4])": 'grow_kernel: node "d" has kernel (3, 3), which can\'t grow to (4, 4) evenly',
    "grow_kernel(node=d, to=[3, 3])": 'grow_kernel: node "d" has kernel (3, 3), which can\'t grow to (3, 3)',
    "add_skip(source=d, target=c)": 'add_skip: node "c" is not computed from "d"',
    "add_skip(source=x, target=out)": 'add_skip: node "out" is not computed from "x" inside the network',
    "add_skip(source=r, target=d)": 'add_skip: "r" writes (4, 8, 8) and "d" (4, 4, 4); choose nodes of one shape',
    "insert_norm(node=out)": 'insert_norm: node "out" is an output; choose a layer inside',
    "insert_activation(node=x)": 'insert_activation: node "x" is an input; choose a layer inside the network',
    "insert_activation(node=d, activation=swoosh)": "insert_activation: activation swoosh is unknown; choose one of",
    "insert_activation(node=r)": 'insert_activation: node "r" is next to a relu',
    "insert_activation(node=n)": 'insert_activation: node "n" is next to a relu',
    "insert_dropout(node=out)": 'insert_dropout: node "out" is the output; choose the layer it reads',
    "insert_dropout(node=r, p=1)": 'insert_dropout: dropout of probability 1.0 after "r" drops nothing',
}


@pytest.mark.parametrize("move", REFUSED)
def test_refusals_state_fact_place_and_remedy(move):
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(lively(morphs.parse_graph(BEFORE)), move)
    assert str(caught.value).startswith(REFUSED[move])
    assert "\n" not in str(caught.value)


LEFT_OUT = {
    "widen(node=x, to=6, how=zero)":
        'widen: node "x" has the width of the input "x", which is fixed at 3; choose one of c, d',
    "widen(node=l, to=15, how=replicate)": 'widen: node "l" feeds the output, whose width is fixed at 10',
    "deepen(node=d, how=netmorph, channels=2, kernel=[3, 3], then=[3, 3], activation=relu, per_channel=true, "
    "groups=null, norm=false)":
        'deepen: node "d" has no sure factoring into kernels (3, 3) and (3, 3) by way of 2 channels; give more',
    "add_skip(source=r, target=d, how=add, project=false)":
        'add_skip: "r" writes (4, 8, 8) and "d" (4, 4, 4); choose nodes of one shape, or project=true',
    "insert_norm(node=c)": 'insert_norm: node "c" is normalised by "n" already; choose another layer',
    "insert_norm(node=l)": 'insert_norm: node "l" feeds the output; choose a layer inside the network',
}  # fmt: skip


def test_refused_sites_come_with_their_reason():
    graph = morphs.parse_graph(BEFORE)
    menus = {"deepen": {"ratio": (0.5,), "min_channels": (1,)}}
    reasons = {
        str(r.move): r.reason
        for kind in morphs.MOVES
        for r in kind.refused(graph, None, menus.get(kind.name))
    }
    for move, reason in LEFT_OUT.items():
        assert reasons[move].startswith(reason)
    tight = {str(r.move): r.reason for r in morphs.GrowKernel.refused(graph, morphs.Limits(params=300))}
    assert tight["grow_kernel(node=c, to=[5, 5])"].startswith("grow_kernel: params would be")


def test_dropouts_do_not_repeat():
    net = lively(morphs.parse_graph(BEFORE))
    child = morphs.apply(net, "insert_dropout(node=r)")
    assert child.drift.train <= 1e-12  # which is measured with dropout off
    for node in ("r", "drop1"):
        with pytest.raises(IllegalMove, match=r"insert_dropout: node .* dropout"):
            morphs.apply(child.network, f"insert_dropout(node={node})")


def test_a_norm_needs_data():
    net = lively(morphs.parse_graph(BEFORE))
    with pytest.raises(NeedsData, match="pass batches="):
        morphs.apply(net, "insert_norm(node=c)")
    with pytest.raises(NeedsData, match="hold 0 values"):
        morphs.apply(net, "insert_norm(node=c)", batches=[])
    with pytest.raises(NeedsData, match="hold 1 values"):
        morphs.apply(net, "insert_norm(node=l)", batches=some_batches(net, size=1, count=1))


PARSE_ERRORS = {
    "": "has not the form",
    "widen": "has not the form name(key=value",
    "widen(node=c, to=6": "a bracket is not closed",
    "wilden(node=c)": "there is no move wilden; choose one of deepen, widen",
    "widen(c, 6)": "has no key; write key=value",
    "widen(node=c)": "to is missing",
    "widen(node=c, to=6, at=3)": "field at; there are node, to, how",
    "widen(node=c, to=six)": "'six' is not a whole number",
    "widen(node=c, to=true)": "True is not a whole number",
    "widen(node=c, to=6.0)": "6.0 is not a whole number",
    "widen(node=c, to=6, how=fast)": "replicate, zero, gradient",
    "widen(node=c, to=6, to=7)": "given twice",
    "widen(node=c, to=__import__('os'))": "neither a JSON value nor a bare word",
    "grow_kernel(node=c, to=[3])": "has not 2 values",
    "grow_kernel(node=c, to=" + "[" * 99999 + "])": "nested more than 8 deep",
    "{": "Expecting property name",
    '{"node": "c"}': "does not name a move",
    '{"move": "widen", "node": "c", "to": NaN}': "NaN",
    '{"move": "widen", "node": "c", "to": ' + "[" * 99999: "recursion",
}


@pytest.mark.parametrize("text", PARSE_ERRORS, ids=lambda text: text[:40])
def test_texts_that_are_no_moves(text):
    with pytest.raises(ParseError) as caught:
        morphs.parse(text)
    assert PARSE_ERRORS[text] in str(caught.value)
    assert "; " in str(caught.value).removeprefix(f"move {text.strip()[:120]!r}: "), "no remedy"
    assert len(str(caught.value)) < 400


def test_chains_are_parted_by_semicolons():
    chain = morphs.parse_chain("widen(node=c, to=6); grow_kernel(node=d, to=[5, 5])")
    assert [move.name for move in chain] == ["widen", "grow_kernel"]
    assert morphs.parse_chain("") == ()
    assert morphs.parse_chain("; ".join(map(str, chain))) == chain
    assert morphs.parse_chain('widen(node="c;d", to=6)')[0].node == "c;d"


def test_a_limit_is_checked_on_the_graph_before_weights_are_made():
    net = lively(morphs.parse_graph(BEFORE))
    with pytest.raises(LimitExceeded, match=r"params would be .* more than the limit 400"):
        morphs.apply(net, "widen(node=c, to=99999999)", limits=morphs.Limits(params=400))


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({"params": 10**9}, True), ({"params": 300}, False), ({"macs": 100}, False), ({"width": 10}, True),
        ({"width": 5}, False), ({"depth": 3}, True), ({"depth": 2}, False), ({"nodes": 9}, True),
        ({"nodes": 8}, False), ({"activations": 10}, False),
    ],
)  # fmt: skip
def test_each_limit_is_kept_by_the_sites_it_leaves(limits, kept):
    graph = morphs.parse_graph(BEFORE)
    limit = morphs.Limits(**limits)
    assert (limit.violation(graph) is None) == kept
    for move in morphs.MOVES:
        for site in move.sites(graph, limits=limit):
            assert limit.violation(site.reshape(graph)) is None


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="params=0 is below 1"):
        morphs.Limits(params=0)
