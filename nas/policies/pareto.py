"""LEMONADE (Elsken, Metzen and Hutter, arXiv 1804.09081): searches for the front of accuracy against a cost."""

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
        description="The cost to weigh against accuracy: params, macs, latency or package.module:function.",
    )
    latency_from: Annotated[str | None, Shown(metavar="RUN", unset="measured here, on --device")] = Field(
        None, description="With --objective latency: use the table that this run measured."
    )
    candidates: int = Field(
        8, ge=1, le=1000, description="Children drawn per proposal, of which one is chosen by its cost."
    )

    @model_validator(mode="after")
    def _latency(self) -> ParetoSettings:
        if self.latency_from is not None and self.objective != LATENCY:
            raise ValueError("latency_from needs the latency objective; add --objective latency or omit it")
        return self


@dataclass(frozen=True)
class Pareto:
    """Samples parents where the front is sparse, and proposes children whose cost falls where it is sparse.

    The front consists of the trials that no other beats in accuracy and in `cost` (a function of an architecture's
    text; cheap, known without training). A parent is drawn from it with probability inverse to the density of the
    front's costs around its own; of `candidates` children one is drawn likewise by its cost. Densities are kernel
    estimates on the logarithm. `wave` proposals are called a generation; the first of each is an unchanged member of
    the front, which trains further. The search is steady-state where the paper works in generations; so the order of
    completions matters, and is recorded. Spaces also need moves that shrink networks (Narrow, RemoveLayer), or nothing
    is ever cheaper than the seed network.
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
        """The most accurate trial: one end of the front."""
        return best_of_all(view, self.select)

    def front(self, view: LedgerView) -> tuple[TrialRecord, ...]:
        """The trials that no other equals or beats in accuracy and cost, cheapest first; of equals the earlier."""
        return pareto_front(view, lambda record: self.cost(record.job.graph), self.select)

    def possible_parents(self, view: LedgerView) -> Sequence[TrialRecord]:
        """The front: a trial that has left it never returns."""
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
    """The density of `among` at `at`, on a logarithmic scale: a Gaussian kernel with Scott's bandwidth, at least 0.1,
    so that a front of one network has a density.
    """
    logs = [math.log(max(one, 1e-12)) for one in among]
    width = max(0.1, pstdev(logs) * len(logs) ** -0.2)
    point = math.log(max(at, 1e-12))
    kernels = (math.exp(-0.5 * ((point - one) / width) ** 2) for one in logs)
    return max(1e-9, sum(kernels) / (len(logs) * width))


def pareto(context: PolicyContext) -> Pareto:
    """Make a search for a front from a run's configuration."""
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
