"""TIFF: the numbers of the full page, whatever its byte order, planes, bits and compression.

tifffile reads the directories. The strips and tiles are unpacked here: without imagecodecs, which hosts do not have,
tifffile knows neither LZW nor the floating-point predictor, and it unpacks without a bound. LZW, PackBits and
Zstandard go through libtiff inside Pillow, as bytes: Pillow's own idea of what the bytes mean is wrong for
big-endian floats, and missing for grey with alpha. What is no plain grey or RGB (palettes, JPEG, fax, CMYK) is
decoded by Pillow as the picture it is.

Numbers of tags and their values: TIFF 6.0, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf.
"""

from __future__ import annotations

import io
import logging
import lzma
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from ...errors import DepthMapError
from ..nearness import Samples
from ..orientation import turned
from .bounds import MAX_FILE_BYTES, check_pixels, required

__all__ = ["MAGICS", "decode_tiff"]

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

MAX_PAGES = 1024

_NONE, _LZW, _DEFLATE, _OLD_DEFLATE, _PACKBITS, _LZMA, _ZSTD = 1, 5, 8, 32946, 32773, 34925, 50000
_BY_LIBTIFF = {_LZW: "LZW", _PACKBITS: "PackBits", _ZSTD: "Zstandard"}
_READABLE = (_NONE, _DEFLATE, _OLD_DEFLATE, _LZMA, *_BY_LIBTIFF)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _DEPTH_MAP = 0, 1, 2, 51177
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
_BITS = {"u": (*range(1, 17), 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}
_HORIZONTAL, _FLOATING_POINT = 2, 3
_ASSOCIATED, _UNASSOCIATED = 1, 2
_REDUCED, _MASK = 1, 4
_PHOTOMETRIC, _FILL_ORDER, _ORIENTATION, _PAGE_NUMBER, _SOFTWARE, _GDAL_NODATA = 262, 266, 274, 297, 305, 42113
_MEANT = {256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339}
"""Tags without which the numbers would be read as something else."""


def decode_tiff(data: bytes, *, only_one: bool) -> Samples | Image.Image:
    """The full page of a TIFF: its numbers, upright, or the picture where only Pillow can decode it.

    ``only_one``: refuse several full pages of one size instead of taking the first. Thumbnails and masks do not count.

    Raises:
        DepthMapError: broken, too large, several pages, or stored in a way that cannot be read here.
    """
    tifffile = required("tifffile", "tifffile", "A TIFF file")
    try:
        with _silent(), tifffile.TiffFile(io.BytesIO(data)) as file:
            page = _full_page(file, only_one=only_one)
            _check_tags(file, page, data)
            return _decoded(page, data)
    except DepthMapError:
        raise
    except Exception as error:
        raise DepthMapError(f"The TIFF file is broken ({error}). Save or copy it again.") from error


def _full_page(file: Any, *, only_one: bool) -> Any:
    if len(file.pages) > MAX_PAGES:
        raise DepthMapError(f"The TIFF holds {len(file.pages)} pages, too many. Save the one you want alone.")
    pages = [page for page in file.pages if not page.subfiletype & (_REDUCED | _MASK)] or list(file.pages)
    if not pages:
        raise ValueError("no page")
    largest = max(page.imagewidth * page.imagelength for page in pages)
    full = [page for page in pages if page.imagewidth * page.imagelength == largest]
    page = full[0]
    check_pixels(page.imagewidth, page.imagelength)
    if page.imagedepth > 1 or (only_one and len(full) > 1):
        raise DepthMapError(
            f"The TIFF holds {max(len(full), page.imagedepth)} pages of {page.imagewidth}x{page.imagelength}; expected "
            "one map. Save the one you want alone."
        )
    return page


def _check_tags(file: Any, page: Any, data: bytes) -> None:
    """Compare the directory with the file.

    Raises:
        ValueError: a tag that says what the numbers are is absent, or so broken that tifffile left it out; the next
            page or the numbers lie where they cannot.
    """
    tiff = file.tiff
    (count,) = struct.unpack_from(tiff.tagnoformat, data, page.offset)
    start = page.offset + tiff.tagnosize
    codes = {struct.unpack_from(f"{file.byteorder}H", data, start + i * tiff.tagsize)[0] for i in range(count)}
    broken = sorted(code for code in codes & _MEANT if code not in page.tags)
    if broken or _PHOTOMETRIC not in codes:
        raise ValueError(f"tag {broken[0] if broken else _PHOTOMETRIC}")
    end = start + count * tiff.tagsize
    (following,) = struct.unpack_from(tiff.offsetformat, data, end)
    if following >= len(data):
        raise ValueError(f"a page at byte {following} of {len(data)}")
    if any(
        page.offset < begin + length and begin < end
        for begin, length in zip(page.dataoffsets, page.databytecounts, strict=False)
    ):
        raise ValueError("numbers in the place of its directory")


def _decoded(page: Any, data: bytes) -> Samples | Image.Image:
    kind, bits = _KINDS.get(_one(page.sampleformat), "?"), _one(page.bitspersample)
    drawn = page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _DEPTH_MAP)
    if (drawn or page.compression not in _READABLE or page.fillorder != 1) and kind == "u" and bits <= 8:
        return _picture(page, data)
    obstacle = f"of the kind {_name(page.photometric)}" if drawn else _obstacle(page, kind, bits)
    if obstacle is not None:
        raise DepthMapError(
            f"The TIFF is {obstacle}, which cannot be read here. Save it as grey with ZIP (Deflate) or without "
            "compression, for example: tiffcp -c zip IN.tif OUT.tif"
        )
    return _samples(page, _numbers(page, data, kind, bits), kind, bits)


def _obstacle(page: Any, kind: str, bits: int) -> str | None:
    """What keeps the numbers of a page from being read, in words; None where nothing does."""
    if page.compression not in _READABLE:
        return f"compressed with {_name(page.compression)}"
    if bits not in _BITS.get(kind, ()):
        return f"of {page.bitspersample}-bit samples of format {_name(page.sampleformat)}"
    if page.fillorder != 1:
        return "stored with its bits in reverse (FillOrder 2)"
    if page.predictor != 1 and not _predictable(page, kind, bits):
        return f"stored as differences ({_name(page.predictor)}) of {bits} bits with {_name(page.compression)}"
    return _unclear_white(page, kind, bits) if page.photometric == _WHITE_IS_ZERO else None


def _predictable(page: Any, kind: str, bits: int) -> bool:
    """Programs agree on what the predictor means: libtiff asks for none where there is no or PackBits compression."""
    whole = bits % 8 == 0 if page.predictor == _HORIZONTAL else page.predictor == _FLOATING_POINT and kind == "f"
    return whole and page.compression not in (_NONE, _PACKBITS)


def _unclear_white(page: Any, kind: str, bits: int) -> str | None:
    if kind != "u" or bits > 16:
        return "of numbers without a scale whose zero is white"
    if _PAGE_NUMBER in page.tags and _FILL_ORDER in page.tags and _SOFTWARE not in page.tags:
        # ImageMagick's marks: it writes black as zero, says white is, and turns the picture around when it reads it.
        return "marked as white is zero (MINISWHITE) by a program that does not turn the numbers around"
    return None


def _samples(page: Any, numbers: np.ndarray, kind: str, bits: int) -> Samples:
    """The page's grey or colours, and its alpha, of (H, W, samples) numbers."""
    white = 2**bits - 1 if kind == "u" and bits <= 16 else None
    numbers = turned(numbers, int(page.tags.valueof(_ORIENTATION, 1)))
    colours = 3 if page.photometric == _RGB else 1
    if numbers.shape[2] < colours:
        raise ValueError(f"{numbers.shape[2]} samples for RGB")
    values, alpha = numbers[..., :colours], _measured(page, numbers[..., 0])
    kinds = list(page.extrasamples) or [_UNASSOCIATED] * (colours == 3)
    for position, extra in enumerate(kinds[: numbers.shape[2] - colours], start=colours):
        if extra in (_ASSOCIATED, _UNASSOCIATED):
            alpha = numbers[..., position]
            if extra == _ASSOCIATED:
                values = _unmultiplied(values, alpha, white)
            break
    if alpha is None and colours == 1 and numbers.shape[2] > 2 and (numbers != numbers[..., :1]).any():
        raise DepthMapError(
            f"The TIFF has {numbers.shape[2]} different numbers for each pixel; expected one map. Save the one "
            "you want alone."
        )
    if page.photometric == _WHITE_IS_ZERO:
        values = values.dtype.type(white) - values
    return Samples(values if colours == 3 else values[..., 0], white, alpha)


def _measured(page: Any, numbers: np.ndarray) -> np.ndarray | None:
    """An alpha that is 0 where the number is the one that GDAL's tag names as no data; None without the tag."""
    text = str(page.tags.valueof(_GDAL_NODATA, "")).strip("\0 ")
    try:
        absent = numbers == numbers.dtype.type(float(text))
    except (ValueError, OverflowError):  # no tag, or a number that these cannot be
        return None
    return ~absent if absent.any() else None


def _unmultiplied(values: np.ndarray, alpha: np.ndarray, white: int | None) -> np.ndarray:
    """The colours of which associated alpha has taken its share."""
    share = np.maximum(alpha[..., None] / (white or 1.0), np.finfo(np.float32).tiny)
    whole = np.where(alpha[..., None] > 0, values / share, values)
    return whole if white is None else np.rint(whole.clip(0, white)).astype(values.dtype)


def _numbers(page: Any, data: bytes, kind: str, bits: int) -> np.ndarray:
    """(H, W, samples) numbers of the page in this machine's byte order."""
    width, height, samples = page.imagewidth, page.imagelength, page.samplesperpixel
    planes = samples if page.planarconfig == 2 else 1
    inside = samples // planes
    tile_width, tile_height = (page.tilewidth, page.tilelength) if page.is_tiled else (width, page.rowsperstrip)
    across, down = math.ceil(width / tile_width), math.ceil(height / tile_height)
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if len(segments) != planes * down * across:
        raise ValueError(f"{len(segments)} strips or tiles where {planes * down * across} belong")
    dtype = np.dtype(f"{page.parent.byteorder}{kind}{max(bits, 8) // 8 if bits % 8 == 0 else 1 + bits // 8}")
    if width * height * samples * dtype.itemsize > MAX_FILE_BYTES:
        raise DepthMapError(f"The TIFF has {samples} numbers for each pixel, too many. Save it as grey.")
    whole = np.empty((planes, height, width, inside), dtype.newbyteorder("="))
    for index, (offset, count) in enumerate(segments):
        plane, place = divmod(index, down * across)
        top, left = place // across * tile_height, place % across * tile_width
        rows = tile_height if page.is_tiled else min(tile_height, height - top)
        stored = data[offset : offset + count]
        if len(stored) != count:
            raise ValueError(f"cut off: {len(stored)} of {count} bytes at {offset}")
        row = math.ceil(tile_width * inside * bits / 8)
        size = rows * row
        raw = _unpacked(stored, page.compression, size, tile_height * row if page.is_tiled or down > 1 else size)
        segment = _unpredicted(raw, (rows, tile_width, inside), dtype, bits, page.predictor)
        whole[plane, top : top + rows, left : left + tile_width] = segment[: height - top, : width - left]
    return whole[0] if planes == 1 else np.moveaxis(whole[..., 0], 0, 2)


def _unpacked(stored: bytes, compression: int, size: int, most: int) -> bytes:
    """The ``size`` bytes of a strip or tile; a last strip may come padded to ``most``. No more is unpacked.

    Raises:
        ValueError: fewer or more, or a checksum that does not fit.
    """
    if compression in _BY_LIBTIFF:
        return _through_libtiff(stored, compression, size)
    if compression == _NONE:
        raw = stored
        if len(raw) > size and len(raw) != most:
            raise ValueError(f"{len(raw)} bytes of numbers where {size} belong")
    else:
        unpacker: Any = lzma.LZMADecompressor() if compression == _LZMA else zlib.decompressobj()
        raw = unpacker.decompress(stored, most + 1)
        if not unpacker.eof or len(raw) > most:  # only the end of the stream holds the checksum
            raise ValueError("a strip of too many or too few numbers")
    if len(raw) < size:
        raise ValueError(f"{len(raw)} bytes of numbers where {size} belong")
    return raw[:size]


def _through_libtiff(stored: bytes, compression: int, size: int) -> bytes:
    """The bytes as libtiff unpacks them: those of a picture of 8 bit and one row."""
    tags = {256: size, 257: 1, 258: 8, 259: compression, 262: 1, 273: 122, 277: 1, 278: 1, 279: len(stored)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    file = io.BytesIO(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + stored)
    image = TiffImagePlugin.TiffImageFile(file, "")
    try:
        image.load()
    except OSError as error:
        raise DepthMapError(
            f"The TIFF's {_BY_LIBTIFF[compression]} compression cannot be undone: the file is broken, or this Pillow "
            "does not know it. Save it with ZIP (Deflate), for example: tiffcp -c zip IN.tif OUT.tif"
        ) from error
    return bytes(image.tobytes())


def _unpredicted(raw: bytes, shape: tuple[int, int, int], dtype: np.dtype, bits: int, predictor: int) -> np.ndarray:
    """(rows, columns, samples) numbers of unpacked bytes."""
    rows, columns, samples = shape
    if bits % 8:
        packed = np.frombuffer(raw, np.uint8).reshape(rows, -1)
        weights = (1 << np.arange(bits)[::-1]).astype(dtype.newbyteorder("="))
        parts = np.array_split(packed, min(rows, 1 + packed.size // 2**20))  # a bit takes a byte for a moment
        used = columns * samples * bits
        unpacked = [np.unpackbits(part, axis=1)[:, :used].reshape(-1, bits) @ weights for part in parts]
        return np.concatenate(unpacked).reshape(shape)
    if predictor == _FLOATING_POINT:  # bytes of a row by significance, highest first, as differences
        summed = np.frombuffer(raw, np.uint8).reshape(rows, -1, samples).cumsum(axis=1, dtype=np.uint8)
        by_number = np.moveaxis(summed.reshape(rows, dtype.itemsize, columns * samples), 1, 2)
        return np.ascontiguousarray(by_number).view(f">f{dtype.itemsize}").reshape(shape)
    numbers = np.frombuffer(raw, dtype).reshape(shape)
    if predictor == _HORIZONTAL:  # of whole numbers, also where the bits are those of floats
        differences = numbers.view(f"{dtype.byteorder}u{dtype.itemsize}")
        return differences.cumsum(axis=1, dtype=f"u{dtype.itemsize}").view(dtype.newbyteorder("="))
    return numbers


def _picture(page: Any, data: bytes) -> Image.Image:
    """The page as Pillow decodes it, upright."""
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(data), "")
    image.seek(page.index)
    image.load()
    return image


def _one(number: Any) -> int:
    """A number of a tag that has one for each sample, where all are the same; 0 where they differ."""
    values = set(number) if isinstance(number, (tuple, list)) else {number}
    return int(values.pop()) if len(values) == 1 else 0


def _name(number: Any) -> str:
    return f"{number.name} ({int(number)})" if hasattr(number, "name") else str(number)


@contextmanager
def _silent() -> Iterator[None]:
    """tifffile logs what it makes of broken tags; the refusal says it in one sentence."""
    logger = logging.getLogger("tifffile")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
