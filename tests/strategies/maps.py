"""Random graphs on images and on vectors."""

from hypothesis import strategies as st

from morphs.graph.arch import ArchGraph
from morphs.graph.ops import (
    Activation,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Add,
    AvgPool2d,
    BatchNorm,
    Concat,
    Dropout,
    Flatten,
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
    Output,
    Permute,
    Reshape,
    RMSNorm,
    Scale,
    Slice,
)  # fmt: skip
from strategies.builder import Builder, operator


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
            return operator(b, "logaddexp.default", "", (-1, c, h, w), x, held)


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


def channels_last(b: Builder, x: str) -> str:
    """A convolution, depthwise or not, a norm across its channels and a linear layer, as in ConvNeXt."""
    width = b.shapes[x][0]
    x = b.conv(x, width, kernel=(3, 3), same=True, groups=b.pick(1, width))
    x = b.add(b.pick(LayerNorm(), LayerNorm(bias=False), RMSNorm()), b.add(Permute((1, 2, 0)), x))
    return b.add(Permute((2, 0, 1)), b.act(b.add(Linear(b.width()), x), last=True))


def multiplied(b: Builder, x: str) -> str:
    """A depthwise convolution with several outputs for each channel, added to a plain one."""
    width, times = b.shapes[x][0], b.pick(2, 3)
    if width == 1:
        x = b.conv(x, width := 2, same=True)
    out = b.norm(b.conv(x, width * times, kernel=(3, 3), same=True, groups=width))
    return b.act(b.add(Add(), out, b.conv(x, width * times, same=True)))


def chunks(b: Builder, x: str) -> str:
    """Depthwise convolutions of parts of a map, one after the other, and a norm across all, as in EdgeNeXt."""
    x = b.conv(x, width := b.pick(4, 5, 6), same=True)
    half = (width + 1) // 2
    first, second = b.add(Slice(0, half, 0), x), b.add(Slice(half, width, 0), x)
    first = b.conv(first, half, kernel=(3, 3), same=True, groups=half)
    if width == 2 * half and b.pick(True, False):
        second = b.add(Add(), first, second)
    both = b.add(Permute((1, 2, 0)), b.add(Concat(), first, second))
    inner = b.add(Linear(width), b.add(b.pick(LayerNorm(), RMSNorm(), LayerNorm(affine=False)), both))
    return b.add(Add(), x, b.add(Permute((2, 0, 1)), inner))


BLOCKS = (
    chain,
    residual,
    dense,
    depthwise,
    grouped,
    squeeze,
    shared,
    pool,
    unknown,
    normed,
    pixels,
    channels_last,
    multiplied,
    chunks,
)


def tail(b: Builder, x: str) -> str:
    """Map to vector, and a linear layer or three."""
    if b.pick(True, False, False):
        x = b.add(Mean((0, 1)), b.add(Permute((1, 2, 0)), x))
    else:
        x = b.add(b.pick(AdaptiveAvgPool2d(), AdaptiveMaxPool2d((2, 1))), x) if b.pick(True, False) else x
        x = b.add(Flatten(), x)
    x = b.add(b.pick(LayerNorm(), RMSNorm()), x) if b.pick(True, False, False, False) else x
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
