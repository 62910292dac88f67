"""Dense prediction transformers: ``dpt_hybrid`` (ResNet-50 + ViT-B/16) and ``dpt_large`` (ViT-L/16).

Ranftl, Bochkovskiy, Koltun: Vision Transformers for Dense Prediction (arXiv:2103.13413). The backbones are timm's;
what is ours is reading four feature maps out of them and putting tokens back into pictures. Keys as in the published
``dpt_hybrid-midas-501f0c75.pt`` and ``dpt_large-midas-2f21e586.pt``, classifier head included. No activation is kept
anywhere but on the stack, so that several threads may use one network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...devices import fast_memory_format
from .backbones import backbone
from .convolutions import fold_std_convs
from .decoder import Decoder, Head

__all__ = ["DPT", "Encoder", "dpt_hybrid", "dpt_large", "reassemble_all"]

PATCH = 16  # pixels per token, both ways
WIDTH = 256  # channels of the decoder


class ProjectReadout(nn.Module):
    """Fold the class token into every other token: (B, 1+N, D) -> (B, N, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * width, width), nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        linear = self.project[0]
        patches, readout = tokens[:, 1:], tokens[:, :1]
        # Linear of [patch, readout] in two halves: the readout's is the same for all patches and needed only once.
        of_patch, of_readout = linear.weight.chunk(2, dim=1)
        projected = F.linear(patches, of_patch) + F.linear(readout, of_readout, linear.bias)
        return F.gelu(projected)


class Reassemble(nn.Module):
    """Tokens to a feature map: (B, 1+N, D) -> (B, C, s·h/16, s·w/16), with ``resample`` giving the scale s.

    The children's names are the places they hold in the published weights; places 1 and 2 were reshapes without
    weights.
    """

    def __init__(self, width: int, channels: int, resample: nn.Module | None) -> None:
        super().__init__()
        self.add_module("0", ProjectReadout(width))
        self.add_module("3", nn.Conv2d(width, channels, 1))
        if resample is not None:
            self.add_module("4", resample)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        readout, *convolutions = self.children()
        # (B, N, D) seen as (B, D, rows, cols) is already channels-last in memory.
        x: Tensor = readout(tokens).unflatten(1, grid).permute(0, 3, 1, 2)
        for convolution in convolutions:
            x = convolution(x)
        return x


class Encoder(nn.Module):
    """``pretrained``: a picture to four feature maps at 1/4, 1/8, 1/16 and 1/32 of its size.

    ``taps`` are the transformer blocks whose outputs are reassembled. A hybrid has two of them; its two finest maps
    come from the first stages of its convolutional stem.
    """

    def __init__(self, vit: nn.Module, *, taps: Sequence[int], reassemble: Sequence[Reassemble]) -> None:
        super().__init__()
        self.model = vit
        self.taps = tuple(taps)
        self._first = 5 - len(reassemble)  # act_postprocess numbers end at 4
        for number, module in enumerate(reassemble, start=self._first):
            self.add_module(f"act_postprocess{number}", module)

    def forward(self, x: Tensor) -> list[Tensor]:
        grid = (x.shape[-2] // PATCH, x.shape[-1] // PATCH)
        features, embedded = self._embed(x)
        tokens = self._tokens(embedded, grid)
        number = self._first
        for index, block in enumerate(self.model.blocks):
            tokens = self._through(block, tokens, grid)
            if index in self.taps:
                features.append(self.get_submodule(f"act_postprocess{number}")(tokens, grid))
                number += 1
        return features

    def _through(self, block: nn.Module, tokens: Tensor, _grid: tuple[int, int]) -> Tensor:
        """One transformer block: (B, 1+N, D) -> the same."""
        passed: Tensor = block(tokens)
        return passed

    def _embed(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Feature maps of the convolutional stem (none for a pure ViT), and the patch embedding (B, D, h/16, w/16)."""
        patch_embed = self.model.patch_embed
        convolutional = getattr(patch_embed, "backbone", None)
        if convolutional is None:
            return [], patch_embed.proj(x)
        x = convolutional.stem(x)
        stages = []
        for stage in convolutional.stages:
            x = stage(x)
            stages.append(x)
        return stages[:2], patch_embed.proj(convolutional.norm(x))

    def _tokens(self, embedded: Tensor, grid: tuple[int, int]) -> Tensor:
        """Class token in front, position added: (B, D, h, w) -> (B, 1+h·w, D)."""
        patches = embedded.flatten(2).transpose(1, 2)
        cls_token = self.model.cls_token.expand(len(patches), -1, -1)
        return torch.cat((cls_token, patches), dim=1).add_(self._positions(grid))

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """The trained square of positions, stretched bilinearly over ``grid``: (1, 1+h·w, D)."""
        positions: Tensor = self.model.pos_embed
        side = round((positions.shape[1] - 1) ** 0.5)
        if grid == (side, side):
            return positions
        square = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        stretched = F.interpolate(square, size=grid, mode="bilinear").flatten(2).transpose(1, 2)
        return torch.cat((positions[:, :1], stretched), dim=1)


class DPT(nn.Module):
    """(B, 3, h, w) normalised picture -> (B, h, w) float32 nearness (near = high), in relative units, >= 0.

    h and w are multiples of 32. ``pretrained`` gives four feature maps, at 1/4 to 1/32, of so many ``channels``.
    """

    def __init__(self, pretrained: nn.Module, channels: Sequence[int]) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.scratch = Decoder(channels, (WIDTH,) * 4, head=Head(WIDTH, WIDTH // 2, align_corners=True))

    def forward(self, x: Tensor) -> Tensor:
        nearness: Tensor = self.scratch(self.pretrained(x.contiguous(memory_format=fast_memory_format(x.device))))
        return nearness


def _vit(name: str) -> nn.Module:
    vit = backbone(name)
    fold_std_convs(vit)
    return vit


def reassemble_all(width: int, channels: Sequence[int]) -> tuple[Reassemble, ...]:
    """What a transformer of one scale needs: its tokens, ``width`` wide, become maps at 1/4, 1/8, 1/16 and 1/32."""
    first, second, third, fourth = channels
    return (
        Reassemble(width, first, nn.ConvTranspose2d(first, first, 4, stride=4)),
        Reassemble(width, second, nn.ConvTranspose2d(second, second, 2, stride=2)),
        Reassemble(width, third, None),
        Reassemble(width, fourth, nn.Conv2d(fourth, fourth, 3, stride=2, padding=1)),
    )


def dpt_hybrid() -> DPT:
    """The depth stage of ``512-depth-ema``: 123 M parameters."""
    reassemble = (
        Reassemble(768, 768, None),
        Reassemble(768, 768, nn.Conv2d(768, 768, 3, stride=2, padding=1)),
    )
    encoder = Encoder(_vit("vit_base_r50_s16_384"), taps=(8, 11), reassemble=reassemble)
    return DPT(encoder, (256, 512, 768, 768))


def dpt_large() -> DPT:
    """The larger network of the same paper: 344 M parameters."""
    channels = (256, 512, 1024, 1024)
    reassemble = reassemble_all(1024, channels)
    return DPT(Encoder(_vit("vit_large_patch16_384"), taps=(5, 11, 17, 23), reassemble=reassemble), channels)
