"""What `Compact` sees of the data: rows of the matrix form, streamed, never all at once.

N images, C channels, H height, W width, P positions of an image, D neurons, D₂ outputs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

from morphs.errors import NeedsData
from morphs.graph.ops import Layer
from morphs.move import Context
from morphs.moves.insert_norm import truncated
from morphs.network import Network
from morphs.solve.least_squares import Moments
from morphs.solve.patches import draw_positions, patches, pick
from morphs.torch_io.layers import activation_layer, build_layer

CHUNK = 64  # images that are computed at a time
WIDEST = 2**23  # numbers of A_new that are held at a time


@dataclass(frozen=True, eq=False)
class Rows:
    """The images that the fit looks at, and how to compute with them.

    images: tuples of inputs, a batch each. before: from the inputs to A₁, what the new layer reads. new: op of the
    new layer, phi its φ. after: op of L₂, whose weights are `weight`, `bias`; it reads φ's map through `flat`.
    """

    images: tuple[tuple[Tensor, ...], ...]
    before: Callable[..., Tensor]
    new: Layer
    phi: nn.Module
    after: Layer
    weight: Tensor
    bias: Tensor | None
    positions: int
    seed: int

    def inputs(self) -> Iterator[Tensor]:
        """A₁ [N, C, H, W] or [N, F], a few images at a time."""
        for tensors in self.images:
            for start in range(0, len(tensors[0]), CHUNK):
                with torch.no_grad():
                    yield self.before(*(t[start : start + CHUNK] for t in tensors))

    def forward(self, maps: Tensor, weight: Tensor) -> Tensor:
        """O_new of A₁ for W_new1 `weight`, without a bias."""
        if not self.new.convolution:
            return maps @ weight.T
        return nn.functional.conv2d(maps, weight, padding=self.new.convolution.padding)

    def spread(self, weight: Tensor) -> Tensor:
        """Covariance [D, D] of O_new for W_new1 `weight`."""
        generator = torch.Generator().manual_seed(self.seed)
        total: Moments | None = None
        for maps in self.inputs():
            out = self.forward(maps, weight)
            if out.dim() == 4:
                out = pick(out, draw_positions(len(out), out[0, 0].numel(), self.positions, generator))
            out = out.double()
            some = Moments.of(out, out[:, :0])
            total = some if total is None else total + some
        assert total is not None
        return total.products(centred=True)[0]

    def moments(self, weight: Tensor) -> Moments:
        """Of A_new = φ(A₁ W_new1), in the columns that L₂ reads, and of O(2)′ [rows, D₂], L₂'s own output."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        total: Moments | None = None
        for maps in self.inputs():
            for a, o in self._regression(maps, weight, generator):
                if not bool(torch.isfinite(o).all() & torch.isfinite(a).all()):
                    raise NeedsData(
                        "the activations hold NaN or infinity; give finite inputs, or fix the parent"
                    )
                some = Moments.of(a.double(), o.double())
                total = some if total is None else total + some
        assert total is not None
        return total

    def _regression(
        self, maps: Tensor, weight: Tensor, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        active = self.phi(self.forward(maps, weight))
        after = self.after.convolution
        if after is None:
            out = nn.functional.linear(maps.flatten(1), self.weight, self.bias)
            yield active.flatten(1), out
            return
        height, width = after.shape((tuple(maps.shape[1:]),))[1:]
        positions = draw_positions(len(maps), height * width, self.positions, generator)
        columns = active.shape[1] * after.kernel[0] * after.kernel[1]
        step = max(1, WIDEST // (columns * positions.shape[1]))
        for start in range(0, len(maps), step):
            part, at = maps[start : start + step], positions[start : start + step]
            old = patches(part, after, at, width) @ self.weight.flatten(1).T
            old = old if self.bias is None else old + self.bias
            yield patches(active[start : start + step], after, at, width), old


def read_rows(
    parent: Network,
    source: str,
    node: str,
    new: Layer,
    activation: str,
    most: int,
    positions: int,
    context: Context,
) -> Rows:
    """As many images as `most` rows need, from the batches; `source` writes what the new layer reads, `node` is L₂.

    Raises NeedsData when no data was given, or it ended before the second image, or its inputs aren't
    finite or are all the same.
    """
    if context.batches is None:
        raise NeedsData("the fit needs data and none was given; pass batches=")
    after = parent.graph[node].op.layer
    assert after is not None
    shape = parent.graph.shape(node)
    places = min(positions, shape[1] * shape[2]) if after.convolution else 1
    part = truncated(parent, source)
    read = [place for place, given in enumerate(parent.graph.inputs) if given.name in part.graph]
    dtype = torch.float64 if parent.dtype == torch.float64 else torch.float32
    taken = context.examples(-(-most // places), dtype)
    images = tuple(tuple(tensors[place] for place in read) for tensors, _ in taken)
    found = sum(len(tensors[0]) for tensors in images)
    if found < 2:
        raise NeedsData(f"the batches hold {found} images; give at least 2")
    if not all(bool(torch.isfinite(t).all()) for tensors in images for t in tensors):
        raise NeedsData("the batches hold NaN or infinity; give finite inputs")
    if all(
        bool((t == first[:1]).all())
        for tensors in images
        for t, first in zip(tensors, images[0], strict=True)
    ):
        raise NeedsData(f"all {found} examples are the same, which any layer fits; give examples that differ")
    owner = parent.graph[node].owner
    bias = parent.weights.get((owner, "bias"))
    seed = int(torch.randint(2**31, (), generator=context.generator))
    module = part.to(dtype).to_torch().eval()
    return Rows(
        images, module, new, build_layer(activation_layer(activation, ())), after,
        parent.weights[owner, "weight"].to(dtype), None if bias is None else bias.to(dtype), positions, seed,
    )  # fmt: skip


def deviation(activation: str, fan_in: int) -> float:
    """Standard deviation of W_new1 for φ (step 1 of the algorithms): He's (arXiv 1502.01852) where φ has a kink at
    0, Kumar's (arXiv 1704.08863) where it is smooth; one formula, (fan_in · mean of φ′(0∓)² · (1 + φ(0)²))^−½.
    """
    phi = build_layer(activation_layer(activation, ()))
    step = 1e-4
    low, zero, high = phi(torch.tensor([-step, 0.0, step], dtype=torch.float64)).tolist()
    slopes = ((zero - low) / step) ** 2 + ((high - zero) / step) ** 2
    return sqrt(2 / (fan_in * slopes * (1 + zero**2)))
