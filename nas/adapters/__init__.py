"""The search inside another program's loop: a policy called one step at a time, and samplers built on it.

Only `nas.adapters.optuna_sampler` and `nas.adapters.ray_searcher` import Optuna and Ray.
"""

from nas.adapters.climb import Candidate, Climb, hill_climb

__all__ = ["Candidate", "Climb", "hill_climb"]
