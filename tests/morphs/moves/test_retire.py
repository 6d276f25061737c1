"""Retire: only what training made exactly plain."""

import pytest
import torch
from strategies import lively

import morphs
from morphs.errors import IllegalMove

TEXT = """
    x = input(size=[3, 5, 5])
    c = conv2d(x, channels=4, kernel=3)
    p = p_activation(c, fn=leaky_relu, args=[0.2], per_channel=true)
    d = conv2d(p, channels=2, kernel=1)
    q = p_activation(d, fn=gelu)
    out = output(q)
"""


def with_a(**values: object) -> morphs.Network:
    net = lively(morphs.parse_graph(TEXT))
    given = {(node, "a"): torch.tensor(a, dtype=torch.float64) for node, a in values.items()}
    return morphs.Network(net.graph, {**net.weights, **given})


def ops(net: morphs.Network) -> dict[str, str]:
    return {node.name: node.op.kind for node in net.graph}


def test_a_of_zero_leaves_the_activation_and_a_of_one_nothing():
    net = with_a(p=[0.0, 0.0, 0.0, -0.0], q=1.0)
    plain = morphs.apply(net, "retire(node=p)")
    assert plain.network.graph["p"].op == morphs.graph.ops.Activation("leaky_relu", (0.2,))
    gone = morphs.apply(plain.network, "retire(node=q, becomes=identity)")
    assert gone.network.graph.text().splitlines()[-2:] == [
        "d = conv2d(p, channels=2, kernel=1)",
        "out = output(d)",
    ]
    assert [(child.drift.eval, child.drift.train) for child in (plain, gone)] == [(0, 0), (0, 0)]
    assert gone.network.weights.keys() == {key for key in net.weights if key[1] != "a"}


def test_only_what_is_exact_is_a_site():
    assert [str(s) for s in morphs.Retire.sites(with_a(p=[0.0, 0, 0, 0], q=1.0))] == [
        "retire(node=p, becomes=activation)",
        "retire(node=q, becomes=identity)",
    ]
    assert not list(morphs.Retire.sites(with_a(p=[0.0, 1, 0, 0], q=1 - 1e-12)))
    assert not list(morphs.Retire.sites(with_a(p=[0.0, 0, 0, 0], q=1.0).graph)), "a graph doesn't know"


REFUSED = {
    "retire(node=c)": ("retire", '"c"', "conv2d", "p_activation"),
    "retire(node=p)": ("retire", '"p"', "2", "4", "0", "keep"),
    "retire(node=p, becomes=identity)": ("retire", '"p"', "3", "4", "1"),
    "retire(node=q)": ("retire", '"q"', "1.0", "0", "becomes"),
    "retire(node=z)": ("retire", '"z"', "c, p, d, q"),
}


@pytest.mark.parametrize("move", REFUSED)
def test_refusals_say_what_a_is(move):
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(with_a(p=[0.0, 0.0, 1.0, 1e-300], q=1.0), move)
    assert all(name in str(caught.value) for name in REFUSED[move])


def test_a_number_close_to_one_is_told_in_full():
    with pytest.raises(IllegalMove, match=r'"q".*0\.9999999999999999'):
        morphs.apply(with_a(q=1 - 1e-16), "retire(node=q, becomes=identity)")


def test_a_shared_one_becomes_its_function_everywhere_and_does_not_go():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[2]); p = p_activation(x, fn=tanh); l = linear(p, features=2)
        q = p_activation(l, fn=tanh, owner=p); out = output(q)
    """)
    )
    net = morphs.Network(net.graph, {**net.weights, ("p", "a"): torch.zeros((), dtype=torch.float64)})
    child = morphs.apply(net, "retire(node=q)")
    assert child.drift.eval == 0
    assert ops(child.network) == {
        "x": "input",
        "p": "activation",
        "l": "linear",
        "q": "activation",
        "out": "output",
    }
    with pytest.raises(IllegalMove, match='"q"'):
        morphs.apply(net, "retire(node=q, becomes=identity)")


def test_training_with_projection_leads_there():
    """The best slope for these targets is −0.1, outside [0, 1]: projection holds a at exactly 0."""
    net = morphs.init(
        morphs.parse_graph("x = input(size=[3]); p = p_activation(x, fn=relu); out = output(p)")
    )
    module = morphs.Network(net.graph, {("p", "a"): torch.ones(())}).to_torch()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(20):
        optimizer.zero_grad()
        (module(x) - torch.where(x > 0, x, -0.1 * x)).square().mean().backward()
        optimizer.step()
        for part in module.modules():
            getattr(part, "project_", lambda: None)()
    trained = net.with_weights_from(module)
    assert [str(site) for site in morphs.Retire.sites(trained)] == ["retire(node=p, becomes=activation)"]
