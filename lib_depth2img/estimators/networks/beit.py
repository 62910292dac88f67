"""MiDaS 3.1 on BEiT: ``dpt_beit_large_512`` and ``dpt_beit_large_384``.

Birkl, Wofk, Müller: MiDaS v3.1 (arXiv:2307.14460). The backbones are timm's, as the holders of weights; BEiT has no
positions but a bias for each distance between two tokens, which MiDaS stretches for pictures of another size than the
trained one (midas/backbones/beit.py), and timm's own attention does not. Keys as in the published files, without what
is derived from the sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbones import backbone, drop_buffers
from .distances import set_by_distance
from .dpt import DPT, Encoder, reassemble_all

__all__ = ["dpt_beit", "dpt_beit_large_384", "dpt_beit_large_512"]

_OF_CLASS_TOKEN = 3
"""Entries at the end of a table of biases: from the class token, to it, and of it to itself."""


class BeitEncoder(Encoder):
    """As ``Encoder``, on a BEiT: the class token is there, trained positions are not."""

    def _tokens(self, embedded: Tensor, _grid: tuple[int, int]) -> Tensor:
        patches = embedded.flatten(2).transpose(1, 2)
        return torch.cat((self.model.cls_token.expand(len(patches), -1, -1), patches), dim=1)

    def _through(self, block: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        tokens = tokens + block.gamma_1 * _attention(block.attn, block.norm1(tokens), grid)
        passed: Tensor = tokens + block.gamma_2 * block.mlp(block.norm2(tokens))
        return passed


def _attention(attn: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, 1+N, D) -> the same. Queries and values have a bias, keys have none."""
    bias = torch.cat((attn.q_bias, torch.zeros_like(attn.v_bias), attn.v_bias))
    projected = F.linear(x, attn.qkv.weight, bias).unflatten(2, (3, attn.num_heads, -1))
    queries, keys, values = projected.permute(2, 0, 3, 1, 4).unbind(0)
    of_distance = relative_bias(attn.relative_position_bias_table, grid)
    attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=of_distance)
    mixed: Tensor = attn.proj(attended.transpose(1, 2).flatten(2))
    return mixed


def relative_bias(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """What attention adds for each pair of tokens on ``grid`` (h, w): (heads, 1+h·w, 1+h·w), the class token first.

    ``table``: ((2n-1)·(2n-1) + 3, heads), trained on a grid of n × n; for another grid the square of distances is
    stretched bilinearly.
    """
    rows, cols = grid
    distances, of_class = table[:-_OF_CLASS_TOKEN], table[-_OF_CLASS_TOKEN:]
    side = round(len(distances) ** 0.5)
    square = distances.T.unflatten(1, (side, side))[None].float()
    stretched = F.interpolate(square, size=(2 * rows - 1, 2 * cols - 1), mode="bilinear")[0].to(table.dtype)
    bias = stretched.new_empty(len(stretched), 1 + rows * cols, 1 + rows * cols)
    from_class, to_class, of_itself = of_class
    bias[:, 0], bias[:, :, 0], bias[:, 0, 0] = from_class[:, None], to_class[:, None], of_itself
    set_by_distance(bias[:, 1:, 1:], stretched, grid)
    return bias


def dpt_beit(name: str, *, taps: Sequence[int], channels: Sequence[int], **changes: Any) -> DPT:
    """The network on timm's backbone of that name; ``changes``: of its architecture, as timm takes them."""
    beit = backbone(name, **changes)
    drop_buffers(beit)
    width: Any = beit.embed_dim
    return DPT(BeitEncoder(beit, taps=taps, reassemble=reassemble_all(width, channels)), channels)


def dpt_beit_large_512() -> DPT:
    """345 M parameters."""
    return dpt_beit("beit_large_patch16_512", taps=(5, 11, 17, 23), channels=(256, 512, 1024, 1024))


def dpt_beit_large_384() -> DPT:
    """344 M parameters."""
    return dpt_beit("beit_large_patch16_384", taps=(5, 11, 17, 23), channels=(256, 512, 1024, 1024))
