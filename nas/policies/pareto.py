"""LEMONADE (Elsken, Metzen and Hutter, arXiv 1804.09081): accuracy against a cost, the whole front at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import pstdev
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, model_validator

from nas.base.seeds import derive
from nas.config.option import Shown
from nas.config.settings import Settings
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.types import Criterion
from nas.policies.front import LATENCY, pareto_front
from nas.policies.policy import Proposal, best_of_all, birth

if TYPE_CHECKING:
    from nas.policies.entry import PolicyContext
    from nas.policies.sampling import Draw, MoveSampler, Neighbourhood

ATTEMPTS = 20  # draws for children that are not in the ledger yet


class ParetoSettings(Settings):
    """The settings of pareto."""

    objective: Annotated[str, Shown(metavar="NAME", code=True)] = Field(
        "params",
        description="What accuracy is weighed against: params, macs, latency or package.module:function.",
    )
    latency_from: Annotated[str | None, Shown(metavar="RUN", unset="measured here, on --device")] = Field(
        None, description="With --objective latency: go by the table that this run measured."
    )
    candidates: int = Field(
        8, ge=1, le=1000, description="Children drawn, of which the one proposed is chosen by its cost."
    )

    @model_validator(mode="after")
    def _latency(self) -> ParetoSettings:
        if self.latency_from is not None and self.objective != LATENCY:
            raise ValueError(
                "latency_from is for a front of latency; add --objective latency or leave it out"
            )
        return self


@dataclass(frozen=True)
class Pareto:
    """Children of networks where the front is sparse, those proposed that land where it is sparse.

    The front: the trials that no other beats in accuracy and in `cost` (of an architecture's text; cheap, known
    without training). A parent is drawn from it with probability inverse to the density of the front's costs about
    its own, of `candidates` children one by the density about its cost, both by kernels on the logarithm. `wave`
    births are called a generation, the first of each a member of the front unchanged, which trains on.
    Steady state where the paper works in generations; so the order of completions matters, and is recorded.
    Spaces need moves that shrink as well (Narrow, RemoveLayer), or the cheap end is the seed network for ever.
    """

    sampler: MoveSampler
    neighbourhood: Neighbourhood
    cost: Callable[[str], float]
    wave: int
    moves_per_child: int
    candidates: int = 8
    select: Criterion = "accuracy"
    generational: ClassVar[bool] = False

    def incumbent(self, view: LedgerView) -> TrialRecord:
        """The most accurate of all: one end of the front."""
        return best_of_all(view, self.select)

    def front(self, view: LedgerView) -> tuple[TrialRecord, ...]:
        """The trials that no other equals or betters in accuracy and cost, cheapest first; of equals the earlier."""
        return pareto_front(view, lambda record: self.cost(record.job.graph), self.select)

    def possible_parents(self, view: LedgerView) -> Sequence[TrialRecord]:
        """The front: what is beaten stays so."""
        return self.front(view)

    def propose(self, view: LedgerView, seed: int) -> Sequence[Proposal]:
        """One child."""
        generation, slot = birth(view, self.wave)
        draw = Random(derive(seed, generation, slot, "parent"))
        parents = self.front(view)
        costs = [self.cost(record.job.graph) for record in parents]
        weights = [1 / density(cost, costs) for cost in costs]
        if slot == 0:
            (parent,) = draw.choices(parents, weights)
            return (Proposal(generation, slot, parent.key, "", parent.job.graph),)
        taken = {record.job.graph for record in view.trials}
        found: dict[str, tuple[TrialRecord, Draw]] = {}
        for attempt in range(ATTEMPTS):
            if len(found) == self.candidates:
                break
            (parent,) = draw.choices(parents, weights)
            at = derive(seed, generation, slot, attempt)
            child = self.sampler.draw(view, parent, self.moves_per_child, at, taken)
            if child is not None and child.graph not in taken:
                found.setdefault(child.graph, (parent, child))
        if not found:
            return ()
        odds = [1 / density(self.cost(graph), costs) for graph in found]
        ((parent, child),) = draw.choices(list(found.values()), odds)
        return (Proposal(generation, slot, parent.key, child.moves, child.graph, child.memo),)


def density(at: float, among: Sequence[float]) -> float:
    """The density of `among` about `at`, on a logarithmic scale: a Gaussian kernel of Scott's width, at least a tenth
    of a factor of e, so that a front of one network has a density.
    """
    logs = [math.log(max(one, 1e-12)) for one in among]
    width = max(0.1, pstdev(logs) * len(logs) ** -0.2)
    point = math.log(max(at, 1e-12))
    kernels = (math.exp(-0.5 * ((point - one) / width) ** 2) for one in logs)
    return max(1e-9, sum(kernels) / (len(logs) * width))


def pareto(context: PolicyContext) -> Pareto:
    """A search for a front as a run's configuration has it."""
    config, settings = context.config, context.settings
    return Pareto(
        context.sampler,
        context.uniform.neighbourhood,
        context.price("params" if settings.objective == LATENCY else settings.objective),
        config.children + 1,
        config.moves_per_child,
        settings.candidates,
        config.select,
    )
