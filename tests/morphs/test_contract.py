"""The contract: what holds of every move in the registry, on every network that Hypothesis finds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import MENUS, networks, ripe, some_batches

import morphs
from morphs import testing
from morphs.drift import BOUND32, BOUND64, allowance
from morphs.move import Preserves


def sites_of(move: type[morphs.Move], net: morphs.Network) -> list[morphs.Move]:
    return list(move.sites(net, options=MENUS.get(move.name)))


def grown(move: type[morphs.Move], net: morphs.Network) -> morphs.Network:
    """`net` with weights at which the move has sites."""
    return net if move.check_weights is morphs.Move.check_weights else ripe(net)


def drawn(move: type[morphs.Move], data, **kinds) -> tuple[morphs.Network, morphs.Move] | None:
    """A network and a site of the move on it, if it has one."""
    net = grown(move, data.draw(networks(**kinds)))
    sites = sites_of(move, net)
    return (net, data.draw(st.sampled_from(sites))) if sites else None


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@given(data=st.data())
def test_a_move_makes_the_child_it_declares(move, dtype, data):
    found = drawn(move, data, dtype=dtype)
    if found is None:
        return
    net, site = found
    child = testing.check_child(net, site, data.draw(st.integers(0, 9)))
    assert child.network.graph == site.reshape(net.graph), "listing and applying disagree"
    assert list(child.network.weights) == list(child.network.graph.params)
    if dtype == torch.float64 and site.preserves is not Preserves.APPROXIMATE:
        assert child.drift.eval <= 1e-10
        assert site.preserves is not Preserves.EXACT or child.drift.train <= 1e-10
    assert all(t.dtype == dtype for t in child.network.weights.values() if t.is_floating_point())


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
@given(net=networks(), params=st.sampled_from((None, 200)))
def test_every_candidate_is_a_site_that_reads_back_or_refused_with_a_reason(move, net, params):
    limits = morphs.Limits(params=params)
    for site in testing.check_listing(move, grown(move, net), limits, MENUS.get(move.name))[:20]:
        testing.check_text(site)


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
def test_every_move_passes_the_public_contract(move):
    testing.check_move(move, options=MENUS.get(move.name), seeds=(3,))


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
    bound = (
        BOUND64 if dtype == torch.float64 else BOUND32
    )  # each step may add what its parent's precision explains
    steps = [allowance(parent, measure=max(drifts.values()) > bound) for parent in parents]
    assert all(drift <= sum(getattr(step, mode) for step in steps) for mode, drift in drifts.items())
    text = "; ".join(str(site) for site in chain)
    replayed = [child.network for child in morphs.apply_chain(net, text, batches=batches, measure=False)]
    assert not chain or replayed[-1].digest == last.digest
