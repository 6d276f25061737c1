"""Drift: how far a child computes from its parent, measured, in eval and in train mode."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from morphs.errors import WeightsError
from morphs.graph.arch import ArchGraph
from morphs.move import Preserves
from morphs.network import Network

BOUND64 = 1e-10  # of networks that are float64
BOUND32 = 1e-5  # of networks with coarser weights
PROBES = 4


@dataclass(frozen=True)
class Drift:
    """max over probes of ‖child(x) − parent(x)‖∞ / ‖parent(x)‖∞, absolute where the parent's output is zero."""

    eval: float
    train: float

    def within(self, preserves: Preserves, bound: float) -> bool:
        """Whether this is what a move that preserves so much may show."""
        if preserves is Preserves.APPROXIMATE:
            return True
        return self.eval <= bound and (preserves is Preserves.EXACT_IN_EVAL or self.train <= bound)


def drift(
    parent: Network, child: Network, probe: Tensor | tuple[Tensor, ...] | None = None, seed: int = 0
) -> Drift:
    """The drift of `child` from `parent` on `probe` [N, ...], or on standard normal probes.

    Both networks are converted to float64. Train mode is measured with dropout off; neither network's running
    statistics are touched. Raises WeightsError when the parent's own output isn't finite or the probe is empty.
    """
    probes = _probes(parent.graph, probe, seed)
    found: list[float] = []
    for training in (False, True):
        before, after = (_run(network, probes, training) for network in (parent, child))
        if not bool(torch.isfinite(before).all()):
            bad = ", ".join(f"{node}.{name}" for node, name in parent.nonfinite()[:3])
            place = f"tensors {bad} hold NaN or infinity" if bad else "the probe makes it overflow"
            raise WeightsError(f"drift: the parent's output is not finite: {place}; mend the parent first")
        error = (after - before).abs().flatten(1).amax(1)
        size = before.abs().flatten(1).amax(1)
        relative = torch.where(size > 0, error / torch.where(size > 0, size, 1), error)
        found.append(float(relative.max()) if bool(torch.isfinite(after).all()) else float("inf"))
    return Drift(*found)


def bound(network: Network) -> float:
    """The drift that an exact move may show on `network`: 1e-10 in float64, 1e-5 in coarser types."""
    return BOUND64 if network.dtype == torch.float64 else BOUND32


def own_error(network: Network, probe: Tensor | tuple[Tensor, ...] | None = None, seed: int = 0) -> float:
    """How far `network` in its own precision is from itself in float64: the yardstick for coarse types."""
    probes = _probes(network.graph, probe, seed)
    exact = _run(network, probes, training=False)
    module = network.to_torch().eval()
    with torch.inference_mode():
        coarse = module(*(p.to(network.dtype) for p in probes)).double()
    return float((coarse - exact).abs().max() / (exact.abs().max() or 1.0))


def _run(network: Network, probes: tuple[Tensor, ...], training: bool) -> Tensor:
    module = network.to(torch.float64).to_torch().train(training)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    with torch.inference_mode():
        return module(*probes)


def _probes(graph: ArchGraph, probe: Tensor | tuple[Tensor, ...] | None, seed: int) -> tuple[Tensor, ...]:
    if probe is None:
        generator = torch.Generator().manual_seed(seed)
        sizes = [graph.shape(node.name) for node in graph.inputs]
        return tuple(torch.randn(PROBES, *size, generator=generator, dtype=torch.float64) for size in sizes)
    probes = (probe,) if isinstance(probe, Tensor) else tuple(probe)
    for node, given in zip(graph.inputs, probes, strict=True):
        if len(given) == 0 or tuple(given.shape[1:]) != graph.shape(node.name):
            raise WeightsError(
                f'drift: the probe for input "{node.name}" has shape {tuple(given.shape)}; '
                f"give at least one example of shape {graph.shape(node.name)}"
            )
    return tuple(given.to("cpu", torch.float64) for given in probes)
