"""Registry entries of policies and move samplers: how one is made, and its settings."""

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

    settings: of the type that its entry declares; a mapping if it declares none. sampler: the run's move sampler.
    uniform: draws moves uniformly, within the space and `limits`. price: from an objective's name to a function of an
    architecture's text. moves: all moves that the run may use.
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
    """A policy. settings: their type; None: any settings are accepted. samples: whether it uses the move sampler.

    shrinks: whether moves that make networks smaller are added to the space's. code: the user's code, whose source is
    hashed; None: the policy is ours.
    """

    make: Callable[[PolicyContext], Policy]
    settings: type[Settings] | None = Settings
    samples: bool = True
    shrinks: bool = False
    code: Any = None


@dataclass(frozen=True)
class SamplerEntry:
    """A move sampler. make: called with (configuration, settings, the uniform sampler). settings: their type."""

    make: Callable[[RunConfig, Any, Uniform], MoveSampler]
    settings: type[Settings] = Settings
