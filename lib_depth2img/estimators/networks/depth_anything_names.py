"""The names of Depth Anything V2's weights: the authors', and those of ``DepthAnythingForDepthEstimation``.

Importing this imports no timm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["of_the_authors"]

_TRANSFORMERS = "backbone.embeddings."

_PATTERNS = (
    (r"backbone\.embeddings\.cls_token", "pretrained.cls_token"),
    (r"backbone\.embeddings\.mask_token", "pretrained.mask_token"),
    (r"backbone\.embeddings\.position_embeddings", "pretrained.pos_embed"),
    (r"backbone\.embeddings\.patch_embeddings\.projection\.", "pretrained.patch_embed.proj."),
    (r"backbone\.layernorm\.", "pretrained.norm."),
    (r"backbone\.encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"pretrained.blocks.\1.attn.proj."),
    (r"backbone\.encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"pretrained.blocks.\1.ls\2.gamma"),
    (r"backbone\.encoder\.layer\.(\d+)\.(norm[12]|mlp\.fc[12])\.", r"pretrained.blocks.\1.\2."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.projection\.", r"depth_head.projects.\1."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.resize\.", r"depth_head.resize_layers.\1."),
    (r"head\.conv1\.", "depth_head.scratch.output_conv1."),
    (r"head\.conv2\.", "depth_head.scratch.output_conv2.0."),
    (r"head\.conv3\.", "depth_head.scratch.output_conv2.2."),
)
"""What transformers calls it, and what the authors do; the rest of a name stays."""

_NARROWING = r"neck\.convs\.(\d)\."
_FUSION = r"neck\.fusion_stage\.layers\.(\d)\.(projection|residual_layer([12])\.convolution([12]))\."
_ATTENTION = r"backbone\.encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)"


def of_the_authors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of either naming with the authors' names; without the token for masking, which training needs."""
    if any(name.startswith(_TRANSFORMERS) for name in weights):
        weights = _from_transformers(weights)
    return {name: tensor for name, tensor in weights.items() if name != "pretrained.mask_token"}


def _from_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values are one matrix with the authors, and three with transformers."""
    named = {_named(name): tensor for name, tensor in weights.items() if not re.fullmatch(_ATTENTION, name)}
    for name in weights:
        match = re.fullmatch(_ATTENTION, name)
        if match and match[2] == "query":
            parts = [weights.get(name.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
            together = [part for part in parts if part is not None]
            named[f"pretrained.blocks.{match[1]}.attn.qkv.{match[3]}"] = torch.cat(together)
    return named


def _named(name: str) -> str:
    for pattern, replacement in _PATTERNS:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    if match := re.match(_NARROWING, name):
        return f"depth_head.scratch.layer{int(match[1]) + 1}_rn.{name[match.end() :]}"
    if match := re.match(_FUSION, name):  # transformers counts from the coarsest, the authors from the finest
        place = "out_conv" if match[3] is None else f"resConfUnit{match[3]}.conv{match[4]}"
        return f"depth_head.scratch.refinenet{4 - int(match[1])}.{place}.{name[match.end() :]}"
    return name
