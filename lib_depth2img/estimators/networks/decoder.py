"""The half that all MiDaS networks share: four feature maps are fused from coarse to fine, and a head turns them into
nearness.

Names and shapes follow the published weights (``scratch.*``); sources: Ranftl et al. 2020 (arXiv:1907.01341) and 2021
(arXiv:2103.13413), Stability's ``ldm/modules/midas/midas/blocks.py`` for the order of operations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Conv2dFloat32", "Decoder", "FeatureFusionBlock", "Fusion", "Head", "ResidualConvUnit"]


class ResidualConvUnit(nn.Module):
    """Two 3×3 convolutions around a skip: (B, C, h, w) -> (B, C, h, w).

    ``skip_activated`` repeats a property the v2.1 weights were trained with: their first ReLU works in place, so that
    the skip carries the activated input (blocks.py:156, ``nn.ReLU(inplace=True)``) where DPT's carries the input
    itself.
    """

    def __init__(self, features: int, *, skip_activated: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.skip_activated = skip_activated

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(x)
        inner = self.conv2(F.relu_(self.conv1(activated)))
        return inner.add_(activated if self.skip_activated else x)


class FeatureFusionBlock(nn.Module):
    """Add a finer feature map to the coarser path and enlarge: (B, C, h, w) -> (B, C', H, W), by default by two.

    ``out_features`` is None for MiDaS v2.1, which has no 1×1 convolution here.
    """

    def __init__(self, features: int, out_features: int | None, *, skip_activated: bool = False) -> None:
        super().__init__()
        self.out_conv = None if out_features is None else nn.Conv2d(features, out_features, 1)
        self.resConfUnit1 = ResidualConvUnit(features, skip_activated=skip_activated)
        self.resConfUnit2 = ResidualConvUnit(features, skip_activated=skip_activated)

    def forward(self, path: Tensor | None, features: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        # The coarsest level has nothing to be added to; its resConfUnit1 exists in the weights only.
        fused = features if path is None else self.resConfUnit1(features).add_(path)
        fused = self.resConfUnit2(fused)
        if self.out_conv is not None:
            # A 1×1 convolution commutes with interpolation, whose weights sum to one; before it there is a quarter of
            # the work.
            fused = self.out_conv(fused)
        rows, cols = size or (2 * fused.shape[2], 2 * fused.shape[3])
        return F.interpolate(fused, size=(rows, cols), mode="bilinear", align_corners=True)


class Interpolate(nn.Module):
    """Bilinear doubling, as a module because it holds place 1 of the head in the published weights."""

    def __init__(self, *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=self.align_corners)


class Conv2dFloat32(nn.Conv2d):
    """Gives float32 whatever its weight's dtype: nearness goes into the thousands, where halves are whole steps."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.float()
        return F.conv2d(x.float(), self.weight.float(), bias, self.stride, self.padding)


class Head(nn.Sequential):
    """(B, C, h, w) -> (B, 1, 2h, 2w) float32, nearness >= 0."""

    def __init__(self, features: int, middle: int, *, align_corners: bool) -> None:
        super().__init__(
            nn.Conv2d(features, middle, 3, padding=1),
            Interpolate(align_corners=align_corners),
            nn.Conv2d(middle, 32, 3, padding=1),
            nn.ReLU(inplace=True),
            Conv2dFloat32(32, 1, 1),
            nn.ReLU(inplace=True),
        )


class Fusion(nn.Module):
    """Four feature maps, finest first, to one (B, C, 2h, 2w), where the finest is (B, ·, h, w).

    ``in_channels`` are the feature maps' channels, ``widths`` what they are brought to; each level hands on the next
    finer level's width, at the next finer level's size.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        widths: Sequence[int],
        *,
        fusion_conv: bool = True,
        skip_activated: bool = False,
    ) -> None:
        super().__init__()
        next_widths = [widths[0], *widths[:-1]]
        for level, (channels, width, next_width) in enumerate(
            zip(in_channels, widths, next_widths, strict=True), start=1
        ):
            self.add_module(f"layer{level}_rn", nn.Conv2d(channels, width, 3, padding=1, bias=False))
            fusion = FeatureFusionBlock(width, next_width if fusion_conv else None, skip_activated=skip_activated)
            self.add_module(f"refinenet{level}", fusion)

    def fused(self, features: Sequence[Tensor]) -> Tensor:
        """The four as one; see the class for shapes."""
        path: Tensor | None = None
        for level in range(len(features), 0, -1):
            narrowed = self.get_submodule(f"layer{level}_rn")(features[level - 1])
            size = features[level - 2].shape[-2:] if level > 1 else None
            path = self.get_submodule(f"refinenet{level}")(path, narrowed, size)
        assert path is not None, "there are four"
        return path


class Decoder(Fusion):
    """``scratch``: four feature maps, finest first, to nearness (B, H, W)."""

    def __init__(
        self,
        in_channels: Sequence[int],
        widths: Sequence[int],
        *,
        head: Head,
        fusion_conv: bool = True,
        skip_activated: bool = False,
    ) -> None:
        super().__init__(in_channels, widths, fusion_conv=fusion_conv, skip_activated=skip_activated)
        self.output_conv = head

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        nearness: Tensor = self.output_conv(self.fused(features))
        return nearness.squeeze(1)
