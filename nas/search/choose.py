"""The policies that a run's configuration can name: an explicit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from morphs import Limits
from nas.search.evolution import Evolution
from nas.search.hill_climb import HillClimb
from nas.search.moves import MoveSampler, SpaceMoves, Uniform
from nas.search.policy import Policy
from nas.search.random_walk import RandomWalk
from search_spaces import Space

if TYPE_CHECKING:
    from nas.config import RunConfig

PolicyFunction = Callable[["RunConfig", MoveSampler], Policy]


def _hill_climb(config: RunConfig, sampler: MoveSampler) -> Policy:
    return HillClimb(sampler, config.children, config.moves_per_child, config.select, config.rungs)


def _evolution(config: RunConfig, sampler: MoveSampler) -> Policy:
    return Evolution(sampler, config.children + 1, config.moves_per_child, select=config.select)


def _random(config: RunConfig, sampler: MoveSampler) -> Policy:
    return RandomWalk(sampler, config.children, config.moves_per_child, config.select)


POLICIES: Mapping[str, PolicyFunction] = MappingProxyType(
    {"hill-climb": _hill_climb, "evolution": _evolution, "random": _random}
)


def make_policy(config: RunConfig, space: Space, limits: Limits) -> Policy:
    """The policy that `config` names, moving within `space` and `limits`."""
    return POLICIES[config.policy](config, Uniform(SpaceMoves(space, limits)))
