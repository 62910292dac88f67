"""What stands in front of every decoder: the bytes of a file, and how much of anything may come."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from ...errors import DepthMapError

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "UNNAMED",
    "Source",
    "check_pixels",
    "found",
    "name_of",
    "read_bytes",
    "required",
]

Source = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the bytes of a file, or a file opened for binary reading."""

MAX_PIXELS = 2**26
"""The largest picture or depth map that is decoded: 8192x8192, or as many pixels in another shape."""

MAX_FILE_BYTES = 2**30
"""The largest file that is read, and the most that is unpacked from one."""


UNNAMED = "the given data"
"""What a message calls bytes, and files without a name."""


def name_of(source: Source) -> str:
    """What to call the source in a message."""
    name = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    return os.fspath(name) if isinstance(name, (str, os.PathLike)) else UNNAMED


def read_bytes(source: Source) -> bytes:
    """The whole of ``source``, which is left open where it is a file.

    Raises:
        DepthMapError: it cannot be read, is empty, or is larger than ``MAX_FILE_BYTES``.
    """
    try:
        if isinstance(source, (str, os.PathLike)):
            with Path(source).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        else:
            data = bytes(source) if isinstance(source, (bytes, bytearray)) else source.read(MAX_FILE_BYTES + 1)
    except AttributeError as error:
        raise DepthMapError(
            f"A {type(source).__name__} cannot be read. Give a path, bytes or a binary file."
        ) from error
    except (OSError, ValueError) as error:
        raise DepthMapError(
            f"The file cannot be read ({getattr(error, 'strerror', None) or error}). Check the path."
        ) from error
    if not isinstance(data, bytes):
        raise DepthMapError(f"The file gave {type(data).__name__} instead of bytes. Open the file in binary mode.")
    if not data:
        raise DepthMapError("The file is empty (0 bytes). Save or copy it again.")
    if len(data) > MAX_FILE_BYTES:
        raise DepthMapError(f"The file is larger than {MAX_FILE_BYTES} bytes, more than is ever read. Is it a picture?")
    return data


def check_pixels(width: int, height: int) -> None:
    """Raises DepthMapError for a header that promises nothing, or more than ``MAX_PIXELS``; to be asked before
    decoding.
    """
    if width < 1 or height < 1:
        raise DepthMapError(f"The file's header says {width}x{height} pixels; it is broken. Save it again.")
    if width * height > MAX_PIXELS:
        raise DepthMapError(
            f"The file's header says {width}x{height} pixels; at most {MAX_PIXELS} (8192x8192) are decoded. Make "
            "it smaller."
        )


def required(module: str, package: str, what: str) -> ModuleType:
    """The module of a package that only some files need. Raises: DepthMapError that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DepthMapError(
            f"{what} needs the Python package {package}, which is not here ({error}). Install it: pip install {package}"
        ) from error


def found(data: bytes) -> str:
    """What unknown data looks like, for a message."""
    start = data[:16]
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return f"text ({start.decode('ascii')!r}…)"
    return f"data of an unknown kind (it begins with {start[:8].hex(' ')})"
