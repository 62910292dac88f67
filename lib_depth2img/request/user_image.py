"""Pictures and depth maps that come in with a request: base64, bytes or PIL to something decoded, with its sha256."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from ..depth.io.bounds import UNNAMED
from ..errors import Depth2ImgError, RequestError

if TYPE_CHECKING:
    from PIL import Image

    from ..depth.depth_map import DepthMap, Meaning

__all__ = ["DIGEST_LENGTH", "MAX_IMAGE_BYTES", "ImageDecoder", "UserImage", "decode_image", "digest_of", "shortened"]

Content = Union["DepthMap", "Image.Image"]
ImageDecoder = Callable[[Any, str, Any], Content]
"""(bytes, picture or array; source; meaning) -> PIL picture for source ``image``, ``DepthMap`` for the others."""

MAX_IMAGE_BYTES = 128 * 2**20
"""Bytes of one file: an 8192x8192 map of 16 bits, stored raw. The bound on pixels is the decoder's own."""

DIGEST_LENGTH = 10
"""Hex digits of a map's sha256 in the infotext; as many as the host writes for a checkpoint."""

_DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w.=+-]+)*;base64,", re.IGNORECASE)


@dataclass(frozen=True)
class UserImage:
    """A picture or depth map the user brought, decoded. Two are equal when their bytes are.

    ``sha256`` (hex) is that of the file as it came, so ``sha256sum`` confirms it; for a PIL picture or an array, which
    have no file, it is over mode or dtype, size and pixels.
    """

    content: Content = field(compare=False, repr=False)
    sha256: str

    @property
    def digest(self) -> str:
        """The prefix of ``sha256`` that the infotext carries."""
        return self.sha256[:DIGEST_LENGTH]


def decode_image(
    image: Any,
    source: str,
    meaning: Meaning = "nearness",
    *,
    field_name: str = "image",
    decoder: ImageDecoder | None = None,
) -> UserImage:
    """Decode what came in for the field ``field_name``: base64 text, bytes, a PIL picture or an array.

    ``source`` says what it is to become: ``depth_map``, ``image``, or ``region``, a map of 1 where depth counts;
    ``meaning`` what the numbers of a depth map say.

    Raises:
        RequestError: not a picture, too large, or a path or an address, neither of which is ever opened.
    """
    if isinstance(image, UserImage):
        return image
    try:
        if isinstance(image, str):
            image = _from_base64(image)
        sha256 = _sha256(image)
        return UserImage((decoder or _decode)(image, source, meaning), sha256)
    except Depth2ImgError as error:
        text = str(error).removeprefix(f"{UNNAMED}: ")
        raise RequestError(f"{field_name}: {text}", in_panel=text) from error


def digest_of(image: Any) -> str:
    """`UserImage.digest` of bytes, a PIL picture or an array, without decoding it. Raises: RequestError."""
    return _sha256(image)[:DIGEST_LENGTH]


def shortened(value: Any, limit: int = 60) -> str:
    """The value as an error shows it: its repr, cut where a picture in base64 would fill the screen."""
    text = repr(value[: limit + 1] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _sha256(image: Any) -> str:
    if isinstance(image, bytes):
        _refuse_oversized(len(image))
        return hashlib.sha256(image).hexdigest()
    kind = getattr(image, "mode", None) or getattr(image, "dtype", None)
    if kind is None or not hasattr(image, "tobytes"):
        raise RequestError(f"got {shortened(image)}, expected base64 of the bytes of a file.")
    header = f"{kind} {getattr(image, 'shape', None) or image.size}\n"
    try:
        # Without its palette, a P picture is a map of numbers that mean nothing.
        pixels = (image.convert("RGBA") if kind in ("P", "PA") else image).tobytes()
    except (OSError, ValueError, SyntaxError) as error:
        raise RequestError(f"got a picture that cannot be decoded ({error}). Send it again.") from error
    return hashlib.sha256(header.encode() + pixels).hexdigest()


def _decode(image: Any, source: str, meaning: Meaning) -> Content:
    from ..depth.depth_map import DepthMap
    from ..depth.io.files import picture_from_image, read_depth_map, read_mask, read_picture
    from ..depth.io.pictures import orientation_of

    if source == "region":
        if not isinstance(image, bytes):
            raise RequestError(f"got {shortened(image)}, expected the bytes of a picture's file.")
        return DepthMap.from_array(np.asarray(read_mask(image), np.float32) / 255)
    if isinstance(image, bytes):
        return read_depth_map(image, meaning=meaning) if source == "depth_map" else read_picture(image)
    if source == "depth_map":
        if not hasattr(image, "mode"):
            return DepthMap.from_array(image, meaning=meaning)
        return DepthMap.from_image(image, meaning=meaning).turned(orientation_of(image))
    if not hasattr(image, "mode"):
        raise RequestError(f"got an array for source {source!r}, expected a picture.")
    return picture_from_image(image)


def _from_base64(text: str) -> bytes:
    prefix = _DATA_URL.match(text)
    body = text[prefix.end() :] if prefix else text
    _refuse_oversized(len(body) * 3 // 4)
    try:
        data = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        data = b""
    if not data:
        raise RequestError(
            f"got {shortened(text)}, expected base64 of the bytes of a file; no path or address is opened."
        )
    return data


def _refuse_oversized(size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        raise RequestError(
            f"got {size / 2**20:.0f} MiB, expected at most {MAX_IMAGE_BYTES // 2**20} MiB. Send a smaller file."
        )
