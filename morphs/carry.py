"""Optimizer state through a change of shapes."""

from inspect import signature
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from morphs.apply import Child
from morphs.errors import WeightsError
from morphs.move import Origin
from morphs.network import Key
from morphs.torch_io.to_torch import module_path


def carry(optimizer: Optimizer, parent_module: nn.Module, child_module: nn.Module, child: Child) -> Optimizer:
    """An optimizer of the same class for `child_module`, hyper-parameters kept, group by group.

    State of a parameter's shape (momentum, Adam moments) is carried along `child.origin`: kept entries keep
    it, new ones start at zero. Other state (step counts) is kept with the parameter. A parameter that the
    parent's optimizer leaves alone is left alone. A parameter made anew stays in the group of the parent's
    parameter of its name; where there is none, it joins the first group with weight decay, or the first one
    without if it has fewer than two axes (group 0 where there is no such group).

    Raises WeightsError when a module's parameters aren't those of the networks.
    """
    before, after = _parameters(parent_module), _parameters(child_module)
    group_of = {id(p): number for number, group in enumerate(optimizer.param_groups) for p in group["params"]}
    members: list[list[Tensor]] = [[] for _ in optimizer.param_groups]
    states: list[tuple[Tensor, dict[str, Any]]] = []
    for key, param in child.network.graph.params.items():
        if not param.trainable:
            continue
        origin, new = child.origin[key], _find(after, key, "child")
        old = _find(before, origin.source, "parent") if origin.source is not None else None
        namesake = old if old is not None else before.get(_path(key))
        number = _group_for_new(new, optimizer) if namesake is None else group_of.get(id(namesake))
        if number is None:
            continue
        members[number].append(new)
        if old is not None and optimizer.state.get(old):
            states.append((new, {k: _carried(v, old, origin) for k, v in optimizer.state[old].items()}))
    if not any(id(parameter) in group_of for parameter in before.values()):
        raise WeightsError(
            "carry: the optimizer steps no parameter of the parent module; pass the module it steps"
        )
    return _rebuilt(optimizer, members, states)


def _rebuilt(
    optimizer: Optimizer, members: list[list[Tensor]], states: list[tuple[Tensor, dict[str, Any]]]
) -> Optimizer:
    """An optimizer of the same class and settings that steps `members`, group by group, from `states`."""
    groups = [
        {**group, "params": params} for group, params in zip(optimizer.param_groups, members, strict=True)
    ]
    accepted = signature(type(optimizer)).parameters  # AdamW's defaults hold one that it doesn't take
    settings = {name: value for name, value in optimizer.defaults.items() if name in accepted}
    make: Any = type(optimizer)
    carried: Optimizer = make(groups, **settings)
    for parameter, state in states:
        carried.state[parameter] = state
    return carried


def _parameters(module: nn.Module) -> dict[str, Tensor]:
    """By path, those of a compiled module like those of the module itself."""
    return {name.removeprefix("_orig_mod."): parameter for name, parameter in module.named_parameters()}


def _path(key: Key) -> str:
    return f"{module_path(key[0])}.{key[1]}"


def _find(parameters: dict[str, Tensor], key: Key, whose: str) -> Tensor:
    if _path(key) not in parameters:
        raise WeightsError(
            f"carry: the {whose} module has no parameter {_path(key)}; pass the to_torch() of the {whose} network"
        )
    return parameters[_path(key)]


def _carried(value: Any, old: Tensor, origin: Origin) -> Any:
    if not isinstance(value, Tensor):
        return value
    return origin.gather(value).clone() if value.shape == old.shape and old.dim() > 0 else value.clone()


def _group_for_new(parameter: Tensor, optimizer: Optimizer) -> int:
    groups = optimizer.param_groups
    if parameter.dim() < 2:
        return next((n for n, group in enumerate(groups) if group.get("weight_decay", 0) == 0), 0)
    return next((n for n, group in enumerate(groups) if group.get("weight_decay", 0) != 0), 0)
