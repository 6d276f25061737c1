"""Shortcuts: summed, in a convex combination, concatenated; straight and through a 1×1 convolution."""

import pytest
import torch
from strategies import lively
from torch import nn

import morphs
from morphs.errors import IllegalMove
from morphs.torch_io.layers import Lerp

BEFORE = """
    x = input(size=[3, 8, 8]); c = conv2d(x, channels=4, kernel=3, padding=1); r = relu(c)
    d = conv2d(r, channels=4, kernel=3, padding=1); n = batch_norm(d)
    e = p_activation(n, fn=relu, per_channel=true)
    k = conv2d(e, channels=6, kernel=3, stride=2, padding=1); m = max_pool2d(k, kernel=2); f = flatten(m)
    l = linear(f, features=5); t = tanh(l); o = linear(t, features=2); out = output(o)
"""

AFTER = {
    "add_skip(source=r, target=e)": """
        scale1 = scale(r)
        skip1 = add(e, scale1)
        k = conv2d(skip1, channels=6, kernel=3, stride=2, padding=1)
    """,
    "add_skip(source=r, target=e, how=convex)": """
        skip1 = lerp(e, r)
        k = conv2d(skip1, channels=6, kernel=3, stride=2, padding=1)
    """,
    "add_skip(source=r, target=d, how=concat)": """
        skip1 = concat(d, r)
        n = batch_norm(skip1)
    """,
    "add_skip(source=r, target=k, project=true)": """
        conv1 = conv2d(r, channels=6, kernel=1, stride=2, bias=false)
        skip1 = add(k, conv1)
        m = max_pool2d(skip1, kernel=2)
    """,
    "add_skip(source=r, target=k, how=concat, project=true)": """
        conv1 = conv2d(r, channels=6, kernel=1, stride=2, bias=false)
        skip1 = concat(k, conv1)
        m = max_pool2d(skip1, kernel=2)
    """,
    "add_skip(source=f, target=t, how=convex, project=true)": """
        fc1 = linear(f, features=5, bias=false)
        skip1 = lerp(t, fc1)
        o = linear(skip1, features=2)
    """,
    "add_skip(source=f, target=t, how=concat)": """
        skip1 = concat(t, f)
        o = linear(skip1, features=2)
    """,
}


@pytest.mark.parametrize("move", AFTER)
def test_before_and_after(move):
    net = lively(morphs.parse_graph(BEFORE))
    child = morphs.apply(net, move)
    assert max(child.drift.eval, child.drift.train) <= 1e-12
    assert morphs.parse(str(child.move)) == child.move
    old = set(net.graph.text().splitlines())
    added = [line for line in child.network.graph.text().splitlines() if line not in old]
    assert sorted(added) == sorted(line.strip() for line in AFTER[move].strip().splitlines())


def test_what_is_concatenated_passes_through_norms_pools_and_flattening_up_to_the_weights():
    net = lively(morphs.parse_graph(BEFORE))
    child = morphs.apply(net, "add_skip(source=r, target=d, how=concat)")
    assert child.origin["n", "weight"].axes[0].tolist() == [0, 1, 2, 3, -1, -1, -1, -1]
    assert child.network.weights["n", "running_var"][4:].tolist() == [1] * 4
    weight = child.network.weights["k", "weight"]
    assert torch.equal(weight[:, :4], net.weights["k", "weight"])
    assert not weight[:, 4:].any()
    child = morphs.apply(net, "add_skip(source=e, target=k, how=concat, project=true)")
    weight = child.network.weights["l", "weight"]  # 6 and 6 channels of 2 by 2 pixels
    assert torch.equal(weight[:, :24], net.weights["l", "weight"])
    assert tuple(weight.shape) == (5, 48)
    assert not weight[:, 24:].any()


def test_only_one_of_two_factors_in_a_row_starts_at_zero():
    net = lively(morphs.parse_graph(BEFORE))
    for how, zero in (("add", True), ("convex", False), ("concat", False)):
        child = morphs.apply(net, f"add_skip(source=r, target=k, how={how}, project=true)").network
        assert bool((child.weights["conv1", "weight"] == 0).all()) == zero
        assert ("scale1" in child.graph) is False


def test_a_convex_combination_is_one_and_stays_one():
    lerp = Lerp(2)
    x, y = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    with torch.no_grad():
        lerp.a.copy_(torch.tensor([0.25, 0.75]))
        weight = torch.tensor([0.25, 0.75])[:, None]
        assert torch.allclose(lerp(x, y), torch.lerp(x, y, weight))
        lerp.a.copy_(torch.tensor([-0.5, 1.5]))
    lerp.project_()
    assert lerp.a.tolist() == [0, 1]


REFUSED = {
    "add_skip(source=r, target=k)": ("add_skip", '"r"', "(4, 8, 8)", '"k"', "(6, 4, 4)", "project=true"),
    "add_skip(source=r, target=t)": ("add_skip", '"r"', "(4, 8, 8)", '"t"', "(5,)"),
    "add_skip(source=r, target=t, project=true)": ("add_skip", "1×1", '"r"', "(4, 8, 8)"),
    "add_skip(source=c, target=v, project=true)": ("add_skip", "1×1", '"c"', "(4, 8, 8)"),
    "add_skip(source=f, target=o, how=concat)": ('"o"', "how=add"),
    "add_skip(source=r, target=g, how=concat)": ("channels", '"a"', "how=add"),
    "add_skip(source=c, target=r, how=concat)": ('"g"', "groups", "how=add"),
    "add_skip(source=a, target=s, how=concat)": ('"s2"', "how=add"),
}  # fmt: skip


@pytest.mark.parametrize("move", REFUSED)
def test_refusals_state_fact_place_and_remedy(move):
    graph = morphs.parse_graph("""
        x = input(size=[3, 8, 8]); c = conv2d(x, channels=4, kernel=3, padding=1); r = relu(c)
        g = conv2d(r, channels=4, kernel=3, padding=1, groups=2); a = add(g, r); s = conv2d(a, channels=4, kernel=1)
        s2 = conv2d(s, channels=4, kernel=1, owner=s); v = conv2d(s2, channels=4, kernel=3)
        k = conv2d(s2, channels=6, kernel=3, stride=2, padding=1); w = conv2d(v, channels=6, kernel=1, stride=2)
        z = conv2d(k, channels=6, kernel=2); y = add(w, z); f = flatten(y); l = linear(f, features=5)
        t = tanh(l); o = linear(t, features=2); out = output(o)
    """)
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(lively(graph), move)
    assert all(name in str(caught.value) for name in ("add_skip", *REFUSED[move]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["add", "convex", "concat"])
@pytest.mark.parametrize("project", ["false", "true"])
def test_skips_do_not_repeat(how, project):
    net = lively(morphs.parse_graph(BEFORE))
    move = f"add_skip(source=r, target=e, how={how}, project={project})"
    with pytest.raises(IllegalMove, match=r'"r".*"e"'):
        morphs.apply(morphs.apply(net, move).network, move)


class _Scaled(nn.Module):
    """Multiplies a map by one learned number, which has no channels."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.fc = nn.Linear(3, 5)

    def forward(self, x):
        a = torch.relu(self.c1(x))
        b = torch.relu(self.c2(a)) * self.scale
        return self.fc(torch.relu(self.c3(b)).mean((2, 3)))


def test_beside_what_has_no_channels():
    net = morphs.from_torch(_Scaled().eval(), torch.randn(2, 3, 8, 8))
    found = list(morphs.AddSkip.candidates(net.graph, {"how": ("concat",)}))
    assert found
    for move in found:  # applied, or refused in words
        try:
            child = morphs.apply(net, move)
        except IllegalMove:
            continue
        assert child.drift.eval < 1e-5
