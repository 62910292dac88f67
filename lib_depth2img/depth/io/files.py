"""Pictures and depth maps to and from files."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import Depth2ImgError, DepthMapError, PictureError, RequestError
from .. import pixels
from ..colormap import colorize
from ..depth_map import DepthMap, Meaning
from . import arrays, decode, exr
from .source import MAX_FILE_BYTES, MAX_PIXELS, Source, name_of, read_bytes

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "SUFFIXES",
    "Source",
    "check_target",
    "encode_png",
    "picture_from_image",
    "read_depth_map",
    "read_picture",
    "save_depth_map",
]

SUFFIXES = (".png", ".npy", ".tif", ".tiff", ".exr", ".pfm")
"""What a depth map can be saved as."""

_ARRAY_FILES = (
    (b"\x93NUMPY", arrays.read_npy),
    (b"PK\x03\x04", arrays.read_npz),
    (exr.MAGIC, exr.read_exr),
    (b"Pf", arrays.read_pfm),
    (b"PF", arrays.read_pfm),
)


def read_picture(source: Source) -> Image.Image:
    """The picture in a file, as :func:`picture_from_image` has it.

    ``source``: a path, the bytes of a file, or a file open for binary reading: PNG, JPEG, WebP, TIFF, BMP, GIF or PPM.
    The first picture where there are several.

    Raises:
        PictureError: no picture, a broken one, one of float numbers, or one above ``MAX_PIXELS``.
    """
    try:
        return picture_from_image(decode.open_image(read_bytes(source)))
    except Depth2ImgError as error:
        raise PictureError(f"{name_of(source)}: {error}") from error


def picture_from_image(image: Image.Image) -> Image.Image:
    """A PIL picture of any mode as RGB: 8 bit, upright by its EXIF orientation, transparency over white, the host's
    default background.

    Raises:
        PictureError: one that cannot be decoded or converted, or of float numbers.
    """
    try:
        image.load()
        flat = _eight_bit(image) if image.mode.startswith(("I", "F")) else _flattened(image)
    except (DepthMapError, OSError, ValueError, SyntaxError) as error:
        raise PictureError(f"The picture cannot be decoded ({error}). Save or copy it again.") from error
    turned = decode.orientation(image)
    return flat if turned == 1 else Image.fromarray(np.ascontiguousarray(decode.upright(np.asarray(flat), turned)))


def read_depth_map(source: Source, *, meaning: Meaning = "nearness") -> DepthMap:
    """The depth map in a file, scaled by the file's type and never by its content.

    ``source``: a path, the bytes of a file, or a file open for binary reading. What it is, is read from its first
    bytes: PNG and TIFF of 8 and 16 bit, JPEG, WebP, BMP, PGM (unit maps); float TIFF, OpenEXR, PFM, NPY and NPZ of
    floats (arbitrary units).
    ``meaning``: "nearness" (near = high) or "distance" (near = low); see :meth:`DepthMap.from_array`, for which pixels
    count as not measured too.

    Raises:
        DepthMapError: unreadable, broken, coloured, without any measurement, or above ``MAX_PIXELS``.
    """
    try:
        return DepthMap(*_nearness(read_bytes(source), meaning))
    except DepthMapError as error:
        raise DepthMapError(f"{name_of(source)}: {error}") from error


def save_depth_map(
    depth_map: DepthMap, path: str | os.PathLike[str], *, bits: int = 16, colormap: str | None = None
) -> None:
    """Write the map as the path's suffix says, beside ``path`` first, so that no half-written file ever stands there.

    .png: the map on the [0, 1] scale, in ``bits`` 8 or 16, or in colour (8 bit) with ``colormap``.
    .npy, .tif, .tiff, .exr, .pfm: the float32 values as they are.

    Raises:
        RequestError: another suffix, other bits, an unknown colour map, or colour in a format of bare numbers.
        DepthMapError: the file cannot be written.
    """
    path = Path(path)
    encoded = _encoded(depth_map, path, bits, colormap)
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        try:
            beside.write_bytes(encoded)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise DepthMapError(
            f"{path} cannot be written ({error.strerror}). Check that its folder exists, may be written to and "
            "has room."
        ) from error


def check_target(path: str | os.PathLike[str], *, colormap: str | None = None) -> None:
    """See that :func:`save_depth_map` can write a file of this name, before any work is done. Raises: RequestError."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise RequestError(
            f"{path} ends in {suffix or 'nothing'!r}; a depth map is saved as one of {', '.join(SUFFIXES)}."
        )
    if colormap is not None and suffix != ".png":
        raise RequestError(f"{path} cannot be saved in colour: {suffix} files hold bare numbers. Save it as .png.")


def encode_png(depth_map: DepthMap, *, bits: int = 16, colormap: str | None = None) -> bytes:
    """The map on the [0, 1] scale as the bytes of a PNG: grey in ``bits`` 8 or 16, or 8-bit colour with ``colormap``.

    Raises:
        RequestError: other bits, or an unknown colour map.
    """
    if bits not in (8, 16):
        raise RequestError(f"bits is {bits!r}; a depth map is saved with 8 or 16.")
    if colormap is not None:
        picture = colorize(depth_map, colormap)
    else:
        white, dtype = (255.0, np.uint8) if bits == 8 else (65535.0, np.uint16)
        picture = np.rint(depth_map.scaled().values.clip(0.0, 1.0) * white).astype(dtype)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def _nearness(data: bytes, meaning: Meaning) -> tuple[np.ndarray, bool]:
    for magic, read in _ARRAY_FILES:
        if data.startswith(magic):
            return pixels.nearness_from_array(read(data), meaning)
    array = decode.decode_deep(data)
    if array is not None:
        return pixels.nearness_from_array(array, meaning)
    image = decode.open_image(data)
    values, unit = pixels.nearness_from_image(image, meaning)
    return decode.upright(values, decode.orientation(image)), unit


def _eight_bit(image: Image.Image) -> Image.Image:
    """A 16-bit grey picture at 8 bit; Pillow's own conversion would cut every value above 255."""
    values, unit = pixels.nearness_from_image(image, "nearness")
    if not unit:
        raise PictureError(f"The picture is of numbers without a scale (mode {image.mode}). Save it as PNG.")
    return Image.fromarray(np.rint(values * 255.0).astype(np.uint8)).convert("RGB")


def _flattened(image: Image.Image) -> Image.Image:
    if not (image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info):
        return image.convert("RGB")
    image = image.convert("RGBA")
    background = Image.new("RGBA", image.size, (255, 255, 255, 255))
    background.paste(image, mask=image)
    return background.convert("RGB")


def _encoded(depth_map: DepthMap, path: Path, bits: int, colormap: str | None) -> bytes:
    check_target(path, colormap=colormap)
    suffix = path.suffix.lower()
    if suffix == ".png":
        return encode_png(depth_map, bits=bits, colormap=colormap)
    if suffix in (".tif", ".tiff"):
        file = io.BytesIO()
        Image.fromarray(depth_map.values).save(file, "TIFF")
        return file.getvalue()
    encode = {".npy": arrays.encode_npy, ".exr": exr.encode_exr, ".pfm": arrays.encode_pfm}[suffix]
    return encode(depth_map.values)
