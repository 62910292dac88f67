"""The small estimator: a U-shaped convolutional network of 1.4 million weights, trained on rendered scenes only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["SmallDepthNet"]

_FARTHEST = 0.02
"""Of a nearness that mostly lies in [0, 1]: what is below is sky, and all sky is equally far."""


def _conv(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = F.relu(x + self.second(self.first(x)))
        return out


class _Encoder(nn.Module):
    """(B, 3, h, w) -> features at 1/32, 1/16, 1/8 and 1/4 of the size, in that order."""

    def __init__(self) -> None:
        super().__init__()
        self.quarter = nn.Sequential(_conv(3, 24, stride=2), _conv(24, 32, stride=2), _Residual(32))
        self.eighth = nn.Sequential(_conv(32, 64, stride=2), _Residual(64), _Residual(64))
        self.sixteenth = nn.Sequential(_conv(64, 96, stride=2), _Residual(96), _Residual(96))
        self.lowest = nn.Sequential(_conv(96, 128, stride=2), _Residual(128), _Residual(128))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        quarter = self.quarter(x)
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        return [self.lowest(sixteenth), sixteenth, eighth, quarter]


class _Decoder(nn.Module):
    """The features -> (B, 1, h / 2, w / 2), from the lowest up."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_conv(channels, 64, kernel=1) for channels in (128, 96, 64, 32))
        self.merge = nn.ModuleList(_conv(64, 64) for _ in range(3))
        self.head = nn.Sequential(
            _conv(64, 32), nn.Upsample(scale_factor=2, mode="nearest"), _conv(32, 24), nn.Conv2d(24, 1, 3, padding=1)
        )

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        merged: torch.Tensor = self.lateral[0](levels[0])
        for lateral, merge, level in zip(list(self.lateral)[1:], self.merge, levels[1:], strict=True):
            merged = merge(F.interpolate(merged, scale_factor=2.0, mode="nearest") + lateral(level))
        out: torch.Tensor = self.head(merged)
        return out


class SmallDepthNet(nn.Module):
    """(B, 3, h, w) normalised picture -> (B, h, w) nearness, near = high, never negative, in no unit.

    h and w are multiples of 32. The output is computed at half size and enlarged. The shape of the network, an encoder
    with skip connections to a decoder, is that of Ronneberger et al., "U-Net", 2015; its two halves are called as
    MiDaS calls them, so its weights are found in a checkpoint by the same rule.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pretrained = _Encoder()
        self.scratch = _Decoder()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Estimate nearness; see the class for shapes."""
        half = F.relu(F.softplus(self.scratch(self.pretrained(x))) - _FARTHEST)
        return F.interpolate(half, scale_factor=2.0, mode="bilinear", align_corners=False).squeeze(1)
