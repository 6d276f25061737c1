"""The arms of the Network Morphism experiments: which network, grown from which, trained for how long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch

import morphs
from morphs import Deepen, Network, Widen

SOFTMAX = """
    x = input(size=[1, 28, 28])
    f = flatten(x)
    fc = linear(f, features=10)
    y = output(fc)
"""

# Caffe pools before the first ReLU. The maximum and ReLU commute, so this order computes the same, and the layers that
# both methods insert then stand at the same place.
CIFAR_111 = """
    x = input(size=[3, 32, 32])
    c1 = conv2d(x, channels=32, kernel=5, padding=2)
    r1 = relu(c1)
    p1 = max_pool2d(r1, kernel=3, stride=2, ceil_mode=true)
    c2 = conv2d(p1, channels=32, kernel=5, padding=2)
    r2 = relu(c2)
    p2 = avg_pool2d(r2, kernel=3, stride=2, ceil_mode=true)
    c3 = conv2d(p2, channels=64, kernel=5, padding=2)
    r3 = relu(c3)
    p3 = avg_pool2d(r3, kernel=3, stride=2, ceil_mode=true)
    f = flatten(p3)
    fc1 = linear(f, features=64)
    fc2 = linear(fc1, features=10)
    y = output(fc2)
"""

Made = tuple[Network, float]  # the arm's network before its training, and its drift from what it grew from
Make = Callable[[Network, int], Made]


@dataclass(frozen=True)
class Length:
    """How long a setting trains. Epochs; `mnist` and `cifar` are (the parent, each child); points on a curve."""

    mnist: tuple[float, float]
    cifar: tuple[float, float]
    points: int
    images: int | None = None  # of validation and test split each; None is all


@dataclass(frozen=True)
class Arm:
    """One network and its training.

    after:   the arm whose trained network `make` turns into this one; None starts from `seed` with fresh weights.
    cost_of: the arms whose multiply-adds together this arm gets; empty for a parent's or a child's own epochs.
    paper:   the paper's accuracy in percent, None where it gives none.
    """

    name: str
    data: str
    seed: str
    make: Make
    after: str | None = None
    cost_of: tuple[str, ...] = ()
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


PRELU = moves(netmorph("fc", 50, 1))
PTANH = moves(netmorph("fc", 50, 1, "tanh"))
TO_211 = moves(netmorph("c1", 128, 5))
TO_222 = moves(netmorph("c2", 128, 5), netmorph("c3", 256, 5))
BOTH = moves(netmorph("c1", 128, 5), netmorph("c2", 128, 5), netmorph("c3", 256, 5))

ARMS = (
    Arm("softmax", "mnist", SOFTMAX, as_it_is, paper=92.29),
    Arm("MLP PReLU, NetMorph", "mnist", SOFTMAX, PRELU, "softmax", paper=97),
    Arm("MLP PReLU, Net2Net, equal shares", "mnist", SOFTMAX, net2net_equal, "softmax", paper=94),
    Arm("MLP PReLU, Net2Net, unequal shares", "mnist", SOFTMAX, identity_mlp, "softmax"),
    Arm("MLP PReLU, identity layer of 10 units", "mnist", SOFTMAX, identity_ten, "softmax"),
    Arm("MLP PTanH, NetMorph", "mnist", SOFTMAX, PTANH, "softmax", paper=97),
    Arm("MLP PReLU from scratch", "mnist", SOFTMAX, afresh(PRELU), None, ("softmax", "MLP PReLU, NetMorph")),
    Arm("MLP PTanH from scratch", "mnist", SOFTMAX, afresh(PTANH), None, ("softmax", "MLP PTanH, NetMorph")),
    Arm("cifar_111", "cifar10", CIFAR_111, as_it_is, paper=78.15),
    Arm("cifar_211, NetMorph", "cifar10", CIFAR_111, TO_211, "cifar_111", paper=82.06),
    Arm("cifar_211, Net2Net", "cifar10", CIFAR_111, moves(*net2net("c1", "r1", 128)), "cifar_111", paper=81.21),
    Arm("cifar_222, NetMorph", "cifar10", CIFAR_111, TO_222, "cifar_211, NetMorph", paper=82.43),
    Arm(
        "cifar_222, Net2Net", "cifar10", CIFAR_111,
        moves(*net2net("c2", "r2", 128), *net2net("c3", "r3", 256)), "cifar_211, Net2Net", paper=81.99,
    ),
    Arm(
        "cifar_211 from scratch", "cifar10", CIFAR_111, afresh(TO_211), None, ("cifar_111", "cifar_211, NetMorph"),
    ),
    Arm(
        "cifar_222 from scratch", "cifar10", CIFAR_111, afresh(BOTH), None,
        ("cifar_111", "cifar_211, NetMorph", "cifar_222, NetMorph"),
    ),
    Arm(
        "cifar_111, trained on", "cifar10", CIFAR_111, as_it_is, "cifar_111",
        ("cifar_211, NetMorph", "cifar_222, NetMorph"),
    ),
)  # fmt: skip
BY_NAME: Mapping[str, Arm] = {arm.name: arm for arm in ARMS}


@cache
def macs(name: str) -> int:
    """Forward multiply-adds of an arm's network for one image."""
    return morphs.cost(untrained(name).graph).macs


@cache
def untrained(name: str) -> Network:
    """The arm's network grown from untrained ancestors: its architecture."""
    arm = BY_NAME[name]
    before = untrained(arm.after) if arm.after else morphs.init(morphs.parse_graph(arm.seed))
    return arm.make(before, 0)[0]


def epochs(name: str, length: Length) -> float:
    """Epochs of an arm: its own, or as many as cost what the named arms cost together."""
    arm = BY_NAME[name]
    if arm.cost_of:
        return sum(epochs(other, length) * macs(other) for other in arm.cost_of) / macs(name)
    own = length.mnist if arm.data == "mnist" else length.cifar
    return own[arm.after is not None]
