"""Drift: how far a child's outputs are from its parent's, measured, in eval and in train mode."""

from contextlib import nullcontext
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from morphs.errors import WeightsError
from morphs.examples import beyond, in_type, random_inputs, readable
from morphs.graph.arch import ArchGraph
from morphs.graph.dtypes import foreign
from morphs.graph.shapes import Shape
from morphs.move import Preserves
from morphs.network import Network
from morphs.torch_io import layers
from morphs.torch_io.chance import NoChance
from morphs.torch_io.to_torch import to_torch

BOUND64 = 1e-10  # of networks that are float64
BOUND32 = 1e-5  # of networks with coarser weights
PROBES = 4
RESIDUE = 1e-2  # of the largest output of all probes: what is smaller may be rounding, or cancel to nothing


@dataclass(frozen=True)
class Drift:
    """max over probes of ‖child(x) − parent(x)‖∞ / ‖parent(x)‖∞; absolute where the parent's outputs are all zero.

    Where a probe's output is below a hundredth of the largest one of all probes, the difference is divided by the
    largest: an output that cancels to zero has no relative error.
    """

    eval: float
    train: float

    def within(self, preserves: Preserves, allowed: "Drift") -> bool:
        """Whether a move that declares `preserves` may have this drift, where exact moves may have `allowed`."""
        if preserves is Preserves.APPROXIMATE:
            return isfinite(self.eval) and isfinite(self.train)
        return self.eval <= allowed.eval and (
            preserves is Preserves.EXACT_IN_EVAL or self.train <= allowed.train
        )


def drift(
    parent: Network, child: Network, probe: Tensor | tuple[Tensor, ...] | None = None, seed: int = 0
) -> Drift:
    """The drift of `child` from `parent` on `probe` [N, ...], or on standard normal probes.

    Both networks are converted to float64. Train mode is measured with dropout off; neither network's running
    statistics are touched. Raises WeightsError when the parent's own output isn't finite, the probe is empty or
    doesn't fit, or the networks read or write different shapes.
    """
    shapes = [
        [network.graph.shape(node.name) for node in (*network.graph.inputs, network.graph.output)]
        for network in (parent, child)
    ]
    if shapes[0] != shapes[1]:
        raise WeightsError(
            f"drift: the networks read and write {shapes[0]} and {shapes[1]}; compare networks of the same shapes"
        )
    return _measured(parent, child, _probes(parent.graph, probe, seed), torch.float64)


def _measured(parent: Network, child: Network, probes: tuple[Tensor, ...], dtype: torch.dtype) -> Drift:
    """The drift of `child`, which computes in `dtype`, from `parent` in float64."""
    before = _run(
        parent, probes, torch.float64
    )  # one network after the other, so that one copy is held at a time
    after = _run(child, probes, dtype)
    modes = [
        max(_relative(parent, *pair) for pair in zip(*both, strict=True))
        for both in zip(before, after, strict=True)
    ]
    return Drift(*modes)


def _relative(parent: Network, before: Tensor, after: Tensor) -> float:
    """The worst relative difference over the probes; infinite where `after` isn't finite."""
    if not bool(torch.isfinite(before).all()):
        bad = ", ".join(f"{node}.{name}" for node, name in parent.nonfinite()[:3])
        place = f"tensors {bad} hold NaN or infinity" if bad else "the probe makes it overflow"
        raise WeightsError(f"drift: the parent's output is not finite: {place}; fix the parent first")
    if not bool(torch.isfinite(after).all()):
        return float("inf")
    error, size = (t.abs().reshape(len(t), -1).amax(1) for t in (after - before, before))
    largest = size.max()
    size = torch.where(size < RESIDUE * largest, largest, size)
    return float(torch.where(size > 0, error / torch.where(size > 0, size, 1), error).max())


def allowance(
    network: Network, probe: Tensor | tuple[Tensor, ...] | None = None, seed: int = 0, measure: bool = False
) -> Drift:
    """The drift that an exact move may show on `network`: 1e-10 in float64, 1e-5 in coarser types.

    With `measure`, it may also show ten times the network's own error on the probe: what rounding makes of its outputs,
    measured in the type of its weights with the last bit of each off, and for float64 also in float32 and scaled down:
    rounding in float64 may be too rare to be met, and in float32 so coarse that nothing is left to measure.
    """
    fine = network.dtype == torch.float64
    bound = BOUND64 if fine else BOUND32
    if not measure:
        return Drift(bound, bound)
    given = _probes(network.graph, probe, seed)
    worst = Drift(bound, bound)
    for dtype in (network.dtype, torch.float32) if fine else (network.dtype,):
        scale = 10 * torch.finfo(network.dtype).eps / torch.finfo(dtype).eps
        for again in range(3):
            own = _measured(network, _nudged(network, dtype, again), given, dtype)
            worst = Drift(max(worst.eval, scale * own.eval), max(worst.train, scale * own.train))
    return worst


def _nudged(network: Network, dtype: torch.dtype, seed: int) -> Network:
    """`network` in float64, each number of its weights half a unit in the last place of `dtype` larger or smaller."""
    draws, half = torch.Generator().manual_seed(seed), torch.finfo(dtype).eps / 2

    def nudged(tensor: Tensor) -> Tensor:
        signs = 1 - 2 * torch.randint(2, tensor.shape, generator=draws).to(tensor.device)
        return tensor + tensor * half * signs if tensor.is_floating_point() else tensor

    weights = network.to(torch.float64).weights
    return Network(network.graph, {key: nudged(tensor) for key, tensor in weights.items()})


def _run(network: Network, probes: tuple[Tensor, ...], dtype: torch.dtype) -> list[list[Tensor]]:
    """The floating tensors that `network` returns in `dtype`, as float64 [N, ...]: in eval and in train mode with
    dropout off."""
    weights = {key: t.to(dtype) if t.is_floating_point() else t for key, t in network.weights.items()}
    module = to_torch(network.graph, weights, network.keys, shared=True)
    inputs = [in_type(probe, dtype) for probe in probes]
    chance = any(node.op.kind == "aten" for node in network.graph)  # an operator may be random in train mode
    returned: list[list[Any]] = []
    for training in (False, True):  # eval mode first: train mode updates the running statistics of the copy
        module.train(training)
        for part in module.modules():
            if isinstance(part, (nn.Dropout, nn.RNNBase, layers.DropPath)):
                part.eval()
        try:
            with torch.inference_mode(), NoChance() if chance and training else nullcontext():
                returned.append(tree_leaves(module(*inputs)))
        except RuntimeError as error:
            if not foreign(network.graph) or isinstance(error, torch.OutOfMemoryError):
                raise
            raise WeightsError(
                f"drift: the network can't be computed in {str(dtype).removeprefix('torch.')}, though some of its "
                f"tensors have a type of their own ({' '.join(str(error).split())[:120]}); don't measure it"
            ) from None
        except ValueError as error:  # torch's batch norm, of a single value
            raise WeightsError(f"drift: the probe is too small ({error}); give more examples") from None
    module.to("meta")  # a traced module refers to itself: free its weights now, not when Python collects it
    return [
        [leaf.double() for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        for leaves in returned
    ]


def _probes(graph: ArchGraph, probe: Tensor | tuple[Tensor, ...] | None, seed: int) -> tuple[Tensor, ...]:
    if probe is None:
        generator = torch.Generator().manual_seed(seed)
        return random_inputs(graph, PROBES, generator, torch.float64)
    given: Any = probe
    if not isinstance(given, (Tensor, tuple, list)):
        raise WeightsError(
            f"drift: the probe is of type {type(given).__name__}; give a tensor, or one for each input"
        )
    probes = (probe,) if isinstance(probe, Tensor) else tuple(probe)
    if len(probes) != len(graph.inputs):
        raise WeightsError(f"drift: {len(probes)} probes for {len(graph.inputs)} inputs; give one for each")
    for node, given in zip(graph.inputs, probes, strict=True):
        fact = _misfit(given, graph.shape(node.name)) or beyond(given, node.op)
        if fact is not None:
            raise WeightsError(
                f'drift: the probe for input "{node.name}" {fact}; '
                f"give at least one example of shape {graph.shape(node.name)}"
            )
    if len({len(given) for given in probes}) > 1:
        raise WeightsError("drift: the probes differ in length; give as many examples of each input")
    return tuple(
        in_type(readable(given.cpu(), node.op), torch.float64)
        for given, node in zip(probes, graph.inputs, strict=True)
    )


def _misfit(given: Any, shape: Shape) -> str | None:
    """What keeps `given` from being examples [N, *shape]."""
    if not isinstance(given, Tensor) or given.is_complex():
        return f"is of type {given.dtype if isinstance(given, Tensor) else type(given).__name__}"
    if given.dim() == 0 or len(given) == 0 or tuple(given.shape[1:]) != shape:
        return f"has shape {tuple(given.shape)}"
    return None if bool(torch.isfinite(given).all()) else "holds NaN or infinity"
