"""SqueezeExcite: neutral at first, alive from the first step."""

import pytest
import torch
from strategies import lively
from torch import nn

import morphs
from morphs.errors import IllegalMove

TEXT = """
    x = input(size=[3, 6, 6])
    c = conv2d(x, channels=16, kernel=3, bias=false)
    n = batch_norm(c)
    r = relu(n)
    d = conv2d(r, channels=2, kernel=4)
    t = tanh(d)
    out = output(t)
"""


@pytest.fixture
def net() -> morphs.Network:
    return lively(morphs.parse_graph(TEXT))


def test_before_and_after(net):
    child = morphs.apply(net, "squeeze_excite(node=r, channels=4)")
    assert (child.drift.eval, child.drift.train) == (0, 0), "2 · σ(0) is 1 to the bit"
    assert child.network.graph == morphs.parse_graph("""
        x = input(size=[3, 6, 6])
        c = conv2d(x, channels=16, kernel=3, bias=false)
        n = batch_norm(c)
        r = relu(n)
        pool1 = adaptive_avg_pool2d(r)
        conv1 = conv2d(pool1, channels=4, kernel=1)
        act1 = silu(conv1)
        conv2 = conv2d(act1, channels=16, kernel=1)
        gate1 = sigmoid(conv2)
        scale1 = scale(gate1, per_channel=false)
        product1 = multiply(r, scale1)
        d = conv2d(product1, channels=2, kernel=4)
        t = tanh(d)
        out = output(t)
    """)


def test_it_is_torchvisions_block_times_two(net):
    from torchvision.ops import SqueezeExcitation

    child = morphs.apply(net, "squeeze_excite(node=r, channels=4)").network
    moved = {key: t + 0.1 if key[0] in ("conv1", "conv2") else t for key, t in child.weights.items()}
    shaken = morphs.Network(child.graph, moved)
    block = SqueezeExcitation(16, 4, activation=nn.SiLU).double()
    for ours, theirs in (("conv1", block.fc1), ("conv2", block.fc2)):
        theirs.load_state_dict({name: shaken.weights[ours, name] for name in ("weight", "bias")})
    module = shaken.to_torch().eval()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    before = nn.functional.relu(module.n(module.c(x)))
    assert torch.allclose(module(x), module.t(module.d(2 * block(before))), rtol=1e-12)


def test_every_unit_is_alive_on_every_image_with_relu_too(net):
    """The gradient of W₁, once W₂ has moved, reaches every unit."""
    for move in (
        "squeeze_excite(node=r, channels=32)",
        "squeeze_excite(node=r, channels=32, activation=relu)",
    ):
        child = morphs.apply(net, move).network
        moved = {key: t + 0.1 if key == ("conv2", "weight") else t for key, t in child.weights.items()}
        module = morphs.Network(child.graph, moved).to_torch()
        module(torch.randn(1, 3, 6, 6, dtype=torch.float64)).sum().backward()
        assert bool((module.conv1.weight.grad.flatten(1).abs().amax(1) > 0).all())


def test_sites_are_maps_without_a_gate(net):
    assert [s.node for s in morphs.SqueezeExcite.sites(net)] == ["n", "r"]
    child = morphs.apply(net, "squeeze_excite(node=r, channels=4)").network
    assert [s.node for s in morphs.SqueezeExcite.sites(child)] == ["n"]
    reasons = [r.reason for r in morphs.SqueezeExcite.refused(child)]
    assert any('"r"' in reason and '"product1"' in reason for reason in reasons)
    menu = {"ratio": (2, 8), "min_channels": (1,), "activation": ("silu", "relu")}
    assert [str(s) for s in morphs.SqueezeExcite.sites(net, options=menu)] == [
        "squeeze_excite(node=n, channels=8, activation=silu)",
        "squeeze_excite(node=n, channels=2, activation=silu)",
        "squeeze_excite(node=r, channels=8, activation=silu)",
        "squeeze_excite(node=r, channels=8, activation=relu)",
        "squeeze_excite(node=r, channels=2, activation=silu)",
        "squeeze_excite(node=r, channels=2, activation=relu)",
    ]


def test_the_gates_widen_with_the_map(net):
    child = morphs.apply(net, "squeeze_excite(node=r, channels=4)").network
    for move in ("widen(node=c, to=20)", "widen(node=conv1, to=6)", "widen(node=c, to=20, how=zero)"):
        wide = morphs.apply(child, move)
        assert max(wide.drift.eval, wide.drift.train) <= 1e-12
    assert wide.network.graph.shape("gate1") == (20, 1, 1)


REFUSED = {
    "squeeze_excite(node=x, channels=4)": ("squeeze_excite", '"x"'),
    "squeeze_excite(node=out, channels=4)": ("squeeze_excite", '"out"'),
    "squeeze_excite(node=t, channels=4)": ("squeeze_excite", '"t"', "(2, 1, 1)"),
    "squeeze_excite(node=r, channels=0)": ("squeeze_excite", "0", "channels", '"r"'),
    "squeeze_excite(node=r, channels=4, activation=swoosh)": ("squeeze_excite", "swoosh"),
    "squeeze_excite(node=n, channels=4, activation=relu)": ("squeeze_excite", '"n"'),
    "squeeze_excite(node=z, channels=4)": ("squeeze_excite", '"z"', "c, n"),
}


@pytest.mark.parametrize("move", REFUSED)
def test_refusals_state_fact_place_and_remedy(net, move):
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(net, move)
    assert all(name in str(caught.value) for name in REFUSED[move])
