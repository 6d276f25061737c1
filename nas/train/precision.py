"""The arithmetic and memory layout of a network, chosen by a fixed rule, never by timing.

Measured with torch 2.15 on an AMD EPYC (Zen 5: avx512_bf16, no AMX), 2 threads, batches of 128: speedup of a
training step over float32 in contiguous (NCHW) memory, best of 5 interleaved rounds, on a shared machine:

    network            forward MAC per image   fp32 NHWC   bf16 NCHW   bf16 NHWC
    MLP, 64 wide                      0.01 M        1.00        0.58        0.57
    3 convs, 8x8 grey                 0.06 M        0.79        0.93        0.76
    3 convs, 8x8 grey                 0.13 M        0.90        1.05        0.88
    3 convs, 8x8 grey                 0.23 M        1.04        1.03        1.10
    MLP, 512 wide                     0.30 M        0.99        1.98        2.01
    3 convs, 8x8 grey                 0.90 M        1.24        1.41        1.70
    ResNet-9-like                     6.1  M        1.40        1.51        2.23
    ResNet-9-like                      24  M        1.22        1.75        2.70
    ResNet-9-like                      95  M        1.09        1.95        2.65
    ResNet-9-like                     379  M        1.24        2.22        2.53

So: float32 in contiguous memory below 0.25 M multiply-adds; above that channels-last memory, and bf16 if the
processor has instructions for it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.base.errors import UserError
from nas.config.training import Precision

SMALL = 250_000  # forward multiply-adds per image


@dataclass(frozen=True)
class Arithmetic:
    """bf16: autocast to bfloat16. channels_last: 4-d tensors in NHWC memory."""

    bf16: bool
    channels_last: bool

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of 4-d weights and of batches."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def name(self) -> str:
        """ "bf16" or "fp32"."""
        return "bf16" if self.bf16 else "fp32"


def choose_arithmetic(precision: Precision, macs: int, has_bf16: bool) -> Arithmetic:
    """Choose from the setting, the forward multiply-adds per image and whether bf16 is native. A pure function."""
    large = macs >= SMALL
    wanted = has_bf16 and large if precision == "auto" else precision == "bf16"
    return Arithmetic(bf16=wanted, channels_last=large)


def native_bf16(device: torch.device | str) -> bool:
    """Return whether the device multiplies bfloat16 in hardware, rather than only storing it."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False  # an older processor, or torch is set to treat it as one
    return not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16"})


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the instruction sets of the first core; empty if the system does not list them."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def forward_macs(module: nn.Module, shape: tuple[int, ...], classes: int, whole: bool = False) -> int:
    """Count the multiply-adds of the convolutions and linear layers of `module` in the forward pass of one image.

    The module runs once, in eval mode, and is not changed.

    shape: of one input, such as (C, H, W) of an image. classes: the number of outputs that it must have.
    whole: whether it reads whole numbers.
    Raises UserError unless the module maps one input, [1, *shape], to [1, classes] numbers.
    """
    total = 0

    def count(layer: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        total += out[0].numel() * weight[0].numel()

    counted = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, counted)]
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    try:
        with eval_mode(module), torch.no_grad():
            dtype = torch.int64 if whole else like.dtype
            out = module(torch.zeros(1, *shape, dtype=dtype, device=like.device))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"network: it fails on an image of shape {list(shape)} ({reason}); build it for that shape"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(out, Tensor) or out.shape != (1, classes):
        got = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise UserError(
            f"network: its output is {got} for one image; give it {classes} outputs, [1, {classes}]"
        )
    return total


@contextmanager
def eval_mode(module: nn.Module) -> Generator[None]:
    """Put `module` in eval mode inside the block; afterwards restore each submodule's own mode."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


@contextmanager
def put(module: nn.Module, device: torch.device, arithmetic: Arithmetic) -> Generator[None]:
    """Move `module` to `device`, in the arithmetic's memory layout inside the block and contiguous afterwards."""
    module.to(device)
    if arithmetic.channels_last:
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    try:
        yield
    finally:
        if arithmetic.channels_last:
            module.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
