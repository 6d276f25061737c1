"""The Python view of a run's trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

from nas.base.errors import UserError
from nas.base.text import count
from nas.ledger import Result, Store, TrialRecord
from nas.ledger.scores import labelled
from nas.ledger.wall_time import seconds_of

if TYPE_CHECKING:
    from torch import nn

    from morphs import Network


@dataclass(frozen=True)
class Trial:
    """One trial of the run in `folder`. record: its entry in the ledger."""

    record: TrialRecord
    folder: Path

    @property
    def key(self) -> str:
        """Its place in the search, "generation.slot"."""
        return self.record.key

    @property
    def generation(self) -> int:
        """The generation that it belongs to; 0 for the seed network."""
        return self.record.job.generation

    @property
    def kind(self) -> str:
        """seed, parent (unchanged), child or final."""
        return str(self.record.job.kind)

    @property
    def state(self) -> str:
        """running, complete or failed."""
        return str(self.record.state)

    @property
    def parent(self) -> str | None:
        """The key of the trial that it grew from."""
        return self.record.job.parent

    @property
    def moves(self) -> str:
        """The moves that made it from its parent, as text."""
        return self.record.job.moves

    @property
    def scores(self) -> Mapping[str, float]:
        """val_loss, val_accuracy or the other scores of the task; for the final network also test_loss and so on.

        Empty without a result.
        """
        result = self.record.result
        return MappingProxyType({}) if result is None else result.scores

    @property
    def params(self) -> int | None:
        """The number of parameters."""
        return None if self.record.result is None else self.record.result.params

    @property
    def macs(self) -> int | None:
        """Multiply-adds of a forward pass for one image."""
        return None if self.record.result is None else self.record.result.macs

    @property
    def reason(self) -> str | None:
        """Why it failed; None if it didn't."""
        return self.record.reason

    @property
    def network(self) -> Network:
        """Its graph and trained weights. Raises UserError without a result, LedgerDamaged for a lost checkpoint."""
        return Store(self.folder / "checkpoints").get(self._result().weights)

    def module(self) -> nn.Module:
        """A plain nn.Module with its own copy of the weights. Raises as `network` does."""
        return self.network.to_torch()

    def row(self) -> dict[str, Any]:
        """The trial as a flat mapping; scores by their own names."""
        result, job, steps = self.record.result, self.record.job, self.record.steps
        return {
            "trial": self.key, "generation": job.generation, "slot": job.slot, "kind": self.kind, "state": self.state,
            "parent": self.parent, "moves": self.moves, "steps": steps, "params": self.params, "macs": self.macs,
            "seconds": None if result is None else seconds_of(result), **self.scores, "reason": self.reason,
        }  # fmt: skip

    def _result(self) -> Result:
        if self.record.result is None:
            raise UserError(f"trial {self.key} is {self.state} and has no network; choose a complete one")
        return self.record.result

    def __repr__(self) -> str:
        if self.record.result is None:
            return f"<Trial {self.key}: {self.state}>"
        result = self.record.result
        return (
            f"<Trial {self.key}: val {labelled(result.main, result.value)}, {count(self.params)} parameters>"
        )


class Trials(Sequence[Trial]):
    """The trials of a run at one moment, ordered by generation and slot."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._trials = tuple(trials)

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> Trials: ...
    def __getitem__(self, index: int | slice) -> Trial | Trials:
        return Trials(self._trials[index]) if isinstance(index, slice) else self._trials[index]

    def __len__(self) -> int:
        return len(self._trials)

    def __repr__(self) -> str:
        return f"<{len(self)} trials: {', '.join(trial.key for trial in self._trials[:8])}{', …' * (len(self) > 8)}>"

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with one row per trial. Raises UserError if pandas is not installed."""
        try:
            pandas: Any = import_module("pandas")
        except ImportError:
            raise UserError(
                "to_pandas: pandas is not installed; pip install pandas, or use trial.row()"
            ) from None
        return pandas.DataFrame([trial.row() for trial in self._trials])
