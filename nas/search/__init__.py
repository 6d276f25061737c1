"""Search policies: pure functions of the ledger's view."""

from nas.search.choose import OBJECTIVES, POLICIES, SAMPLERS, make_policy
from nas.search.evolution import Evolution
from nas.search.hill_climb import HillClimb
from nas.search.local_search import LocalSearch
from nas.search.moves import Draw, MoveSampler, Neighbourhood, SpaceMoves, Uniform, graph_of
from nas.search.own import OwnPolicy
from nas.search.pareto import Pareto
from nas.search.policy import Forgets, Policy, Proposal
from nas.search.predictor import Predictor
from nas.search.random_walk import RandomWalk
from nas.search.tpe import TPE

__all__ = [
    "OBJECTIVES",
    "POLICIES",
    "SAMPLERS",
    "TPE",
    "Draw",
    "Evolution",
    "Forgets",
    "HillClimb",
    "LocalSearch",
    "MoveSampler",
    "Neighbourhood",
    "OwnPolicy",
    "Pareto",
    "Policy",
    "Predictor",
    "Proposal",
    "RandomWalk",
    "SpaceMoves",
    "Uniform",
    "graph_of",
    "make_policy",
]
