"""MergeGroups and SplitGroups: blocks along the diagonal, to the bit."""

import pytest
import torch
from copied_modules import along
from strategies import lively

import morphs
from morphs.errors import IllegalMove

TEXT = """
    x = input(size=[3, 6, 5])
    c = conv2d(x, channels=12, kernel=1)
    g = conv2d(c, channels=24, kernel=[3, 1], stride=2, padding=1, groups=6, padding_mode=circular)
    n = batch_norm(g)
    d = conv2d(n, channels=24, kernel=3, padding=1, groups=24)
    o = conv2d(d, channels=2, kernel=1)
    out = output(o)
"""


@pytest.fixture
def net() -> morphs.Network:
    return lively(morphs.parse_graph(TEXT))


@pytest.mark.parametrize(("node", "groups"), [("g", 3), ("g", 2), ("g", 1), ("d", 8), ("d", 1)])
def test_merging_and_splitting_again_gives_back_the_weights(net, node, groups):
    merged = morphs.apply(net, f"merge_groups(node={node}, groups={groups})")
    assert max(merged.drift.eval, merged.drift.train) <= 1e-13
    assert merged.network.graph[node].op.groups == groups
    weight = merged.network.weights[node, "weight"]
    assert int(weight.count_nonzero()) == net.weights[node, "weight"].numel()
    again = morphs.apply(merged.network, f"split_groups(node={node}, groups={net.graph[node].op.groups})")
    assert again.network.digest == net.digest
    assert again.drift.eval <= 1e-13


def test_the_blocks_are_those_of_a_convolution_without_groups(net):
    child = morphs.apply(net, "merge_groups(node=g)").network
    old, new = net.weights["g", "weight"], child.weights["g", "weight"]
    expected = torch.block_diag(*(old[4 * i : 4 * i + 4].flatten(1) for i in range(6))).reshape(24, 12, 3, 1)
    assert torch.equal(new, expected)


def test_momentum_goes_with_its_weights(net):
    child = morphs.apply(net, "merge_groups(node=g, groups=2)")
    module = net.to_torch()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(torch.randn(4, 3, 6, 5, dtype=torch.float64)).square().sum().backward()
    optimizer.step()
    grown = child.network.to_torch()
    carried = morphs.carry(optimizer, module, grown, child)
    before = optimizer.state[module.get_parameter("g.weight")]["momentum_buffer"]
    after = carried.state[grown.get_parameter("g.weight")]["momentum_buffer"]
    assert after.shape == (24, 6, 3, 1)
    assert int(after.count_nonzero()) == int(before.count_nonzero()) > 0
    assert torch.equal(after[:4, :2], before[:4])
    assert torch.equal(after[8:12, 4:], before[8:12])
    assert torch.equal(after[12:16, :2], before[12:16])


def test_sites_are_all_divisors_and_for_splitting_those_that_the_weights_allow(net):
    assert [(s.node, s.groups) for s in morphs.MergeGroups.sites(net)] == [
        *(("g", n) for n in (1, 2, 3)), *(("d", n) for n in (1, 2, 3, 4, 6, 8, 12)),
    ]  # fmt: skip
    assert not list(morphs.SplitGroups.sites(net))
    merged = morphs.apply(net, "merge_groups(node=d)").network
    assert [s.groups for s in morphs.SplitGroups.sites(merged) if s.node == "d"] == [2, 3, 4, 6, 8, 12, 24]
    reasons = {r.move: r.reason for r in morphs.SplitGroups.refused(net)}
    assert "12" in reasons[morphs.SplitGroups("g", 12)]
    assert "weights" in next(iter(morphs.SplitGroups.refused(merged.graph))).reason


def test_one_weight_between_the_groups_is_enough_to_refuse(net):
    merged = morphs.apply(net, "merge_groups(node=g, groups=2)").network
    for place in ((0, 5, 0), (11, 0, 2), (23, 3, 1)):
        weight = merged.weights["g", "weight"].clone()
        weight[place[0], place[1], place[2]] = 1e-300
        torn = morphs.Network(merged.graph, {**merged.weights, ("g", "weight"): weight})
        with pytest.raises(IllegalMove, match=r'"g".*6'):
            morphs.apply(torn, "split_groups(node=g, groups=6)")


def test_a_shared_convolution_changes_for_both_uses():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[4, 3, 3]); c = conv2d(x, channels=4, kernel=1, groups=4); t = tanh(c)
        d = conv2d(t, channels=4, kernel=1, groups=4, owner=c); out = output(d)
    """)
    )
    child = morphs.apply(net, "merge_groups(node=d, groups=2)")
    assert child.network.graph["c"].op.groups == 2
    assert child.drift.eval <= 1e-13


REFUSED = {
    "merge_groups(node=n)": ("merge_groups", '"n"', "batch_norm", "conv2d"),
    "merge_groups(node=g, groups=4)": ("merge_groups", '"g"', "6", "groups", "4", "1"),
    "merge_groups(node=g, groups=0)": ("merge_groups", '"g"', "6", "groups", "0"),
    "merge_groups(node=c)": ("merge_groups", '"c"', "1", "groups"),
    "split_groups(node=g, groups=9)": ("split_groups", '"g"', "6", "groups", "9"),
    "split_groups(node=g, groups=18)": ("split_groups", '"g"', "conv2d", "groups=18", "12", "24"),
    "split_groups(node=g, groups=12)": ("split_groups", '"g"', "12", "groups"),
    "split_groups(node=n, groups=2)": ("split_groups", '"n"', "batch_norm", "conv2d"),
}  # fmt: skip


@pytest.mark.parametrize("move", REFUSED)
def test_refusals_state_fact_place_and_remedy(net, move):
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(net, move)
    assert all(name in str(caught.value) for name in REFUSED[move])


@pytest.mark.parametrize("rank", [1, 3])
def test_signals_and_volumes_merge_and_split_alike(rank):
    net = morphs.from_torch(*along(rank))
    merged = morphs.apply(net, "merge_groups(node=layer3)")
    assert max(merged.drift.eval, merged.drift.train) <= 1e-6
    assert merged.network.weights["layer3", "weight"].shape == (6, 4, *(3,) * rank)
    again = morphs.apply(merged.network, "split_groups(node=layer3, groups=2)")
    assert again.network.digest == net.digest
