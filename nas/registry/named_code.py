"""User code named as `package.module:name`: imports it when a command names it, and hashes its source.

Code is never run because a file of a run names it: `named_again` refuses that and shows the command to give.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from morphs import MOVES, Move
from nas.base.errors import RunError, UserError
from nas.base.text import nas_command
from nas.base.user_code import resolve_named
from nas.config.run_config import CODE, MODEL, RunConfig
from nas.config.validation import unknown
from nas.data import runs_code
from nas.ledger.files import sha256, sha256_file
from nas.policies.entry import PolicyEntry
from nas.registry.registry import Registry

OURS = ("morphs", "search_spaces", "nas")
WORDS = {
    "space": "search space",
    "policy": "policy",
    "objective": "objective",
    "moves": "move",
    "executor": "executor",
}
# The mapping of the registry that a field's names are in.
PARTS = {"space": "spaces", "policy": "policies", "objective": "objectives", "executor": "executors"}


def is_code(name: str) -> bool:
    """Whether `name` has the form package.module:name."""
    return re.fullmatch(CODE, name) is not None


def named(registry: Registry, names: Mapping[str, Any]) -> Registry:
    """`registry` with the code in `names`, registered under these names. names: values of the fields space, policy,
    objective, executor, moves. Only for names that a user has just given, since modules are imported. Raises UserError.
    """
    code = {part: _code(getattr(registry, part), field, names) for field, part in PARTS.items()}
    known = {_name_of(move) for move in registry.moves}
    moves = [_move(spec) for spec in names.get("moves") or () if is_code(spec) and spec not in known]
    return registry.with_(**code, moves=dict.fromkeys(moves))


def named_by(config: RunConfig, registry: Registry) -> Registry:
    """`registry` with the code that a configuration names, which a user has just given. Raises UserError."""
    one = {field: "".join(_names_in(config, field)) for field in WORDS if field != "moves"}
    return named(registry, {**one, "moves": config.moves})


def _code(known: Mapping[str, Any], field: str, names: Mapping[str, Any]) -> dict[str, Any]:
    spec = names.get(field)
    if not isinstance(spec, str) or not is_code(spec) or spec in known:
        return {}
    option = "the search space" if field == "space" else f"--{field}"
    return {spec: resolve_named(spec, option, UserError, PolicyEntry)}


def _move(spec: str) -> type[Move]:
    move = resolve_named(spec, "--moves", UserError)
    if isinstance(move, type) and issubclass(move, Move) and _name_of(move) != spec:
        raise UserError(f"--moves {spec}: it is defined elsewhere; name it as {_name_of(move)}")
    return move


def move_named(name: str, registry: Registry) -> type[Move]:
    """The move with that name or package.module:name in the registry. Raises UserError."""
    for move in registry.moves:
        if name in (move.name, _name_of(move)):
            return move
    known = [move.name for move in registry.moves]
    raise UserError(f"configuration: {unknown('move', name, known)}")


def named_again(
    run: Path,
    config: RunConfig,
    registry: Registry,
    command: str,
    given: Mapping[str, Any],
    needed: Collection[str] = tuple(WORDS),
) -> Registry:
    """`registry` with the code that the run `config` names, if the command names it again.

    given: the names in the command, by field; None or empty if not given. needed: the fields whose code is run.
    Raises RunError if a name differs from the run's, or if code isn't named again; the latter shows the right command.
    """
    for field, value in given.items():
        stored = _names_in(config, field)
        names = (value,) if isinstance(value, str) else tuple(value or ())
        if names and field in WORDS and names != stored:
            raise RunError(
                f"{command}: the {WORDS[field]} of {run} is {', '.join(stored) or 'none'}, not {', '.join(names)}; "
                f"omit --{field} or give the run's"
            )
    registry = named(registry, given)
    code = [(field, name) for field in needed for name in _names_in(config, field) if is_code(name)]
    missing = [(field, name) for field, name in code if not _registered(field, name, registry)]
    if missing:
        field, name = missing[0]
        again = [*code, *([("data", config.data)] if runs_code(config.data) else [])]
        options = [word for other, its in again for word in (f"--{other}", its)]
        raise RunError(
            f"{command}: the {WORDS[field]} of {run} is code, {name}, which only a command may name; "
            f"if you trust it, run: {nas_command(*command.split(), run, *options)}"
        )
    return registry


def _names_in(config: RunConfig, field: str) -> tuple[str, ...]:
    """The names in a field of a configuration."""
    value: Any = config.policy_settings.get(field) if field == "objective" else getattr(config, field)
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def _registered(field: str, name: str, registry: Registry) -> bool:
    if field == "moves":
        return any(name == _name_of(move) for move in registry.moves)
    return name in getattr(registry, PARTS[field])


def for_workers(config: RunConfig, registry: Registry, moves: Iterable[type[Move]]) -> RunConfig:
    """`config` for a process without a registry: a registered data set and those of `moves` that aren't ours are named
    as package.module:name. Raises UserError for code that such a process can't import.
    """
    data = registry.data.get(config.data)
    own = tuple(_importable(move) for move in moves if move not in MOVES)
    return config.model_copy(
        update={"moves": own, "data": config.data if data is None else _importable(data)}
    )


def _importable(code: Any) -> str:
    name = _name_of(code)
    if not is_code(name) or name.startswith("__main__:"):
        raise UserError(
            f"{getattr(code, '__qualname__', code)!s:.80}: worker processes can't import it from {code.__module__}; "
            "put it at the top level of a module"
        )
    return name


def _name_of(code: Any) -> str:
    return f"{code.__module__}:{getattr(code, '__qualname__', type(code).__qualname__)}"


def user_code(config: RunConfig, registry: Registry, moves: Iterable[type[Move]]) -> dict[str, str]:
    """SHA-256 of the source of all user code in `config` that decides a run's results.

    Data have their own digest, and executors decide no results, so neither is included.
    """
    policy = registry.policies[config.policy]
    code: dict[str, Any] = {
        config.policy: policy.code or policy.make,
        config.move_sampler: registry.samplers[config.move_sampler].make,
    }
    if config.space != MODEL:
        code[config.space] = registry.spaces[config.space].function
    if config.task is not None and is_code(config.task):
        code[config.task] = resolve_named(config.task, "--task", UserError)
    objective = str(config.policy_settings.get("objective"))
    if objective in registry.objectives:
        code[objective] = registry.objectives[objective]
    return {**_sources(code), **moves_code(moves)}


def moves_code(moves: Iterable[type[Move]]) -> dict[str, str]:
    """SHA-256 of the source of the moves that aren't ours."""
    return _sources({_name_of(move): move for move in moves})


def _sources(code: Mapping[str, Any]) -> dict[str, str]:
    modules = {name: str(getattr(value, "__module__", "")) for name, value in code.items()}
    return {name: _source(module) for name, module in modules.items() if module.partition(".")[0] not in OURS}


def _source(module: str) -> str:
    file = getattr(sys.modules.get(module), "__file__", None)
    return sha256(module) if file is None else sha256_file(Path(file))
