"""The contract: what holds of every move in the registry, on every network that Hypothesis finds."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import MENUS, networks, ripe, some_batches

import morphs
from morphs.drift import BOUND32, BOUND64, allowance
from morphs.move import Preserves


def sites_of(move: type[morphs.Move], net: morphs.Network) -> list[morphs.Move]:
    return list(move.sites(net, options=MENUS.get(move.name)))


def grown(move: type[morphs.Move], net: morphs.Network) -> morphs.Network:
    """`net` with weights at which the move has sites."""
    return net if move.check_weights is morphs.Move.check_weights else ripe(net)


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@given(data=st.data())
def test_a_move_makes_the_child_it_declares(move, dtype, data):
    net = grown(move, data.draw(networks(dtype=dtype)))
    sites = sites_of(move, net)
    if not sites:
        return
    site = data.draw(st.sampled_from(sites))
    seed = data.draw(st.integers(0, 9))
    before = net.digest, {key: tensor.clone() for key, tensor in net.weights.items()}
    child = morphs.apply(net, site, seed=seed, batches=some_batches(net))

    assert child.network.graph == site.reshape(net.graph), "listing and applying disagree"
    module = child.network.to_torch().eval()
    probe = [torch.randn(2, *net.graph.shape(n.name), dtype=dtype) for n in net.graph.inputs]
    assert module(*probe).shape == net.to_torch().eval()(*probe).shape

    if dtype == torch.float64 and site.preserves is not Preserves.APPROXIMATE:
        assert child.drift.eval <= 1e-10
        assert site.preserves is not Preserves.EXACT or child.drift.train <= 1e-10
    assert all(t.dtype == dtype for t in child.network.weights.values() if t.is_floating_point())

    object.__delattr__(net, "digest") if "digest" in net.__dict__ else None  # it is cached
    assert net.digest == before[0], "the parent was written to"
    assert all(torch.equal(net.weights[key], tensor) for key, tensor in before[1].items())
    again = morphs.apply(net, str(site), seed=seed, batches=some_batches(net), measure=False)
    assert again.network.digest == child.network.digest


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
@given(net=networks())
def test_every_site_reads_back_from_its_text_and_its_json(move, net):
    for site in sites_of(move, grown(move, net))[:20]:
        assert morphs.parse(str(site)) == site
        assert morphs.parse(site.to_json()) == site
        assert hash(morphs.parse(str(site))) == hash(site)


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
@given(net=networks(), params=st.sampled_from((None, 200)))
def test_every_candidate_is_a_site_or_refused_with_a_reason(move, net, params):
    net = grown(move, net)
    menu, limits = MENUS.get(move.name, {}), morphs.Limits(params=params)
    sites = list(move.sites(net, limits, menu))
    refused = list(move.refused(net, limits, menu))
    judged = [*sites, *(refusal.move for refusal in refused)]
    assert set(judged) == set(move.candidates(net.graph, menu))
    assert len(set(judged)) == len(judged)
    for refusal in refused:
        assert refusal.reason.startswith(f"{move.name}: ")
        assert "; " in refusal.reason
        assert "\n" not in refusal.reason


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
@given(data=st.data())
def test_origins_say_where_each_number_came_from(move, data):
    net = grown(move, data.draw(networks(most=2)))
    sites = sites_of(move, net)
    if not sites:
        return
    child = morphs.apply(net, data.draw(st.sampled_from(sites)), batches=some_batches(net), measure=False)
    assert child.origin.keys() == child.network.weights.keys()
    assert list(child.network.weights) == list(child.network.graph.params)
    for key, origin in child.origin.items():
        if origin.source is None:
            continue
        carried = origin.gather(net.weights[origin.source])
        assert carried.shape == child.network.weights[key].shape
        if origin.entries is None and not any(index is not None for index in origin.axes):
            assert torch.equal(carried, child.network.weights[key])


def draw_site(data, net: morphs.Network) -> morphs.Move | None:
    """A site that keeps the function at least in eval mode: first a kind, so that the rare ones come up too."""
    for kind in data.draw(st.permutations(morphs.MOVES)):
        sites = [site for site in sites_of(kind, net) if site.preserves is not Preserves.APPROXIMATE]
        if sites:
            return data.draw(st.sampled_from(sites))
    return None


@settings(max_examples=24)
@given(data=st.data())
def test_chains_of_moves_stay_exact(data):
    """In eval mode; in train mode too, dropout off, until a move declares that it changes that."""
    dtype = data.draw(st.sampled_from((torch.float64, torch.float32)))
    net = data.draw(networks(most=2, dtype=dtype))
    net = ripe(net) if data.draw(st.booleans()) else net
    batches, parents, chain = some_batches(net), [net], []
    for step in range(data.draw(st.integers(1, 6))):
        site = draw_site(data, parents[-1])
        if site is None:
            break
        chain.append(site)
        parents.append(morphs.apply(parents[-1], site, seed=step, batches=batches, measure=False).network)
    last = parents.pop()
    found = morphs.drift(net, last)
    changed = [site for site in chain if site.preserves is not Preserves.EXACT]
    in_train = all(isinstance(site, morphs.InsertDropout) for site in changed)
    drifts = {"eval": found.eval, "train": found.train} if in_train else {"eval": found.eval}
    if dtype == torch.float64:
        assert max(drifts.values()) <= BOUND64
    else:  # each step may add what its parent's precision explains
        steps = [allowance(parent, measure=max(drifts.values()) > BOUND32) for parent in parents]
        assert all(drift <= sum(getattr(step, mode) for step in steps) for mode, drift in drifts.items())
    text = "; ".join(str(site) for site in chain)
    replayed = [child.network for child in morphs.apply_chain(net, text, batches=batches, measure=False)]
    assert not chain or replayed[-1].digest == last.digest


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
def test_moves_are_frozen_values_that_say_what_they_are(move):
    assert dataclasses.is_dataclass(move)
    assert move.summary
    assert move.__dataclass_params__.frozen
    assert move.__doc__
