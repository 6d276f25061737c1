"""What decides the bits of a computation besides the code: the environment, and a measurement of the outcome."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Read by MKL, oneDNN, OpenBLAS, NumPy, OpenMP, torch and CUDA. The numbers of threads are not listed: the engine sets
# them.
VARIABLES = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "DNNL_CPU_ISA_HINTS", "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA", "KMP_DETERMINISTIC_REDUCTION", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC", "OMP_THREAD_LIMIT", "ONEDNN_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_LINEAR_FLATTEN_3D",
)  # fmt: skip
UNSET = "not set"
_VECTORS = re.compile(r"(avx|amx|fma|f16c|sse4|asimd|sve|sme|bf16|i8mm|fphp)\w*")


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return every variable that decides arithmetic, with its value or `UNSET`."""
    found = {name: variables.get(name, UNSET) for name in VARIABLES}
    # Which variants of exp and log the C library chooses; its other settings don't matter.
    tuned = [part for part in variables.get("GLIBC_TUNABLES", "").split(":") if part.startswith("glibc.cpu.")]
    return {**found, "GLIBC_TUNABLES": ":".join(tuned) or UNSET}


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the vector instructions of the processor that this system lets programs use; "" if it doesn't list them.

    A virtual machine can hide some, under the same name of the processor.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return " ".join(sorted(flag for flag in flags.partition(":")[2].split() if _VECTORS.fullmatch(flag)))


def fingerprint() -> str:
    """Return a hash of the results of a few small computations, of the kinds that trainings consist of.

    It differs where the libraries compute other bits, for whatever reason. It costs about 0.1 s.
    """
    import torch

    sha, count = hashlib.sha256(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for values in _computed(torch.Generator().manual_seed(0)):
            sha.update(values.detach().contiguous().view(torch.uint8).numpy().data)
    finally:
        torch.set_num_threads(count)
    return sha.hexdigest()[:12]


def _computed(draws: torch.Generator) -> Iterator[torch.Tensor]:
    import torch
    from torch.nn import functional

    single: Any = {"dtype": torch.float32, "generator": draws}
    x = torch.randn(16, 24, 9, 9, **single, requires_grad=True)
    kernel = torch.randn(32, 24, 3, 3, **single, requires_grad=True)
    for layout in (torch.contiguous_format, torch.channels_last):
        for kind in (torch.float32, torch.bfloat16):
            out = functional.conv2d(x.to(kind, memory_format=layout), kernel.to(kind), padding=1)
            out = functional.batch_norm(out.float(), None, None, training=True)
            loss = functional.log_softmax(torch.relu(out).mean((2, 3)), 1).square().sum()
            yield from torch.autograd.grad(loss, (x, kernel))
    left, right = torch.randn(65, 300, **single), torch.randn(300, 67, **single)
    yield left @ right
    yield left.bfloat16() @ right.bfloat16()
    yield torch.tanh(left).exp().sum().reshape(1)
    square = torch.randn(40, 40, dtype=torch.float64, generator=draws)
    yield torch.linalg.solve(square @ square.T + torch.eye(40, dtype=torch.float64), square)
    yield functional.gelu(left).log1p().nan_to_num()
