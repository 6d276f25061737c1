"""The settings of our policies, by policy. Imports no torch, so that help pages are fast."""

from collections.abc import Mapping
from types import MappingProxyType

from nas.config.settings import Settings
from nas.policies.evolution import EvolutionSettings
from nas.policies.hill_climb import HillClimbSettings
from nas.policies.local_search import LocalSearchSettings
from nas.policies.pareto import ParetoSettings

POLICY_SETTINGS: Mapping[str, type[Settings]] = MappingProxyType(
    {
        "hill-climb": HillClimbSettings,
        "evolution": EvolutionSettings,
        "local-search": LocalSearchSettings,
        "pareto": ParetoSettings,
        "random": Settings,
    }
)
