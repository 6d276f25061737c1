"""The memory that a training step takes, found without taking it: by one step on tensors that have no content."""

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from morphs.errors import LimitsError
from morphs.graph.arch import ArchGraph
from morphs.graph.node import Node
from morphs.network import Network

STATES = 1  # numbers that an optimizer keeps for each weight: momentum


def training_memory(graph: ArchGraph, batch: int, states: int = STATES) -> int:
    """Bytes in use at the peak of a training step of `graph` in float32, with `batch` examples: its weights, their
    gradients and the optimizer's `states`, and what the backward pass needs of the forward pass.

    What a library takes for its own work is not counted, such as cuDNN's workspace or the process itself. Nothing of
    that size is allocated, and it takes about as long as a step of a small network: 20 to 100 ms. Raises LimitsError
    where torch finds no folder for its temporary files.
    """
    weights = {
        key: torch.empty(param.shape, dtype=getattr(torch, param.whole or "float32"), device="meta")
        for key, param in graph.params.items()
    }
    module = Network(graph, weights).to_torch()
    state = module.state_dict(keep_vars=True)
    trained = {name for name, value in state.items() if isinstance(value, nn.Parameter)}
    held = sum(value.nbytes for value in state.values())
    held += states * sum(state[name].nbytes for name in trained)
    with torch.device("meta"):  # also for what a forward makes
        empty = {name: _like(value, name in trained) for name, value in state.items()}
        inputs = [_examples(graph, node, batch) for node in graph.inputs]
        try:
            with _InUse() as in_use, _FusedAttention():
                _step(module, empty, inputs)
        except OSError as error:  # from the import of torch's compiler, which some operators ask for
            folder = "set TORCHINDUCTOR_CACHE_DIR to a folder that can be written"
            raise LimitsError(
                f"memory: torch's compiler has no folder for its files ({error}); {folder}"
            ) from error
    return held + sum(each.nbytes for each in inputs) + in_use.peak


def _like(value: Tensor, trained: bool) -> Tensor:
    return torch.empty(value.shape, dtype=value.dtype).requires_grad_(trained)


def _examples(graph: ArchGraph, node: Node, batch: int) -> Tensor:
    dtype = torch.float32 if node.op.whole is None else getattr(torch, node.op.whole)
    return torch.zeros((batch, *graph.shape(node.name)), dtype=dtype)


def _step(module: nn.Module, state: Mapping[str, Tensor], inputs: list[Tensor]) -> None:
    outputs = [
        each
        for each in tree_leaves(functional_call(module, dict(state), tuple(inputs)))
        if each.requires_grad
    ]
    torch.autograd.backward(outputs, [torch.ones_like(each) for each in outputs])


class _FusedAttention(TorchFunctionMode):
    """Computes attention in one operator where processors do. For tensors without content torch takes its single steps,
    which write the matrix of T x T.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is not scaled_dot_product_attention or not _fused(*args, dropout=given["dropout_p"]):
            return func(*args, **given)
        *read, mask = args
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        return fused(*read, is_causal=given["is_causal"], attn_mask=mask, scale=given["scale"])[0]


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> bool:
    alike = q.shape[1] == k.shape[1] and q.shape[-1] == v.shape[-1]
    return alike and dropout == 0 and (mask is None or not mask.requires_grad)


class _InUse(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it is entered, as long as anything holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.peak, self._now = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {
            id(each.untyped_storage()) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)
        }
        for each in tree_leaves(made):
            if isinstance(each, Tensor) and id(each.untyped_storage()) not in given:
                self._count(each.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
