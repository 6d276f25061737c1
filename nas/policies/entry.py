"""What a registry holds of a policy and of a move sampler: how one is made, and the settings that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.config.settings import Settings

if TYPE_CHECKING:
    from morphs import ArchGraph, Limits, Move
    from nas.config.run_config import RunConfig
    from nas.policies.policy import Policy
    from nas.policies.sampling import MoveSampler, Uniform

Objective = Callable[["ArchGraph"], float]  # what a network costs; lower is better


@dataclass(frozen=True)
class PolicyContext:
    """What a policy is made from.

    settings: of the type that its entry declares; a mapping where it declares none. sampler: draws children as
    --move-sampler says. uniform: draws all moves alike, within the space and `limits`. price: from an objective's name
    to a function of an architecture's text. moves: all that the run's chains may hold.
    """

    config: RunConfig
    settings: Any
    sampler: MoveSampler
    uniform: Uniform
    limits: Limits
    price: Callable[[str], Callable[[str], float]]
    moves: tuple[type[Move], ...]


@dataclass(frozen=True)
class PolicyEntry:
    """A policy. settings: their type; None: any are taken. samples: whether it draws by the run's move sampler.

    shrinks: whether the moves that make networks smaller are added to a space's. code: what a user wrote, whose
    source is hashed; None: it is ours.
    """

    make: Callable[[PolicyContext], Policy]
    settings: type[Settings] | None = Settings
    samples: bool = True
    shrinks: bool = False
    code: Any = None


@dataclass(frozen=True)
class SamplerEntry:
    """A move sampler, made from (configuration, settings, the uniform sampler). settings: their type."""

    make: Callable[[RunConfig, Any, Uniform], MoveSampler]
    settings: type[Settings] = Settings
