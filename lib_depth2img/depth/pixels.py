"""From an array or a PIL picture of any type to nearness: scaled by the type, never by the content."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DepthMapError, RequestError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from PIL import Image

__all__ = ["nearness_from_array", "nearness_from_image"]

LARGEST = 1e30
"""No camera and no network gives a number beyond this one; 3.4e38 and the like stand for "no measurement"."""

GREY_TOLERANCE = 16.0 / 255.0
"""How far the colour channels of one pixel may differ: above what JPEG does to grey, far below any colour map."""

GREY_EXCEPTIONS = 0.01
"""The share of pixels that may differ more: a watermark, ringing at an edge."""

_WHITE = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}


@dataclass(frozen=True)
class _Channel:
    """(H, W) float32 values, whether they are on the unit scale, and which pixels are fully transparent."""

    values: np.ndarray
    unit: bool
    transparent: np.ndarray | None = None


def nearness_from_array(array: ArrayLike, meaning: str) -> tuple[np.ndarray, bool]:
    """(H, W) float32 nearness and whether it is on the unit scale; see ``DepthMap.from_array``."""
    try:
        array = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DepthMapError(f"A {type(array).__name__} cannot be taken as an array ({error}). Convert it.") from error
    return _nearness(_channel(array), meaning)


def nearness_from_image(image: Image.Image, meaning: str) -> tuple[np.ndarray, bool]:
    """(H, W) float32 nearness and whether it is on the unit scale; see ``DepthMap.from_image``."""
    try:
        image.load()
        if image.mode in ("I", "I;16", "I;16L", "I;16B", "I;16N"):
            return _nearness(_whole_numbers(image), meaning)
        array = _array(image)
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise DepthMapError(f"The picture cannot be decoded ({error}). Save or copy it again.") from error
    return _nearness(_channel(array), meaning)


def _array(image: Image.Image) -> np.ndarray:
    if image.mode in ("P", "PA") or "transparency" in image.info:
        return np.asarray(image.convert("RGBA"))
    if image.mode == "LA":
        grey, alpha = (np.asarray(band) for band in image.split())
        return np.stack([grey, grey, grey, alpha], axis=2)
    return np.asarray(image if image.mode in ("1", "L", "RGB", "RGBA", "F") else image.convert("RGB"))


def _whole_numbers(image: Image.Image) -> _Channel:
    """Modes of 16 and 32 bit: the file's own bit depth decides, where the picture still knows its file."""
    values = np.asarray(image)
    bits, signed = _declared_bits(image)
    if signed or bits > 16:
        # Pillow keeps unsigned 32 bit in its signed mode I.
        return _Channel((values if signed else values.view(np.uint32)).astype(np.float32), unit=False)
    white = 2**bits - 1
    lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
    if lowest < 0 or highest > white:
        raise DepthMapError(
            f"The picture (mode {image.mode}) holds numbers from {lowest} to {highest}, but its pixels are of "
            f"{bits} bit, 0 to {white}. Hand numbers of another scale over as a float array or a .npy file."
        )
    scaled = values.astype(np.float32) / np.float32(white)
    return _Channel(1.0 - scaled if _white_is_zero(image) else scaled, unit=True)


def _declared_bits(image: Image.Image) -> tuple[int, bool]:
    """Bits per sample and whether they are signed, from the TIFF tags 258 and 339; 16 where there is nothing to ask."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    if tags is None:
        return 16, False
    return int(tags.get(258, (16,))[0]), int(tags.get(339, (1,))[0]) == 2


def _white_is_zero(image: Image.Image) -> bool:
    """TIFF tag 262. Pillow turns 8-bit pictures around by itself, and leaves 16-bit ones as they are."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    return tags is not None and tags.get(262) == 0


def _channel(array: np.ndarray) -> _Channel:
    if array.dtype.kind not in "biuf":
        raise DepthMapError(
            f"The array holds {array.dtype} items, but a depth map is made of numbers: bool, integer or float."
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    coloured = array.ndim == 3 and array.shape[2] in (3, 4)
    if not (array.ndim == 2 or coloured) or array.size == 0:
        raise DepthMapError(
            f"The array has shape {array.shape}, but a depth map is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            "not empty; take one map out of a stack, or move the channels to the end."
        )
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    white = _WHITE.get(array.dtype.name)
    if not coloured:
        return _Channel(_scaled(array, white), unit=white is not None)
    transparent = array[..., 3] == 0 if array.shape[2] == 4 else None
    return _Channel(_grey(array[..., :3], white, transparent), unit=white is not None, transparent=transparent)


def _scaled(array: np.ndarray, white: float | None) -> np.ndarray:
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which is no measurement either way
        values = array.astype(np.float32)
    return values if white is None else values / np.float32(white)


def _grey(colours: np.ndarray, white: float | None, transparent: np.ndarray | None) -> np.ndarray:
    """The mean of three channels that are equal, or nearly so: (H, W, 3) -> (H, W) float32.

    Raises:
        DepthMapError: a coloured picture.
    """
    red, green, blue = (colours[..., channel] for channel in range(3))
    if (red == green).all() and (red == blue).all():
        return _scaled(red, white)
    channels = np.moveaxis(_scaled(colours, white), 2, 0)
    if _share_of_colour(channels, white, transparent) > GREY_EXCEPTIONS:
        raise DepthMapError(
            "This is a coloured picture, not a depth map. If it is a depth map drawn in colours (turbo, inferno), "
            "save the grey or raw one instead; if it is a photo, let its depth be estimated."
        )
    mean: np.ndarray = channels.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _share_of_colour(channels: np.ndarray, white: float | None, transparent: np.ndarray | None) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        spread = channels.max(axis=0) - channels.min(axis=0)
    known = np.isfinite(spread) if transparent is None else np.isfinite(spread) & ~transparent
    if not known.any():
        return 0.0
    whole = 1.0 if white is not None else float(np.ptp(channels[:, known].astype(np.float64)))
    return float(np.mean(spread[known] > GREY_TOLERANCE * whole))


def _nearness(channel: _Channel, meaning: str) -> tuple[np.ndarray, bool]:
    if meaning not in ("nearness", "distance"):
        raise RequestError(
            f'The meaning is {meaning!r}; it has to be "nearness" (near = high) or "distance" (near = low).'
        )
    values = channel.values
    measured = np.isfinite(values) & (np.abs(values) < LARGEST)
    if channel.transparent is not None:
        measured &= ~channel.transparent
    if meaning == "distance":
        measured &= values > 1.0 / LARGEST
        with np.errstate(divide="ignore", over="ignore"):
            values = np.float32(1.0) / values
    if not measured.any():
        raise DepthMapError(
            f"There is not one measurement in the map of {values.shape[1]}x{values.shape[0]}: every pixel is NaN, inf"
            f"{', 0 or negative' if meaning == 'distance' else ''} or transparent. "
            "Check how it was made, or choose another one."
        )
    if not measured.all():
        values = np.where(measured, values, values[measured].min())
    values.flags.writeable = False  # made above, held by nobody else: DepthMap takes it without a copy
    return values, channel.unit and meaning == "nearness"
