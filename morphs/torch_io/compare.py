"""A copy held against its module, in both modes, to the bit: a trace can't see what a module does behind it."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from morphs.errors import UnsupportedModule
from morphs.torch_io.chance import NoChance
from morphs.torch_io.export import Examples, in_mode, run_with

NOT_FINITE = "its output is not finite"
ROUNDING = 64  # units in the last place of the largest output, where two ways of computing may differ


def compare(module: nn.Module, copy: nn.Module, examples: Examples, training: bool) -> None:
    """Raise UnsupportedModule where `copy` computes something else than `module` on the examples, or its statistics
    come out otherwise."""
    mode = "train" if training else "eval"
    buffers = {name: tensor.clone() for name, tensor in module.named_buffers()}
    with torch.no_grad(), in_mode(module, training), NoChance():
        expected = run_with(module, buffers, examples)
        got = copy.train(training)(*examples.mapped(torch.clone).tensors())
    state = dict(copy.named_buffers())
    statistics = [
        (buffers[name], state[name], _deviation(name, buffers)) for name in buffers if name in state
    ]
    outputs = [(*pair, 0.0) for pair in zip(_tensors(expected), _tensors(got), strict=False)]
    differences = _differences(outputs + statistics)
    for fact in differences:
        if fact is NOT_FINITE:
            raise UnsupportedModule(
                f"from_torch: in {mode} mode the module's output is not finite on the example inputs, so a copy can't "
                "be compared with it; give inputs that it takes, or fix the module"
            )
        raise UnsupportedModule(
            f"from_torch: in {mode} mode the module computes something that its trace doesn't show ({fact}); take "
            f"randomness, state and code outside of torch out of its forward"
        )


def _tensors(returned: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(_plain(returned)) if isinstance(leaf, Tensor)]


def _plain(returned: Any) -> Any:
    if isinstance(returned, Mapping):
        return {key: _plain(value) for key, value in returned.items()}
    return returned


def _deviation(name: str, buffers: Mapping[str, Tensor]) -> float:
    """The least standard deviation beside a running mean, which counts in units of it: a mean may cancel to nothing."""
    variance = buffers.get(name.removesuffix("mean") + "var") if name.endswith("running_mean") else None
    return 0.0 if variance is None else float(variance.min().clamp(min=0).sqrt())


def _differences(compared: Iterable[tuple[Tensor, Tensor, float]]) -> list[str]:
    """What differs, in words: nothing for equal bits, nor for a difference that rounding explains in numbers of at
    least the given size."""
    found: list[str] = []
    for one, other, least in compared:
        if one.shape != other.shape or one.dtype != other.dtype:
            found.append(f"{tuple(one.shape)} of {one.dtype} against {tuple(other.shape)} of {other.dtype}")
        elif not torch.equal(one, other) and not _rounding(one, other, least):
            if not bool(torch.isfinite(one).all()):
                found.append(NOT_FINITE)
            else:
                error, size = (one - other).abs().max().item(), one.abs().max().item()
                found.append(f"by {error:.3g} of {size:.3g}")
    return found


def _rounding(one: Tensor, other: Tensor, least: float) -> bool:
    """Whether the difference may come of another order of summing: memory of another layout is read otherwise."""
    if not one.is_floating_point():
        return False
    spread = float((one - one.mean()).abs().max()) if one.numel() > 1 else float(one.abs().max())
    error = float((one - other).abs().max())
    size = max(spread, float(one.abs().max()) / ROUNDING, least)
    return error <= ROUNDING * torch.finfo(one.dtype).eps * size
