"""From a picture to the network's input.

Sources: Stability's ldm/modules/midas/midas/transforms.py (Resize, NormalizeImage) and ldm/data/util.py (AddMiDaS),
which the host uses in modules/processing.py:304-308; Depth Anything V2's depth_anything_v2/util/transform.py, which is
the same with another bound and other multiples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import EstimatorError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from .presets import Preset

__all__ = ["network_input", "network_size", "picture_array", "shrunk"]

SHRUNK = 4 / 3
"""Side of the largest picture that MiDaS is shown, in sides of its input: 512 for 384, as in the host at 512x512."""

MAX_AREA = 16 * 384 * 384
"""Pixels of the largest network input. MiDaS's own rule has no bound: a 1:40 panorama is 40 times the usual work."""

MAX_SHAPE = 4
"""At a size that somebody asked for, the bound is that of a picture of this shape, 4:1, where that is more."""


def picture_array(picture: Image.Image | np.ndarray) -> np.ndarray:
    """A picture as (H, W, 3) uint8 RGB.

    ``picture``: a PIL image of any mode (alpha is dropped), or an array (H, W, 3) uint8.

    Raises:
        EstimatorError: anything else, or a picture with no pixels.
    """
    if not isinstance(picture, np.ndarray):
        if not hasattr(picture, "convert"):
            raise EstimatorError(f"Got a {type(picture).__name__}; expected a PIL image or an (H, W, 3) uint8 array.")
        picture = np.asarray(picture.convert("RGB"))
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise EstimatorError(
            f"Got an array of shape {picture.shape} and type {picture.dtype}; "
            "expected (H, W, 3) uint8 with at least one pixel."
        )
    return picture


def network_size(size: tuple[int, int], preset: Preset, resolution: int = 0) -> tuple[int, int]:
    """(width, height) of the network's input for a picture of ``size`` (width, height): the preset's multiples.

    ``resolution``: in place of the preset's side, where it is not 0. As the authors do it, except where that gives a
    side of zero (beyond about 24:1) or more than ``MAX_AREA`` pixels: there the shape is squeezed, which an estimate
    over the whole picture survives.
    """
    side = resolution or preset.side
    scales = [side / length for length in size]
    if preset.fit == "square":
        across, down = scales
    else:
        across = down = _scale(scales, preset)
    width, height = _to_multiple(across * size[0], side, preset), _to_multiple(down * size[1], side, preset)
    area = max(MAX_AREA, MAX_SHAPE * resolution**2)
    if width * height > area:
        longest = area // min(width, height) // preset.multiple * preset.multiple
        width, height = min(width, longest), min(height, longest)
    return width, height


def _scale(scales: Sequence[float], preset: Preset) -> float:
    """By how much both sides of a picture are scaled, of what would bring each to the network's."""
    if preset.fit == "upper_bound":
        return min(scales)
    if preset.fit == "lower_bound":
        return max(scales)
    to_width, to_height = scales
    return to_width if abs(1 - to_width) < abs(1 - to_height) else to_height


def _to_multiple(length: float, side: int, preset: Preset) -> int:
    multiple = preset.multiple
    rounded = round(length / multiple) * multiple
    if preset.fit == "upper_bound" and rounded > side:
        rounded = int(length // multiple) * multiple
    if preset.fit == "lower_bound" and rounded < side:
        rounded = math.ceil(length / multiple) * multiple
    return max(rounded, multiple)


def shrunk(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture (H, W, 3) uint8 as large as the host would show it to MiDaS; itself where it is no larger.

    MiDaS picks samples from its picture without a filter, so of a photograph of 4000 pixels it would see every tenth,
    noise and all. The host shrinks the picture to the generation's size first, with Lanczos (images.py:283), which
    for this model is 512 pixels. ``size``: (width, height) of the network's input.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    target = (min(width, round(SHRUNK * size[0])), min(height, round(SHRUNK * size[1])))
    if target == (width, height):
        return picture
    return np.asarray(Image.fromarray(picture).resize(target, Image.Resampling.LANCZOS))


def network_input(pictures: Sequence[np.ndarray], size: tuple[int, int], preset: Preset) -> Tensor:
    """Pictures (H, W, 3) uint8 to (B, 3, h, w) float32 on the CPU, normalised; bicubic, not antialiased."""
    import cv2
    import torch

    mean = np.array(preset.mean, dtype=preset.resized_in)
    std = np.array(preset.std, dtype=preset.resized_in)
    resized = [
        cv2.resize(picture.astype(preset.resized_in) / 255.0, size, interpolation=cv2.INTER_CUBIC)
        for picture in pictures
    ]
    normalised = np.stack([(picture - mean) / std for picture in resized]).astype(np.float32, copy=False)
    return torch.from_numpy(normalised).permute(0, 3, 1, 2)
