"""What a checkpoint holds, told from the names and shapes of its tensors."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import TensorFileError
from ..weights.tensor_file import TensorFile, TensorInfo, open_tensor_file, state_dict_names

__all__ = [
    "EMA",
    "INPUT_CONVOLUTION",
    "MIDAS",
    "TEXT",
    "UNET",
    "VAE",
    "Contents",
    "contents_of",
    "contents_of_file",
    "is_depth_checkpoint",
    "midas_preset",
    "state_dict_infos",
]

_log = logging.getLogger(__name__)

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.model."
EMA = "model_ema."
MIDAS = "depth_model.model."
INPUT_CONVOLUTION = UNET + "input_blocks.0.0.weight"
CROSS_ATTENTION = UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
LATER_CROSS_ATTENTION = UNET + "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"

TEXT_ENCODERS = {
    "OpenCLIP": f"{TEXT}transformer.resblocks.",
    "CLIP": "cond_stage_model.transformer.",
    "OpenCLIP (SDXL)": "conditioner.embedders.1.model.transformer.resblocks.",
    "OpenCLIP (SD2 turbo)": "conditioner.embedders.0.model.transformer.resblocks.",
}

STABLE_DIFFUSION = {768: "1", 1024: "2", 2048: "XL"}

# What the size of one tensor tells: the width of tokens, the table of distances on a grid of 32 or 24, the width again.
DEPTH_ANYTHING = {384: "depth_anything_v2_small", 768: "depth_anything_v2_base", 1024: "depth_anything_v2_large"}
BEIT = {63 * 63 + 3: "dpt_beit_large_512", 47 * 47 + 3: "dpt_beit_large_384"}
SWIN2 = {192: "dpt_swin2_large_384", 96: "dpt_swin2_tiny_256"}

# How many tensors a whole one has, without those that change no picture.
UNET_TENSORS = {"2": 686, "small": 324}
MIDAS_TENSORS = {
    "dpt_hybrid": 366,
    "dpt_large": 366,
    "midas_v21": 562,
    "midas_v21_small": 410,
    "dpt_beit_large_512": 461,
    "dpt_beit_large_384": 461,
    "dpt_swin2_large_384": 473,
    "dpt_swin2_tiny_256": 269,
    "depth_anything_v2_small": 238,
    "depth_anything_v2_base": 238,
    "depth_anything_v2_large": 406,
    "small": 142,
}
WITHOUT_EFFECT = (
    # A classifier's head, a counter of BatchNorm, and what follows from sizes alone.
    "pretrained.model.head.",
    "num_batches_tracked",
    ".relative_position_index",
    ".attn_mask",
)


@dataclass(frozen=True)
class Contents:
    """What lies in a state dict.

    unet_channels: of the UNet's input; 4 ordinary, 5 depth, 9 inpainting; None without a UNet of ldm's naming.
    context_dim: width of the UNet's cross-attention: 768 in Stable Diffusion 1, 1024 in 2.
    midas: the preset of the MiDaS network inside, such as "dpt_hybrid", or None.
    text_encoder, vae, ema: whether (and which) they are inside.
    missing: how many tensors lack of the UNet of a Stable Diffusion 2 or small depth model, and of its MiDaS; what is
    whole is not named.
    The prediction type (noise or v) cannot be told from a header.
    """

    unet_channels: int | None
    context_dim: int | None
    midas: str | None
    text_encoder: str | None
    vae: bool
    ema: bool
    missing: Mapping[str, int] = field(default_factory=dict)

    @property
    def stable_diffusion(self) -> str | None:
        """One of "1", "2" and "XL"; None for a UNet of another width, or none at all."""
        return STABLE_DIFFUSION.get(self.context_dim or 0)

    @property
    def is_depth_model(self) -> bool:
        """Whether the UNet takes a depth channel."""
        return self.unet_channels == 5

    @property
    def is_sd2_depth_model(self) -> bool:
        """Whether the configuration of 512-depth-ema describes it."""
        return self.is_depth_model and self.stable_diffusion == "2"


def state_dict_infos(file: TensorFile) -> dict[str, TensorInfo]:
    """The state dict's own names with what the file's header says of each tensor."""
    return {name: file[entry] for name, entry in state_dict_names(file).items()}


def contents_of_file(path: Path) -> Contents:
    """Tell what a checkpoint file holds, from its header alone; the answer is kept for as long as the file is the same.

    Raises:
        TensorFileError: it cannot be read, or is no checkpoint.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise TensorFileError(f"{path} cannot be opened: {error.strerror}.") from error
    return _contents_of_file(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _contents_of_file(path: Path, _size: int, _changed: int) -> Contents:
    with open_tensor_file(path) as file:
        return contents_of(state_dict_infos(file))


def is_depth_checkpoint(path: Path) -> bool:
    """Whether a checkpoint file is a depth model; no for one that cannot be read."""
    try:
        return contents_of_file(path).is_depth_model
    except TensorFileError as error:
        _log.debug("Depth2Img cannot look into %s: %s", path, error)
        return False


def contents_of(tensors: Mapping[str, TensorInfo]) -> Contents:
    """Tell what a state dict holds."""
    inside = {name.removeprefix(MIDAS): info for name, info in tensors.items() if name.startswith(MIDAS)}
    encoder = (kind for kind, prefix in TEXT_ENCODERS.items() if any(name.startswith(prefix) for name in tensors))
    contents = Contents(
        unet_channels=_size(tensors, INPUT_CONVOLUTION, 1),
        context_dim=_size(tensors, CROSS_ATTENTION, 1) or _size(tensors, LATER_CROSS_ATTENTION, 1),
        midas=midas_preset(inside),
        text_encoder=next(encoder, None),
        vae=any(name.startswith(f"{VAE}decoder.") for name in tensors),
        ema=any(name.startswith(EMA) for name in tensors),
    )
    unet = sum(name.startswith(UNET) for name in tensors)
    whole = UNET_TENSORS.get(contents.stable_diffusion or contents.midas or "", 0)
    midas = sum(not any(part in name for part in WITHOUT_EFFECT) for name in inside)
    missing = {
        "UNet": whole - unet if contents.is_depth_model else 0,
        "MiDaS": MIDAS_TENSORS[contents.midas] - midas if contents.midas else 0,
    }
    return replace(contents, missing={part: count for part, count in missing.items() if count > 0})


def midas_preset(tensors: Mapping[str, TensorInfo]) -> str | None:
    """Which preset's network these weights are, named as MiDaS publishes them; None if none, or not to be told."""
    if "pretrained.quarter.0.0.weight" in tensors and "scratch.head.3.weight" in tensors:
        return "small"
    if "depth_head.scratch.output_conv2.2.weight" in tensors:
        return _told(tensors, "pretrained.cls_token", 2, DEPTH_ANYTHING)
    if "scratch.output_conv.4.weight" not in tensors:
        return None
    if "pretrained.model.patch_embed.backbone.stem.conv.weight" in tensors:
        return "dpt_hybrid"
    return (
        _told(tensors, "pretrained.model.blocks.0.attn.relative_position_bias_table", 0, BEIT)
        or _told(tensors, "pretrained.model.layers.0.blocks.0.attn.proj.weight", 0, SWIN2)
        or _told(tensors, "pretrained.model.cls_token", 2, {1024: "dpt_large"})
        or _told(tensors, "pretrained.layer1.0.weight", 0, {64: "midas_v21", 32: "midas_v21_small"})
    )


def _told(tensors: Mapping[str, TensorInfo], name: str, axis: int, by_size: Mapping[int, str]) -> str | None:
    """The preset that the size of one tensor tells; None without the tensor."""
    return by_size.get(_size(tensors, name, axis) or 0)


def _size(tensors: Mapping[str, TensorInfo], name: str, axis: int) -> int | None:
    shape = tensors[name].shape if name in tensors else ()
    return shape[axis] if len(shape) > axis else None
