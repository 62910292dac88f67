"""Pictures, masks and depth maps to and from files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import Depth2ImgError, DepthMapError, PictureError, RequestError
from ...replacing import replacing
from ..colormap import colorize
from ..depth_map import DepthMap, Meaning
from ..nearness import Nearness, Samples, nearness, samples_from_array, samples_from_image
from ..orientation import turned
from ..sizes import Size, same_shape
from . import arrays, exr, pictures, tiff
from .bounds import MAX_FILE_BYTES, MAX_PIXELS, Source, name_of, read_bytes

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "SUFFIXES",
    "Source",
    "check_target",
    "encode_png",
    "picture_from_image",
    "read_depth_map",
    "read_mask",
    "read_orientation",
    "read_picture",
    "save_depth_map",
]

SUFFIXES = (".png", ".npy", ".tif", ".tiff", ".exr", ".pfm")
"""What a depth map can be saved as."""

_ARRAY_FILES = (
    (b"\x93NUMPY", arrays.read_npy),
    (b"PK\x03\x04", arrays.read_npz),
    (b"Pf", arrays.read_pfm),
    (b"PF", arrays.read_pfm),
)


def read_picture(source: Source) -> Image.Image:
    """The picture in a file, as :func:`picture_from_image` has it.

    ``source``: a path, the bytes of a file, or a file open for binary reading: PNG, JPEG, WebP, TIFF, BMP, GIF, PPM,
    JPEG 2000 or TGA; AVIF and HEIC where Pillow can. The first picture where there are several; of a TIFF the first of
    the largest.

    Raises:
        PictureError: no picture, a broken one, one of float numbers, or one above ``MAX_PIXELS``.
    """
    try:
        return _flattened(_opened(read_bytes(source), name_of(source)))
    except Depth2ImgError as error:
        raise PictureError(f"{name_of(source)}: {error}") from error


def picture_from_image(image: Image.Image) -> Image.Image:
    """A PIL picture of any mode as RGB: 8 bit, upright by its EXIF orientation, transparency over white, the host's
    default background.

    Raises:
        PictureError: one that cannot be decoded or converted, or of float numbers.
    """
    return _flattened(_upright(image))


def read_mask(source: Source, picture_size: Size | None = None) -> Image.Image:
    """The mask in a file, mode L, white = painted anew, as the host takes it.

    With any transparency it is the alpha, white above 128, whatever the colours; else the grey as it is
    (modules/processing.py:90-98, ``create_binary_mask``, after the panel's conversion to RGBA). ``source``: as for
    :func:`read_picture`.
    ``picture_size``: (width, height) of the picture that it is for, in any resolution.

    Raises:
        PictureError: as for :func:`read_picture`, or a mask of another shape than the picture's.
    """
    try:
        image = _opened(read_bytes(source))
        mask = _binary_alpha(image) or image.convert("L")
        if picture_size is not None and not same_shape(mask.size, picture_size):
            (width, height), (wide, high) = mask.size, picture_size
            raise PictureError(
                f"The mask is {width}x{height} for a picture of {wide}x{high}, which is another shape. Cut or draw it "
                "in the picture's."
            )
    except Depth2ImgError as error:
        raise PictureError(f"{name_of(source)}: {error}") from error
    return mask


def read_orientation(source: Source) -> int:
    """The EXIF orientation of a picture file, 1 to 8, which :func:`read_picture` has applied; 1 where there is none.

    Raises:
        PictureError: as for :func:`read_picture`.
    """
    try:
        return pictures.orientation_of(pictures.open_image(read_bytes(source)))
    except Depth2ImgError as error:
        raise PictureError(f"{name_of(source)}: {error}") from error


def read_depth_map(source: Source, *, meaning: Meaning = "nearness") -> DepthMap:
    """The depth map in a file, scaled by the file's type and never by its content.

    ``source``: a path, the bytes of a file, or a file open for binary reading. What it is, is read from its first
    bytes: PNG and TIFF of 1 to 16 bit, JPEG, WebP, BMP, PGM (unit maps); float TIFF, OpenEXR, PFM, NPY and NPZ of
    floats (arbitrary units). Of several pages, layers and arrays the one that is the map: the full page of a TIFF, the
    layer of an OpenEXR that says depth, ``depth`` of an NPZ.
    ``meaning``: "nearness" (near = high) or "distance" (near = low); see :meth:`DepthMap.from_array`, for which pixels
    count as not measured too.

    Raises:
        DepthMapError: unreadable, broken, coloured, without any measurement, above ``MAX_PIXELS``, or with several maps
        of which none is the one.
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
    try:
        with replacing(path) as part:
            part.write_bytes(encoded)
    except OSError as error:
        raise DepthMapError(
            f"{path} cannot be written ({error.strerror}). Check that its folder exists, may be written to and "
            "has room."
        ) from error


def check_target(path: str | os.PathLike[str], *, colormap: str | None = None) -> None:
    """See that :func:`save_depth_map` can write a file of this name, before any work is done.

    Raises:
        RequestError: another suffix, or colour in a format of bare numbers.
        DepthMapError: OpenEXR's library is not here.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise RequestError(
            f"{path} ends in {suffix or 'nothing'!r}; a depth map is saved as one of {', '.join(SUFFIXES)}."
        )
    if colormap is not None and suffix != ".png":
        raise RequestError(f"{path} cannot be saved in colour: {suffix} files hold bare numbers. Save it as .png.")
    if suffix == ".exr":
        exr.require_library()


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


def _nearness(data: bytes, meaning: Meaning) -> Nearness:
    for magic, read in _ARRAY_FILES:
        if data.startswith(magic):
            return nearness(samples_from_array(read(data)), meaning)
    if data.startswith(exr.MAGIC):
        return nearness(exr.read_exr(data), meaning)
    if data.startswith((b"P5", b"P6")):
        return nearness(arrays.read_pnm(data), meaning)
    pictures.check_png(data)
    decoded: Samples | Image.Image | None = pictures.decode_deep_png(data)
    if data.startswith(tiff.MAGICS):
        decoded = tiff.decode_tiff(data, only_one=True)
    if isinstance(decoded, Samples):
        return nearness(decoded, meaning)
    image = decoded or pictures.open_single(data)
    values, unit, holes = nearness(samples_from_image(image), meaning)
    return Nearness(turned(values, pictures.orientation_of(image)), unit, holes)


def _opened(data: bytes, name: str = "") -> Image.Image:
    """The picture in a file: 8 bit, upright, with the transparency that it has."""
    if not data.startswith(tiff.MAGICS):
        return _upright(pictures.open_image(data, name=name))
    decoded = tiff.decode_tiff(data, only_one=False)
    return _of_samples(decoded) if isinstance(decoded, Samples) else _upright(decoded)


def _upright(image: Image.Image) -> Image.Image:
    """A PIL picture of any mode with 8 bit, upright.

    Raises:
        PictureError: one that cannot be decoded or converted, or of float numbers.
    """
    try:
        image.load()
        eight_bit = _of_samples(samples_from_image(image)) if image.mode.startswith(("I", "F")) else image
        if _is_transparent(eight_bit):
            eight_bit = eight_bit.convert("RGBA")
        elif eight_bit.mode not in ("L", "RGB"):
            eight_bit = eight_bit.convert("RGB")
    except (DepthMapError, OSError, ValueError, SyntaxError) as error:
        raise PictureError(f"The picture cannot be decoded ({error}). Save or copy it again.") from error
    orientation = pictures.orientation_of(image)
    if orientation == 1:
        return eight_bit
    return Image.fromarray(np.ascontiguousarray(turned(np.asarray(eight_bit), orientation)))


def _of_samples(samples: Samples) -> Image.Image:
    """Numbers of 1 to 16 bit as a picture of 8; Pillow's own conversion would cut every value above 255."""
    if samples.white is None:
        raise PictureError("The picture is of numbers without a scale (floats or 32 bit). Save it as PNG.")
    channels = samples.values if samples.values.ndim == 3 else samples.values[..., None]
    if samples.alpha is not None:
        channels = np.dstack([np.broadcast_to(channels, (*channels.shape[:2], 3)), samples.alpha])
    eight_bit = np.rint(channels * (255.0 / samples.white)).astype(np.uint8)
    return Image.fromarray(eight_bit if eight_bit.shape[2] > 1 else eight_bit[..., 0])


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _flattened(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    background = Image.new("RGBA", image.size, (255, 255, 255, 255))
    background.paste(image, mask=image)
    return background.convert("RGB")


def _binary_alpha(image: Image.Image) -> Image.Image | None:
    """The alpha of a picture that has any transparency."""
    if image.mode != "RGBA" or image.getextrema()[3] == (255, 255):
        return None
    return image.getchannel("A").point(lambda value: 255 if value > 128 else 0)


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
