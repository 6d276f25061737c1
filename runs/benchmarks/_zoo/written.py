"""Plain modules as users write them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Written:
    """Each by its name, with example inputs."""

    @staticmethod
    def mlp() -> Any:
        return nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Linear(32, 4)), torch.randn(
            4, 16
        )

    @staticmethod
    def signal() -> Any:
        net = nn.Sequential(
            nn.Conv1d(2, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 16, 3),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip
        return net, torch.randn(4, 2, 32)

    @staticmethod
    def volume() -> Any:
        net = nn.Sequential(
            nn.Conv3d(1, 4, 3),
            nn.BatchNorm3d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(4, 2),
        )
        return net, torch.randn(2, 1, 8, 8, 8)

    @staticmethod
    def group_norm() -> Any:
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 1), nn.Flatten(),
            nn.LazyLinear(3),
        )  # fmt: skip
        net(torch.zeros(1, 3, 8, 8))
        return net, torch.randn(2, 3, 8, 8)

    @staticmethod
    def weight_norm() -> Any:
        norm = nn.utils.parametrizations.weight_norm
        return nn.Sequential(norm(nn.Linear(8, 16)), nn.Tanh(), norm(nn.Linear(16, 2))), torch.randn(4, 8)

    @staticmethod
    def spectral_like() -> Any:
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.LeakyReLU(0.2), nn.Conv2d(6, 1, 3)
        )
        return net, torch.randn(2, 3, 12, 12)

    @staticmethod
    def recurrent() -> Any:
        return _Recurrent(), torch.randn(3, 7, 5)

    @staticmethod
    def encoder() -> Any:
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(2, 6, 16)

    @staticmethod
    def attention() -> Any:
        return _Attention(), torch.randn(2, 6, 16)

    @staticmethod
    def unet() -> Any:
        return _UNet(), torch.randn(2, 3, 16, 16)

    @staticmethod
    def autoencoder() -> Any:
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, 2), nn.ReLU(),
            nn.Conv2d(4, 1, 3, padding=1),
            nn.Sigmoid(),
        )  # fmt: skip
        return net, torch.randn(2, 1, 16, 16)

    @staticmethod
    def two_inputs() -> Any:
        return _TwoInputs(), (torch.randn(2, 3, 8, 8), torch.randn(2, 5))

    @staticmethod
    def two_heads() -> Any:
        return _Heads("tuple"), torch.randn(2, 8)

    @staticmethod
    def dictionary() -> Any:
        return _Heads("dict"), torch.randn(2, 8)

    @staticmethod
    def tied() -> Any:
        return _Tied(), torch.randint(0, 11, (2, 6))

    @staticmethod
    def words() -> Any:
        net = nn.Sequential(nn.Embedding(11, 8), nn.Flatten(), nn.Linear(48, 3))
        return net, torch.randint(0, 11, (2, 6))

    @staticmethod
    def squeeze_excite() -> Any:
        return _Gated(), torch.randn(2, 8, 6, 6)

    @staticmethod
    def mixer() -> Any:
        return _Mixer(), torch.randn(2, 6, 8)

    @staticmethod
    def prelu() -> Any:
        return nn.Sequential(nn.Linear(4, 8), nn.PReLU(8, init=-0.2), nn.Linear(8, 2)), torch.randn(3, 4)

    @staticmethod
    def pixel_shuffle() -> Any:
        return nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(3, 1, 1)
        ), torch.randn(2, 3, 8, 8)


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.out = nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cells(x)[0][:, -1])


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(16), nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.mix(y, y, y, need_weights=False)[0]


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high = self.down(x).relu()
        low = self.deep(nn.functional.max_pool2d(high, 2)).relu()
        return self.last(torch.cat([high, self.up(low)], 1))


class _TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map, self.facts, self.out = nn.Conv2d(3, 6, 3), nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, pixels: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        return self.out(self.map(pixels).mean((2, 3)) + self.facts(facts))


class _Heads(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.trunk, self.a, self.b = form, nn.Linear(8, 16), nn.Linear(16, 2), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.trunk(x).relu()
        return {"a": self.a(y), "b": self.b(y)} if self.form == "dict" else (self.a(y), self.b(y))


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mid, self.out = nn.Embedding(11, 8), nn.Linear(8, 8), nn.Linear(8, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.mid(self.embed(ids)).relu())


class _Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.less, self.more = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 2), nn.Linear(2, 8)
        self.out = nn.Linear(
            8, 4
        )  # without it, the output would fix the width of the convolution and the gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        gate = self.more(self.less(y.mean((2, 3))).relu()).sigmoid()
        return self.out((y * gate.view(gate.size(0), -1, 1, 1)).mean((2, 3)))


class _Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        # tokens and channels of the input are also the output's, so that only what is hidden between is a free width
        self.tokens = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6))
        self.channels = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm(x))
