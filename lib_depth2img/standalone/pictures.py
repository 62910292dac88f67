"""Pictures to tensors and back, and how a picture is brought to the size of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..depth.conditioning import region_share
from ..depth.depth_map import DepthMap
from ..depth.geometry import LATENT_FACTOR, Placement, ResizeMode, place

if TYPE_CHECKING:
    import torch
    from PIL import Image

__all__ = ["crop_and_resize", "default_size", "from_tensor", "mask_tensor", "placement", "region", "to_tensor"]


def default_size(picture: Image.Image, *, short_side: int, step: int) -> tuple[int, int]:
    """(width, height): the picture's shape with a short side of `short_side`, the long one rounded to `step`."""
    scale = short_side / min(picture.size)
    width, height = (max(round(length * scale / step), 1) * step for length in picture.size)
    return width, height


def placement(picture: Image.Image, size: tuple[int, int]) -> Placement:
    """How a picture, and its depth map with it, lies in a result of `size` (width, height): crop and resize."""
    return place(picture.size, size, resize_mode=ResizeMode.CROP_AND_RESIZE)


def crop_and_resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture drawn as `placement` says."""
    from PIL import Image

    lies = placement(picture, size)
    left, top = lies.x.offset, lies.y.offset
    right, bottom = left + lies.x.scale * size[0], top + lies.y.scale * size[1]
    box = (max(left, 0.0), max(top, 0.0), min(right, picture.width), min(bottom, picture.height))
    return picture.resize(size, Image.Resampling.LANCZOS, box=box)


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """(1, 3, H, W) float32 in [-1, 1]."""
    import torch

    array = np.asarray(picture.convert("RGB"), dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(array).permute(2, 0, 1)[None]


def mask_tensor(mask: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """(1, 1, H/8, W/8) float32 in [0, 1] for a result of `size` (W, H): 1 where the picture is painted anew."""
    import torch

    array = np.asarray(crop_and_resize(mask.convert("L"), size), dtype=np.float32) / 255.0
    return torch.nn.functional.avg_pool2d(torch.from_numpy(array)[None, None], LATENT_FACTOR)


def region(white: Image.Image, picture: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """(1, 1, H/8, W/8) float32 in [0, 1] for ``Control.region``: 1 where `white`, over the whole picture, is white."""
    values = np.asarray(white.convert("L"), np.float32) / 255
    return region_share(DepthMap.from_array(values), placement(picture, size))


def from_tensor(pictures: torch.Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] to RGB pictures."""
    from PIL import Image

    arrays = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in arrays]
