"""Random networks of 1-d convolutions."""

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
