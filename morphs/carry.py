"""Optimizer state through a change of shapes."""

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from morphs.apply import Child
from morphs.errors import WeightsError
from morphs.torch_io.to_torch import module_path


def carry(optimizer: Optimizer, parent_module: nn.Module, child_module: nn.Module, child: Child) -> Optimizer:
    """An optimizer of the same class for `child_module`, hyper-parameters kept, group by group.

    State of a parameter's shape (momentum, Adam moments) is carried along `child.origin`: kept entries keep
    it, new ones start at zero. Other state (step counts) is kept with the parameter. A new parameter joins the
    group of the first group's settings, or the group without weight decay if it has fewer than two axes and
    there is one.

    Raises WeightsError when a module's parameters aren't those of the networks.
    """
    before = dict(parent_module.named_parameters())
    after = dict(child_module.named_parameters())
    group_of = {id(p): number for number, group in enumerate(optimizer.param_groups) for p in group["params"]}
    members: list[list[Tensor]] = [[] for _ in optimizer.param_groups]
    states: list[tuple[Tensor, dict[str, Any]]] = []
    for (owner, name), origin in child.origin.items():
        path = f"{module_path(owner)}.{name}"
        if path not in after:
            if path in dict(child_module.named_buffers()):
                continue
            raise WeightsError(
                f"carry: the child module has no parameter {path}; pass child.network.to_torch()"
            )
        new, old = after[path], None
        if origin.source is not None:
            old = before.get(f"{module_path(origin.source[0])}.{origin.source[1]}")
        number = group_of.get(id(old)) if old is not None else _group_for_new(new, optimizer)
        if number is None:
            continue  # the parent's optimizer leaves it alone
        members[number].append(new)
        if old is not None and optimizer.state.get(old):
            states.append((new, {k: _carried(v, old, origin) for k, v in optimizer.state[old].items()}))
    groups = [
        {**{k: v for k, v in group.items() if k != "params"}, "params": params}
        for group, params in zip(optimizer.param_groups, members, strict=True)
    ]
    carried = type(optimizer)([g for g in groups if g["params"]], **optimizer.defaults)
    for parameter, state in states:
        carried.state[parameter] = state
    return carried


def _carried(value: Any, old: Tensor, origin: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return origin.gather(value).clone() if value.shape == old.shape and old.dim() > 0 else value.clone()


def _group_for_new(parameter: Tensor, optimizer: Optimizer) -> int:
    groups = optimizer.param_groups
    if parameter.dim() < 2:
        return next((n for n, group in enumerate(groups) if group.get("weight_decay", 0) == 0), 0)
    return next((n for n, group in enumerate(groups) if group.get("weight_decay", 0) != 0), 0)
