"""Picture files, through Pillow, and through OpenCV where Pillow would cut 16 bit down to 8."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from ...errors import DepthMapError
from . import opencv
from .source import check_pixels, found

__all__ = ["decode_deep", "open_image", "orientation", "upright"]

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")
"""What may be opened. Pillow's other plugins are for other things than pictures of this kind; some start programs."""

_ORIENTATION, _WIDTH, _HEIGHT, _BITS, _SAMPLES, _FORMAT = 274, 256, 257, 258, 277, 339
_FLOAT = 3


def open_image(data: bytes) -> Image.Image:
    """The first picture of a file, decoded, in the mode Pillow gives it.

    The plugins are asked directly: ``Image.open`` warns of large pictures through the process's warning filters
    before the size can be looked at, and tries formats nobody wants here.

    Raises:
        DepthMapError: no picture, a broken one, or one above ``MAX_PIXELS``, which is refused before it is decoded.
    """
    Image.init()
    for kind in _FORMATS:
        factory, accepts = Image.OPEN.get(kind, (None, None))
        # Padded, since Pillow's test for PPM looks at the second byte of a file that may have one.
        accepted = accepts(data[:16].ljust(16, b"\0")) if factory is not None and accepts is not None else False
        if not accepted:
            continue
        if isinstance(accepted, str):
            raise DepthMapError(f"The file cannot be read by this Pillow ({accepted}). Save it as PNG.")
        try:
            image: Image.Image = factory(io.BytesIO(data), "")
            check_pixels(*image.size)
            image.load()
        except DepthMapError:
            raise
        except Exception as error:
            raise DepthMapError(
                f"The {kind} file cannot be decoded ({error}). It is broken or of a rare kind; save it as a plain PNG."
            ) from error
        return image
    raise DepthMapError(f"The file holds {found(data)}, not a picture. Expected one of {', '.join(_FORMATS[:-1])}.")


def decode_deep(data: bytes) -> np.ndarray | None:
    """Pixels of a file that Pillow cannot give in full, or None where it can.

    (H, W) or (H, W, 3 or 4) uint16 or float, upright, in any order of colours. These are PNG and TIFF with more than
    8 bit in several channels, and TIFF of floats other than 32 bit.

    Raises:
        DepthMapError: a broken one, or one above ``MAX_PIXELS``.
    """
    if not (_is_deep_png(data) or _is_deep_tiff(data)):
        return None
    array = opencv.decoded(data)
    if array is None:
        raise DepthMapError("The file cannot be decoded: it is broken or of a rare kind. Save it as a 16-bit grey PNG.")
    return upright(array, _png_orientation(data)) if _is_deep_png(data) else array  # OpenCV turns TIFF itself


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that is still to be applied; 1 when there is none or it cannot be read."""
    if image.format == "TIFF":  # Pillow turns these itself when it decodes them, and leaves the tag
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, struct.error, ValueError, TypeError, OSError, KeyError):
        return 1


def upright(values: np.ndarray, turned: int) -> np.ndarray:
    """(H, W, ...) values as a viewer shows them. ``turned``: the EXIF orientation; unknown numbers change nothing."""
    if turned in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if turned in (3, 4, 7, 8):
        values = values[::-1]
    if turned in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _is_deep_png(data: bytes) -> bool:
    if len(data) < 26 or not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    if bits != 16 or colour not in (2, 4, 6):
        return False
    check_pixels(width, height)
    return True


def _png_orientation(data: bytes) -> int:
    try:
        image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    except (SyntaxError, ValueError, OSError):  # what OpenCV has read may still be too broken for Pillow
        return 1
    return orientation(image) if "exif" in image.info else 1


def _is_deep_tiff(data: bytes) -> bool:
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return False
    file = io.BytesIO(data)
    try:
        header = file.read(16 if data[2:4] in (b"+\0", b"\0+") else 8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(file)
        bits, samples, number = tags.get(_BITS, (1,)), int(tags.get(_SAMPLES, 1)), tags.get(_FORMAT, (1,))
        deep = (samples > 1 and max(bits) > 8) or (number[0] == _FLOAT and bits[0] != 32)
        if deep:
            check_pixels(int(tags[_WIDTH]), int(tags[_HEIGHT]))
    except DepthMapError:
        raise
    except Exception as error:
        raise DepthMapError(f"The TIFF file is broken ({error}). Save or copy it again.") from error
    return deep
