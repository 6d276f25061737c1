"""Hypothesis strategies: graphs that use the whole vocabulary, and networks with weights unlike fresh ones.

`graphs()` draws an architecture, `networks()` gives it weights: batch norms with statistics of a trained net,
P-activations with a strictly between 0 and 1, biases and scales away from their neutral values.
"""

import torch
from hypothesis import strategies as st

import morphs
from morphs.graph.activations import ACTIVATIONS, BUILT_IN
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import (
    Activation,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Add,
    Aten,
    Attention,
    AvgPool2d,
    BatchNorm,
    Concat,
    Conv,
    Conv2d,
    ConvTranspose,
    Dropout,
    Embedding,
    Flatten,
    GroupNorm,
    Held,
    Input,
    InstanceNorm,
    LayerNorm,
    Lerp,
    Linear,
    MaxPool2d,
    Mean,
    Multiply,
    NormedLayer,
    Op,
    Output,
    PActivation,
    Parameter,
    Permute,
    Pool,
    Recurrent,
    Reshape,
    RMSNorm,
    Scale,
    Select,
    Slice,
    Unembedding,
)  # fmt: skip
from morphs.testing import random_network as lively
from morphs.testing import some_batches
from morphs.testing import with_exact_zeros as ripe

__all__ = [
    "graphs",
    "image_networks",
    "lively",
    "networks",
    "ripe",
    "signal_graphs",
    "some_batches",
    "token_graphs",
    "vector_graphs",
]

MENUS = {  # small, so that every kind of choice comes up often
    "grow_kernel": {"by": ((2, 2), (2, 0), (0, 2))},
    "deepen": {
        "how": ("identity", "netmorph"), "activation": ("relu", "tanh"), "kernels": ((1, 1), (3, 3), (3, 1)),
        "min_channels": (1,), "groups": (None, "depthwise"), "norm": (False, False, True),
    },
    "compact": {"how": ("alg1", "alg2", "alg3", "random"), "activation": ("relu", "sigmoid"), "rows": (60,)},
    "widen": {"factor": (1.5, 2, 3), "how": ("replicate", "zero", "paired")},
    "widen_all": {"factor": (1.5, 2), "how": ("replicate", "zero", "paired")},
    "add_skip": {"how": ("add", "convex", "concat"), "project": (False, True)},
    "subnet": {"template": (
        "mlpconv", "inception", "residual", "(K:3C)(3:2C)(1x3)", "() + (1:C/2)(3) + (K:C)(1)", "(1:6C)(K:2C) + (K)",
    )},
    "insert_block": {
        "kind": ("single", "basic", "bottleneck", "inverted"), "how": ("zero", "paired", "scaled"),
        "kernels": ((3, 3), (1, 3)),
    },
    "squeeze_excite": {"min_channels": (1,), "activation": ("silu", "relu")},
    "add_block": {"part": ("attention", "mlp", "both"), "ratio": (0.5, 2), "gated": (False, True)},
}  # fmt: skip


class Builder:
    """Collects nodes; `add` names them and returns the name, `shape` tells what it writes."""

    def __init__(self, draw) -> None:
        self.draw = draw
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def add(self, op: Op, *inputs: str, owner: str = "", name: str = "") -> str:
        name = name or f"{op.kind[:4]}{len(self.nodes)}"
        self.shapes[name] = op.shape(tuple(self.shapes[i] for i in inputs))
        self.nodes.append(Node(name, op, inputs, owner))
        return name

    def pick(self, *values):
        return self.draw(st.sampled_from(values))

    def width(self) -> int:
        return self.draw(st.integers(1, 5))

    def norm(self, x: str) -> str:
        if not self.pick(True, False):
            return x
        return self.add(
            BatchNorm(affine=self.pick(True, True, False), track_running_stats=self.pick(True, True, False)),
            x,
        )

    def act(self, x: str) -> str:
        fn = self.pick("relu", "relu", *BUILT_IN)
        args = tuple(default * 1.5 for _, default in ACTIVATIONS[fn].args) if self.pick(True, False) else ()
        if self.pick(True, False):
            return self.add(PActivation(fn, args, per_channel=self.pick(True, False)), x)
        return self.add(Activation(fn, args), x)

    def conv(
        self,
        x: str,
        channels: int,
        same: bool = False,
        kernel: tuple[int, int] | None = None,
        groups: int = 1,
    ) -> str:
        """A convolution; with `same` it keeps the size of its map."""
        _, h, w = self.shapes[x]
        kernel = kernel or self.pick((1, 1), (3, 3), (3, 1), (1, 3))
        dilation = (1, 1) if same else self.pick((1, 1), (1, 1), (2, 1))
        padding = (kernel[0] // 2, kernel[1] // 2)
        mode = self.pick("zeros", "zeros", "reflect", "replicate", "circular")
        if any(p and p >= n for p, n in zip(padding, (h, w), strict=True)):
            mode = "zeros"
        if not same and any(
            n + 2 * p < d * (k - 1) + 1 for n, p, d, k in zip((h, w), padding, dilation, kernel, strict=True)
        ):
            dilation = (1, 1)
        stride = (1, 1) if same else self.pick((1, 1), (1, 1), (2, 2), (2, 1))
        return self.add(
            Conv2d(channels, kernel, stride, padding, mode, dilation, groups, self.pick(True, False)), x
        )


def chain(b: Builder, x: str) -> str:
    return b.act(b.norm(b.conv(x, b.width())))


def residual(b: Builder, x: str) -> str:
    width = b.shapes[x][0]
    inner = b.act(b.norm(b.conv(x, b.width(), same=True)))
    out = b.norm(b.conv(inner, width, same=True))
    terms = [x, out, *([b.conv(x, width, same=True)] if b.pick(True, False) else [])]
    if len(terms) == 2 and b.pick(True, False):
        return b.act(b.add(Lerp(per_channel=b.pick(True, False)), *terms))
    return b.act(b.add(Add(), *terms))


def dense(b: Builder, x: str) -> str:
    """Concatenation; sometimes added to one wide convolution, which splits that one into two groups."""
    left, right = b.conv(x, b.width(), same=True), b.act(b.conv(x, b.width(), same=True))
    both = b.add(Concat(), left, right, *([x] if b.pick(True, False) else []))
    if b.pick(True, False):
        both = b.add(Add(), both, b.conv(x, b.shapes[both][0], same=True))
    return b.norm(both)


def depthwise(b: Builder, x: str) -> str:
    width = b.shapes[x][0]
    if width == 1:
        x = b.conv(x, width := 3, same=True)
    out = b.norm(b.conv(x, width * b.pick(1, 2), kernel=(3, 3), same=True, groups=width))
    return b.act(b.conv(out, b.width(), kernel=(1, 1)))


def grouped(b: Builder, x: str) -> str:
    """Convolutions whose groups differ up- and downstream."""
    wide = b.act(b.conv(x, 12, same=True))
    out = b.norm(b.conv(wide, 12, same=True, groups=b.pick(2, 3, 4)))
    return b.act(b.conv(out, b.pick(6, 12), same=True, groups=b.pick(1, 2, 3, 6)))


def squeeze(b: Builder, x: str) -> str:
    """Squeeze and excitation: a gate (C, 1, 1) multiplied in; or one gate for all channels."""
    width = b.shapes[x][0]
    gate = b.add(
        Activation("relu"), b.conv(b.add(AdaptiveAvgPool2d(), x), b.width(), kernel=(1, 1), same=True)
    )
    gate = b.add(Activation("sigmoid"), b.conv(gate, b.pick(width, 1), kernel=(1, 1), same=True))
    return b.add(Multiply(), x, gate)


def shared(b: Builder, x: str) -> str:
    """One convolution (and sometimes one norm) called twice."""
    width = b.shapes[x][0]
    first = b.conv(x, width, same=True)
    between = b.act(first)
    owner = next(node for node in b.nodes if node.name == first)
    second = b.add(owner.op, between, owner=first)
    if b.pick(True, False):
        norm = b.add(BatchNorm(), first)
        second = b.add(BatchNorm(), second, owner=norm)
        return b.add(Add(), norm, second, between)
    return second


def pool(b: Builder, x: str) -> str:
    _, h, w = b.shapes[x]
    if min(h, w) < 2:
        return b.add(Scale(per_channel=b.pick(True, False)), x)
    ceil = b.pick(True, False)
    if b.pick(True, False):
        return b.add(MaxPool2d((2, 2), b.pick((2, 2), (1, 1)), ceil_mode=ceil), x)
    return b.add(AvgPool2d((2, 2), b.pick((2, 2), (1, 2)), (b.pick(0, 1), 0), ceil, b.pick(True, False)), x)


def operator(b: Builder, name: str, args: str, size: tuple[int, ...], *reads: str) -> str:
    """An operator of PyTorch that the vocabulary doesn't know; `args`: what follows its tensors."""
    tensors = ",".join(f'{{"tensor":{place}}}' for place in range(len(reads)))
    return b.add(Aten(f"aten.{name}", f"[{tensors}{args and ','}{args}]", "{}", size), *reads)


def unknown(b: Builder, x: str) -> str:
    """An operator on a map: on each element, each channel, each place of H and W, or across channels."""
    c, h, w = b.shapes[x]
    match b.pick("elements", "channels", "places", "across", "held"):
        case "elements":
            return operator(b, "hardsigmoid.default", "", (), x)
        case "channels":
            return operator(b, "upsample_nearest2d.default", f"[{h + 1},{w}]", (-1, 0, h + 1, w), x)
        case "places":
            return operator(b, "roll.default", "[1],[2]", (-1, 0, h, 0), x)
        case "across":
            return operator(b, "softmax.int", "1", (-1, c, 0, 0), x)
        case _:
            held = b.add(Held((1, 1, 1, w), b.pick("parameter", "buffer")))
            return operator(b, "mul.Tensor", "", (-1, 0, 0, w), x, held)


def normed(b: Builder, x: str) -> str:
    """Convolutions that compute their weight, with an instance norm between."""
    groups = b.pick(1, 1, 2)
    for channels in (4, b.pick(2, 6)):
        how = b.pick("norm", "standard")
        gain, eps = how == "norm" or b.pick(True, True, False), 0.0 if how == "norm" else 1e-4
        fields = {"padding": (1, 1), "bias": b.pick(True, False), "how": how, "gain": gain, "eps": eps}
        wide = b.shapes[x][0] % groups == 0
        x = b.add(NormedLayer(channels, (3, 3), groups=groups if wide else 1, **fields), x)
        several = b.shapes[x][1] * b.shapes[x][2] > 1
        x = b.add(InstanceNorm(affine=b.pick(True, False)), x) if several and b.pick(True, False) else x
        x = b.act(x)
    return x


def pixels(b: Builder, x: str) -> str:
    """Pixels made of channels, perhaps channels again."""
    _, h, w = b.shapes[x]
    x = b.conv(x, 4 * (channels := b.width()), same=True)
    x = b.add(Permute((0, 3, 1, 4, 2)), b.add(Reshape((channels, 2, 2, h, w), 0), x))
    x = b.act(b.add(Reshape((channels, 2 * h, 2 * w)), x))
    if b.pick(True, False):
        return x
    x = b.add(Permute((0, 2, 4, 1, 3)), b.add(Reshape((channels, h, 2, w, 2)), x))
    return b.add(Reshape((4 * channels, h, w)), x)


BLOCKS = (chain, residual, dense, depthwise, grouped, squeeze, shared, pool, unknown, normed, pixels)


def tail(b: Builder, x: str) -> str:
    """Map to vector, and a linear layer or three."""
    if b.pick(True, False):
        x = b.add(b.pick(AdaptiveAvgPool2d(), AdaptiveMaxPool2d((2, 1))), x)
    x = b.add(Flatten(), x)
    for _ in range(b.pick(0, 1, 2)):
        x = b.act(b.norm(b.add(Linear(b.draw(st.integers(2, 6)), b.pick(True, False)), x)))
        x = b.add(Dropout(0.3), x) if b.pick(True, False) else x
    return b.add(Linear(3, b.pick(True, False)), x)


@st.composite
def graphs(draw, blocks=BLOCKS, most: int = 3) -> ArchGraph:
    """An architecture of one to `most` blocks and a tail; sometimes with a second input, or without a tail."""
    b = Builder(draw)
    size = (draw(st.integers(1, 3)), draw(st.integers(4, 7)), draw(st.integers(4, 7)))
    x = b.add(Input(size), name="x")
    for block in draw(st.lists(st.sampled_from(blocks), min_size=1, max_size=most)):
        x = block(b, x)
    if draw(st.sampled_from((False, False, False, True))):
        other = b.add(Input(b.shapes[x]), name="y")
        x = b.add(Add(), x, b.conv(other, b.shapes[x][0], same=True), x)
    x = b.conv(x, 2) if draw(st.sampled_from((False, False, False, True))) else tail(b, x)
    b.add(Output(), x, name="out")
    return ArchGraph(b.nodes)


@st.composite
def vector_graphs(draw) -> ArchGraph:
    """A multilayer perceptron, with or without a shortcut."""
    b = Builder(draw)
    x = b.add(Input((draw(st.integers(1, 6)),)), name="x")
    for _ in range(draw(st.integers(1, 3))):
        h = b.act(b.norm(b.add(Linear(b.width(), b.pick(True, False)), x)))
        x = b.add(Add(), h, b.add(Linear(b.shapes[h][0]), x)) if b.pick(True, False) else h
    b.add(Output(), b.add(Linear(2), x), name="out")
    return ArchGraph(b.nodes)


def token_act(b: Builder, x: str) -> str:
    """A non-linearity of tokens."""
    fn = b.pick("relu", "gelu", "silu", "tanh")
    if b.pick(True, False, False):
        return b.add(PActivation(fn, (), per_channel=True, axis=-1), x)
    return b.add(Activation(fn), x)


def token_norm(b: Builder, x: str) -> str:
    affine = b.pick(True, True, False)
    return b.add(b.pick(LayerNorm(affine=affine), LayerNorm(bias=False), RMSNorm(affine=affine)), x)


def attend(b: Builder, x: str) -> str:
    """Attention: fused or separate projections, grouped queries, with a shortcut or without."""
    tokens, width = b.shapes[x]
    heads, size = b.pick(1, 2, 3), b.pick(1, 2)
    shared = b.pick(1, 1, 2)
    queries = heads * shared

    def split(read: str, count: int) -> str:
        return b.add(Permute((1, 0, 2)), b.add(Reshape((tokens, count, size), 1), read))

    read = token_norm(b, x) if b.pick(True, True, False) else x
    if shared == 1 and b.pick(True, False):
        fused = b.add(Linear(3 * heads * size), read)
        turned = b.add(Permute((1, 2, 0, 3)), b.add(Reshape((tokens, 3, heads, size), 2), fused))
        parts = [b.add(Select(place), turned) for place in range(3)]
    elif b.pick(True, False):
        fused = b.add(Linear((queries + 2 * heads) * size), read)
        cuts = (0, queries, queries + heads, queries + 2 * heads)
        pieces = [b.add(Slice(cuts[i] * size, cuts[i + 1] * size), fused) for i in range(3)]
        parts = [split(piece, count) for piece, count in zip(pieces, (queries, heads, heads), strict=True)]
    else:
        counts = (queries, heads, heads)
        parts = [split(b.add(Linear(count * size, b.pick(True, False)), read), count) for count in counts]
    if size > 1 and b.pick(True, False, False):
        parts[0] = b.add(LayerNorm(), parts[0])
    spelled = shared == 1 and b.pick(True, False, False)
    made = spelled_out(b, *parts) if spelled else b.add(Attention(causal=b.pick(True, False)), *parts)
    out = b.add(Permute((1, 0, 2)), made)
    out = b.add(Linear(width, b.pick(True, False)), b.add(Reshape((tokens, queries * size)), out))
    out = b.add(Scale(axis=-1), out) if b.pick(True, False, False) else out
    return b.add(Add(), x, out) if b.pick(True, True, False) else out


def spelled_out(b: Builder, q: str, k: str, v: str) -> str:
    """Attention by operators, head by head."""
    _, tokens, size = b.shapes[q]
    scores = operator(b, "matmul.default", "", (-1, 0, tokens, tokens), q, b.add(Permute((0, 2, 1)), k))
    mask = b.add(Held((1, 1, tokens, tokens), "buffer"))
    scores = operator(b, "add.Tensor", "", (-1, 0, tokens, tokens), scores, mask)
    chances = operator(b, "softmax.int", "-1", (-1, 0, 0, tokens), scores)
    return operator(b, "matmul.default", "", (-1, 0, *b.pick((0, 0), (tokens, size))), chances, v)


def product(b: Builder, x: str) -> str:
    """Attention of one head by operators: the columns of its values are a width."""
    tokens, width = b.shapes[x]
    size = b.width()
    q, k, v = (b.add(Linear(n, b.pick(True, False)), x) for n in (size, size, b.width()))
    scores = operator(b, "matmul.default", "", (-1, 0, 0), q, b.add(Permute((1, 0)), k))
    made = operator(
        b, "matmul.default", "", (-1, 0, 0), operator(b, "softmax.int", "-1", (-1, 0, tokens), scores), v
    )
    return b.add(Add(), x, b.add(Linear(width), token_act(b, made)))


def feed(b: Builder, x: str) -> str:
    """An MLP on tokens, gated or not, pre-norm, post-norm or plain."""
    read = token_norm(b, x) if b.pick(True, True, False) else x
    wide = b.draw(st.integers(1, 6))
    inner = token_act(b, b.add(Linear(wide, b.pick(True, False)), read))
    if b.pick(True, False):
        inner = b.add(Multiply(), inner, b.add(Linear(wide), read))
    inner = b.add(Dropout(0.2), inner) if b.pick(True, False, False) else inner
    out = b.add(Add(), x, b.add(Linear(b.shapes[x][1]), inner))
    return token_norm(b, out) if b.pick(True, False, False) else out


def mix(b: Builder, x: str) -> str:
    """Linear layers across tokens, as in MLP-Mixer."""
    tokens = b.shapes[x][0]
    inner = token_act(b, b.add(Linear(b.draw(st.integers(1, 4))), b.add(Permute((1, 0)), x)))
    return b.add(Add(), x, b.add(Permute((1, 0)), b.add(Linear(tokens), inner)))


def recur(b: Builder, x: str) -> str:
    """A recurrent layer, with a shortcut where its width allows one."""
    width, layers = b.shapes[x][1], b.pick(1, 1, 2)
    features = b.pick(width, b.width())
    fields = {"layers": layers, "bias": b.pick(True, False), "dropout": 0.2 if layers > 1 else 0.0}
    out = b.add(Recurrent(features, b.pick("lstm", "gru", "tanh", "relu"), **fields), x)
    return b.add(Add(), x, out) if features == width and b.pick(True, False) else out


@st.composite
def token_graphs(draw) -> ArchGraph:
    """A transformer of one to three blocks on words or patches, its embedding tied or not."""
    b = Builder(draw)
    tokens, width = draw(st.integers(2, 4)), draw(st.integers(2, 6))
    words = b.pick(True, False)
    if words:
        x = b.add(Input((tokens,), 7), name="x")
        x = first = b.add(Embedding(7, width), x)
    else:
        image = b.add(Conv2d(width, (2, 2), (2, 2)), b.add(Input((3, 4, 2 * tokens)), name="x"))
        x = first = b.add(Permute((1, 0)), b.add(Reshape((width, 2 * tokens)), image))
        x = b.add(Concat(axis=0), b.add(Parameter((1, width)), name="cls"), x) if b.pick(True, False) else x
    x = b.add(Add(), x, b.add(Parameter(b.shapes[x]), name="pos")) if b.pick(True, False) else x
    x = (
        operator(b, "roll.default", "[1],[1]", (-1, b.shapes[x][0], 0), x)
        if b.pick(True, False, False)
        else x
    )
    for block in draw(
        st.lists(st.sampled_from((attend, feed, feed, mix, product, recur)), min_size=1, max_size=3)
    ):
        x = block(b, x)
    x = token_norm(b, x) if b.pick(True, True, False) else x
    if words and b.shapes[x][-1] == width and b.pick(True, False):
        x = b.add(Unembedding(7), x, owner=first)
    else:
        x = b.add(b.pick(Mean((0,)), Select(0)), x) if b.pick(True, False) else x
        x = b.add(Linear(3), x)
    b.add(Output(), x, name="out")
    return ArchGraph(b.nodes)


@st.composite
def signal_graphs(draw) -> ArchGraph:
    """A network of 1-d convolutions."""
    b = Builder(draw)
    x = b.add(Input((draw(st.integers(1, 3)), 12)), name="x")
    for _ in range(draw(st.integers(1, 3))):
        if b.pick(True, False, False) and b.shapes[x][1] < 20:
            x = b.add(ConvTranspose(b.width(), (2,), (2,)), x)
        else:
            groups = b.shapes[x][0] if b.pick(True, False, False) else 1
            channels = groups * b.pick(1, 2) if groups > 1 else b.width()
            x = b.add(Conv(channels, (3,), (b.pick(1, 2),), (1,), groups=groups, bias=b.pick(True, False)), x)
        width = b.shapes[x][0]
        kind = b.pick("none", "batch", "group")
        if kind == "group":
            x = b.add(GroupNorm(b.pick(*(n for n in (1, 2, 3, width) if width % n == 0))), x)
        else:
            x = b.norm(x) if kind == "batch" else x
        x = b.act(x)
        if b.shapes[x][1] >= 4 and b.pick(True, False):
            x = b.add(Pool(b.pick("max", "avg"), (2,), (2,)), x)
    x = b.add(Mean((1,)), x) if b.pick(True, False) else b.add(Flatten(), x)
    b.add(Output(), b.add(Linear(2), x), name="out")
    return ArchGraph(b.nodes)


@st.composite
def image_networks(draw, blocks=BLOCKS, most: int = 3, dtype: torch.dtype = torch.float64) -> morphs.Network:
    """A network of `graphs()` (now and then of `vector_graphs()`) with `lively` weights."""
    which = draw(st.sampled_from((0, 0, 0, 0, 1)))
    graph = draw(vector_graphs()) if which else draw(graphs(blocks, most))
    return lively(graph, draw(st.integers(0, 99)), dtype)


@st.composite
def networks(draw, blocks=BLOCKS, most: int = 3, dtype: torch.dtype = torch.float64) -> morphs.Network:
    """A network of images, vectors, tokens or signals, with `lively` weights."""
    which = draw(st.integers(0, 5))
    if which < 3:
        return draw(image_networks(blocks, most, dtype))
    graph = draw(signal_graphs() if which == 3 else token_graphs())
    return lively(graph, draw(st.integers(0, 99)), dtype)
