"""Random networks of 1-d convolutions, and now and then of 3-d ones."""

from hypothesis import strategies as st

from morphs.graph.arch import ArchGraph
from morphs.graph.ops import (
    Conv,
    ConvTranspose,
    Flatten,
    GroupNorm,
    Input,
    Linear,
    Mean,
    Output,
    Pool,
)  # fmt: skip
from strategies.builder import Builder


@st.composite
def signal_graphs(draw) -> ArchGraph:
    """A network of 1-d or 3-d convolutions."""
    b = Builder(draw)
    sizes = b.pick((12,), (12,), (4, 3, 4))
    rank = len(sizes)
    x = b.add(Input((draw(st.integers(1, 3)), *sizes)), name="x")
    for _ in range(draw(st.integers(1, 3))):
        if b.pick(True, False, False) and b.shapes[x][1] < 20 and rank == 1:
            x = b.add(ConvTranspose(b.width(), (2,), (2,)), x)
        else:
            groups = b.shapes[x][0] if b.pick(True, False, False) else 1
            channels = groups * b.pick(1, 2) if groups > 1 else b.width()
            x = b.add(_conv(b, channels, groups, b.shapes[x][1:]), x)
        width = b.shapes[x][0]
        kind = b.pick("none", "batch", "group")
        if kind == "group":
            x = b.add(GroupNorm(b.pick(*(n for n in (1, 2, 3, width) if width % n == 0))), x)
        else:
            x = b.norm(x) if kind == "batch" else x
        x = b.act(x)
        if min(b.shapes[x][1:]) >= 4 and b.pick(True, False):
            x = b.add(Pool(b.pick("max", "avg"), (2,) * rank, (2,) * rank), x)
    x = b.add(Mean(tuple(range(1, rank + 1))), x) if b.pick(True, False) else b.add(Flatten(), x)
    b.add(Output(), b.add(Linear(2), x), name="out")
    return ArchGraph(b.nodes)


def _conv(b: Builder, channels: int, groups: int, sizes: tuple[int, ...]) -> Conv:
    """A convolution of any kernel, stride, padding mode and dilation that fits `sizes`."""
    kernel = tuple(b.pick(3, 3, 1) for _ in sizes)
    dilation = tuple(b.pick(1, 1, 2) if n > 4 else 1 for n in sizes)
    padding = tuple(d * (k // 2) for k, d in zip(kernel, dilation, strict=True))
    mode = b.pick("zeros", "zeros", "reflect", "replicate", "circular")
    if any(p >= n for p, n in zip(padding, sizes, strict=True)):
        mode = "zeros"
    stride = tuple(b.pick(1, 2) for _ in sizes)
    return Conv(channels, kernel, stride, padding, mode, dilation, groups, b.pick(True, False))
