"""Which numbers of another tensor, that has the batch first, the numbers of a tensor are.

The other tensor's axes, the batch and those of length 1 left out, are cut into atoms; each axis of the tensor is a run
of atoms, the batch among them. Reshaping and permuting then only regroup and reorder them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, eq=False)
class Atom:
    """A part of an axis that is never cut further, or the batch."""

    size: int


BATCH = Atom(1)
Axis = tuple[Atom, ...]


@dataclass(frozen=True)
class View:
    """atoms: of the tensor that has the batch first, in its order, without the batch. axes: of the view."""

    atoms: Axis
    axes: tuple[Axis, ...]

    @property
    def batched(self) -> bool:
        """Whether it has a batch; a tensor that hasn't is the same for each example."""
        return any(BATCH in axis for axis in self.axes)

    @property
    def regular(self) -> bool:
        """Whether the batch is the first axis, and no part of another."""
        return self.axes[:1] == ((BATCH,),)

    @property
    def runs(self) -> tuple[Axis, ...]:
        """The atoms of each axis, cut at the batch."""
        found: list[Axis] = []
        for axis in self.axes:
            at = axis.index(BATCH) if BATCH in axis else len(axis)
            found += [run for run in (axis[:at], axis[at + 1 :]) if run]
        return tuple(found)

    def permuted(self, order: Iterable[int]) -> View:
        """With the axes in another order."""
        return View(self.atoms, tuple(self.axes[axis] for axis in order))

    def regrouped(self, sizes: Sequence[int]) -> View | None:
        """The same numbers in the same order, as axes of `sizes` (−k for k·B); None where that cuts the batch."""
        rest = [atom for axis in self.axes for atom in axis]
        cut: dict[Atom, Axis] = {}
        axes: list[Axis] = []
        for size in sizes:
            axis: list[Atom] = []
            while prod(atom.size for atom in axis) != abs(size) or (BATCH in axis) != (size < 0):
                if not rest:
                    return None
                atom, need = rest.pop(0), abs(size) // prod(a.size for a in axis)
                if atom is not BATCH and atom.size > need:
                    if need <= 1 or atom.size % need:
                        return None
                    cut[atom] = Atom(need), Atom(atom.size // need)
                    atom, rest = cut[atom][0], [cut[atom][1], *rest]
                if abs(size) % prod(a.size for a in (*axis, atom)) or (atom is BATCH and size > 0):
                    return None
                axis.append(atom)
            axes.append(tuple(axis))
        return None if rest else View(_cut(self.atoms, cut), tuple(axes))

    def expanded(self, sizes: Sequence[int]) -> View | None:
        """With a batch where there was an axis of length 1, or none; None for other expansions."""
        axes = [(), *self.axes] if len(sizes) > len(self.axes) else [*self.axes]
        if len(axes) != len(sizes):
            return None
        found: list[Axis] = []
        for axis, size in zip(axes, sizes, strict=True):
            if size == -1 and not axis and not self.batched:
                found.append((BATCH,))
            elif prod(atom.size for atom in axis) != abs(size) or (BATCH in axis) != (size < 0):
                return None
            else:
                found.append(axis)
        return View(self.atoms, tuple(found))


def whole(sizes: Sequence[int], batched: bool = True) -> View:
    """A tensor as a view of itself: `sizes` without the batch, which comes first."""
    axes: list[Axis] = [(Atom(size),) if size > 1 else () for size in sizes]
    atoms = tuple(atom for axis in axes for atom in axis)
    return View(atoms, ((BATCH,), *axes) if batched else tuple(axes))


def _cut(atoms: Axis, cut: dict[Atom, Axis]) -> Axis:
    """`atoms` with those that were cut, perhaps several times, in parts."""
    found: list[Atom] = []
    for atom in atoms:
        found += _cut(cut[atom], cut) if atom in cut else (atom,)
    return tuple(found)
