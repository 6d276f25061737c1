"""Search policies: pure functions of the ledger's view."""

from nas.search.hill_climb import HillClimb
from nas.search.policy import Policy, Proposal, graph_of

__all__ = ["HillClimb", "Policy", "Proposal", "graph_of"]
