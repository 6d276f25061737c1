"""What an arm of the Network Morphism experiments is, and the ways to make its network from another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

import morphs
from morphs import Deepen, Network, Widen

Made = tuple[Network, float]  # the arm's network before its training, and its drift from what it grew from
Make = Callable[[Network, int], Made]


@dataclass(frozen=True)
class Arm:
    """One network and its training.

    figure:  the figure or section of the paper, by which arms are chosen and drawn together.
    after:   the arm whose trained network `make` turns into this one; None starts from `seed` with fresh weights.
    cost_of: the arms whose multiply-adds together this arm gets; empty for a parent's or a child's own epochs.
    times:   so many times over.
    paper:   the paper's accuracy in percent, None where it gives none.
    """

    name: str
    figure: str
    seed: str
    make: Make
    after: str | None = None
    cost_of: tuple[str, ...] = ()
    times: int = 1
    paper: float | None = None


def moves(*chain: str) -> Make:
    """Apply a chain of moves."""

    def make(network: Network, seed: int) -> Made:
        for child in morphs.apply_chain(network, "; ".join(chain), seed=seed, measure=False):
            grown = child.network
        found = morphs.drift(network, grown)
        return grown, max(found.eval, found.train)

    return make


def as_it_is(network: Network, seed: int) -> Made:
    """Train the network on."""
    return network, 0.0


def afresh(make: Make) -> Make:
    """The network that `make` builds, with fresh weights (P-activations start at a = 0, plain φ)."""

    def build(network: Network, seed: int) -> Made:
        return morphs.init(make(network, seed)[0].graph, seed), 0.0

    return build


def net2net_equal(network: Network, seed: int) -> Made:
    """IdMorph of softmax regression as published: an identity after G (equation 8, a P-activation at a = 1 between),
    then 50 units that copy the 10 at random and share the outgoing weights equally (Net2Net §2.2, without its optional
    noise). Copies then get equal gradients, and only rounding parts them."""
    grown, _ = identity_mlp(network, seed)
    first, act = hidden(grown)
    draws = torch.Generator().manual_seed(seed)
    source = torch.cat([torch.arange(10), torch.randint(10, (40,), generator=draws)])
    share = 1 / source.bincount()[source]
    weights = {
        **grown.weights,
        (first, "weight"): network.weights["fc", "weight"][source],
        (first, "bias"): network.weights["fc", "bias"][source],
        ("fc", "weight"): torch.eye(10)[:, source] * share,
        (act, "a"): torch.ones(50),
    }
    return measured(network, Network(grown.graph, weights))


def identity_mlp(network: Network, seed: int) -> Made:
    """As `net2net_equal`, but widened by our `Widen`, whose copies share the outgoing weights unequally."""
    grown = identity_ten(network, seed)[0]
    wide = morphs.apply(grown, Widen(hidden(grown)[0], 50), seed=seed, measure=False)
    return measured(network, wide.network)


def identity_ten(network: Network, seed: int) -> Made:
    """Only the identity layer: ten hidden units, what copies that never part would amount to."""
    graph = Deepen("fc", "netmorph", channels=10).reshape(network.graph)
    blank = morphs.init(graph)
    first, act = hidden(blank)
    weights = {
        (first, "weight"): network.weights["fc", "weight"],
        (first, "bias"): network.weights["fc", "bias"],
        (act, "a"): torch.ones(10),
        ("fc", "weight"): torch.eye(10),
        ("fc", "bias"): torch.zeros(10),
    }
    return measured(network, Network(graph, weights))


def hidden(network: Network) -> tuple[str, str]:
    """The names of the hidden layer and of its activation."""
    (first,) = {node.name for node in network.graph if node.op.kind == "linear"} - {"fc"}
    (act,) = {node.name for node in network.graph if node.op.kind == "p_activation"}
    return first, act


def measured(parent: Network, child: Network) -> Made:
    """The child with its drift."""
    found = morphs.drift(parent, child)
    return child, max(found.eval, found.train)


def netmorph(node: str, channels: int, kernel: int, activation: str = "relu") -> str:
    """The factoring of one layer into `kernel` and 1 x 1, with a P-activation between (Algorithm 2)."""
    return (
        f"deepen(node={node}, how=netmorph, channels={channels}, kernel=[{kernel}, {kernel}], "
        f"activation={activation})"
    )


def net2net(node: str, relu: str, channels: int) -> tuple[str, str]:
    """Net2Net to the same architecture: a 1 x 1 identity and a plain ReLU (idempotent) after `relu`, then width."""
    return (
        f"deepen(node={relu}, how=identity, kernel=[1, 1], activation=relu)",
        f"widen(node={node}, to={channels}, how=replicate)",
    )
