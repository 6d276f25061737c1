"""The registry: one frozen value that names moves, spaces, policies, samplers, executors, objectives and data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from types import MappingProxyType
from typing import Any

from morphs import Move
from nas.base.errors import UserError
from nas.execute.executor import ExecutorFactory
from nas.policies.entry import Objective, PolicyEntry, SamplerEntry
from nas.policies.user_policy import own_policy
from search_spaces import Shape, Space, SpaceFunction

DataFunction = Callable[[], Any]  # returns (train, test) or (train, val, test): see nas.data.custom
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class SpaceEntry:
    """A search space. defaults: default settings of its runs, as in a recipe; without a data set among them, a run must
    name one. example: the shape of inputs for which it is listed if it has no data set. tokens: how many tokens these
    are of, if they are tokens.
    """

    function: SpaceFunction
    defaults: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    example: Shape = (1, 8, 8)
    tokens: int | None = None

    def __call__(self, input_shape: Shape, classes: int, tokens: int | None = None) -> Space:
        """The space for inputs of that shape, which may be so many tokens, and that number of classes. Raises
        UserError for tokens if the function has no parameter of that name.
        """
        if tokens is None:
            return self.function(input_shape, classes)
        if "tokens" not in signature(self.function).parameters:
            raise UserError(
                f"search: the space {getattr(self.function, '__name__', self.function)} is not for tokens, which whole "
                "numbers [N, T] are; use the space transformer or auto, or give floats if they are quantities"
            )
        return self.function(input_shape, classes, tokens=tokens)


@dataclass(frozen=True)
class Registry:
    """Names everything that a search can use. Names in a configuration are resolved by a registry."""

    moves: tuple[type[Move], ...]
    spaces: Mapping[str, SpaceEntry]
    policies: Mapping[str, PolicyEntry]
    samplers: Mapping[str, SamplerEntry]
    executors: Mapping[str, ExecutorFactory]
    objectives: Mapping[str, Objective]
    data: Mapping[str, DataFunction]

    def with_(
        self,
        *,
        moves: Iterable[type[Move]] = (),
        spaces: Mapping[str, SpaceEntry | SpaceFunction] = _NOTHING,
        policies: Mapping[str, PolicyEntry | Callable[..., Any]] = _NOTHING,
        samplers: Mapping[str, SamplerEntry] = _NOTHING,
        executors: Mapping[str, ExecutorFactory] = _NOTHING,
        objectives: Mapping[str, Objective] = _NOTHING,
        data: Mapping[str, DataFunction] = _NOTHING,
    ) -> Registry:
        """A registry with these as well. A policy that is a class or a function is called with (config, sampler).

        Raises UserError for a name that already exists, and for a value that is not a move.
        """
        more = tuple(moves)
        for move in more:
            if not (isinstance(move, type) and issubclass(move, Move)):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UserError(f"registry: {move!r:.80} is not a move; give a subclass of morphs.Move")
            missing = [n for n in ("name", "summary") if not isinstance(getattr(move, n, None), str)]
            missing += sorted(move.__abstractmethods__)
            if missing:
                raise UserError(
                    f"registry: the move {move.__name__} has no {', '.join(missing)}; add what is missing"
                )
        named = _joined(
            "move", {move.name: move for move in self.moves}, [(move.name, move) for move in more]
        )
        return Registry(
            moves=tuple(named.values()),
            spaces=_joined("search space", self.spaces, [(n, _space(v)) for n, v in spaces.items()]),
            policies=_joined("policy", self.policies, [(n, _policy(n, v)) for n, v in policies.items()]),
            samplers=_joined("move sampler", self.samplers, samplers.items()),
            executors=_joined("executor", self.executors, executors.items()),
            objectives=_joined("objective", self.objectives, objectives.items()),
            data=_joined("data set", self.data, data.items()),
        )


def _space(given: SpaceEntry | SpaceFunction) -> SpaceEntry:
    return given if isinstance(given, SpaceEntry) else SpaceEntry(given)


def _policy(name: str, given: PolicyEntry | Callable[..., Any]) -> PolicyEntry:
    if isinstance(given, PolicyEntry):
        return given
    return PolicyEntry(partial(own_policy, name, given), settings=None, code=given)


def _joined(what: str, known: Mapping[str, Any], more: Iterable[tuple[str, Any]]) -> Mapping[str, Any]:
    joined = dict(known)
    for name, value in more:
        if name in joined:
            raise UserError(f'registry: the {what} "{name}" already exists; give yours another name')
        joined[name] = value
    return MappingProxyType(joined)
