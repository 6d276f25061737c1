"""Recurrent layers."""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal

from morphs.errors import ShapeError
from morphs.graph.layers import Op, Resized
from morphs.graph.shapes import Shape, positive
from morphs.graph.traits import Axis, Param, Trait

GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}


@dataclass(frozen=True)
class Recurrent(Op):
    """A recurrent layer of one direction on tokens, from a state of zeros: what it writes at each of them.

    cell: LSTM, GRU, or a plain one with its φ. layers: one on top of another, all of `features` units, with dropout
    between them.
    """

    kind: ClassVar[str] = "recurrent"
    trait: ClassVar[Trait] = Trait.ABSORB
    axis: ClassVar[int] = -1
    features: int
    cell: Literal["lstm", "gru", "tanh", "relu"] = "lstm"
    layers: int = 1
    bias: bool = True
    dropout: float = 0.0

    @property
    def gates(self) -> int:
        """Of its cell."""
        return GATES[self.cell]

    @property
    def recurs(self) -> bool:
        """Always."""
        return True

    def fixes(self, rank: int) -> tuple[int, ...]:
        """The tokens."""
        return (0,)

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """With other features."""
        return replace(self, features=after.writes[-1])

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(T, F) -> (T, features)."""
        positive(self.kind, self.features, self.layers)
        if len(inputs[0]) != 2 or not 0 <= self.dropout < 1 or (self.dropout and self.layers == 1):
            raise ShapeError(
                f"recurrent reads {inputs[0]} with dropout {self.dropout} between {self.layers} layers; give tokens "
                "(T, F), and dropout from 0 to below 1 with several layers"
            )
        return (inputs[0][0], self.features)

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """Of each layer weight_ih (gates · features, F), weight_hh (gates · features, features), and biases."""
        rows, found = self.gates * self.features, dict[str, Param]()
        for layer in range(self.layers):
            columns, axis = (self.features, Axis.AGAIN) if layer else (inputs[0][-1], Axis.IN)
            found[f"weight_ih_l{layer}"] = Param((rows, columns), (Axis.GATES, axis), start=None)
            found[f"weight_hh_l{layer}"] = Param((rows, self.features), (Axis.GATES, Axis.AGAIN), start=None)
            if self.bias:
                found[f"bias_ih_l{layer}"] = found[f"bias_hh_l{layer}"] = Param((rows,), (Axis.GATES,))
        return found

    def macs(self, inputs: tuple[Shape, ...]) -> int:
        """Those of the weights for each token."""
        weights = (param.shape for param in self.params(inputs).values() if len(param.shape) == 2)
        return inputs[0][0] * sum(map(prod, weights))
