"""MiDaS 3.1 on Swin Transformer V2: ``dpt_swin2_large_384`` and ``dpt_swin2_tiny_256``.

Birkl, Wofk, Müller: MiDaS v3.1 (arXiv:2307.14460); Liu et al.: Swin Transformer V2 (arXiv:2111.09883). The backbones
are timm's, as the holders of weights. What is computed with them is here, since timm fixes windows and masks to one
size of picture when a network is built, and has moved modules and axes from version to version. Keys as in the
published files, without what is derived from the sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbones import backbone, drop_buffers
from .distances import set_by_distance
from .dpt import DPT

__all__ = ["Swin2Encoder", "dpt_swin2", "dpt_swin2_large_384", "dpt_swin2_tiny_256"]

_WINDOWS = 16
"""Pixels of the picture for each token of a window's side. A window so grows with the picture: 24 tokens at 384 pixels
and 16 at 256, as trained. The bias of a distance is a function of the distance, made to be asked for others."""

_ELSEWHERE = -100.0
"""Added to the attention between tokens that lie beside each other only since the picture was rolled."""

_SHARPEST = math.log(100.0)

Sizes = tuple[int, int]


class Swin2Encoder(nn.Module):
    """``pretrained``: a picture (B, 3, h, w) to four feature maps at 1/4, 1/8, 1/16 and 1/32 of its size.

    h and w are multiples of 32.
    """

    def __init__(self, swin: nn.Module) -> None:
        super().__init__()
        self.model = swin

    def forward(self, x: Tensor) -> list[Tensor]:
        window = (x.shape[2] // _WINDOWS, x.shape[3] // _WINDOWS)
        embed = self.model.patch_embed
        x = embed.norm(embed.proj(x).permute(0, 2, 3, 1))
        features = []
        for stage in self.model.layers:
            for index, block in enumerate(stage.blocks):
                x = _block(block, x, window, shifted=index % 2 == 1)
            features.append(x.permute(0, 3, 1, 2))
            if not isinstance(stage.downsample, nn.Identity):
                x = _merged(stage.downsample, x)
        return features


def _block(block: nn.Module, x: Tensor, window: Sizes, *, shifted: bool) -> Tensor:
    """(B, h, w, C) -> the same. Norms come last in a branch, and no window is larger than what there is."""
    height, width = x.shape[1:3]
    window = min(window[0], height), min(window[1], width)
    shift = (
        window[0] // 2 if shifted and window[0] < height else 0,
        window[1] // 2 if shifted and window[1] < width else 0,
    )
    rolled = torch.roll(x, (-shift[0], -shift[1]), dims=(1, 2)) if any(shift) else x
    bias = _bias(block.attn, window)
    if any(shift):
        bias = bias + _mask((height, width), window, shift).to(bias)[:, None]
    attended = _whole(_attention(block.attn, _windows(rolled, window), bias), x.shape, window)
    x = x + block.norm1(torch.roll(attended, shift, dims=(1, 2)) if any(shift) else attended)
    passed: Tensor = x + block.norm2(block.mlp(x))
    return passed


def _windows(x: Tensor, window: Sizes) -> Tensor:
    """(B, h, w, C) -> (B, windows, tokens of one, C)."""
    tall, wide = window
    split = x.unflatten(2, (-1, wide)).unflatten(1, (-1, tall))  # (B, h/tall, tall, w/wide, wide, C)
    return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _whole(windows: Tensor, shape: Sequence[int], window: Sizes) -> Tensor:
    """(B, windows, tokens of one, C) -> (B, h, w, C), which is ``shape``."""
    tall, wide = window
    split = windows.unflatten(2, window).unflatten(1, (shape[1] // tall, shape[2] // wide))
    return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _attention(attn: nn.Module, x: Tensor, bias: Tensor) -> Tensor:
    """(B, windows, N, C) -> the same; by the cosine of queries and keys. ``bias``: (heads, N, N), or one a window."""
    heads = attn.num_heads
    of_qkv = torch.cat((attn.q_bias, torch.zeros_like(attn.v_bias), attn.v_bias))
    projected = F.linear(x, attn.qkv.weight, of_qkv).unflatten(3, (3, heads, -1))
    queries, keys, values = projected.permute(3, 0, 1, 4, 2, 5).unbind(0)  # (B, windows, heads, N, C / heads) each
    # torch divides by the root of the width, and can be told otherwise only from 2.1 on.
    sharpness = attn.logit_scale.clamp(max=_SHARPEST).exp() * queries.shape[-1] ** 0.5
    queries, keys = F.normalize(queries, dim=-1) * sharpness, F.normalize(keys, dim=-1)
    attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    mixed: Tensor = attn.proj(attended.transpose(2, 3).flatten(3))
    return mixed


def _bias(attn: nn.Module, window: Sizes) -> Tensor:
    """What attention adds for each pair of tokens of a window: (heads, N, N), between 0 and 16."""
    weight = attn.cpb_mlp[0].weight
    axes = [torch.arange(-length + 1, length, device=weight.device, dtype=torch.float32) for length in window]
    tall, wide = _trained(attn)
    down, right = axes[0] / (tall - 1), axes[1] / (wide - 1)
    distances = torch.stack(torch.broadcast_tensors(down[:, None], right[None]), dim=2) * 8
    logarithmic = distances.sign() * torch.log2(distances.abs() + 1.0) / math.log2(8)
    entries = 16 * torch.sigmoid(attn.cpb_mlp(logarithmic.to(weight.dtype)))  # (2·tall-1, 2·wide-1, heads)
    tokens = window[0] * window[1]
    bias = entries.new_empty(entries.shape[2], tokens, tokens)
    set_by_distance(bias, entries.permute(2, 0, 1), window)
    return bias


def _trained(attn: nn.Module) -> Sizes:
    """The window by which distances are measured: of the first training where there were two, else of the only one."""
    first, only = attn.pretrained_window_size, attn.window_size
    return tuple(first if first[0] > 0 else only)


def _mask(size: Sizes, window: Sizes, shift: Sizes) -> Tensor:
    """(windows, N, N): zero, or ``_ELSEWHERE`` between tokens from opposite edges of a rolled picture of ``size``."""
    parts = []
    for length, extent, moved in zip(size, window, shift, strict=True):
        place = torch.arange(length)
        parts.append((place >= length - extent).long() + (place >= length - moved).long() * (moved > 0))
    part = _windows((parts[0][:, None] * 3 + parts[1][None])[None, :, :, None], window)[0, :, :, 0]
    return torch.where(part[:, :, None] == part[:, None], 0.0, _ELSEWHERE)


def _merged(downsample: nn.Module, x: Tensor) -> Tensor:
    """Four neighbours become one of twice the channels: (B, h, w, C) -> (B, h/2, w/2, 2C)."""
    neighbours = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, h/2, 2, w/2, 2, C)
    merged: Tensor = downsample.norm(downsample.reduction(neighbours.permute(0, 1, 3, 4, 2, 5).flatten(3)))
    return merged


def _as_published(swin: nn.Module) -> None:
    """Put modules where timm had them when the weights were published: each stage ends with what narrows it.

    timm 0.9 let each stage begin with it, and put the classifier a level deeper.
    """
    stages = list(swin.layers)
    if isinstance(stages[0].downsample, nn.Identity):
        for stage, following in zip(stages, [*stages[1:], None], strict=True):
            stage.downsample = nn.Identity() if following is None else following.downsample
    swin.head = getattr(swin.head, "fc", swin.head)


def dpt_swin2(*names: str, channels: Sequence[int], **changes: Any) -> DPT:
    """The network on timm's backbone of one of those names; ``changes``: of its architecture, as timm takes them."""
    swin = backbone(*names, **changes)
    drop_buffers(swin)
    _as_published(swin)
    return DPT(Swin2Encoder(swin), channels)


def dpt_swin2_large_384() -> DPT:
    """213 M parameters."""
    names = ("swinv2_large_window12to24_192to384", "swinv2_large_window12to24_192to384_22kft1k")
    return dpt_swin2(*names, channels=(192, 384, 768, 1536))


def dpt_swin2_tiny_256() -> DPT:
    """42 M parameters."""
    return dpt_swin2("swinv2_tiny_window16_256", channels=(96, 192, 384, 768))
