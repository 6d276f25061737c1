"""Modules of batch norms whose statistics are fixed. N examples, C channels."""

import torch
from torch import Tensor, nn


class FrozenBatchNorm(nn.Module):
    """Batch norm by its running statistics, in train mode too."""

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as x (N, C, ...)."""
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)


class HeldBatchNorm(nn.Module):
    """Batch norm by its running statistics, all of it buffers."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as x (N, C, ...)."""
        size = [1, -1] + [1] * (x.dim() - 2)
        variance = self.get_buffer("running_var").reshape(size)
        scale = self.get_buffer("weight").reshape(size) * (variance + self.eps).rsqrt()
        mean = self.get_buffer("running_mean").reshape(size)
        return x * scale + (self.get_buffer("bias").reshape(size) - mean * scale)
