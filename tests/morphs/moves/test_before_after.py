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
    "widen(node=l, to=20)": ("widen", '"l"', "10", "c, d"),
    "widen(node=x, to=5)": ("widen", '"x"', "3", "c, d"),
    "widen(node=f, to=3)": ("widen", "3", '"f"', "4"),
    "widen(node=q, to=5)": ("widen", '"q"', "c, n, r, d, g, f, l"),
    "widen(node=c, to=4)": ("widen", "4", '"c"'),
    "deepen(node=out)": ("deepen", '"out"'),
    "deepen(node=x)": ("deepen", '"x"'),
    "deepen(node=l)": ("deepen", '"l"'),
    "deepen(node=r, kernel=[2, 2])": ("deepen", '"r"', "(4, 8, 8)", "kernel", "(2, 2)", "1"),
    "deepen(node=r, kernel=[-1, 1])": ("deepen",),
    "deepen(node=f, kernel=[3, 3])": ("deepen", '"f"', "(4,)", "kernel", "(3, 3)"),
    "deepen(node=r, channels=5)": ("deepen", '"r"', "channels"),
    "deepen(node=r, activation=swoosh)": ("deepen", "swoosh", "relu"),
    "deepen(node=r, how=netmorph, channels=5)": ("deepen", '"r"', "activation", "conv2d", "linear"),
    "deepen(node=d, how=netmorph, kernel=[3, 3])": ("deepen", '"d"', "channels", "4"),
    "deepen(node=d, how=netmorph)": ("deepen", "(1, 1)"),
    "deepen(node=d, how=netmorph, channels=4, kernel=[1, 1])": ("deepen", "(1, 1)"),
    "deepen(node=d, how=netmorph, channels=2, kernel=[3, 3])": ("deepen", '"d"', "4×4", "channels"),
    "deepen(node=l, how=netmorph, channels=3)": ("deepen", '"l"', "10×4"),
    "deepen(node=l, how=netmorph, channels=3, kernel=[3, 3])": ("deepen", '"l"', "linear", "kernel"),
    "grow_kernel(node=l, to=[3, 3])": ("grow_kernel", '"l"', "linear", "conv2d"),
    "grow_kernel(node=d, to=[4, 4])": ("grow_kernel", '"d"', "kernel", "(3, 3)", "(4, 4)"),
    "grow_kernel(node=d, to=[3, 3])": ("grow_kernel", '"d"', "kernel", "(3, 3)"),
    "add_skip(source=d, target=c)": ("add_skip", '"c"', '"d"'),
    "add_skip(source=x, target=out)": ("add_skip", '"out"', '"x"'),
    "add_skip(source=r, target=d)": ("add_skip", '"r"', "(4, 8, 8)", '"d"', "(4, 4, 4)"),
    "insert_norm(node=out)": ("insert_norm", '"out"'),
    "insert_activation(node=x)": ("insert_activation", '"x"'),
    "insert_activation(node=d, activation=swoosh)": ("insert_activation", "swoosh"),
    "insert_activation(node=r)": ("insert_activation", '"r"'),
    "insert_activation(node=n)": ("insert_activation", '"n"'),
    "insert_dropout(node=out)": ("insert_dropout", '"out"'),
    "insert_dropout(node=r, p=1)": ("insert_dropout", "1.0", '"r"'),
}


@pytest.mark.parametrize("move", REFUSED)
def test_refusals_state_fact_place_and_remedy(move):
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(lively(morphs.parse_graph(BEFORE)), move)
    assert all(name in str(caught.value) for name in REFUSED[move])
    assert "\n" not in str(caught.value)


LEFT_OUT = {
    "widen(node=x, to=6, how=zero)":
        ("widen", '"x"', "3", "c, d"),
    "widen(node=l, to=15, how=replicate)": ("widen", '"l"', "10"),
    "deepen(node=d, how=netmorph, channels=2, kernel=[3, 3], then=[3, 3], activation=relu, per_channel=true, "
    "groups=null, norm=false)":
        ("deepen", '"d"', "(3, 3)", "2", "channels"),
    "add_skip(source=r, target=d, how=add, project=false)":
        ("add_skip", '"r"', "(4, 8, 8)", '"d"', "(4, 4, 4)", "project=true"),
    "insert_norm(node=c)": ("insert_norm", '"c"', '"n"'),
    "insert_norm(node=l)": ("insert_norm", '"l"'),
}  # fmt: skip


def test_refused_sites_come_with_their_reason():
    graph = morphs.parse_graph(BEFORE)
    menus = {"deepen": {"ratio": (0.5,), "min_channels": (1,)}}
    reasons = {
        str(r.move): r.reason
        for kind in morphs.MOVES
        for r in kind.refused(graph, None, menus.get(kind.name))
    }
    for move, names in LEFT_OUT.items():
        assert all(name in reasons[move] for name in names)
    tight = {str(r.move): r.reason for r in morphs.GrowKernel.refused(graph, morphs.Limits(params=300))}
    assert tight["grow_kernel(node=c, to=[5, 5])"].startswith("grow_kernel: params would be")


def test_dropouts_do_not_repeat():
    net = lively(morphs.parse_graph(BEFORE))
    child = morphs.apply(net, "insert_dropout(node=r)")
    assert child.drift.train <= 1e-12  # which is measured with dropout off
    for node in ("r", "drop1"):
        with pytest.raises(IllegalMove, match=f'insert_dropout.*"{node}"'):
            morphs.apply(child.network, f"insert_dropout(node={node})")


def test_a_norm_needs_data():
    net = lively(morphs.parse_graph(BEFORE))
    with pytest.raises(NeedsData, match=r'"c".*batches='):
        morphs.apply(net, "insert_norm(node=c)")
    with pytest.raises(NeedsData, match=r'"c".* 0 '):
        morphs.apply(net, "insert_norm(node=c)", batches=[])
    with pytest.raises(NeedsData, match=r'"l".* 1 '):
        morphs.apply(net, "insert_norm(node=l)", batches=some_batches(net, size=1, count=1))


PARSE_ERRORS = {
    "": ("name(key=value",),
    "widen": ("'widen'", "name(key=value"),
    "widen(node=c, to=6": ("'widen(node=c, to=6'",),
    "wilden(node=c)": ("wilden", "deepen, widen"),
    "widen(c, 6)": ("'c'", "key=value"),
    "widen(node=c)": ("to",),
    "widen(node=c, to=6, at=3)": ("node, to, how",),
    "widen(node=c, to=six)": ("'six'",),
    "widen(node=c, to=true)": ("to: True",),
    "widen(node=c, to=6.0)": ("6.0",),
    "widen(node=c, to=6, how=fast)": ("'fast'", "replicate, zero, gradient"),
    "widen(node=c, to=6, to=7)": ("'to'",),
    "widen(node=c, to=__import__('os'))": ("__import__('os')",),
    "grow_kernel(node=c, to=3)": ("to: 3", "list"),
    "grow_kernel(node=c, to=" + "[" * 99999 + "])": ("8",),
    "{": ("JSON", "to_json"),
    '{"node": "c"}': ('"move"',),
    '{"move": "widen", "node": "c", "to": NaN}': ("NaN",),
    '{"move": "widen", "node": "c", "to": ' + "[" * 99999: ("JSON", "to_json"),
}


@pytest.mark.parametrize("text", PARSE_ERRORS, ids=lambda text: text[:40])
def test_texts_that_are_no_moves(text):
    with pytest.raises(ParseError) as caught:
        morphs.parse(text)
    assert all(name in str(caught.value) for name in PARSE_ERRORS[text])
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
    with pytest.raises(LimitExceeded, match=r"params.*400"):
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
    with pytest.raises(ValueError, match="params=0"):
        morphs.Limits(params=0)
