"""Ray, at the rim: children trained by Ray Tune, on this machine or a cluster. Importing this imports ray."""

from nas.adapters.ray_searcher import HillClimbSearcher, candidate_of
from nas.execute.ray.executor import RayExecutor

__all__ = ["HillClimbSearcher", "RayExecutor", "candidate_of"]
