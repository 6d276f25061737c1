"""The search in other people's loops: a policy one step at a time, and samplers built on that.

`nas.adapters.optuna_sampler` and `nas.adapters.ray_searcher` import their libraries, this doesn't.
"""

from nas.adapters.climb import Candidate, Climb, hill_climb

__all__ = ["Candidate", "Climb", "hill_climb"]
