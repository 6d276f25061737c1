"""What draws the parts of a random graph."""

from hypothesis import strategies as st

from morphs.graph.activations import ACTIVATIONS, BUILT_IN
from morphs.graph.arch import Node
from morphs.graph.ops import (
    Activation,
    Aten,
    BatchNorm,
    Conv2d,
    FrozenBatchNorm,
    Op,
    PActivation,
)  # fmt: skip


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
        if self.pick(True, False, False, False):
            return self.add(FrozenBatchNorm(trained=self.pick(True, False)), x)
        return self.add(
            BatchNorm(affine=self.pick(True, True, False), track_running_stats=self.pick(True, True, False)),
            x,
        )

    def act(self, x: str, last: bool = False) -> str:
        """An activation, fixed or learned along the first axis or the last."""
        fn = self.pick("relu", "relu", *BUILT_IN)
        args = tuple(default * 1.5 for _, default in ACTIVATIONS[fn].args) if self.pick(True, False) else ()
        if self.pick(True, False):
            per_channel = self.pick(True, False)
            return self.add(PActivation(fn, args, per_channel, -1 if last and per_channel else 0), x)
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


def operator(b: Builder, name: str, args: str, size: tuple[int, ...], *reads: str) -> str:
    """An operator of PyTorch that the vocabulary doesn't know; `args`: what follows its tensors."""
    tensors = ",".join(f'{{"tensor":{place}}}' for place in range(len(reads)))
    return b.add(Aten(f"aten.{name}", f"[{tensors}{args and ','}{args}]", "{}", size), *reads)
