"""The memory that a training step takes: predicted by one step on tensors that have no content, or measured."""

import weakref
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import scaled_dot_product_attention
from torch.optim import SGD
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from morphs.errors import LimitsError
from morphs.examples import random_inputs
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


def measured_training_memory(network: Network, batch: int, device: torch.device | str = "cpu") -> int:
    """Bytes of tensors at the peak of a training step of `network` with momentum, found by taking two on `batch` random
    examples: by the profiler on a processor, by the allocator on a GPU, the libraries' own tensors included.
    """
    module = network.to_torch().to(device).train()
    draws = torch.Generator().manual_seed(0)
    inputs = [each.to(device) for each in random_inputs(network.graph, batch, draws, torch.float32)]
    optimizer = SGD(module.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        out = module(*inputs)
        out.backward(torch.ones_like(out))
        optimizer.step()
        optimizer.zero_grad()

    step()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device)
    momentum = [value for state in optimizer.state.values() for value in state.values()]
    held = [*module.parameters(), *module.buffers(), *momentum, *inputs]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    assert seen.profiler is not None
    results: Any = seen.profiler.kineto_results
    events = sorted(results.events(), key=lambda event: event.start_ns())
    peak = max(accumulate((event.nbytes() for event in events if event.name() == "[memory]"), initial=0))
    return peak + sum(each.nbytes for each in held)


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
