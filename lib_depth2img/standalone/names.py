"""What ldm calls the weights of a UNet and of an autoencoder, told from what diffusers calls them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["unet_name", "vae_name"]

_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESIDUAL_BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_PARTS = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "down_blocks": "down",
    "resnets": "block",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def unet_name(name: str, blocks: int, attention: Sequence[bool]) -> str:
    """ldm's name of a weight of ``UNet2DConditionModel``.

    ``blocks``: residual blocks of a level (num_res_blocks). ``attention``: whether a level has it, finest level first.
    ldm counts the blocks of all levels in one row (openaimodel.py, ``UNetModel``): those of a level and one that goes
    down; on the way up one more of a level, the last of which goes up at its end, after its attention.
    """
    part, _, rest = name.partition(".")
    if part == "mid_block":
        kind, index, rest = rest.split(".", 2)
        return f"middle_block.{2 * int(index) + (kind == 'attentions')}.{_inside(kind, rest)}"
    if part not in ("down_blocks", "up_blocks"):
        return _replaced(name, _UNET_ENDS)
    level, kind, index, rest = rest.split(".", 3)
    first = int(level) * (blocks + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + blocks + 1}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"output_blocks.{first + blocks}.{1 + attention[-1 - int(level)]}.{rest}"
    block = f"input_blocks.{first + int(index) + 1}" if part == "down_blocks" else f"output_blocks.{first + int(index)}"
    return f"{block}.{int(kind == 'attentions')}.{_inside(kind, rest)}"


def vae_name(name: str, levels: int) -> str:
    """ldm's name of a weight of ``AutoencoderKL`` with so many ``levels``; ldm counts the decoder's from the finest."""
    name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", name)
    return _replaced(name, _VAE_PARTS)


def _inside(kind: str, name: str) -> str:
    return _replaced(name, _RESIDUAL_BLOCK) if kind == "resnets" else name


def _replaced(name: str, words: Mapping[str, str]) -> str:
    """``name`` with each of ``words`` that stands in it as whole parts between dots replaced."""
    for word, other in words.items():
        name = re.sub(rf"(?<![^.]){re.escape(word)}(?![^.])", other, name)
    return name
