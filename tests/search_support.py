"""What tests of policies share: a small space, and searches whose scores are drawn rather than trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from engine_support import record_of

import morphs
from morphs import AddSkip, Deepen, GrowKernel, Limits, Widen
from nas.base.seeds import derive
from nas.ledger import Job, LedgerView, TrialRecord
from nas.ledger.types import State
from nas.ledger.view import view_of
from nas.policies.policy import Policy, Proposal
from nas.policies.sampling import SpaceMoves, Uniform
from search_spaces import Space

SEED = morphs.parse_graph("""
x = input(size=[1, 8, 8])
c1 = conv2d(x, channels=4, kernel=3, padding=1)
r1 = relu(c1)
m1 = max_pool2d(r1, kernel=2)
f = flatten(m1)
fc = linear(f, features=3)
y = output(fc)
""")
SPACE = Space(
    SEED,
    (
        (Widen, {"factor": (2, 3)}),
        (Deepen, {"how": ("identity",), "kernels": ((3, 3),)}),
        (AddSkip, {"reach": (2,)}),
        (GrowKernel, {"max_kernel": (5,)}),
    ),
)
ROOT = record_of(Job("seed", 0, 0, None, "", 0, 1, SEED.to_json()), 0.5)


def uniform(limits: Limits | None = None) -> Uniform:
    return Uniform(SpaceMoves(SPACE, limits or Limits(params=3000)))


def luck(proposal: Proposal) -> float:
    """A score that depends on the proposal alone."""
    return derive(0, proposal.graph, proposal.key) % 1000 / 1000


def started(proposal: Proposal, number: int) -> TrialRecord:
    kind = "child" if proposal.moves else "parent"
    job = Job(
        kind, proposal.generation, proposal.slot, proposal.parent, proposal.moves, 0, 1, proposal.graph,
        memo=proposal.memo,
    )  # fmt: skip
    return TrialRecord(job, State.RUNNING, None, None, number, 0.0, None)


def play(
    policy: Policy, trials: int, workers: int = 1, seed: int = 0, score: Callable[[Proposal], float] = luck
) -> LedgerView:
    """A search of `trials` trials with `workers` at once that end in random order, different for each `workers`."""
    order = Random(workers)
    records: dict[str, TrialRecord] = {ROOT.key: ROOT}
    flight: dict[str, Proposal] = {}
    while True:
        while len(flight) < workers and len(records) <= trials:
            proposals = policy.propose(view_of(records.values()), seed)
            for proposal in proposals:
                records[proposal.key] = started(proposal, len(records))
                flight[proposal.key] = proposal
            if not proposals:
                break
        if not flight:
            return view_of(records.values())
        ended = flight.pop(order.choice(sorted(flight)))
        job, number = records[ended.key].job, records[ended.key].number
        records[ended.key] = replace(record_of(job, score(ended)), number=number)
