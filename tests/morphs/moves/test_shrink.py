"""Narrow and RemoveLayer: what goes, what stays as it was, and how far the child may be from its parent."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import image_networks, lively

import morphs
from morphs.errors import DriftExceeded, IllegalMove
from morphs.graph.arch import ArchGraph

TEXT = """
    x = input(size=[3, 6, 6])
    c = conv2d(x, channels=4, kernel=3, padding=1)
    n = batch_norm(c)
    r = relu(n)
    d = conv2d(r, channels=4, kernel=3, padding=1, bias=false)
    m = batch_norm(d)
    t = relu(m)
    a = add(r, t)
    p = max_pool2d(a, kernel=2)
    f = flatten(p)
    l = linear(f, features=6)
    k = tanh(l)
    o = linear(k, features=3)
    out = output(o)
"""


@pytest.fixture
def net() -> morphs.Network:
    return lively(morphs.parse_graph(TEXT))


def weights(net: morphs.Network, **changed: torch.Tensor) -> morphs.Network:
    given = {tuple(key.rsplit("_", 1)): tensor for key, tensor in changed.items()}
    return morphs.Network(net.graph, {**net.weights, **given})


# -- narrow ------------------------------------------------------------------------------------------


def test_the_channels_of_least_norm_go_and_the_others_keep_their_weights(net):
    l_weight, o_weight = net.weights["l", "weight"].clone(), net.weights["o", "weight"].clone()
    l_weight[1] *= 1e-3
    o_weight[:, 4] *= 1e-3
    parent = weights(net, l_weight=l_weight, o_weight=o_weight)
    child = morphs.apply(parent, "narrow(node=l, to=4)")
    stay = [0, 2, 3, 5]
    assert torch.equal(child.network.weights["l", "weight"], l_weight[stay])
    assert torch.equal(child.network.weights["o", "weight"], o_weight[:, stay])
    assert child.origin["l", "bias"].axes[0].tolist() == stay
    assert child.move.preserves is morphs.Preserves.APPROXIMATE
    assert 0 < child.drift.eval < 1


def test_what_goes_counts_as_zero_for_what_reads_it(net):
    """Oracle: the parent with the outgoing weights of the dropped channels at zero."""
    child = morphs.apply(net, "narrow(node=r, to=3)")
    (gone,) = set(range(4)) - set(child.origin["n", "weight"].axes[0].tolist())
    d_weight, l_weight = net.weights["d", "weight"].clone(), net.weights["l", "weight"].clone()
    d_weight[:, gone] = 0
    l_weight[:, 9 * gone : 9 * gone + 9] = 0
    cut = weights(net, d_weight=d_weight, l_weight=l_weight)
    assert max(vars(morphs.drift(cut, child.network)).values()) <= 1e-12
    assert child.network.graph.shape("a") == (3, 6, 6), "the residual's group is one"


def test_behind_batch_norms_gamma_counts_and_not_the_scale_of_what_they_norm(net):
    c_weight = net.weights["c", "weight"] * torch.tensor([1e-3, 1, 1, 1]).reshape(-1, 1, 1, 1)
    gammas = {f"{name}_weight": torch.tensor([1.0, 1, 1e-3, 1], dtype=torch.float64) for name in ("n", "m")}
    child = morphs.apply(weights(net, c_weight=c_weight, **gammas), "narrow(node=c, to=3)")
    assert child.origin["c", "weight"].axes[0].tolist() == [0, 1, 3]


def test_a_random_choice_follows_the_seed(net):
    kept = {
        seed: tuple(
            morphs.apply(net, "narrow(node=l, to=3, how=random)", seed=seed).origin["l", "weight"].axes[0]
        )
        for seed in range(4)
    }
    assert len(set(kept.values())) > 1


@given(data=st.data())
def test_narrowing_takes_back_what_zero_widening_added(data):
    """The added channels have no outgoing weights: they are the ones that go, and the function stays."""
    net = data.draw(image_networks(most=2))
    widths = morphs.channel_groups(net.graph)
    groups = {node: widths.groups[number] for number, node in widths.free().items()}
    sites = list(morphs.Widen.sites(net, options={"how": ("zero",)}))
    sites = [site for site in sites if not groups[site.node].even]  # norms across channels were rescaled
    if not sites:
        return
    site = data.draw(st.sampled_from(sites))
    wide = morphs.apply(net, site, measure=False).network
    child = morphs.apply(wide, morphs.Narrow(site.node, groups[site.node].width))
    assert child.network.graph == net.graph
    assert max(child.drift.eval, child.drift.train) <= 1e-10


def test_a_child_that_is_not_finite_is_an_error_even_of_an_approximate_move():
    net = lively(
        morphs.parse_graph("x = input(size=[1]); s = scale(x); t = scale(s); u = scale(t); out = output(u)")
    )
    sizes = {"s": 1e200, "t": 1e-200, "u": 1e200}
    big = morphs.Network(
        net.graph, {(n, "weight"): torch.full((1,), v, dtype=torch.float64) for n, v in sizes.items()}
    )
    with pytest.raises(DriftExceeded, match=r"inf.*inf"):
        morphs.apply(big, "remove_layer(node=t, instead=s)")


# -- remove_layer --------------------------------------------------------------------------------------

GONE = {
    "remove_layer(node=a, instead=r)": {"d", "m", "t", "a"},
    "remove_layer(node=m, instead=r)": {"d", "m"},
    "remove_layer(node=t, instead=n)": {"d", "m", "t"},
    "remove_layer(node=k, instead=l)": {"k"},
    "remove_layer(node=a, instead=t)": {"a"},
}


@pytest.mark.parametrize("move", GONE)
def test_what_nobody_needs_any_more_goes(net, move):
    child = morphs.apply(net, move)
    left = {node.name for node in child.network.graph}
    assert {node.name for node in net.graph} - left == GONE[move]
    assert all(
        child.network.weights[key].data_ptr() == net.weights[key].data_ptr() for key in child.network.weights
    )
    assert child.drift.eval > 0


def test_sites_are_residual_branches_and_layers_that_keep_the_shape(net):
    assert [str(site) for site in morphs.RemoveLayer.sites(net)] == [
        "remove_layer(node=m, instead=r)",
        "remove_layer(node=a, instead=r)",
        "remove_layer(node=a, instead=t)",
    ]
    assert [r.move.node for r in morphs.RemoveLayer.refused(net)] == ["n", "l", "o"]


def test_removing_an_added_block_is_exact():
    """A branch that the skip's factor multiplies by zero adds nothing."""
    net = lively(
        morphs.parse_graph("x = input(size=[4]); h = linear(x, features=4); r = relu(h); out = output(r)")
    )
    grown = morphs.apply(net, "add_skip(source=h, target=r)").network
    child = morphs.apply(grown, "remove_layer(node=skip1, instead=r)")
    assert child.network.digest == net.digest
    assert child.drift.eval == 0


REFUSED = {
    "narrow(node=o, to=2)": ("narrow", '"o"', "3", "c, l"),
    "narrow(node=l, to=6)": ("narrow", "6", '"l"', "1", "5"),
    "narrow(node=l, to=0)": ("narrow", "0", '"l"'),
    "narrow(node=l, to=-2)": ("narrow", "-2", '"l"'),
    "remove_layer(node=c, instead=x)": ("remove_layer", '"c"', "(4, 6, 6)", '"x"', "(3, 6, 6)"),
    "remove_layer(node=r, instead=a)": ("remove_layer", '"r"', '"a"'),
    "remove_layer(node=out, instead=o)": ("remove_layer", '"out"', '"o"'),
    "remove_layer(node=t, instead=r)": ("remove_layer", '"a"', '"r"'),
    "remove_layer(node=z, instead=r)": ("remove_layer", '"z"', "c, n"),
}


@pytest.mark.parametrize("move", REFUSED)
def test_refusals_state_fact_place_and_remedy(net, move):
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(net, move)
    assert all(name in str(caught.value) for name in REFUSED[move])


def test_inputs_and_shared_modules_stay_whole():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[3]); y = input(size=[3]); h = linear(y, features=3); s = add(x, h); r = relu(s)
        g = linear(r, features=3, owner=h); out = output(g)
    """)
    )
    with pytest.raises(IllegalMove, match='"y"'):
        morphs.apply(net, "remove_layer(node=s, instead=x)")
    tied = lively(
        morphs.parse_graph("""
        x = input(size=[3]); h = linear(x, features=3); r = relu(h); g = linear(r, features=3, owner=h)
        out = output(g)
    """)
    )
    with pytest.raises(IllegalMove, match=r'"h".*"g"'):
        morphs.apply(tied, "remove_layer(node=h, instead=x)")
    assert morphs.apply(tied, "remove_layer(node=g, instead=r)").drift is not None


def test_a_grouped_convolution_may_become_depthwise():
    """One channel for each group is left; what is joined to its output then has widths of another kind."""
    net = lively(
        morphs.parse_graph("""
        x = input(size=[6, 4, 4]); a = conv2d(x, channels=6, kernel=3, padding=1, groups=3)
        b = conv2d(a, channels=6, kernel=1, groups=3); c = conv2d(x, channels=6, kernel=1); s = add(b, c)
        r = relu(s); f = flatten(r); l = linear(f, features=3); out = output(l)""")
    )
    small = morphs.apply(net, "narrow(node=a, to=3)").network
    assert morphs.channel_groups(small.graph) == morphs.channel_groups(ArchGraph(small.graph))
    for site in morphs.Widen.sites(small, options={"how": ("zero", "replicate")}):
        assert morphs.apply(small, site).drift.eval <= 1e-10
