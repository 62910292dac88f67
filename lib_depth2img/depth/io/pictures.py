"""Picture files through Pillow, and through OpenCV where Pillow would cut 16 bit down to 8."""

from __future__ import annotations

import importlib
import io
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
from PIL import Image, PngImagePlugin

from ...errors import DepthMapError
from ..nearness import Samples, samples_from_array
from ..orientation import turned
from .bounds import check_pixels, found

__all__ = ["check_png", "decode_deep_png", "open_image", "open_single", "orientation_of", "picture_suffixes"]

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "HEIF", "JPEG2000")
"""What may be opened. Pillow's other plugins are for other things than pictures of this kind; some start programs."""

_BY_NAME = (*_FORMATS, "TGA")

_OF_PHONES = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
}
_PNG = b"\x89PNG\r\n\x1a\n"
_END_OF_JPEG = b"\xff\xd9"
_START_OF_JPEG_2000 = b"\xff\x4f\xff\x51"
_ORIENTATION = 274


def picture_suffixes() -> frozenset[str]:
    """The suffixes, in small letters, of the files that `open_image` opens with this Pillow."""
    _bring_heif()
    return frozenset(
        suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN and kind in _BY_NAME
    )


def open_image(data: bytes, *, name: str = "") -> Image.Image:
    """The first picture of a file, decoded, in the mode Pillow gives it.

    ``name``: of the file; a TGA is known by nothing else.
    The plugins are asked directly: ``Image.open`` warns of large pictures through the process's warning filters
    before the size can be looked at, and tries formats nobody wants here.

    Raises:
        DepthMapError: no picture, a broken one, or one above ``MAX_PIXELS``, which is refused before it is decoded.
    """
    Image.init()
    if _of_phone(data) == "HEIC":
        _bring_heif()
    for kind in _FORMATS:
        factory, accepts = Image.OPEN.get(kind, (None, None))
        # Padded, since Pillow's test for PPM looks at the second byte of a file that may have one.
        if factory is None or accepts is None or accepts(data[:16].ljust(16, b"\0")) is not True:
            continue
        try:
            return _loaded(factory, data)
        except DepthMapError:
            raise
        except Exception as error:
            whole = _without_its_end(factory, data) if kind == "JPEG" else None
            if whole is not None:
                return whole
            raise DepthMapError(
                f"The {kind} file cannot be decoded ({error}). It is broken or of a rare kind; save it as a plain PNG."
            ) from error
    if Image.registered_extensions().get(os.path.splitext(name)[1].lower()) == "TGA":  # noqa: PTH122 - any text
        with suppress(OSError, SyntaxError, ValueError, struct.error, IndexError):
            return _loaded(Image.OPEN["TGA"][0], data)
    raise DepthMapError(_unknown(data))


def open_single(data: bytes) -> Image.Image:
    """As :func:`open_image`, of a file with one picture whose bits Pillow keeps.

    Raises:
        DepthMapError: as there, several pictures, since an animation is no map, or a JPEG 2000 of rare bits.
    """
    image = open_image(data)
    if image.format == "JPEG2000":
        _check_jpeg_2000(data)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise DepthMapError(f"The {image.format} file holds {frames} pictures; expected one map. Save it alone.")
    return image


def decode_deep_png(data: bytes) -> Samples | None:
    """The samples of a PNG with 16 bit in several channels, upright; None for any other file. Pillow gives 8 bit.

    Raises:
        DepthMapError: a broken one, or one above ``MAX_PIXELS``.
    """
    if not data.startswith(_PNG) or len(data) < 26:
        return None
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    if bits != 16 or colour not in (2, 4, 6):
        return None
    check_pixels(width, height)
    import cv2

    with _silent():
        try:
            array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            array = None
    if array is None:
        raise DepthMapError("The PNG file cannot be decoded: it is broken or of a rare kind. Save it as 16-bit grey.")
    image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    return samples_from_array(turned(array, orientation_of(image) if "exif" in image.info else 1))


def check_png(data: bytes) -> None:
    """Compare the checksums of a PNG, which Pillow does not do when it decodes; any other file passes.

    Raises:
        DepthMapError: a checksum does not fit, or the file is cut off.
    """
    if not data.startswith(_PNG):
        return
    try:
        PngImagePlugin.PngImageFile(io.BytesIO(data)).verify()
    except Exception as error:
        raise DepthMapError(
            f"The PNG file cannot be decoded ({error}); it is broken. Save or copy it again."
        ) from error


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that is still to be applied; 1 when there is none or it cannot be read."""
    if image.format == "TIFF":  # Pillow turns these itself when it decodes them, and leaves the tag
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, struct.error, ValueError, TypeError, OSError, KeyError):
        return 1


def _loaded(factory: Callable[..., Image.Image], data: bytes) -> Image.Image:
    image = factory(io.BytesIO(data), "")
    check_pixels(*image.size)
    image.load()
    return image


def _check_jpeg_2000(data: bytes) -> None:
    """Raises: DepthMapError for bits that Pillow cuts; they stand in the SIZ segment (ISO 15444-1, A.5.1)."""
    start = data.find(_START_OF_JPEG_2000)
    channels, bits = struct.unpack_from(">HB", data, start + 40)
    bits = (bits & 127) + 1
    if bits > 8 and (channels > 1 or bits != 16):
        raise DepthMapError(
            f"The JPEG 2000 file has {channels} channels of {bits} bits, which would be cut. Save it as PNG or TIFF."
        )


def _without_its_end(factory: Callable[..., Image.Image], data: bytes) -> Image.Image | None:
    """A JPEG of which only the end marker is missing, as every viewer shows it; None where pixels are missing too.

    libjpeg makes up what is missing from whatever bytes follow. Where nothing is missing, they change nothing.
    """
    body = data.removesuffix(_END_OF_JPEG[:1])
    try:
        one, other = (_loaded(factory, body + filling * 64 + _END_OF_JPEG) for filling in (b"\0", b"\xaa"))
    except Exception:  # noqa: BLE001 - broken for another reason, which is told already
        return None
    return one if one.tobytes() == other.tobytes() else None


def _bring_heif() -> None:
    """Let Pillow open HEIC, where the package that does is installed."""
    Image.init()
    if "HEIF" not in Image.OPEN:
        with suppress(ImportError):
            importlib.import_module("pillow_heif").register_heif_opener()


def _of_phone(data: bytes) -> str | None:
    if data[4:8] != b"ftyp":
        return None
    return next((name for name, brands in _OF_PHONES.items() if data[8:12] in brands), None)


def _unknown(data: bytes) -> str:
    name = _of_phone(data)
    if name is None:
        return f"The file holds {found(data)}, not a picture. Expected one of {', '.join(_FORMATS[:7])}."
    more = " Or install what reads it: pip install pillow-heif" if name == "HEIC" else ""
    return (
        f"The file is {name}, as phones write it, which this Pillow cannot open. Save it as JPEG or PNG, for example: "
        f"magick photo.{name.lower()} photo.png{more}"
    )


@contextmanager
def _silent() -> Iterator[None]:
    """OpenCV writes several lines to standard error for a broken file; the refusal says it in one."""
    import cv2

    # OpenCV 5 has it at another place than OpenCV 4.
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # type: ignore[attr-defined]
    before = set_level(0)
    try:
        yield
    finally:
        set_level(before)
