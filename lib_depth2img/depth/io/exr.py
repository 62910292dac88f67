"""OpenEXR: the depth channel of a file, and a one-channel file of a depth map.

OpenCV reads the channels R, G, B and Y only, gives zeros for a Z without a word, and has EXR switched off unless an
environment variable says otherwise. So scan lines stored plainly or with ZIP, which is what most programs write for
depth, are read here; every other kind goes to OpenCV. Format: https://openexr.com/en/latest/OpenEXRFileLayout.html.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...errors import DepthMapError
from . import opencv
from .source import MAX_FILE_BYTES, check_pixels

__all__ = ["MAGIC", "encode_exr", "read_exr"]

MAGIC = b"\x76\x2f\x31\x01"

_TYPES: dict[int, np.dtype] = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
_TILED, _DEEP, _MULTIPART = 0x200, 0x800, 0x1000
_NONE, _ZIPS, _ZIP = 0, 2, 3
_COMPRESSIONS = ("no", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
_LINES = {_NONE: 1, _ZIPS: 1, _ZIP: 16}
_NAMED_CODECS = (8, 9)
"""DWAA and DWAB choose how to store a channel by its name."""

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Channel:
    name: str
    dtype: np.dtype
    sampled: bool
    """Every pixel has a value of its own."""
    position: int
    """Of the name in the file."""


@dataclass(frozen=True)
class _Header:
    flags: int
    channels: tuple[_Channel, ...]
    compression: int
    data: Window
    display: Window
    end: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pixels in the file."""
        return self.data[2] - self.data[0] + 1, self.data[3] - self.data[1] + 1


def read_exr(data: bytes) -> np.ndarray:
    """The depth in an OpenEXR file over its whole display window: (H, W) or, for an RGB picture, (H, W, 3) float32.

    Channel: the only one there is; else Z, or Z of the only layer that has it; else Y; else R, G, B. NaN where the
    file has no pixels.

    Raises:
        DepthMapError: broken, too large, no such channel, or stored in a way neither this module nor this OpenCV
        can read.
    """
    try:
        header = _read_header(data)
    except (struct.error, IndexError, KeyError, ValueError, OverflowError) as error:
        raise DepthMapError(f"The file has a broken OpenEXR header ({error}). Save or copy it again.") from error
    for left, top, right, bottom in (header.data, header.display):
        check_pixels(right - left + 1, bottom - top + 1)
    if header.flags & (_DEEP | _MULTIPART):
        raise DepthMapError(
            "The OpenEXR file has several parts or deep data; expected a single flat picture. Save it as one."
        )
    chosen = _chosen(header.channels)
    plain = header.compression in _LINES and not header.flags & _TILED and all(c.sampled for c in header.channels)
    try:
        pixels = _scan_lines(data, header, chosen) if plain else _through_opencv(data, header, chosen)
    except (struct.error, zlib.error, ValueError, OverflowError) as error:
        raise DepthMapError(f"The OpenEXR file is broken ({error}). Save or copy it again.") from error
    return _on_display(pixels, header)


def encode_exr(values: np.ndarray) -> bytes:
    """The bytes of an OpenEXR file of one float channel: Y, since Z would mean distance. ``values``: (H, W) float32."""
    height, width = values.shape
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = (
        ("channels", "chlist", b"Y\0" + struct.pack("<iB3x2i", 2, 0, 1, 1) + b"\0"),
        ("compression", "compression", bytes([_ZIP])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0.0, 0.0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
    )
    header = MAGIC + struct.pack("<I", 2)
    for name, kind, value in attributes:
        header += f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value
    header += b"\0"
    starts = range(0, height, _LINES[_ZIP])
    blocks = [_packed(values[start : start + _LINES[_ZIP]].astype("<f4").tobytes()) for start in starts]
    chunks = [struct.pack("<2i", start, len(block)) + block for start, block in zip(starts, blocks, strict=True)]
    offsets = np.cumsum([len(header) + 8 * len(chunks), *map(len, chunks)])[:-1]
    return header + offsets.astype("<u8").tobytes() + b"".join(chunks)


def _read_header(data: bytes) -> _Header:
    (version,) = struct.unpack_from("<I", data, 4)
    if version & 0xFF != 2:
        raise ValueError(f"version {version & 0xFF}")
    attributes: dict[str, tuple[int, int]] = {}
    position = 8
    while data[position]:
        name, position = _text(data, position)
        _, position = _text(data, position)
        (size,) = struct.unpack_from("<i", data, position)
        if size < 0:
            raise ValueError(f"attribute {name} of {size} bytes")
        attributes[name] = (position + 4, size)
        position += 4 + size
    window = struct.unpack_from("<4i", data, attributes["dataWindow"][0])
    display = struct.unpack_from("<4i", data, attributes.get("displayWindow", attributes["dataWindow"])[0])
    channels = tuple(_read_channels(data, attributes["channels"][0]))
    return _Header(version & ~0xFF, channels, data[attributes["compression"][0]], window, display, position + 1)


def _read_channels(data: bytes, position: int) -> Iterator[_Channel]:
    while data[position]:
        start = position
        name, position = _text(data, position)
        kind, across, down = struct.unpack_from("<i4x2i", data, position)
        yield _Channel(name, _TYPES[kind], across == down == 1, start)
        position += 16


def _text(data: bytes, position: int) -> tuple[str, int]:
    end = data.index(b"\0", position, position + 256)
    return data[position:end].decode("utf-8"), end + 1


def _chosen(channels: tuple[_Channel, ...]) -> tuple[_Channel, ...]:
    if len(channels) == 1:
        return channels
    by_name = {channel.name: channel for channel in channels}
    layers = [channel for channel in channels if channel.name.endswith(".Z")]
    for names in (("Z",), ("Y",), ("R", "G", "B"), ("R",)):
        if names == ("Y",) and len(layers) == 1 and "Z" not in by_name:
            return tuple(layers)
        if all(name in by_name for name in names):
            return tuple(by_name[name] for name in names)
    raise DepthMapError(
        f"The OpenEXR file has the channels {', '.join(by_name)}; expected a single one, or one named Z, Y or R. "
        "Save the depth pass alone."
    )


def _scan_lines(data: bytes, header: _Header, chosen: tuple[_Channel, ...]) -> np.ndarray:
    width, height = header.size
    lines = _LINES[header.compression]
    row = np.dtype([(f"c{i}", c.dtype, (width,)) for i, c in enumerate(header.channels)])
    if row.itemsize * lines > MAX_FILE_BYTES:
        raise DepthMapError(
            f"The OpenEXR file has {len(header.channels)} channels in rows of {width} pixels, too much. Save the "
            "depth alone."
        )
    pixels = np.empty((height, width, len(chosen)), dtype=np.float32)
    filled = np.zeros(height, dtype=bool)
    count = -(-height // lines)
    for offset in struct.unpack_from(f"<{count}Q", data, header.end):
        start, size = struct.unpack_from("<2i", data, offset)
        first = start - header.data[1]
        last = min(first + lines, height)
        if not 0 <= first < height or size < 0:
            raise ValueError(f"a block of {size} bytes at line {start}")
        block = data[offset + 8 : offset + 8 + size]
        if len(block) != size:
            raise ValueError("cut off")
        raw = _unpacked(block, (last - first) * row.itemsize, header.compression)
        rows = np.frombuffer(raw, row)
        for i, channel in enumerate(chosen):
            pixels[first:last, :, i] = rows[f"c{header.channels.index(channel)}"]
        filled[first:last] = True
    if not filled.all():
        raise ValueError("lines are missing")
    return pixels[..., 0] if len(chosen) == 1 else pixels


def _unpacked(block: bytes, size: int, compression: int) -> bytes:
    """A block of scan lines: the bytes at even places, then those at odd ones, as differences, deflated.

    A block that deflating would have made longer is stored as it is.
    """
    if compression == _NONE or len(block) == size:
        raw = block
    else:
        packed = zlib.decompressobj().decompress(block, size)
        raw_bytes = np.frombuffer(packed, np.uint8).copy()
        raw_bytes[1:] -= 128
        summed = np.cumsum(raw_bytes, dtype=np.uint8)
        ordered = np.empty_like(summed)
        half = (len(summed) + 1) // 2
        ordered[0::2], ordered[1::2] = summed[:half], summed[half:]
        raw = ordered.tobytes()
    if len(raw) != size:
        raise ValueError(f"a block of {len(raw)} bytes where {size} belong")
    return raw


def _packed(raw: bytes) -> bytes:
    values = np.frombuffer(raw, np.uint8)
    ordered = np.concatenate([values[0::2], values[1::2]])
    ordered[1:] = np.diff(ordered) + 128
    block = zlib.compress(ordered.tobytes())
    return block if len(block) < len(raw) else raw


def _on_display(pixels: np.ndarray, header: _Header) -> np.ndarray:
    """The pixels where they lie in the picture: the data window may be smaller than it, or go beyond it."""
    if header.data == header.display:
        return pixels
    left, top, right, bottom = header.display
    whole = np.full((bottom - top + 1, right - left + 1, *pixels.shape[2:]), np.nan, dtype=np.float32)
    rows_to, rows_from = _overlap(header.data[1] - top, pixels.shape[0], whole.shape[0])
    columns_to, columns_from = _overlap(header.data[0] - left, pixels.shape[1], whole.shape[1])
    whole[rows_to, columns_to] = pixels[rows_from, columns_from]
    return whole


def _overlap(offset: int, length: int, limit: int) -> tuple[slice, slice]:
    start = max(offset, 0)
    stop = max(min(offset + length, limit), start)
    return slice(start, stop), slice(start - offset, stop - offset)


def _through_opencv(data: bytes, header: _Header, chosen: tuple[_Channel, ...]) -> np.ndarray:
    how = _COMPRESSIONS[header.compression] if header.compression < len(_COMPRESSIONS) else "unknown"
    refusal = DepthMapError(
        f"The OpenEXR file has {how} compression{' in tiles' if header.flags & _TILED else ''} and the channel "
        f"{chosen[0].name}, which OpenCV does not read here. "
        "Save it as scan lines with ZIP compression."
    )
    renamed = _for_opencv(data, header, chosen)
    if renamed is None:
        raise refusal
    pixels = opencv.decoded(renamed)
    if pixels is None or pixels.shape[:2] != header.size[::-1]:
        raise refusal
    return pixels[..., :3].astype(np.float32) if pixels.ndim == 3 else pixels.astype(np.float32)


def _for_opencv(data: bytes, header: _Header, chosen: tuple[_Channel, ...]) -> bytes | None:
    """The file with the chosen channel named Y and R, G, B out of its way; None where that takes more than renaming.

    Channels are stored in the order of their names, so the new names have to keep that order.
    """
    names = [channel.name for channel in header.channels]
    if len(chosen) == 3 or (chosen[0].name in ("Y", "R") and not {"R", "Y"} <= set(names)):
        return data
    if header.compression in _NAMED_CODECS or len(chosen[0].name) != 1:
        return None
    new = {"B": "C", "G": "H", "R": "S", chosen[0].name: "Y"}
    renamed = [new.get(name, name) for name in names]
    if sorted(set(renamed)) != renamed:
        return None
    copy = bytearray(data)
    for channel, name in zip(header.channels, renamed, strict=True):
        copy[channel.position : channel.position + len(name)] = name.encode()
    return bytes(copy)
