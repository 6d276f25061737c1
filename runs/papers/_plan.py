"""The arms of each figure, at the width and for the length of a setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from _arms import (
    Arm,
    afresh,
    as_it_is,
    identity_mlp,
    identity_ten,
    moves,
    net2net,
    net2net_equal,
    netmorph,
)
from _vgg import vgg

import morphs
from morphs import Network

MNIST, CIFAR, VGG = (
    "mnist",
    "cifar",
    "vgg",
)  # kinds of networks: each has its data, its length, and its training
KINDS = {"7": MNIST, "8": CIFAR, "9": CIFAR, "4": VGG}  # by the first letter of a figure's or section's name


@dataclass(frozen=True)
class Setting:
    """Epochs of parents and of each child, by the kind of network; points on a curve.

    narrow: how many times narrower than in the paper the networks for CIFAR-10 are; VGG twice as much.
    """

    mnist: tuple[float, float]
    cifar: tuple[float, float]
    vgg: tuple[float, float]
    narrow: int
    points: int
    images: int | None = None  # of validation and test split each; None is all


SETTINGS: Mapping[str, Setting] = {
    "hour": Setting(mnist=(10, 36), cifar=(4, 1), vgg=(4, 1), narrow=1, points=6),
    "narrow": Setting(mnist=(10, 36), cifar=(40, 12), vgg=(20, 4), narrow=4, points=24),
    "full": Setting(
        mnist=(91, 91), cifar=(80, 80), vgg=(80, 16), narrow=1, points=80
    ),  # 50,000, 40,000 iterations
    "quick": Setting(mnist=(0.1, 0.1), cifar=(0.02, 0.01), vgg=(0.01, 0.005), narrow=4, points=2, images=200),
}

STAGE_ENDS = (("c2", 1), ("c4", 2), ("c7", 4))  # VGG16's, and their widths in units of the first stage's

SOFTMAX = """
    x = input(size=[1, 28, 28])
    f = flatten(x)
    fc = linear(f, features=10)
    y = output(fc)
"""


def cifar_111(n: int) -> str:
    """Caffe's cifar10_quick, n = 32 channels wide in the paper.

    Caffe pools before the first ReLU. The maximum and ReLU commute, so this order computes the same, and the layers
    that both methods insert then stand at the same place.
    """
    return f"""
    x = input(size=[3, 32, 32])
    c1 = conv2d(x, channels={n}, kernel=5, padding=2)
    r1 = relu(c1)
    p1 = max_pool2d(r1, kernel=3, stride=2, ceil_mode=true)
    c2 = conv2d(p1, channels={n}, kernel=5, padding=2)
    r2 = relu(c2)
    p2 = avg_pool2d(r2, kernel=3, stride=2, ceil_mode=true)
    c3 = conv2d(p2, channels={2 * n}, kernel=5, padding=2)
    r3 = relu(c3)
    p3 = avg_pool2d(r3, kernel=3, stride=2, ceil_mode=true)
    f = flatten(p3)
    fc1 = linear(f, features={2 * n})
    fc2 = linear(fc1, features=10)
    y = output(fc2)
"""


def cifar_base(n: int, phi: str = "relu") -> str:
    """A 1×1 layer after each convolution of cifar_111, as wide as it (Table 1): cifar_222, only narrower."""
    text, read = ["x = input(size=[3, 32, 32])"], "x"
    for stage, (width, pool) in enumerate(((n, "max"), (n, "avg"), (2 * n, "avg")), start=1):
        text += [
            f"c{stage} = conv2d({read}, channels={width}, kernel=5, padding=2)",
            f"a{stage} = {phi}(c{stage})",
            f"k{stage} = conv2d(a{stage}, channels={width}, kernel=1)",
            f"r{stage} = {phi}(k{stage})",
            f"p{stage} = {pool}_pool2d(r{stage}, kernel=3, stride=2, ceil_mode=true)",
        ]
        read = f"p{stage}"
    text += [f"f = flatten({read})", f"fc1 = linear(f, features={2 * n})", "fc2 = linear(fc1, features=10)"]
    return "\n".join([*text, "y = output(fc2)"])


def figure_7() -> tuple[Arm, ...]:
    """Softmax regression grows a hidden layer of 50 units."""
    prelu, ptanh = moves(netmorph("fc", 50, 1)), moves(netmorph("fc", 50, 1, "tanh"))
    return (
        Arm("softmax", "7", SOFTMAX, as_it_is, paper=92.29),
        Arm("MLP PReLU, NetMorph", "7", SOFTMAX, prelu, "softmax", paper=97),
        Arm("MLP PReLU, Net2Net, equal shares", "7", SOFTMAX, net2net_equal, "softmax", paper=94),
        Arm("MLP PReLU, Net2Net, unequal shares", "7", SOFTMAX, identity_mlp, "softmax"),
        Arm("MLP PReLU, identity layer of 10 units", "7", SOFTMAX, identity_ten, "softmax"),
        Arm("MLP PTanH, NetMorph", "7", SOFTMAX, ptanh, "softmax", paper=97),
        Arm("MLP PReLU from scratch", "7", SOFTMAX, afresh(prelu), None, ("softmax", "MLP PReLU, NetMorph")),
        Arm("MLP PTanH from scratch", "7", SOFTMAX, afresh(ptanh), None, ("softmax", "MLP PTanH, NetMorph")),
    )  # fmt: skip


def figure_8(n: int) -> tuple[Arm, ...]:
    """cifar_111 → 211 → 222 by depth, → 2222 → 3333 by subnets. From scratch: for the whole chain's multiply-adds."""
    seed = cifar_111(n)
    to_211 = (netmorph("c1", 4 * n, 5),)
    to_222 = (netmorph("c2", 4 * n, 5), netmorph("c3", 8 * n, 5))
    # c3 is the last 1×1 layer of the third subnet, which becomes that of a fourth one; conv4 takes its place.
    to_2222 = (f'subnet(node=c3, template="(1:{2 * n})(5:{8 * n})(1:{2 * n})", activation=relu)',)
    to_3333 = tuple(
        netmorph(node, width * n, 3) for node, width in (("c1", 4), ("c2", 4), ("conv4", 8), ("c3", 8))
    )
    chain = (
        "cifar_111",
        "cifar_211, NetMorph",
        "cifar_222, NetMorph",
        "cifar_2222, NetMorph",
        "cifar_3333, NetMorph",
    )
    steps = (to_211, to_222, to_2222, to_3333)
    grown = [moves(*(move for step in steps[:count] for move in step)) for count in (1, 2, 3, 4)]
    return (
        Arm(chain[0], "8 (a)", seed, as_it_is, paper=78.15),
        Arm(chain[1], "8 (a)", seed, moves(*to_211), chain[0], paper=82.06),
        Arm("cifar_211, Net2Net", "8 (a)", seed, moves(*net2net("c1", "r1", 4 * n)), chain[0], paper=81.21),
        Arm("cifar_211 from scratch", "8 (a)", seed, afresh(grown[0]), None, chain[:2]),
        Arm(chain[2], "8 (b)", seed, moves(*to_222), chain[1], paper=82.43),
        Arm(
            "cifar_222, Net2Net", "8 (b)", seed,
            moves(*net2net("c2", "r2", 4 * n), *net2net("c3", "r3", 8 * n)), "cifar_211, Net2Net", paper=81.99,
        ),
        Arm("cifar_222 from scratch", "8 (b)", seed, afresh(grown[1]), None, chain[:3]),
        Arm("cifar_111, trained on", "8 (b)", seed, as_it_is, chain[0], chain[1:3]),
        Arm(chain[3], "8 (c)", seed, moves(*to_2222), chain[2], paper=83.14),
        Arm("cifar_2222 from scratch", "8 (c)", seed, afresh(grown[2]), None, chain[:4]),
        Arm(chain[4], "8 (d)", seed, moves(*to_3333), chain[3], paper=84),
        Arm("cifar_3333 from scratch", "8 (d)", seed, afresh(grown[3]), None, chain),
        Arm("cifar_222, trained on", "8 (d)", seed, as_it_is, chain[2], chain[3:]),
    )  # fmt: skip


def figure_9(n: int) -> tuple[Arm, ...]:
    """cifar_base → ksize → width, and width alone with tanh."""
    seed, tanh = cifar_base(n), cifar_base(n, "tanh")
    ksize = [f"grow_kernel(node=k{stage}, to=[3, 3])" for stage in (1, 2, 3)]
    chain = ("cifar_base", "cifar_ksize, NetMorph", "cifar_width, NetMorph")

    def wider(how: str) -> list[str]:
        return [
            f"widen(node=c{stage}, to={width}, how={how})"
            for stage, width in ((1, 2 * n), (2, 2 * n), (3, 4 * n))
        ]

    return (
        Arm(chain[0], "9 (a)", seed, as_it_is, paper=81.48),
        Arm(chain[1], "9 (a)", seed, moves(*ksize), chain[0], paper=82.81),
        Arm("cifar_ksize from scratch", "9 (a)", seed, afresh(moves(*ksize)), None, chain[:2]),
        Arm("cifar_base, trained on", "9 (a)", seed, as_it_is, chain[0], chain[1:2]),
        Arm(chain[2], "9 (b)", seed, moves(*wider("zero")), chain[1], paper=83.09),
        Arm("cifar_width, Net2Net", "9 (b)", seed, moves(*wider("replicate")), chain[1], paper=82.70),
        Arm("cifar_width from scratch", "9 (b)", seed, afresh(moves(*ksize, *wider("zero"))), None, chain),
        Arm("cifar_ksize, trained on", "9 (b)", seed, as_it_is, chain[1], chain[2:]),
        Arm("cifar_base TanH", "9 TanH", tanh, as_it_is),
        Arm("cifar_base TanH, wider, NetMorph", "9 TanH", tanh, moves(*wider("zero")), "cifar_base TanH"),
        Arm(
            "cifar_base TanH, trained on", "9 TanH", tanh, as_it_is, "cifar_base TanH",
            ("cifar_base TanH, wider, NetMorph",),
        ),
    )  # fmt: skip


def section_44(n: int) -> tuple[Arm, ...]:
    """VGG16, whose first three stages get a convolution more; and its rivals, for several times the child's cost."""
    seed, grow = (
        vgg("vgg16", n, "relu"),
        moves(*(netmorph(node, 4 * n * times, 3) for node, times in STAGE_ENDS)),
    )
    child = "VGG16, NetMorph"
    return (
        Arm("VGG16", "4.4", seed, as_it_is),
        Arm(child, "4.4", seed, grow, "VGG16"),
        *(Arm(f"VGG16, trained on, {k} times", "4.4", seed, as_it_is, "VGG16", (child,), k) for k in (1, 2, 4)),
        *(Arm(f"grown VGG16 from scratch, {k} times", "4.4", seed, afresh(grow), None, (child,), k)
          for k in (1, 2, 4, 8, 16)),
    )  # fmt: skip


@cache
def arms_of(setting: str) -> Mapping[str, Arm]:
    """All arms at the width of a setting, by name; those that others grow from come first."""
    narrow = SETTINGS[setting].narrow
    cifar = (*figure_8(32 // narrow), *figure_9(32 // narrow), *section_44(64 // narrow // min(narrow, 2)))
    return {arm.name: arm for arm in (*figure_7(), *cifar)}


def kind_of(arm: Arm) -> str:
    """The kind of network of an arm."""
    return KINDS[arm.figure[0]]


@cache
def macs(setting: str, name: str) -> int:
    """Forward multiply-adds of an arm's network for one image."""
    return morphs.cost(untrained(setting, name).graph).macs


@cache
def untrained(setting: str, name: str) -> Network:
    """The arm's network grown from untrained ancestors: its architecture."""
    arm = arms_of(setting)[name]
    before = untrained(setting, arm.after) if arm.after else morphs.init(morphs.parse_graph(arm.seed))
    return arm.make(before, 0)[0]


def epochs(setting: str, name: str) -> float:
    """Epochs of an arm: its own, or as many as cost what the named arms cost together."""
    arm, length = arms_of(setting)[name], SETTINGS[setting]
    if arm.cost_of:
        cost = sum(epochs(setting, other) * macs(setting, other) for other in arm.cost_of)
        return arm.times * cost / macs(setting, name)
    own = {MNIST: length.mnist, CIFAR: length.cifar, VGG: length.vgg}[kind_of(arm)]
    return own[arm.after is not None]
