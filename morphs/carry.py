"""Optimizer state through a change of shapes, and which parameters are new."""

from collections.abc import Mapping
from inspect import signature
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from morphs.apply import Child
from morphs.errors import WeightsError
from morphs.move import Origin
from morphs.network import Key, Network
from morphs.torch_io.names import module_path

State = dict[str, Any]  # what an optimizer remembers of one parameter

# State that doesn't begin at zero, and the setting of its group that it begins at: of Adagrad and of Rprop.
STARTS = {"sum": "initial_accumulator_value", "step_size": "lr"}
# State of Adafactor that may look like the parameter where that has a single row or column.
MOST_COUNTED = 2000  # steps, of a parameter of Adam's with new entries
FACTORED = ("row_var", "col_var")


def carry(optimizer: Optimizer, parent_module: nn.Module, child_module: nn.Module, child: Child) -> Optimizer:
    """An optimizer of the same class for `child_module`, hyper-parameters kept, group by group.

    State of a parameter's shape (momentum, Adam moments) is carried along `child.origin`: kept entries keep
    it, new ones start as they would in a fresh optimizer, at zero in most. Scalars (step counts) are kept with the
    parameter; but where Adam or AdamW has taken so many steps that new entries, whose moments are zero, would first
    move by more than the rate (3.2 times it, in the end), a parameter with new entries counts fewer, and the moments of
    its kept entries are scaled so that their unbiased means are what they were. State of another shape (Adafactor's
    factored moments) has no entry for each of the parameter's: where the parameter's entries changed place or number,
    all its state is reset.

    A parameter that the parent's optimizer leaves alone is left alone. A new parameter stays in the group of
    the parent's parameter of its name; where there is none, it joins the first group with weight decay, or the first
    one without if it has fewer than two axes (group 0 where there is no such group). Where the optimizer knows its
    parameters' names they are those of `child_module`.

    The modules are those of one step: after a chain of moves, carry through each child in turn.

    Raises WeightsError when a module's parameters aren't those of the networks, and where the optimizer keeps state
    of all parameters together (LBFGS).
    """
    _check_state(optimizer)
    before, after = _parameters(parent_module), _parameters(child_module)
    group_of = {id(p): number for number, group in enumerate(optimizer.param_groups) for p in group["params"]}
    members: list[list[Tensor]] = [[] for _ in optimizer.param_groups]
    states: list[tuple[Tensor, State]] = []
    params = child.network.graph.params
    for key, path in child.network.state_keys().items():
        if not params[key].trainable:
            continue
        origin, new = child.origin[key], _find(after, path, "child")
        source = None if origin.source is None else _path(origin.source, child.network)
        old = _find(before, source, "parent") if source is not None else None
        namesake = old if old is not None else before.get(path)
        number = _group_for_new(new, optimizer) if namesake is None else group_of.get(id(namesake))
        if number is None:
            continue
        members[number].append(new)
        if old is not None and optimizer.state.get(old):
            group = optimizer.param_groups[number]
            adam = isinstance(optimizer, (Adam, AdamW))
            states.append((new, _carried(optimizer.state[old], old, new, origin, group, adam)))
    if not any(id(parameter) in group_of for parameter in before.values()):
        raise WeightsError(
            "carry: the optimizer steps no parameter of the parent module; pass the module it steps"
        )
    return _rebuilt(optimizer, members, states, child_module)


def new_parameters(child: Child) -> tuple[str, ...]:
    """The names, in `child.network.to_torch()`, of the trainable parameters that have no entry of the parent's.

    For an optimizer that gives them a rate of their own for a while. Parameters with old and new entries, as after
    `widen`, are not among them; `child.origin` tells which entries are new.
    """
    params = child.network.graph.params.items()
    new = (key for key, param in params if param.trainable and child.origin[key].source is None)
    return tuple(_path(key, child.network) for key in new)


def carry_values(values: Mapping[Key, Tensor], child: Child) -> dict[Key, Tensor]:
    """Numbers that belong to the parent's parameters, such as a momentum, carried along `child.origin`.

    values: a tensor of its parameter's shape for each of the parent's. Kept entries keep theirs, new ones are 0. Raises
    WeightsError when `values` aren't those of the parent's parameters.
    """
    carried: dict[Key, Tensor] = {}
    for key, weight in child.network.weights.items():
        origin = child.origin[key]
        if origin.source is None:
            carried[key] = torch.zeros_like(weight)
            continue
        value = values.get(origin.source)
        if value is None or (moved := origin.gather(value)).shape != weight.shape:
            name = _path(origin.source, child.network)
            raise WeightsError(f"carry: the values for {name} are not of its shape; pass the parent's own")
        carried[key] = moved
    return carried


def carry_moments(
    mean: Mapping[Key, Tensor],
    square: Mapping[Key, Tensor],
    count: Mapping[Key, Tensor],
    child: Child,
    betas: tuple[float, float] = (0.9, 0.999),
) -> tuple[dict[Key, Tensor], dict[Key, Tensor], dict[Key, Tensor]]:
    """Adam's state as `carry` carries it, where it is kept apart from an optimizer: `exp_avg`, `exp_avg_sq` and `step`.

    Each is as the values of `carry_values`; all entries of a parameter's `count` are its number of steps. Raises as
    `carry_values` does.
    """
    means, squares, counts = (carry_values(values, child) for values in (mean, square, count))
    for key, param in child.network.graph.params.items():
        if not param.trainable or child.origin[key].source is None or not _has_new(child.origin[key]):
            continue
        taken = counts[key].amax()
        state = {"step": taken, "exp_avg": means[key], "exp_avg_sq": squares[key]}
        found = _recounted(state, {"betas": betas})
        means[key], squares[key] = found["exp_avg"], found["exp_avg_sq"]
        counts[key] = torch.full_like(counts[key], float(found["step"]))
    return means, squares, counts


def _check_state(optimizer: Optimizer) -> None:
    """Raise WeightsError for state that isn't one tensor or number for each parameter."""
    for state in optimizer.state.values():
        for name, value in state.items():
            if value is not None and not isinstance(value, (Tensor, bool, int, float)):
                kind = type(optimizer).__name__
                raise WeightsError(
                    f"carry: {kind} keeps a {type(value).__name__} ({name}) whose entries belong to no single "
                    f"parameter; make a new {kind} for the child module"
                )


def _rebuilt(
    optimizer: Optimizer, members: list[list[Tensor]], states: list[tuple[Tensor, State]], module: nn.Module
) -> Optimizer:
    """An optimizer of the same class and settings that steps `members` of `module`, group by group, from `states`."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups: list[dict[str, Any]] = []
    for group, params in zip(optimizer.param_groups, members, strict=True):
        groups.append({**_copied(group), "params": params})
        if "param_names" in group:
            groups[-1]["param_names"] = [names[id(parameter)] for parameter in params]
    accepted = signature(type(optimizer)).parameters  # AdamW's defaults hold one that it doesn't take
    settings = {name: value for name, value in _copied(optimizer.defaults).items() if name in accepted}
    make: Any = type(optimizer)
    carried: Optimizer = make(groups, **settings)
    for parameter, state in states:
        if state:
            carried.state[parameter] = state
    return carried


def _copied(settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` or state whose tensors, such as a learning rate, are copies: optimizers write to them in place."""
    return {
        name: v.clone() if isinstance(v, Tensor) else v for name, v in settings.items() if name != "params"
    }


def _parameters(module: nn.Module) -> dict[str, Tensor]:
    """By path, those of a compiled module like those of the module itself."""
    return {name.removeprefix("_orig_mod."): parameter for name, parameter in module.named_parameters()}


def _path(key: Key, child: Network) -> str:
    """Where the parent's module has a parameter: the child's network knows the keys that came from a module."""
    return child.keys.get(key) or f"{module_path(key[0])}.{key[1]}"


def _find(parameters: dict[str, Tensor], path: str, whose: str) -> Tensor:
    if path not in parameters:
        raise WeightsError(
            f"carry: the {whose} module has no parameter {path}; pass the to_torch() of the {whose} network"
        )
    return parameters[path]


def _carried(state: State, old: Tensor, new: Tensor, origin: Origin, group: State, adam: bool) -> State:
    """The state of `new`, made of `old` as `origin` says; empty where some of it can't follow."""
    if origin.entries is None and all(index is None for index in origin.axes):
        if old.shape != new.shape:
            raise _misfit(old, new, origin)
        return _copied(state)
    carried: State = {}
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.dim() == 0:
            carried[name] = value.clone() if isinstance(value, Tensor) else value
        elif value.shape != old.shape or name in FACTORED:
            return {}
        else:
            try:
                carried[name] = origin.gather(value, float(group.get(STARTS.get(name, ""), 0.0)))
            except (IndexError, RuntimeError):
                raise _misfit(old, new, origin) from None
            if carried[name].shape != new.shape:
                raise _misfit(old, new, origin)
    return _recounted(carried, group) if adam and _has_new(origin) else carried


def _has_new(origin: Origin) -> bool:
    """Whether some entries are new."""
    maps = (*origin.axes, origin.entries)
    return any(index is not None and bool((index < 0).any()) for index in maps)


def _recounted(state: State, group: State) -> State:
    """Adam's state with a step count from which entries of zero moments move by at most the rate.

    Its update is m / (1 − β₁ᵗ) over √(v / (1 − β₂ᵗ)): with another t, m and v change so that both quotients stay.
    """
    first, second = (float(beta) for beta in group["betas"])
    taken = int(state["step"])
    if _first_move(taken + 1, first, second) <= 1:
        return state
    count = min(taken, MOST_COUNTED)
    while count > 1 and _first_move(count + 1, first, second) > 1:
        count -= 1
    found = {**state, "step": state["step"] * 0 + count}
    for name, beta in (("exp_avg", first), ("exp_avg_sq", second), ("max_exp_avg_sq", second)):
        if name in state:
            found[name] = state[name] * ((1 - beta**count) / (1 - beta**taken))
    return found


def _first_move(step: int, first: float, second: float) -> float:
    """How far, in rates, an entry of zero moments moves in this step."""
    mean, square = (1 - first) / (1 - first**step), (1 - second) / (1 - second**step)
    return mean / sqrt(square)


def _misfit(old: Tensor, new: Tensor, origin: Origin) -> WeightsError:
    assert origin.source is not None
    return WeightsError(
        f"carry: the parent module's {'.'.join(origin.source)} of shape {tuple(old.shape)} did not become "
        f"the child's of {tuple(new.shape)} in this move; pass the modules of one step, of a chain in turn"
    )


def _group_for_new(parameter: Tensor, optimizer: Optimizer) -> int:
    decays = [group.get("weight_decay", 0) != 0 for group in optimizer.param_groups]
    wanted = parameter.dim() >= 2
    return decays.index(wanted) if wanted in decays else 0
