"""Incoming weights of new units with which the loss falls fastest, after GradMax (arXiv 2201.05125).

New units have zero outgoing weights W₂, so they change nothing, and the first step of training changes only W₂: by
its gradient, whose squared norm is how fast the loss falls. It depends on the incoming weights W₁ of the new units:

    maximise ‖∂L/∂W₂‖²  over W₁, whose rows are orthogonal and as long as the layer's others

Of a linear φ the rows come to span the first right singular vectors of E[∂L/∂z ⊗ x], where z reads the units and
they read x: the paper's closed form, mirrored. For other φ the paper too uses an optimiser, under a bound on norms
alone; orthogonal rows can't all turn to the one best direction.

The maximum is sought by projected gradient ascent: a step along the gradient, which is a second derivative of the
loss, then a QR decomposition. The step doubles while it helps, up to a power iteration, and else is cut.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportUnknownVariableType]
from torch.nn.attention import SDPBackend, sdpa_kernel

from morphs.errors import NeedsData
from morphs.graph.arch import ArchGraph
from morphs.graph.ops import Axis
from morphs.move import Context, Made
from morphs.network import Key, Network

STEPS = 20
EXAMPLES = 512  # that are looked at, at most
Rows = dict[Key, Tensor]
Chosen = np.ndarray[Any, np.dtype[np.bool_]]
Seen = tuple[tuple[Tensor, ...], Tensor, float]  # inputs, targets, share of all examples


def steepest_rows(child: Network, made: Made, context: Context) -> Rows:
    """New rows, in place of the random ones, of the weights in `made`; `child` has zeros in all their columns for new
    units. `context.notes` gets ‖∂L/∂W₂‖ of the rows found, `gradient`, and of the random ones, `gradient_at_random`.

    Raises NeedsData when there is no data, or neither a loss nor targets that say which; when the data leaves all
    gradients zero it returns no rows.
    """
    ascent = _Ascent.of(child, made, context)
    best = ascent.scaled(ascent.random)
    slopes = ascent.slopes(best)
    context.notes["gradient_at_random"] = _norm(slopes)
    direction, step = ascent.direction(best, slopes), 1.0
    for _ in range(STEPS):
        trial = ascent.scaled({key: best[key] + step * direction[key] for key in best})
        found = ascent.slopes(trial)
        if _norm(found) > _norm(slopes):
            best, slopes, step = trial, found, 2 * step
            direction = ascent.direction(best, slopes)
        else:
            step /= 4
    context.notes["gradient"] = _norm(slopes)
    return best if _norm(slopes) > 0 else {}


@dataclass(frozen=True, eq=False)
class _Ascent:
    """‖∂L/∂W₂‖² as a function of the new rows.

    fixed: the weights with new rows or columns, as they are. rows: which rows are new. columns: which rows are not,
    and which columns are. random: the new rows as drawn. scale: norm of a new row.
    """

    graph: ArchGraph
    module: nn.Module
    seen: tuple[Seen, ...]
    context: Context
    fixed: Mapping[Key, Tensor]
    rows: Mapping[Key, Tensor]
    columns: Mapping[Key, tuple[Tensor, Tensor]]
    random: Rows
    scale: Mapping[Key, float]
    places: Mapping[Key, str]  # in the module's state

    @classmethod
    def of(cls, child: Network, made: Made, context: Context) -> Self:
        dtype = torch.float64 if child.dtype == torch.float64 else torch.float32
        given = tuple(context.examples(EXAMPLES, dtype))
        if not given:
            raise NeedsData("the gradient of the loss is taken on data and none was given; pass batches=")
        total = sum(len(inputs[0]) for inputs, _ in given)
        seen = tuple((x, targets[: len(x[0])].to("cpu"), len(x[0]) / total) for x, targets in given)
        module = child.to(dtype).to_torch().requires_grad_(False).train()
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.eval()
            elif isinstance(part, nn.RNNBase):  # whose gradient needs train mode
                part.dropout = 0.0
        fixed: dict[Key, Tensor] = {}
        rows: dict[Key, Tensor] = {}
        columns: dict[Key, tuple[Tensor, Tensor]] = {}
        for key, (tensor, origin) in made.items():
            along = dict(zip(child.graph.params[key].axes, origin.axes, strict=True))
            out, new = along.get(Axis.OUT), along.get(Axis.IN)
            if tensor.dim() < 2:
                continue
            fixed[key] = tensor.to(dtype)
            if out is not None:
                rows[key] = _places(out < 0)
            if new is not None:
                columns[key] = (
                    _places(np.ones(len(tensor), bool) if out is None else out >= 0),
                    _places(new < 0),
                )
        random = {key: fixed[key][new] for key, new in rows.items()}
        scale = {key: _scale(fixed[key], new) for key, new in rows.items()}
        return cls(
            child.graph, module, seen, context, fixed, rows, columns, random, scale, child.state_keys()
        )

    def scaled(self, rows: Rows) -> Rows:
        """Orthonormal rows near `rows`, times the scale."""
        found: Rows = {}
        for key, tensor in rows.items():
            groups = getattr(self.graph[key[0]].op, "groups", 1)
            # each group of a convolution reads its own
            part = self.rows[key] // (len(self.fixed[key]) // groups)
            flat = tensor.reshape(len(part.unique()), -1, tensor[0].numel())
            found[key] = orthonormal(flat).reshape(tensor.shape) * self.scale[key]
        return found

    def slopes(self, rows: Rows) -> list[Tensor]:
        """∂L/∂W₂, of the mean loss over all examples."""
        total = [torch.zeros(())] * len(self.columns)
        for seen in self.seen:
            for place, slope in enumerate(self._slopes(rows, seen, again=False)):
                total[place] = total[place] + slope
        if not all(bool(torch.isfinite(slope).all()) for slope in total):
            raise NeedsData("the gradient of the loss holds NaN or infinity; give finite inputs and targets")
        return total

    def direction(self, rows: Rows, slopes: list[Tensor]) -> Rows:
        """The gradient of ‖∂L/∂W₂‖² for each layer's rows, as long as they are. From a row that has none, a unit dead
        on all the data, it is the way to its opposite.
        """
        asked = {key: tensor.clone().requires_grad_() for key, tensor in rows.items()}
        total = {key: torch.zeros_like(tensor) for key, tensor in rows.items()}
        for seen in self.seen:
            again = self._slopes(asked, seen, again=True)
            along = torch.stack([(one * two).sum() for one, two in zip(again, slopes, strict=True)]).sum()
            found = torch.autograd.grad(
                along, list(asked.values()), allow_unused=True, materialize_grads=True
            )
            for key, slope in zip(asked, found, strict=True):
                total[key] += slope
        for key, slope in total.items():
            dead = ~slope.flatten(1).any(1)
            slope *= float(rows[key].norm()) / max(float(slope.norm()), torch.finfo(slope.dtype).tiny)
            slope[dead] = -2 * rows[key][dead]
        return total

    def _slopes(self, rows: Rows, seen: Seen, again: bool) -> tuple[Tensor, ...]:
        """∂L/∂W₂ on one batch, times its share of the examples; `again`: to be differentiated again."""
        inputs, targets, share = seen
        asked = {key: self.fixed[key].clone().requires_grad_() for key in self.columns}
        weights = {**self.fixed, **asked}
        for key, tensor in rows.items():
            weights[key] = weights[key].index_copy(0, self.rows[key], tensor)
        named = {self.places[key]: tensor for key, tensor in weights.items()}
        try:
            with sdpa_kernel(SDPBackend.MATH):  # the only one that can be differentiated twice
                outputs: Tensor = functional_call(self.module, named, inputs)
        except ValueError as error:  # torch's batch norm, of a single value
            raise NeedsData(f"the batches are too small ({error}); give more examples") from None
        loss = self.context.loss_of(outputs, targets) * share
        found = torch.autograd.grad(loss, list(asked.values()), create_graph=again)
        return tuple(
            slope[old][:, new] for slope, (old, new) in zip(found, self.columns.values(), strict=True)
        )


def orthonormal(rows: Tensor) -> Tensor:
    """The Gram-Schmidt basis of `rows` [G, n, F], each of G sets apart; where n > F, of each F rows apart."""
    parts: list[Tensor] = []
    for part in rows.split(rows.shape[2], dim=1):
        basis, triangle = torch.linalg.qr(part.transpose(1, 2))
        # QR may turn rows round, which is another unit under ReLU
        ahead = triangle.diagonal(dim1=1, dim2=2) >= 0
        parts.append((basis * torch.where(ahead, 1, -1)[:, None, :].to(basis.dtype)).transpose(1, 2))
    return torch.cat(parts, 1)


def _places(chosen: Chosen) -> Tensor:
    return torch.from_numpy(np.flatnonzero(chosen))


def _scale(weight: Tensor, new: Tensor) -> float:
    """Root mean square of the norms of the other rows; of the new ones where the others are all zero."""
    old = torch.ones(len(weight), dtype=torch.bool)
    old[new] = False
    for rows in (weight[old], weight[new]):
        if bool(rows.any()):
            return float(rows.flatten(1).square().sum(1).mean().sqrt())
    return 1.0


def _norm(slopes: list[Tensor]) -> float:
    return sqrt(sum(float(slope.square().sum(dtype=torch.float64)) for slope in slopes))
