"""Ray, at the rim: children trained by Ray Tune, on this machine or a cluster. Importing this imports ray."""

from nas.ray.executor import RayExecutor
from nas.ray.searcher import HillClimbSearcher, candidate_of

__all__ = ["HillClimbSearcher", "RayExecutor", "candidate_of"]
