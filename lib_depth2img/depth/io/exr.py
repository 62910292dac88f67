"""OpenEXR, by the format's own library: the depth in a file, and a one-channel file of a depth map.

The package is optional: without it only these files are refused. It works in memory since 3.5.
https://openexr.com/en/latest/TechnicalIntroduction.html tells of layers, parts and windows.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import DepthMapError
from ..nearness import Samples
from .bounds import MAX_FILE_BYTES, check_pixels, required

__all__ = ["MAGIC", "encode_exr", "read_exr", "require_library"]

MAGIC = b"\x76\x2f\x31\x01"

MAX_UNPACKED = 2 * MAX_FILE_BYTES
"""Bytes of all channels together, since the library unpacks all of them: 64 channels of float at 3840x2160."""

SHOWN = 30
"""Channels that a refusal names."""

_EXACT = re.compile(r"z?[ _.-]?depth|z", re.IGNORECASE)
_DEPTH = re.compile(r"depth|^z[ _-]?buf", re.IGNORECASE)

_alone = threading.Lock()

_REQUIRED = (b"channels\0chlist", b"compression\0compression", b"dataWindow\0box2i", b"displayWindow\0box2i")
"""Attributes for which the library would put in its own, where a damaged header lacks them."""

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Layer:
    """Channels whose names differ after the last dot only: "View.Depth.Z" is channel Z of layer View.Depth."""

    part: int
    path: str
    """With the part's name in front, where there are several parts."""
    channels: dict[str, str]
    """The last piece of each name, single letters in capitals -> the name in the file."""

    @property
    def names(self) -> list[str]:
        """Names for a message."""
        return [f"{self.path}.{piece}" if self.path else piece for piece in self.channels]


@dataclass(frozen=True)
class _Choice:
    """A channel of a layer, or its three colours. ``rank``: how clearly the name says depth; None where it does not."""

    layer: _Layer
    pieces: tuple[str, ...]
    rank: int | None


def read_exr(data: bytes) -> Samples:
    """The depth in an OpenEXR file over its whole display window; NaN where the file has no pixels.

    Channel: Z; else the one layer or channel that says depth ("Depth.Z", "Depth.V", "Depth.R" with G and B,
    "…WorldDepth.R", "depth"), in whichever part; else the only Z; else the only channel or only layer there is.
    A Z with an X beside it is a component of a vector. Alpha: that of the same layer.

    Raises:
        DepthMapError: the library is not here, or the file is broken, too large, deep, or of other channels.
    """
    library = require_library()
    data = _in_unicode(library, data)
    parts = _opened(library, data, header_only=True)
    absent = [attribute for attribute in _REQUIRED if data.count(attribute) < len(parts)]
    if absent:
        name = absent[0].partition(b"\0")[0].decode()
        raise DepthMapError(f"The OpenEXR file is broken: its header has no {name}. Save or copy it again.")
    if any(part.type() not in (library.scanlineimage, library.tiledimage) for part in parts):
        raise DepthMapError("The OpenEXR file has deep data, several numbers for a pixel. Save it flat.")
    size = sum(_largest_size(part) for part in parts)
    if size > MAX_UNPACKED:
        raise DepthMapError(
            f"The OpenEXR file may hold {size} bytes in all its channels; at most {MAX_UNPACKED} are read. Save the "
            "depth pass alone."
        )
    choice = _chosen(list(_layers(parts)))
    whole = _opened(library, data, header_only=False)
    if len(whole) != len(parts):
        raise DepthMapError("The OpenEXR file is broken: pixels are missing or damaged. Save or copy it again.")
    return _samples(whole[choice.layer.part], choice)


def encode_exr(values: np.ndarray) -> bytes:
    """The bytes of an OpenEXR file of one float channel: Y, since Z would mean distance. ``values``: (H, W) float32.

    Raises:
        DepthMapError: the library is not here.
    """
    library = require_library()
    file = io.BytesIO()
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    library.File(header, {"Y": np.ascontiguousarray(values, np.float32)}).write(file)
    return file.getvalue()


def require_library() -> Any:
    """The module OpenEXR. Raises: DepthMapError where it is not installed, or too old to work in memory."""
    library = required("OpenEXR", "OpenEXR", "An OpenEXR file")
    version = str(getattr(library, "__version__", "unknown"))
    if [int(number) for number in re.findall(r"\d+", version)][:2] < [3, 5]:
        raise DepthMapError(
            f"An OpenEXR file needs version 3.5 or newer of the Python package OpenEXR; here is {version}. "
            "Renew it: pip install --upgrade OpenEXR"
        )
    return library


def _opened(library: Any, data: bytes, *, header_only: bool) -> list[Any]:
    """The parts of the file, without the broken ones, which the library leaves out.

    Raises:
        UnicodeDecodeError: text in the header that is not UTF-8.
        DepthMapError: broken.
    """
    try:
        with _alone, _library_silent():
            # True: every channel for itself, not R, G and B as one array.
            parts: list[Any] = library.File(io.BytesIO(data), True, header_only).parts
            for part in parts:
                _ = part.name(), [channel.name for channel in part.header["channels"]]
    except UnicodeDecodeError:
        raise
    except Exception as error:
        raise DepthMapError(f"The OpenEXR file is broken ({error}). Save or copy it again.") from error
    return parts


@contextlib.contextmanager
def _library_silent() -> Iterator[None]:
    """The library prints that it leaves a part out; the refusal says it. What others print meanwhile comes after."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            if not line.startswith("Warning: Exception raised reading pixel data"):
                print(line)


def _in_unicode(library: Any, data: bytes) -> bytes:
    """The file with "_" for letters that are not UTF-8 in the texts of its header, at which the library stops.

    Raises:
        DepthMapError: such letters in names of channels, parts or attributes, or another fault of the header.
    """
    while True:
        try:
            _opened(library, data, header_only=True)
        except UnicodeDecodeError as error:
            text = bytes(error.object)
            length = struct.pack("<i", len(text))
            renewed = data.replace(length + text, length + bytes(byte if byte < 128 else ord("_") for byte in text), 1)
            if renewed == data:
                raise DepthMapError(
                    f"The OpenEXR file has a name that is not UTF-8 ({text!r}). Save it with another name."
                ) from error
            data = renewed
        else:
            return data


def _window(part: Any, name: str) -> Window:
    (left, top), (right, bottom) = part.header[name]
    return int(left), int(top), int(right), int(bottom)


def _largest_size(part: Any) -> int:
    """Bytes of the part's pixels, unpacked, if all of them are 32 bit. Raises: DepthMapError for too many pixels."""
    for name in ("displayWindow", "dataWindow"):
        left, top, right, bottom = _window(part, name)
        check_pixels(right - left + 1, bottom - top + 1)
    return 4 * len(part.header["channels"]) * (right - left + 1) * (bottom - top + 1)


def _layers(parts: list[Any]) -> Iterator[_Layer]:
    for index, part in enumerate(parts):
        layers: dict[str, dict[str, str]] = {}
        for channel in part.header["channels"]:
            path, _, piece = channel.name.rpartition(".")
            layers.setdefault(path, {})[piece.upper() if len(piece) == 1 else piece] = channel.name
        for path, channels in layers.items():
            whole = (part.name(), path) if len(parts) > 1 else (path,)
            yield _Layer(index, ".".join(filter(None, whole)), channels)


def _chosen(layers: list[_Layer]) -> _Choice:
    choices = [choice for layer in layers for choice in _choices(layer)]
    ranks = [choice.rank for choice in choices if choice.rank is not None]
    if ranks:
        choices = [choice for choice in choices if choice.rank == min(ranks)]
    if len(choices) == 1 and (ranks or len(layers) == 1):
        return choices[0]
    names = [name for layer in layers for name in layer.names]
    shown = ", ".join(names[:SHOWN])
    listed = f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
    fault = "more than one of them says depth" if ranks else "none of them says depth"
    raise DepthMapError(f"The OpenEXR file has the channels {listed}; {fault}. Save the depth pass alone.")


def _choices(layer: _Layer) -> Iterator[_Choice]:
    last = layer.path.rpartition(".")[2]
    spoken = [piece for piece in layer.channels if _DEPTH.search(piece)]
    for piece in spoken:
        yield _Choice(layer, (piece,), 1 if _EXACT.fullmatch(piece) else 2)
    others = [piece for piece in layer.channels if piece != "A"]
    vector = "X" in others and len(others) > 1
    if spoken or vector:
        return
    rank = 1 if _EXACT.fullmatch(last) else 2 if _DEPTH.search(layer.path) else None
    if "Z" in others:
        yield _Choice(layer, ("Z",), (rank or 2) if layer.path else 0)
    elif len(others) <= 1:
        yield _Choice(layer, tuple(others or ["A"]), rank)
    elif "V" in others:
        yield _Choice(layer, ("V",), rank)
    elif {"R", "G", "B"} <= set(others):
        yield _Choice(layer, ("R", "G", "B"), rank)


def _samples(part: Any, choice: _Choice) -> Samples:
    names = choice.layer.channels
    values = [_pixels(part, names[piece]) for piece in choice.pieces]
    says_depth = choice.rank is not None
    if len(values) == 3 and says_depth and not (values[1].any() or values[2].any()):
        values = values[:1]  # Unreal writes WorldDepth into red alone
    alpha = _pixels(part, names["A"]) if "A" in names and choice.pieces != ("A",) else None
    if says_depth and alpha is not None and not alpha.any():
        alpha = None  # written by nobody
    stacked = values[0] if len(values) == 1 else np.stack(values, axis=2)
    return Samples(_on_display(stacked, part), None, None if alpha is None else _on_display(alpha, part))


def _pixels(part: Any, name: str) -> np.ndarray:
    left, top, right, bottom = _window(part, "dataWindow")
    values: np.ndarray = part.channels[name].pixels
    if values.shape != (bottom - top + 1, right - left + 1):
        raise DepthMapError(
            f"Channel {name} of the OpenEXR file has fewer numbers than the picture has pixels. Save it in full size."
        )
    return values.astype(np.float32)


def _on_display(values: np.ndarray, part: Any) -> np.ndarray:
    """The pixels where they lie in the picture: the data window may be smaller than it, or go beyond it."""
    data, display = _window(part, "dataWindow"), _window(part, "displayWindow")
    if data == display:
        return values
    left, top, right, bottom = display
    whole = np.full((bottom - top + 1, right - left + 1, *values.shape[2:]), np.nan, dtype=np.float32)
    rows_to, rows_from = _overlap(data[1] - top, values.shape[0], whole.shape[0])
    columns_to, columns_from = _overlap(data[0] - left, values.shape[1], whole.shape[1])
    whole[rows_to, columns_to] = values[rows_from, columns_from]
    return whole


def _overlap(offset: int, length: int, limit: int) -> tuple[slice, slice]:
    start = max(offset, 0)
    stop = max(min(offset + length, limit), start)
    return slice(start, stop), slice(start - offset, stop - offset)
