"""Depth Anything V2: a DINOv2 transformer with a dense prediction head, in three sizes.

Yang et al.: Depth Anything V2 (arXiv:2406.09414); its head is that of Ranftl et al. (arXiv:2103.13413) without the
class token. The backbones are timm's; keys are those of the authors' ``depth_anything_v2_vits.pth`` and its sisters.
No activation is kept anywhere but on the stack, so that several threads may use one network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...devices import fast_memory_format
from .backbones import backbone
from .decoder import Conv2dFloat32, Fusion

__all__ = ["PATCH", "DepthAnything", "depth_anything_v2_base", "depth_anything_v2_large", "depth_anything_v2_small"]

PATCH = 14  # pixels per token, both ways

_OFFSET = 0.1
"""Added to the number of tokens before the positions are stretched over them, as DINOv2 was trained
(dinov2.py, ``interpolate_offset``): it moves every sample a little, so it is part of what the weights expect."""


class Scratch(Fusion):
    """Four feature maps, finest first, to (B, 1, h, w) float32 nearness >= 0."""

    def __init__(self, in_channels: Sequence[int], features: int) -> None:
        super().__init__(in_channels, (features,) * 4)
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, 32, 3, padding=1),
            nn.ReLU(inplace=True),
            Conv2dFloat32(32, 1, 1),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """The maps to nearness at ``size`` (h, w)."""
        narrowed = self.output_conv1(self.fused(features))
        nearness: Tensor = self.output_conv2(F.interpolate(narrowed, size=size, mode="bilinear", align_corners=True))
        return nearness


class DepthHead(nn.Module):
    """Tokens of four blocks, each (B, N, D) on a grid of h/14 × w/14, to (B, h, w) nearness."""

    def __init__(self, width: int, features: int, channels: Sequence[int]) -> None:
        super().__init__()
        first, second, _, fourth = channels
        self.projects = nn.ModuleList(nn.Conv2d(width, each, 1) for each in channels)
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(first, first, 4, stride=4),
                nn.ConvTranspose2d(second, second, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(fourth, fourth, 3, stride=2, padding=1),
            )
        )
        self.scratch = Scratch(channels, features)

    def forward(self, tapped: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        features = [
            # (B, N, D) seen as (B, D, rows, cols) is already channels-last in memory.
            resize(project(tokens.unflatten(1, grid).permute(0, 3, 1, 2)))
            for tokens, project, resize in zip(tapped, self.projects, self.resize_layers, strict=True)
        ]
        nearness: Tensor = self.scratch(features, (PATCH * grid[0], PATCH * grid[1]))
        return nearness.squeeze(1)


class DepthAnything(nn.Module):
    """(B, 3, h, w) normalised picture -> (B, h, w) float32 nearness (near = high), in relative units, >= 0.

    h and w are multiples of 14. ``taps``: the transformer blocks whose outputs the head sees.
    """

    def __init__(self, vit: nn.Module, head: DepthHead, *, taps: Sequence[int]) -> None:
        super().__init__()
        self.pretrained = vit
        self.depth_head = head
        self.taps = tuple(taps)

    def forward(self, x: Tensor) -> Tensor:
        grid = (x.shape[-2] // PATCH, x.shape[-1] // PATCH)
        nearness: Tensor = self.depth_head(self._tapped(x, grid), grid)
        return nearness

    def _tapped(self, x: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """The patches' tokens after each of the blocks ``taps``, normalised: (B, N, D) each."""
        vit = self.pretrained
        x = x.contiguous(memory_format=fast_memory_format(x.device))
        patches = vit.patch_embed.proj(x).flatten(2).transpose(1, 2)
        cls_token = vit.cls_token.expand(len(patches), -1, -1)
        tokens = torch.cat((cls_token, patches), dim=1).add_(positions(vit.pos_embed, grid))
        tapped = []
        for index, block in enumerate(vit.blocks[: self.taps[-1] + 1]):
            tokens = block(tokens)
            if index in self.taps:
                tapped.append(vit.norm(tokens)[:, 1:])
        return tapped


def positions(trained: Tensor, grid: tuple[int, int]) -> Tensor:
    """The trained square of positions, (1, 1+n·n, D), stretched over ``grid`` as DINOv2 does it: (1, 1+h·w, D).

    In float32; where no torch of the last years has this interpolation (mps, DirectML), on the CPU.
    """
    side = round((trained.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return trained
    device = trained.device if trained.device.type in ("cpu", "cuda", "meta") else torch.device("cpu")
    square = trained[:, 1:].to(device, torch.float32).unflatten(1, (side, side)).permute(0, 3, 1, 2)
    scale = tuple((length + _OFFSET) / side for length in grid)
    stretched = F.interpolate(square, scale_factor=scale, mode="bicubic").flatten(2).transpose(1, 2)
    return torch.cat((trained[:, :1], stretched.to(trained)), dim=1)


def depth_anything(
    name: str, features: int, channels: Sequence[int], *, taps: Sequence[int], **changes: Any
) -> DepthAnything:
    """The network on timm's backbone of that name; ``changes``: of its architecture, as timm takes them."""
    vit = backbone(name, num_classes=0, **changes)
    return DepthAnything(vit, DepthHead(vit.embed_dim, features, channels), taps=taps)


def depth_anything_v2_small() -> DepthAnything:
    """25 M parameters."""
    return depth_anything("vit_small_patch14_dinov2", 64, (48, 96, 192, 384), taps=(2, 5, 8, 11))


def depth_anything_v2_base() -> DepthAnything:
    """97 M parameters."""
    return depth_anything("vit_base_patch14_dinov2", 128, (96, 192, 384, 768), taps=(2, 5, 8, 11))


def depth_anything_v2_large() -> DepthAnything:
    """335 M parameters."""
    return depth_anything("vit_large_patch14_dinov2", 256, (256, 512, 1024, 1024), taps=(4, 11, 17, 23))
