"""The state of an optimizer in a file, through moves: `nas morph --optimizer`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import morphs
from morphs import Child, Network
from morphs.errors import WeightsError
from nas.base.errors import UserError

# Besides the settings of an optimizer, what its groups may hold: parameters, and what schedulers write down.
NO_SETTINGS = frozenset(
    ("params", "param_names", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")
)


@dataclass(frozen=True)
class Carried:
    """An optimizer that steps `module`."""

    optimizer: Optimizer
    module: nn.Module

    def carried(self, child: Child) -> Carried:
        """The optimizer of a child of the module's network. Raises UserError for one that can't be carried."""
        module = child.network.to_torch()
        try:
            return Carried(morphs.carry(self.optimizer, self.module, module, child), module)
        except WeightsError as error:
            raise UserError(f"--optimizer: {error}") from None

    def write(self, path: Path) -> None:
        """Write its state_dict."""
        torch.save(self.optimizer.state_dict(), path)


def read(path: Path, network: Network) -> Carried:
    """The optimizer whose `state_dict()` `torch.save` wrote, stepping the module of `network`.

    Its class is found by its settings: any of torch's. Nothing but tensors and plain values is unpickled. Raises
    UserError for a file that is no such state, or doesn't fit the network.
    """
    place = f"--optimizer {path}"
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{place}: it can't be read ({error.strerror}); name a file") from None
    except Exception as error:  # of many classes: it is no such file, or holds objects
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            f"{place}: it is not a state of tensors ({reason}); write it by torch.save(optimizer.state_dict(), FILE)"
        ) from None
    if not isinstance(state, dict) or not {"state", "param_groups"} <= cast(dict[str, Any], state).keys():
        raise UserError(f"{place}: it is not the state_dict of an optimizer; save optimizer.state_dict()")
    groups: Any = cast(dict[str, Any], state)["param_groups"]
    module = network.to_torch()
    try:
        optimizer = _made(groups, module, place)
        optimizer.load_state_dict(cast(dict[str, Any], state))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{place}: it does not fit the model ({reason}); give that of its optimizer"
        ) from None
    _check_shapes(optimizer, place)
    return Carried(optimizer, module)


def _made(groups: list[dict[str, Any]], module: nn.Module, place: str) -> Optimizer:
    """A new optimizer of the class and the groups of a state."""
    settings = groups[0].keys() - NO_SETTINGS
    named = dict(module.named_parameters())
    members: list[list[tuple[str, nn.Parameter]]] = []
    if all("param_names" in group for group in groups):
        for name in (name for group in groups for name in group["param_names"]):
            if name not in named:
                raise UserError(
                    f"{place}: the model has no parameter {name}; give the state of its own optimizer"
                )
        members = [[(name, named[name]) for name in group["param_names"]] for group in groups]
    else:
        counts = [len(group["params"]) for group in groups]
        if len(groups) > 1:
            raise UserError(
                f"{place}: it has {len(groups)} groups of parameters without names; make the optimizer of "
                "(name, parameter) pairs, as named_parameters() gives them, and save its state_dict again"
            )
        if counts[0] != len(named):
            raise UserError(
                f"{place}: it steps {counts[0]} parameters, and the model has {len(named)}; make the optimizer of "
                "(name, parameter) pairs, as named_parameters() gives them, and save its state_dict again"
            )
        members = [[*named.items()]]
    given = [
        {"params": part if "param_names" in group else [parameter for _, parameter in part]}
        for group, part in zip(groups, members, strict=True)
    ]
    return _class_with(settings, place)(given)


def _class_with(settings: Any, place: str) -> Any:
    """The optimizer of torch whose groups have these settings."""
    for cls in vars(torch.optim).values():
        if inspect.isclass(cls) and issubclass(cls, Optimizer) and cls is not Optimizer:
            try:
                made = cast(Any, cls)([nn.Parameter(torch.zeros(2, 2))])
            except (TypeError, ValueError):
                continue
            if made.param_groups[0].keys() - NO_SETTINGS == settings:
                return cls
    raise UserError(
        f"{place}: no optimizer of torch has the settings {', '.join(sorted(settings))[:120]}; carry its state in "
        "Python, with morphs.carry"
    )


def _check_shapes(optimizer: Optimizer, place: str) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state: Mapping[str, Any] = optimizer.state.get(parameter, {})
            for name in ("exp_avg", "momentum_buffer", "square_avg"):
                value = state.get(name)
                if isinstance(value, Tensor) and value.shape != parameter.shape:
                    raise UserError(
                        f"{place}: {name} of shape {list(value.shape)} is not of a parameter of shape "
                        f"{list(parameter.shape)}; give the state of the model's own optimizer"
                    )
