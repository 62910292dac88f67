"""Where every pixel of the canvas comes from in the picture, so that a depth map lands exactly where the picture lands.

Whatever the host does to an init image before it is encoded (processing.py:1602-1760, images.py:252, masking.py) is
a chain of crops, resizes and border fills. Each of them is axis-aligned, so the chain is one affine map per axis
and a range it is held in. A map is therefore sampled once, from its own samples: no 8-bit step, no second resize,
no rounding in between.

Coordinates are continuous: pixel i covers [i, i + 1) and has its centre at i + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from operator import index
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RequestError
from . import resample
from .sizes import Size, checked_size

if TYPE_CHECKING:
    from .depth_map import DepthMap

__all__ = ["LATENT_FACTOR", "AxisMap", "Box", "Placement", "ResizeMode", "only_masked_box", "place", "sample"]

LATENT_FACTOR = 8
"""Canvas pixels per latent cell, along each axis."""

Box = tuple[int, int, int, int]

_CELL_SAMPLES = 8.0
_SHORT_SIDE = 384.0


class ResizeMode(IntEnum):
    """The host's resize modes, by the host's numbers (images.py:252, ui.py ``resize_mode``)."""

    JUST_RESIZE = 0
    CROP_AND_RESIZE = 1
    RESIZE_AND_FILL = 2
    LATENT_UPSCALE = 3


@dataclass(frozen=True)
class AxisMap:
    """Along one axis: canvas coordinate c shows picture coordinate ``scale * c + offset``, held within [low, high]."""

    scale: float
    offset: float
    low: float
    high: float

    def __call__(self, coordinates: np.ndarray) -> np.ndarray:
        return np.clip(coordinates * self.scale + self.offset, self.low, self.high)


@dataclass(frozen=True)
class Placement:
    """How one picture lies on the canvas. Sizes are (width, height) in pixels."""

    picture_size: Size
    canvas_size: Size
    x: AxisMap
    y: AxisMap


def place(
    picture_size: Size,
    canvas_size: Size,
    *,
    resize_mode: ResizeMode | int = ResizeMode.JUST_RESIZE,
    crop: Box | None = None,
) -> Placement:
    """The placement that the host gives an init image. Sizes are (width, height) in pixels.

    ``crop``: (x1, y1, x2, y2) of "only masked", in pixels of the picture. With it the host ignores the resize mode
    and letterboxes the crop (processing.py:1691). Where the box leaves the picture the host puts black; here the
    picture's edge repeats.

    Raises:
        RequestError: a size that is not positive, an unknown resize mode, a box that holds nothing of the picture, or
            a shape so long that the host's own rounding leaves no pixels of it.
    """
    picture = checked_size("picture size", picture_size)
    canvas = checked_size("canvas size", canvas_size)
    mode = _checked_mode(resize_mode)
    if crop is not None:
        return _placed_crop(picture, canvas, _checked_box(crop, picture))
    if mode is ResizeMode.LATENT_UPSCALE:
        source = _latent_cover(picture)
        resized, start = canvas, (0, 0)
    else:
        source = picture
        resized, start = _host_resize(source, canvas, mode)
    x, y = (_axis(0, source[i], resized[i], start[i], picture[i]) for i in (0, 1))
    return Placement(picture, canvas, x, y)


def only_masked_box(mask: np.ndarray, padding: int, canvas_size: Size) -> Box | None:
    """The box (x1, y1, x2, y2) that "Inpaint area: Only masked" works on, or None when nothing is masked.

    ``mask``: (H, W), after inversion and blur; everything but 0 counts as masked. ``padding``: pixels added around
    the masked part. The box is then widened to the canvas's aspect ratio where the picture has room: masking.py:4
    ``get_crop_region_v2`` and masking.py:46 ``expand_crop_region``, to the pixel.

    Raises:
        RequestError: a mask of another rank, or a canvas size that is not positive.
    """
    canvas_width, canvas_height = checked_size("canvas size", canvas_size)
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.size == 0:
        raise RequestError(f"A mask is an (H, W) array, not one of shape {mask.shape}; hand over one channel of it.")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    height, width = mask.shape
    x1, x2 = max(int(columns[0]) - padding, 0), min(int(columns[-1]) + 1 + padding, width)
    y1, y2 = max(int(rows[0]) - padding, 0), min(int(rows[-1]) + 1 + padding, height)
    ratio = canvas_width / canvas_height
    if (x2 - x1) / (y2 - y1) > ratio:
        y1, y2 = _widened(y1, y2, int((x2 - x1) / ratio - (y2 - y1)), height)
    else:
        x1, x2 = _widened(x1, x2, int((y2 - y1) * ratio - (x2 - x1)), width)
    return x1, y1, x2, y2


def sample(depth_map: DepthMap, placement: Placement, size: Size) -> np.ndarray:
    """The map as it lies on the canvas: (height, width) float32, near = high, in the map's own units.

    ``size``: (width, height) of the result, which covers the whole canvas: the canvas's own, or an eighth of it for
    the latent. The map's grid may have any size; it covers the whole picture. Bicubic, a = -0.75, edges repeated:
    for a plain resize equal to ``torch.nn.functional.interpolate(mode="bicubic", align_corners=False)``, which is
    what the training code takes straight from the depth network's grid (ldm ddpm.py:1712). Cubic interpolation may
    overshoot the map's range, as there.

    A map with far more samples than the result can show is area-averaged first. An estimator's grid (384 on its
    short side) never is, since the training code does not do so either.
    """
    width, height = checked_size("size", size)
    grid_width, grid_height = depth_map.size
    canvas_width, canvas_height = placement.canvas_size
    per_pixel = (grid_width / placement.picture_size[0], grid_height / placement.picture_size[1])
    step = (abs(placement.x.scale) * canvas_width / width, abs(placement.y.scale) * canvas_height / height)
    short_side = min(grid_width, grid_height)
    reduced = (
        _reduced(grid_width, short_side, per_pixel[0] * step[0]),
        _reduced(grid_height, short_side, per_pixel[1] * step[1]),
    )
    values = resample.area(depth_map.values, reduced)
    columns = placement.x((np.arange(width) + 0.5) * (canvas_width / width)) * (reduced[0] / placement.picture_size[0])
    rows = placement.y((np.arange(height) + 0.5) * (canvas_height / height)) * (reduced[1] / placement.picture_size[1])
    return resample.bicubic(values, rows, columns).astype(np.float32)


def _checked_mode(resize_mode: ResizeMode | int) -> ResizeMode:
    try:
        return ResizeMode(resize_mode)
    except ValueError as error:
        known = ", ".join(f"{mode.value} ({mode.name.lower()})" for mode in ResizeMode)
        raise RequestError(f"The resize mode is {resize_mode!r}; it has to be one of {known}.") from error


def _checked_box(crop: Box, picture: Size) -> Box:
    try:
        x1, y1, x2, y2 = (index(edge) for edge in crop)
    except (TypeError, ValueError) as error:
        raise RequestError(f"The crop box is {crop!r}; it has to be (x1, y1, x2, y2), four whole numbers.") from error
    if x1 >= x2 or y1 >= y2 or x2 <= 0 or y2 <= 0 or x1 >= picture[0] or y1 >= picture[1]:
        raise RequestError(
            f"The crop box {(x1, y1, x2, y2)} holds nothing of the picture, which is {picture[0]}x{picture[1]}; "
            "it has to be (x1, y1, x2, y2) in the picture's pixels with x1 < x2 and y1 < y2."
        )
    return x1, y1, x2, y2


def _placed_crop(picture: Size, canvas: Size, box: Box) -> Placement:
    cropped = (box[2] - box[0], box[3] - box[1])
    resized, start = _host_resize(cropped, canvas, ResizeMode.RESIZE_AND_FILL)
    x, y = (_axis(box[i], cropped[i], resized[i], start[i], picture[i]) for i in (0, 1))
    return Placement(picture, canvas, x, y)


def _host_resize(source: Size, canvas: Size, mode: ResizeMode) -> tuple[Size, Size]:
    """Size of the resized picture and where its corner is pasted, in the host's whole numbers (images.py:288-326)."""
    if mode is ResizeMode.JUST_RESIZE:
        return canvas, (0, 0)
    (source_width, source_height), (width, height) = source, canvas
    ratio, source_ratio = width / height, source_width / source_height
    by_height, by_width = (
        (source_width * height // source_height, height),
        (width, source_height * width // source_width),
    )
    if mode is ResizeMode.CROP_AND_RESIZE:
        resized = (width if ratio > source_ratio else by_height[0], height if ratio <= source_ratio else by_width[1])
    else:
        resized = (width if ratio < source_ratio else by_height[0], height if ratio >= source_ratio else by_width[1])
    if min(resized) < 1:
        raise RequestError(
            f"{source_width}x{source_height} pixels cannot be fitted into {width}x{height}: the shape is so long that "
            "nothing of its short side is left. Crop the picture, or choose a canvas nearer to its shape."
        )
    return resized, (width // 2 - resized[0] // 2, height // 2 - resized[1] // 2)


def _latent_cover(picture: Size) -> Size:
    """The part of the picture that its latent stands for: the encoder drops what is left over after whole cells."""
    if min(picture) < LATENT_FACTOR:
        raise RequestError(
            f"The picture is {picture[0]}x{picture[1]}; latent upscale needs at least {LATENT_FACTOR} pixels each way. "
            "Choose another resize mode."
        )
    return picture[0] // LATENT_FACTOR * LATENT_FACTOR, picture[1] // LATENT_FACTOR * LATENT_FACTOR


def _axis(corner: int, length: int, resized: int, start: int, picture: int) -> AxisMap:
    """Where ``length`` pixels from ``corner`` on lie that are resized to ``resized`` and pasted at ``start``.

    The fill of the host repeats the outermost row of the *resized* picture, hence the half of its pixel at either end.
    """
    scale = length / resized
    low, high = corner + 0.5 * scale, corner + length - 0.5 * scale
    return AxisMap(scale, corner - start * scale, max(low, 0.0), min(high, float(picture)))


def _widened(start: int, end: int, missing: int, limit: int) -> tuple[int, int]:
    """``missing`` pixels more, half on either side, pushed back into [0, limit] (masking.py:54-66)."""
    start -= missing // 2
    end += missing - missing // 2
    if end >= limit:
        start, end = start - (end - limit), limit
    if start < 0:
        start, end = 0, end - start
    return start, min(end, limit)


def _reduced(count: int, short_side: int, samples_per_cell: float) -> int:
    factor = min(samples_per_cell / _CELL_SAMPLES, short_side / _SHORT_SIDE)
    return max(1, round(count / factor)) if factor > 1.0 else count
