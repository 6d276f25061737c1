"""Ops of transformers: embeddings, norms across channels, attention.

Shapes leave the batch axis out:  T tokens, F features, H heads, D features of one head, C channels.
"""

from dataclasses import dataclass, replace
from math import inf, prod
from typing import ClassVar

from morphs.errors import ShapeError
from morphs.graph.layers import Op, Resized
from morphs.graph.shapes import Shape, positive
from morphs.graph.traits import Axis, Param, Role, Trait

DEVIATION = 0.02  # of fresh embeddings, as GPT-2's


@dataclass(frozen=True)
class Embedding(Op):
    """A learned row for each whole number below `count`; the gradient of row `padding` stays zero."""

    kind: ClassVar[str] = "embedding"
    trait: ClassVar[Trait] = Trait.ABSORB
    role: ClassVar[Role] = Role.EMBEDDING
    axis: ClassVar[int] = -1
    count: int
    features: int
    padding: int | None = None

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(…) -> (…, features)."""
        positive(self.kind, self.count, self.features)
        if self.padding is not None and not 0 <= self.padding < self.count:
            raise ShapeError(f"embedding has {self.count} rows and no row {self.padding}; give one of them")
        return (*inputs[0], self.features)

    def fixes(self, rank: int) -> tuple[int, ...]:
        """All: it reads numbers, not channels."""
        return tuple(range(rank))

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """weight (count, features)."""
        return {
            "weight": Param(
                (self.count, self.features), (Axis.NONE, Axis.OUT), start=None, deviation=DEVIATION
            )
        }

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """With other features."""
        return replace(self, features=after.writes[-1])


@dataclass(frozen=True)
class Unembedding(Op):
    """Products with every row of an embedding: a linear layer without bias that may share the embedding's weight."""

    kind: ClassVar[str] = "unembedding"
    borrows: ClassVar[tuple[str, ...]] = ("embedding",)
    trait: ClassVar[Trait] = Trait.ABSORB
    role: ClassVar[Role] = Role.EMBEDDING
    axis: ClassVar[int] = -1
    count: int

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(…, F) -> (…, count)."""
        positive(self.kind, self.count)
        return (*inputs[0][:-1], self.count)

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """weight (count, F)."""
        return {
            "weight": Param((self.count, inputs[0][-1]), (Axis.OUT, Axis.IN), start=None, deviation=DEVIATION)
        }

    def macs(self, inputs: tuple[Shape, ...]) -> int:
        """count · F for each vector."""
        return self.count * prod(inputs[0])

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """With another count."""
        return replace(self, count=after.writes[-1])


@dataclass(frozen=True)
class Projection(Op):
    """A linear layer whose weight is (inputs, features), as that of GPT-2."""

    kind: ClassVar[str] = "projection"
    trait: ClassVar[Trait] = Trait.ABSORB
    role: ClassVar[Role] = Role.LAYER
    axis: ClassVar[int] = -1
    features: int
    bias: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(…, F) -> (…, features)."""
        positive(self.kind, self.features)
        return (*inputs[0][:-1], self.features)

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """weight (F, features) and bias (features,)."""
        weight = Param((inputs[0][-1], self.features), (Axis.IN, Axis.OUT), start=None, deviation=DEVIATION)
        return {"weight": weight, **({"bias": Param((self.features,), (Axis.OUT,))} if self.bias else {})}

    def macs(self, inputs: tuple[Shape, ...]) -> int:
        """features · F for each vector."""
        return self.features * prod(inputs[0])

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """With other features."""
        return replace(self, features=after.writes[-1])


@dataclass(frozen=True)
class LayerNorm(Op):
    """Layer norm over the last axis, torch's attributes."""

    kind: ClassVar[str] = "layer_norm"
    role: ClassVar[Role] = Role.WIDTH_NORM
    axis: ClassVar[int] = -1
    centred: ClassVar[bool] = True
    eps: float = 1e-5
    affine: bool = True
    bias: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Kept."""
        check_eps(self.kind, self.eps)
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """γ (weight) and β (bias)."""
        weight = Param((inputs[0][-1],), (Axis.OUT,), start=1.0)
        named = {"weight": weight, "bias": replace(weight, start=0.0)}
        return {
            name: param for name, param in named.items() if self.affine and (name == "weight" or self.bias)
        }

    def evens(self, inputs: tuple[Shape, ...]) -> int:
        """One part: all of them."""
        return 1

    def rescaled(self, ratio: float) -> Op | None:
        """With eps times `ratio`; None without γ, which must grow by √ratio."""
        return replace(self, eps=self.eps * ratio) if self.affine else None


@dataclass(frozen=True)
class RMSNorm(Op):
    """Division by the root mean square over the last axis; eps None is that of the floating type, as in torch."""

    kind: ClassVar[str] = "rms_norm"
    role: ClassVar[Role] = Role.WIDTH_NORM
    axis: ClassVar[int] = -1
    eps: float | None = 1e-6
    affine: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Kept."""
        if self.eps is not None:
            check_eps(self.kind, self.eps)
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """γ (weight)."""
        return {"weight": Param((inputs[0][-1],), (Axis.OUT,), start=1.0)} if self.affine else {}

    def evens(self, inputs: tuple[Shape, ...]) -> int:
        """One part: all of them."""
        return 1

    def rescaled(self, ratio: float) -> Op | None:
        """With eps times `ratio`; None where eps is the type's, and without γ, which must grow by √ratio."""
        return replace(self, eps=self.eps * ratio) if self.eps is not None and self.affine else None


def _gains_of(channels: int) -> dict[str, Param]:
    weight = Param((channels,), (Axis.OUT,), start=1.0)
    return {"weight": weight, "bias": replace(weight, start=0.0)}


@dataclass(frozen=True)
class GroupNorm(Op):
    """Group norm over `groups` equal parts of the first axis; as many as channels make it an instance norm."""

    kind: ClassVar[str] = "group_norm"
    role: ClassVar[Role] = Role.WIDTH_NORM
    parts: int
    eps: float = 1e-5
    affine: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Kept."""
        check_eps(self.kind, self.eps)
        positive(self.kind, self.parts)
        if inputs[0][0] % self.parts:
            raise ShapeError(
                f"group_norm can't divide {inputs[0][0]} channels by {self.parts}; give a divisor"
            )
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """γ (weight) and β (bias)."""
        return _gains_of(inputs[0][0]) if self.affine else {}

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it takes statistics over."""
        return tuple(range(1, rank))

    def evens(self, inputs: tuple[Shape, ...]) -> int:
        """Its groups, unless each is one channel."""
        return self.parts if self.parts < inputs[0][0] else 0

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """With as many groups as channels where it had so."""
        return replace(self, parts=after.writes[0]) if self.parts == inputs[0][0] else self


@dataclass(frozen=True)
class InstanceNorm(Op):
    """Each channel of each example of a signal, map or volume by its own mean and variance, in both modes."""

    kind: ClassVar[str] = "instance_norm"
    eps: float = 1e-5
    affine: bool = False

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Kept."""
        check_eps(self.kind, self.eps)
        if not 2 <= len(inputs[0]) <= 4 or prod(inputs[0][1:]) < 2:
            raise ShapeError(
                f"instance_norm reads {inputs[0]}; give channels and 1 to 3 axes of several places"
            )
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """γ (weight) and β (bias)."""
        return _gains_of(inputs[0][0]) if self.affine else {}

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it takes statistics over."""
        return tuple(range(1, rank))


@dataclass(frozen=True)
class Attention(Op):
    """softmax(scale · q kᵀ) v, head by head: torch's scaled_dot_product_attention.

    q (H, T, D), k (H', S, D), v (H', S, D'), perhaps a mask (T, S) that is added; H' divides H, and each of k's heads
    serves H / H' of q's in a row (grouped queries). scale: 1 / √D where it is None. causal: token t sees s ≤ t only.
    """

    kind: ClassVar[str] = "attention"
    arity: ClassVar[tuple[int, int | None]] = (3, 4)
    trait: ClassVar[Trait] = Trait.HEADS
    role: ClassVar[Role] = Role.ATTENTION
    causal: bool = False
    scale: float | None = None
    dropout: float = 0.0

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(H, T, D'), …"""
        if any(len(shape) != 3 for shape in inputs[:3]):
            raise ShapeError(f"attention reads {inputs[:3]}; give q, k and v as (heads, tokens, features)")
        q, k, v = inputs[:3]
        if q[2] != k[2] or k[:2] != v[:2] or q[0] % k[0]:
            raise ShapeError(f"attention reads q {q}, k {k}, v {v}, which don't fit; see the op's rule")
        if len(inputs) == 4 and inputs[3] != (q[1], k[1]):
            raise ShapeError(f"attention reads a mask {inputs[3]}; give {(q[1], k[1])}")
        if not 0 <= self.dropout < 1:
            raise ShapeError(f"attention has dropout {self.dropout}; give a number from 0 to 1")
        return (q[0], q[1], v[2])

    def macs(self, inputs: tuple[Shape, ...]) -> int:
        """Those of both products."""
        q, k, v = inputs[:3]
        return q[0] * q[1] * k[1] * (q[2] + v[2])


def check_eps(kind: str, eps: float) -> None:
    """Refuse what is not a positive number."""
    if not 0 < eps < inf:
        raise ShapeError(f"{kind} has eps {eps}; give a positive one")
