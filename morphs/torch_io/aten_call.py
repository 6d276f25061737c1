"""The module of a call of one operator of PyTorch. B batch."""

import json
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from morphs.errors import WeightsError


class AtenCall(nn.Module):
    """A call of one operator of PyTorch, its arguments given as `morphs.graph.aten.Aten` has them."""

    def __init__(self, operator: str, args: str = "[]", kwargs: str = "{}") -> None:
        super().__init__()
        self.operator, self.arguments, self.keywords = operator, json.loads(args), json.loads(kwargs)
        self.function = find_operator(operator)
        self.register_buffer("own", torch.empty(0), persistent=False)  # of the network's type, where it runs

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "function": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.function = find_operator(self.operator)

    def forward(self, *tensors: Any, batch: int = 0) -> Any:
        """What the operator returns. batch: B."""
        if self.function is None:  # an item of several results
            return tensors[0][self.arguments[1]]
        given = [self._fill(value, tensors, batch) for value in self.arguments]
        named = {key: self._fill(value, tensors, batch) for key, value in self.keywords.items()}
        return self.function(*given, **named)

    def _fill(self, value: Any, tensors: Any, batch: int) -> Any:
        if isinstance(value, list):
            return [self._fill(item, tensors, batch) for item in value]
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return tensors[value["tensor"]]
        if "batch" in value:
            return value["batch"][0] * batch + value["batch"][1]
        if "dtype" in value:
            return self._own.dtype if value["dtype"] == "own" else getattr(torch, value["dtype"])
        if "device" in value:
            return self._own.device
        if "memory_format" in value:
            return getattr(torch, value["memory_format"])
        if "float" in value:
            return float(value["float"])
        return self._fill(value["train" if self.training else "eval"], tensors, batch)

    @property
    def _own(self) -> Tensor:
        return self.get_buffer("own")

    def extra_repr(self) -> str:
        """Operator and arguments."""
        return f"{self.operator}, {self.arguments}" + (f", {self.keywords}" if self.keywords else "")


def find_operator(name: str) -> Any:
    """The operator of that full name; None for `getitem`. Raises WeightsError where torch has none."""
    if name == "getitem":
        return None
    found: Any = torch.ops
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, OpOverload):
        raise WeightsError(f"aten: this torch has no operator {name:.80}; import the package that adds it")
    return found
