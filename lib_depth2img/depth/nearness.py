"""Numbers of any type to nearness: scaled by their type, never by their content."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import DepthMapError, RequestError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from PIL import Image

__all__ = ["Nearness", "Samples", "nearness", "samples_from_array", "samples_from_image", "without_leading_ones"]

LARGEST = 1e30
"""No camera and no network gives a number beyond this one; 3.4e38 and the like stand for "no measurement"."""

GREY_TOLERANCE = 16.0 / 255.0
"""How far the colour channels of one pixel may differ: above what JPEG does to grey, far below any colour map."""

GREY_EXCEPTIONS = 0.01
"""The share of pixels that may differ more: a watermark, ringing at an edge."""

_WHITE = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}


@dataclass(frozen=True)
class Samples:
    """The numbers of a map as they are stored: what every decoder hands over.

    ``values``: (H, W) grey or (H, W, 3) colours, of any number type.
    ``white``: the number that is 1.0; None where the numbers have no scale.
    ``alpha``: (H, W) or None. Where it is 0 there is nothing, hence the farthest.
    """

    values: np.ndarray
    white: float | None
    alpha: np.ndarray | None = None


class Nearness(NamedTuple):
    """(H, W) float32 near = high, whether it is on the [0, 1] scale, and how many pixels held no measurement."""

    values: np.ndarray
    unit: bool
    holes: int


def samples_from_array(array: ArrayLike) -> Samples:
    """The samples of an array; see ``DepthMap.from_array`` for what it may be.

    Raises:
        DepthMapError: another rank or type.
    """
    try:
        array = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DepthMapError(f"A {type(array).__name__} cannot be taken as an array ({error}). Convert it.") from error
    if array.dtype.kind not in "biuf":
        raise DepthMapError(
            f"The array holds {array.dtype} items, but a depth map is made of numbers: bool, integer or float."
        )
    shape = array.shape
    array = array.reshape(without_leading_ones(shape))
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    coloured = array.ndim == 3 and array.shape[2] in (3, 4)
    if not (array.ndim == 2 or coloured) or array.size == 0:
        raise DepthMapError(
            f"The array has shape {shape}, but a depth map is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            "not empty; take one map out of a stack, or move the channels to the end."
        )
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    white = _WHITE.get(array.dtype.name)
    if not coloured:
        return Samples(array, white)
    return Samples(array[..., :3], white, array[..., 3] if array.shape[2] == 4 else None)


def samples_from_image(image: Image.Image) -> Samples:
    """The samples of a PIL picture; see ``DepthMap.from_image``.

    Raises:
        DepthMapError: it cannot be decoded, or holds numbers that its bit depth cannot hold.
    """
    try:
        image.load()
        if image.mode in ("I", "I;16", "I;16L", "I;16B", "I;16N"):
            return _whole_numbers(image)
        return samples_from_array(_array(image))
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise DepthMapError(f"The picture cannot be decoded ({error}). Save or copy it again.") from error


def without_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one map in a batch of one: (1, H, W) and (1, 1, H, W) are (H, W), (1, H, W, C) is (H, W, C).

    (1, W, 3) stays: it is a row of colours too.
    """
    if len(shape) == 4 and shape[:2] == (1, 1):
        return shape[2:]
    if shape[:1] == (1,) and (len(shape) == 4 or (len(shape) == 3 and shape[2] not in (1, 3, 4))):
        return shape[1:]
    return shape


def nearness(samples: Samples, meaning: str) -> Nearness:
    """The nearness that the samples are, or are the distance of; pixels without a measurement become the farthest.

    Raises:
        RequestError: another meaning.
        DepthMapError: a coloured picture, or not one measurement in it.
    """
    if meaning not in ("nearness", "distance"):
        raise RequestError(
            f'The meaning is {meaning!r}; it has to be "nearness" (near = high) or "distance" (near = low).'
        )
    absent = None if samples.alpha is None else samples.alpha == 0
    if samples.values.ndim == 3:
        values = _grey(samples.values, samples.white, absent)
    else:
        values = _scaled(samples.values, samples.white)
    measured = np.isfinite(values) & (np.abs(values) < LARGEST)
    if absent is not None:
        measured &= ~absent
    told = measured
    if meaning == "distance":
        measured &= values > 1.0 / LARGEST
        # Depth cameras write 65535 for "too far": the farthest by its value already, and no surface.
        told = measured & (values < 1.0) if samples.white == 65535.0 else measured
        with np.errstate(divide="ignore", over="ignore"):
            values = np.float32(1.0) / values
    if not measured.any():
        without = "NaN, inf, 0 or negative" if meaning == "distance" else "NaN, inf"
        raise DepthMapError(
            f"There is not one measurement in the map of {values.shape[1]}x{values.shape[0]}: every pixel is {without} "
            "or transparent. Check how it was made, or choose another one."
        )
    if not measured.all():
        values = np.where(measured, values, values[measured].min())
    values.flags.writeable = False  # held by nobody else: DepthMap takes it without a copy
    return Nearness(values, samples.white is not None and meaning == "nearness", int((~told).sum()))


def _array(image: Image.Image) -> np.ndarray:
    if image.mode in ("P", "PA") or "transparency" in image.info:
        return np.asarray(image.convert("RGBA"))
    if image.mode == "LA":
        grey, alpha = (np.asarray(band) for band in image.split())
        return np.stack([grey, grey, grey, alpha], axis=2)
    return np.asarray(image if image.mode in ("1", "L", "RGB", "RGBA", "F") else image.convert("RGB"))


def _whole_numbers(image: Image.Image) -> Samples:
    """Modes of 16 and 32 bit: the file's own bit depth decides, where the picture still knows its file."""
    values = np.asarray(image)
    bits, signed = _declared_bits(image)
    if signed or bits > 16:
        # Pillow keeps unsigned 32 bit in its signed mode I.
        return Samples(values if signed else values.view(np.uint32), white=None)
    white = 2**bits - 1
    lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
    if lowest < 0 or highest > white:
        raise DepthMapError(
            f"The picture (mode {image.mode}) holds numbers from {lowest} to {highest}, but its pixels are of "
            f"{bits} bit, 0 to {white}. Hand numbers of another scale over as a float array or a .npy file."
        )
    transparent = image.info.get("transparency")  # a number of a grey PNG
    alpha = None if transparent is None else values != transparent
    # Pillow turns white-is-zero of 8 bit around by itself, and leaves 16 bit as it is.
    return Samples(white - values.astype(np.int32) if _white_is_zero(image) else values, float(white), alpha)


def _declared_bits(image: Image.Image) -> tuple[int, bool]:
    """Bits per sample and whether they are signed, from the TIFF tags 258 and 339; 16 where there is nothing to ask."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    if tags is None:
        return 16, False
    return int(tags.get(258, (16,))[0]), int(tags.get(339, (1,))[0]) == 2


def _white_is_zero(image: Image.Image) -> bool:
    """TIFF tag 262."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    return tags is not None and tags.get(262) == 0


def _scaled(array: np.ndarray, white: float | None) -> np.ndarray:
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which is no measurement either way
        values = array.astype(np.float32)
    return values if white is None else values / np.float32(white)


def _grey(colours: np.ndarray, white: float | None, absent: np.ndarray | None) -> np.ndarray:
    """The mean of three channels that are equal, or nearly so: (H, W, 3) -> (H, W) float32.

    Raises:
        DepthMapError: a coloured picture.
    """
    red, green, blue = (colours[..., channel] for channel in range(3))
    if (red == green).all() and (red == blue).all():
        return _scaled(red, white)
    channels = np.moveaxis(_scaled(colours, white), 2, 0)
    if _share_of_colour(channels, white, absent) > GREY_EXCEPTIONS:
        raise DepthMapError(
            "This is a coloured picture, not a depth map. If it is a depth map drawn in colours (turbo, inferno), "
            "save the grey or raw one instead; if it is a photo, let its depth be estimated."
        )
    mean: np.ndarray = channels.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _share_of_colour(channels: np.ndarray, white: float | None, absent: np.ndarray | None) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        spread = channels.max(axis=0) - channels.min(axis=0)
    known = np.isfinite(spread) if absent is None else np.isfinite(spread) & ~absent
    if not known.any():
        return 0.0
    whole = 1.0 if white is not None else float(np.ptp(channels[:, known].astype(np.float64)))
    return float(np.mean(spread[known] > GREY_TOLERANCE * whole))
