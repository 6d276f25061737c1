"""A child can learn: gradients reach every new number, and clones part ways."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import lively, networks, some_batches
from torch import nn

import morphs
from morphs import Deepen, InsertActivation
from morphs.errors import IllegalMove
from morphs.examples import random_inputs

TEXT = """
    x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=3, padding=1, bias=false); n = batch_norm(c)
    r = {phi}(n); d = conv2d(r, channels=4, kernel=3, padding=1); e = {phi}(d); g = adaptive_avg_pool2d(e, size=2)
    f = flatten(g); h = linear(f, features=6); i = {phi}(h); l = linear(i, features=3); out = output(l)
"""

MOVES = [
    "widen(node=c, to=7)", "widen(node=d, to=9)", "widen(node=h, to=20)", "widen(node=c, to=7, how=zero)",
    "widen(node=d, to=9, how=zero)", "widen(node=h, to=9, how=zero)", "widen(node=c, to=7, how=gradient)",
    "widen(node=d, to=9, how=gradient)", "widen(node=h, to=9, how=gradient)",
    "widen(node=c, to=8, how=paired)", "widen(node=d, to=8, how=paired)", "widen(node=h, to=10, how=paired)",
    "deepen(node=r, kernel=[3, 3])", "deepen(node=i)",
    "deepen(node=n, kernel=[3, 3], activation=tanh)",
    "deepen(node=d, how=netmorph, channels=16, kernel=[3, 3], then=[3, 3])",
    "deepen(node=d, how=netmorph, channels=4, kernel=[3, 3])", "deepen(node=h, how=netmorph, channels=9)",
    "deepen(node=r, kernel=[3, 3], groups=4)", "deepen(node=i, activation=prelu, per_channel=false)",
    "deepen(node=d, how=netmorph, channels=16, kernel=[3, 3], then=[3, 3], norm=true)",
    "deepen(node=n, kernel=[3, 3], norm=true)", "deepen(node=n)",
    "grow_kernel(node=c, to=[5, 5])", "grow_kernel(node=d, to=[3, 5])",
    "add_skip(source=r, target=d)", "insert_norm(node=d)",
    "insert_block(node=r)", "insert_block(node=r, kind=single)", "insert_block(node=d, kind=bottleneck, expand=1)",
    "insert_block(node=r, kind=inverted)", "insert_block(node=r, how=paired)", "insert_block(node=d, how=scaled)",
    "insert_block(node=n, kind=bottleneck, how=paired, expand=1)", "insert_block(node=h, how=paired, kernel=[1, 1])",
    "insert_block(node=d, kind=inverted, how=paired, activation=silu)", "insert_block(node=i, kernel=[1, 1])",
    "squeeze_excite(node=r, channels=3)", "squeeze_excite(node=n, channels=6)",
    "reparameterise(node=n, how=norm)",
    "insert_activation(node=c, activation=silu)", "insert_activation(node=g, activation=tanh, per_channel=false)",
    "add_skip(source=r, target=d, how=convex)", "add_skip(source=r, target=d, how=concat)",
    "add_skip(source=r, target=d, project=true)", "add_skip(source=x, target=d, how=convex, project=true)",
    "add_skip(source=x, target=c, how=concat)", "add_skip(source=f, target=i, how=concat, project=true)",
    "add_skip(source=f, target=h, project=true)",
    "subnet(node=d, template=mlpconv)", "subnet(node=d, template=inception)", "subnet(node=c, template=bottleneck)",
    "subnet(node=d, template=residual, activation=tanh)", "subnet(node=c, template=sequential)",
    "subnet(node=h, template=stacked)", "subnet(node=h, template=\"(1) + (1:9)(1:8)(1)\")",
]  # fmt: skip


@pytest.mark.parametrize("phi", ["relu", "tanh"])
@pytest.mark.parametrize("move", MOVES)
def test_a_few_steps_move_every_new_number(move, phi):
    learns(TEXT.format(phi=phi), move)


OTHERS = {  # moves that need another graph
    "squeeze_excite(node=e, channels=3, activation=relu)": TEXT.format(phi="relu"),
    "merge_groups(node=g, groups=2)": """
        x = input(size=[3, 6, 6]); c = conv2d(x, channels=8, kernel=3); r = tanh(c)
        g = conv2d(r, channels=4, kernel=3, groups=4); f = flatten(g); l = linear(f, features=3); out = output(l)""",
    "merge_groups(node=g)": """
        x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=3); r = relu(c)
        g = conv2d(r, channels=8, kernel=3, groups=4); f = flatten(g); l = linear(f, features=3); out = output(l)""",
}


@pytest.mark.parametrize("move", OTHERS)
def test_so_they_do_in_other_graphs(move):
    learns(OTHERS[move], move)


def learns(text: str, move: str) -> None:
    """Apply `move` and train a few steps: every new number must move."""
    net = lively(morphs.parse_graph(text), seed=3)
    child = morphs.apply(net, move, batches=some_batches(net), seed=1)
    trained = train(child.network)
    for key, origin in child.origin.items():
        if not child.network.graph.params[key].trainable:
            continue
        before, after = child.network.weights[key], trained.weights[key]
        fresh = np.ones(before.shape, dtype=bool)
        if origin.source is not None:
            fresh[...] = False if origin.entries is None else origin.entries < 0
            for axis, index in enumerate(origin.axes):
                if index is not None:
                    shape = [-1 if a == axis else 1 for a in range(before.dim())]
                    fresh |= (index < 0).reshape(shape)
        stuck = torch.from_numpy(fresh) & (before == after)
        assert not bool(stuck.any()), f"{int(stuck.sum())} new numbers of {key} did not move"


def train(net: morphs.Network, steps: int = 4) -> morphs.Network:
    """`steps` of SGD on random data, in train mode; P-activations aren't projected, to see where they are drawn."""
    g = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(256, *net.graph.shape("x"), generator=g, dtype=net.dtype)
    y = torch.randint(0, 3, (256,), generator=g)
    module = net.to_torch().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    return net.with_weights_from(module)


POOLED = """
    x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=3); {between}; r = {phi}(p)
    f = flatten(r); l = linear(f, features=3); out = output(l)
"""
BESIDE = {  # φ would change nothing after "c", so that its a could never learn
    "pooled, then relu": (POOLED.format(between="p = max_pool2d(c, kernel=2)", phi="relu"), "relu", "c"),
    "dropped out, then relu": (POOLED.format(between="p = dropout(c)", phi="relu"), "relu", "c"),
    "relu, then relu6": (POOLED.format(between="p = max_pool2d(c, kernel=2)", phi="relu6"), "relu", "c"),
    "relu6 of a sigmoid": (
        POOLED.format(between="s = sigmoid(c); p = avg_pool2d(s, kernel=2)", phi="tanh"), "relu6", "p",
    ),
    "relu6 of a pooled relu6": (
        POOLED.format(between="s = relu6(c); p = max_pool2d(s, kernel=2)", phi="tanh"), "relu6", "p",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BESIDE)
def test_no_a_is_inserted_that_could_never_learn(case):
    text, phi, node = BESIDE[case]
    net = lively(morphs.parse_graph(text))
    with pytest.raises(IllegalMove, match=f'"{node}".*{phi}'):
        morphs.apply(net, f"insert_activation(node={node}, activation={phi})")
    child = morphs.apply(net, f"deepen(node={node}, kernel=[3, 3], activation={phi})")
    assert not any(node.op.kind == "p_activation" for node in child.network.graph)
    assert child.drift.eval < 1e-10


def test_an_a_is_inserted_where_the_next_function_lets_some_gradient_through():
    net = lively(morphs.parse_graph(POOLED.format(between="p = avg_pool2d(c, kernel=2)", phi="relu")))
    child = morphs.apply(net, "insert_activation(node=c)").network
    assert bool((train(child).weights["act1", "a"] != 1).all())


@given(data=st.data())
@settings(max_examples=60)
def test_every_a_that_a_site_inserts_can_learn(data):
    """With some weights of the parent's, that is: small networks are often dead where a would learn."""
    graph = data.draw(networks(most=4)).graph
    menu = {"activation": ("relu", "relu6", "tanh")}
    blank = lively(graph)
    moves = [move for kind in (InsertActivation, Deepen) for move in kind.sites(blank, options=menu)]
    assume(moves)
    move = data.draw(st.sampled_from(moves))
    for seed in range(20):
        child = morphs.apply(lively(graph, seed), move, seed=seed, measure=False).network
        new = {node.name for node in child.graph if node.op.kind == "p_activation"} - {n.name for n in graph}
        if all(gradient(child, name).any() for name in new):
            return
    raise AssertionError(f"{move} inserts an a that never learns:\n{child.graph.text()}")


def gradient(net: morphs.Network, name: str) -> torch.Tensor:
    """Of the a of a P-activation, for random data and a random linear loss.

    Each example has a mean of its own: behind a maximum over many places a learns from maps that are negative
    everywhere, which independent pixels almost never make. And one lies far out: behind a batch norm, whose outputs
    are small for all examples that are alike, the a of a relu6 learns from what exceeds 6.
    """
    draws = torch.Generator().manual_seed(0)
    inputs = random_inputs(net.graph, 64, draws, net.dtype)
    means = torch.randn(64, generator=draws, dtype=net.dtype)
    means[-1] = 100
    module = net.to_torch().train()
    out = module(
        *(3 * (x + means.view(-1, *[1] * (x.dim() - 1))) if x.is_floating_point() else x for x in inputs)
    )
    (out * torch.randn(out.shape, generator=draws, dtype=net.dtype)).sum().backward()
    return module.get_submodule(name).a.grad


def test_an_a_before_a_maximum_over_many_places_can_learn():
    text = """
        x = input(size=[2, 5, 4]); c = conv2d(x, channels=1, kernel=1); p = p_activation(c, fn=relu)
        m = adaptive_max_pool2d(p, size=[2, 1]); f = flatten(m); l = linear(f, features=3); out = output(l)"""
    learned = 0
    for seed in range(5):
        parent = lively(morphs.parse_graph(text), seed)
        child = morphs.apply(parent, "deepen(node=p, kernel=[3, 3])", seed=seed).network
        (act,) = {node.name for node in child.graph if node.op.kind == "p_activation"} - {"p"}
        learned += bool(gradient(child, act).any())
    assert learned >= 3


def test_a_projection_of_what_is_never_negative_has_no_dead_unit():
    text = """
        x = input(size=[3, 6, 6]); c = conv2d(x, channels=2, kernel=3, padding=1); r = relu(c)
        d = conv2d(r, channels=8, kernel=3, padding=1); e = relu(d); f = flatten(e); l = linear(f, features=3)
        out = output(l)"""
    for seed in range(8):
        child = morphs.apply(
            lively(morphs.parse_graph(text)),
            "add_skip(source=r, target=d, how=concat, project=true)",
            seed=seed,
        )
        (bridge,) = {node for node, _ in child.network.weights} - {"c", "d", "l"}
        assert bool((child.network.weights[bridge, "weight"].amax(1) > 0).all())


@pytest.mark.parametrize("node", ["c", "d", "h"])
def test_clones_of_a_unit_do_not_stay_equal(node):
    net = lively(morphs.parse_graph(TEXT.format(phi="tanh")))
    child = morphs.apply(net, f"widen(node={node}, to={2 * net.graph.shape(node)[0]})").network
    before, after = (n.weights[node, "weight"].flatten(1) for n in (child, train(child)))
    twins = [(i, j) for i in range(len(before)) for j in range(i) if torch.equal(before[i], before[j])]
    assert len(twins) == net.graph.shape(node)[0]
    assert all(float((after[i] - after[j]).abs().max()) > 1e-6 for i, j in twins)
