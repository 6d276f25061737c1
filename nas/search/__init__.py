"""Search policies: pure functions of the ledger's view."""

from nas.search.choose import POLICIES, make_policy
from nas.search.evolution import Evolution
from nas.search.hill_climb import HillClimb
from nas.search.moves import Draw, MoveSampler, Neighbourhood, SpaceMoves, Uniform, graph_of
from nas.search.policy import Policy, Proposal
from nas.search.random_walk import RandomWalk

__all__ = [
    "POLICIES",
    "Draw",
    "Evolution",
    "HillClimb",
    "MoveSampler",
    "Neighbourhood",
    "Policy",
    "Proposal",
    "RandomWalk",
    "SpaceMoves",
    "Uniform",
    "graph_of",
    "make_policy",
]
