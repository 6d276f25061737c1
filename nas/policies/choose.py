"""The policies and move samplers that a run's configuration can name: explicit tables, and a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from morphs import Cost, Limits, Narrow, RemoveLayer, cost, graph_from_json
from nas.policies.evolution import Evolution
from nas.policies.graph_tokens import graph_tokens
from nas.policies.hill_climb import HillClimb
from nas.policies.local_search import LocalSearch
from nas.policies.pareto import Pareto
from nas.policies.policy import Policy
from nas.policies.predictor import Predictor
from nas.policies.random_walk import RandomWalk
from nas.policies.sampling import MoveSampler, SpaceMoves, Uniform
from nas.policies.tpe import TPE
from nas.policies.user_policy import own_policy
from search_spaces import Space

if TYPE_CHECKING:
    from nas.config.run_config import RunConfig

SHRINKING = (Narrow, RemoveLayer)  # what a front needs to reach its cheap end

# (configuration, the sampler that it names, the uniform sampler) -> policy
PolicyFunction = Callable[["RunConfig", MoveSampler, Uniform], Policy]
SamplerFunction = Callable[["RunConfig", Uniform], MoveSampler]


def _hill_climb(config: RunConfig, sampler: MoveSampler, uniform: Uniform) -> Policy:
    return HillClimb(sampler, config.children, config.moves_per_child, config.select, config.rungs)


def _evolution(config: RunConfig, sampler: MoveSampler, uniform: Uniform) -> Policy:
    return Evolution(sampler, config.children + 1, config.moves_per_child, select=config.select)


def _random(config: RunConfig, sampler: MoveSampler, uniform: Uniform) -> Policy:
    return RandomWalk(uniform, config.children, config.moves_per_child, config.select)


def _local_search(config: RunConfig, sampler: MoveSampler, uniform: Uniform) -> Policy:
    return LocalSearch(sampler, uniform, config.children + 1, config.moves_per_child, select=config.select)


def _pareto(config: RunConfig, sampler: MoveSampler, uniform: Uniform) -> Policy:
    price = OBJECTIVES["params" if config.objective == "latency" else config.objective]
    return Pareto(
        sampler,
        uniform.neighbourhood,
        price,
        config.children + 1,
        config.moves_per_child,
        select=config.select,
    )


@lru_cache(maxsize=2**14)  # every decision asks for that of all trials
def _cost(graph: str) -> Cost:
    return cost(graph_from_json(graph))


def _params(graph: str) -> float:
    return float(_cost(graph).params)


def _macs(graph: str) -> float:
    return float(_cost(graph).macs)


# What a network costs, by its text. Latency takes a table, which a run measures when it begins.
OBJECTIVES: Mapping[str, Callable[[str], float]] = MappingProxyType({"params": _params, "macs": _macs})

POLICIES: Mapping[str, PolicyFunction] = MappingProxyType(
    {
        "hill-climb": _hill_climb,
        "evolution": _evolution,
        "local-search": _local_search,
        "pareto": _pareto,
        "random": _random,
    }
)

SAMPLERS: Mapping[str, SamplerFunction] = MappingProxyType(
    {
        "uniform": lambda config, uniform: uniform,
        "tpe": lambda config, uniform: TPE(uniform.neighbourhood, config.select),
        "predictor": lambda config, uniform: Predictor(uniform, graph_tokens, config.select),
    }
)


def make_policy(config: RunConfig, space: Space, limits: Limits) -> Policy:
    """The policy that `config` names, moving within `space` and `limits`; `pareto` may shrink networks as well.

    Any other name is a user's own: see `own_policy`, which raises UserError.
    """
    if config.policy == "pareto":
        there = {move for move, _ in space.moves}
        space = replace(space, moves=(*space.moves, *((m, {}) for m in SHRINKING if m not in there)))
    uniform = Uniform(SpaceMoves(space, limits))
    sampler = SAMPLERS[config.move_sampler](config, uniform)
    if config.policy in POLICIES:
        return POLICIES[config.policy](config, sampler, uniform)
    return cast(
        Policy, own_policy(config.policy, config, sampler, limits)
    )  # its `generational` is the user's
