"""Our policies, move samplers and objectives, as explicit tables; makes a run's policy from such tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from morphs import MOVES, ArchGraph, Limits, Move, Narrow, RemoveLayer, cost, graph_from_json
from nas.base.errors import UserError
from nas.base.user_code import where_raised
from nas.policies.entry import Objective, PolicyContext, PolicyEntry, SamplerEntry
from nas.policies.evolution import evolution
from nas.policies.graph_tokens import graph_tokens
from nas.policies.hill_climb import hill_climb
from nas.policies.local_search import local_search
from nas.policies.pareto import pareto
from nas.policies.policy import Policy
from nas.policies.predictor import Predictor, PredictorSettings
from nas.policies.random_walk import random_walk
from nas.policies.sampling import MoveSampler, SpaceMoves, Uniform
from nas.policies.settings import POLICY_SETTINGS
from nas.policies.tpe import TPE, TPESettings
from search_spaces import Space

if TYPE_CHECKING:
    from nas.config.run_config import RunConfig

SHRINKING = (Narrow, RemoveLayer)  # needed to reach networks cheaper than the seed

POLICIES: Mapping[str, PolicyEntry] = MappingProxyType(
    {
        "hill-climb": PolicyEntry(hill_climb, POLICY_SETTINGS["hill-climb"]),
        "evolution": PolicyEntry(evolution, POLICY_SETTINGS["evolution"]),
        "local-search": PolicyEntry(local_search, POLICY_SETTINGS["local-search"]),
        "pareto": PolicyEntry(pareto, POLICY_SETTINGS["pareto"], shrinks=True),
        "random": PolicyEntry(random_walk, POLICY_SETTINGS["random"], samples=False),
    }
)


def _tpe(config: RunConfig, settings: TPESettings, uniform: Uniform) -> MoveSampler:
    return TPE(uniform.neighbourhood, config.select, settings.startup)


def _predictor(config: RunConfig, settings: PredictorSettings, uniform: Uniform) -> MoveSampler:
    return Predictor(uniform, graph_tokens, config.select, settings.pool, settings.startup, settings.noise)


SAMPLERS: Mapping[str, SamplerEntry] = MappingProxyType(
    {
        "uniform": SamplerEntry(lambda config, settings, uniform: uniform),
        "tpe": SamplerEntry(_tpe, TPESettings),
        "predictor": SamplerEntry(_predictor, PredictorSettings),
    }
)


def params(graph: ArchGraph) -> float:
    """Parameters."""
    return float(cost(graph).params)


def macs(graph: ArchGraph) -> float:
    """Multiply-adds of one image."""
    return float(cost(graph).macs)


# What a network costs. Latency needs a table, which a run measures when it starts.
OBJECTIVES: Mapping[str, Objective] = MappingProxyType({"params": params, "macs": macs})


def price(name: str, objective: Objective) -> Callable[[str], float]:
    """A cached function from an architecture's text to its cost; every decision asks for the cost of all trials.

    The function raises UserError if the objective `name` fails or returns anything but a finite number from 0.
    """

    @lru_cache(maxsize=2**14)
    def priced(graph: str) -> float:
        try:
            found: Any = objective(graph_from_json(graph))
        except Exception as error:  # a user's code may raise anything
            raise UserError(f"objective {name}: it failed ({where_raised(error)}); fix it") from error
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found < math.inf:
            raise UserError(f"objective {name}: it returned {found!r:.60}; return a number from 0")
        return float(found)

    return priced


def make_policy(
    config: RunConfig,
    space: Space,
    limits: Limits,
    policies: Mapping[str, PolicyEntry] = POLICIES,
    samplers: Mapping[str, SamplerEntry] = SAMPLERS,
    objectives: Mapping[str, Objective] = OBJECTIVES,
    moves: tuple[type[Move], ...] = MOVES,
) -> Policy:
    """Make the policy that a checked `config` names, for `space` and `limits`.

    moves: all moves that the run may use. Raises UserError if a user's policy can't be made.
    """
    entry, drawn = policies[config.policy], samplers[config.move_sampler]
    if entry.shrinks:
        present = {move for move, _ in space.moves}
        space = replace(space, moves=(*space.moves, *((m, {}) for m in SHRINKING if m not in present)))
    uniform = Uniform(SpaceMoves(space, limits))
    sampler = drawn.make(config, drawn.settings.model_validate(config.sampler_settings), uniform)
    settings: Any = config.policy_settings
    if entry.settings is not None:
        settings = entry.settings.model_validate(settings)

    def priced(name: str) -> Callable[[str], float]:
        return price(name, objectives[name])

    return entry.make(PolicyContext(config, settings, sampler, uniform, limits, priced, moves))
