"""Files of bare numbers: NPY, NPZ and PFM. Each header is checked before its numbers are read."""

from __future__ import annotations

import io
import math
import re
import zipfile
from typing import IO

import numpy as np

from ...errors import DepthMapError
from ..nearness import Samples, without_leading_ones
from .bounds import MAX_FILE_BYTES, check_pixels

__all__ = [
    "SINGLE_LAST_AXES",
    "check_length",
    "encode_npy",
    "encode_pfm",
    "npz_member",
    "read_npy",
    "read_npy_header",
    "read_npz",
    "read_pfm",
    "read_pnm",
]


_PFM = re.compile(rb"(P[fF])%b(\d{1,9})%b(\d{1,9})%b([-+.\deE]{1,40})(?=\s)" % ((rb"(?:[ \t]|\r\n?|\n(?!\r))+",) * 3))
_PNM = re.compile(rb"(P[56])%b(\d{1,9})%b(\d{1,9})%b(\d{1,5})\s" % ((rb"(?:\s+(?:#[^\n]*\n)*)+",) * 3))

_SPEAKING = re.compile(r"depth|disp|^pred", re.IGNORECASE)
_BESIDE = re.compile(r"conf|mask|valid|uncert|std|scale|shift|range|_m(?:in|ax)$", re.IGNORECASE)
"""What is told of the depth, in an array of its own."""


SINGLE_LAST_AXES = (1, 3, 4)
"""What (H, W, n) is one map of: grey or colours. Else it is a stack of maps."""


def read_npy(data: bytes) -> np.ndarray:
    """The array of a .npy file; never a pickle.

    Raises:
        DepthMapError: broken, Python objects inside, not of the shape of a depth map, or too large.
    """
    return _read_npy(io.BytesIO(data))


def read_npz(data: bytes) -> np.ndarray:
    """The array of a .npz file: the one named "depth", else the only one whose name says it ("depths", "disparity",
    "pred"), else "arr_0", else the only one in it.

    Raises:
        DepthMapError: broken, no such array, and as for :func:`read_npy`. What is unpacked is bounded by the
        array's own header.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        with archive, archive.open(npz_member(archive.namelist())) as member:
            return _read_npy(member)
    except DepthMapError:
        raise
    except Exception as error:
        raise DepthMapError(f"The .npz file is broken ({error}). Save or copy it again.") from error


def read_pfm(data: bytes) -> np.ndarray:
    """The numbers of a portable float map: (H, W) for "Pf", (H, W, 3) for "PF", float32, top row first.

    The header is kind, width, height and a scale whose sign gives the byte order (negative: little-endian) and
    whose size is a unit, which nearness does not have; rows are stored from the bottom up
    (https://www.pauldebevec.com/Research/HDR/PFM/).

    Raises:
        DepthMapError: broken or too large.
    """
    header = _PFM.match(data)
    try:
        scale = float(header[4]) if header else 0.0
    except ValueError:
        scale = 0.0
    if header is None or scale == 0.0 or not math.isfinite(scale):
        raise DepthMapError(f"The file has a broken PFM header ({data[:24]!r}). Save or copy it again.")
    width, height = int(header[2]), int(header[3])
    check_pixels(width, height)
    shape = (height, width, 3) if header[1] == b"PF" else (height, width)
    dtype = np.dtype("<f4" if scale < 0 else ">f4")
    # What follows the scale is one line end and the numbers, of which the first byte may look like another.
    numbers = data[header.end() + (2 if data[header.end() :].startswith(b"\r\n") else 1) :]
    if len(numbers) == math.prod(shape) * 4 - 1:
        numbers = data[header.end() + 1 :]
    check_length(len(numbers), shape, dtype)
    return np.frombuffer(numbers, dtype).reshape(shape)[::-1].astype(np.float32)


def read_pnm(data: bytes) -> Samples:
    """The numbers of a raw PGM or PPM with the white that its header names, which Pillow rounds to 8 or 16 bit.

    https://netpbm.sourceforge.net/doc/pgm.html

    Raises:
        DepthMapError: broken or too large.
    """
    header = _PNM.match(data)
    white = int(header[4]) if header else 0
    if header is None or not 0 < white < 65536:
        raise DepthMapError(f"The file has a broken PGM or PPM header ({data[:24]!r}). Save or copy it again.")
    width, height = int(header[2]), int(header[3])
    check_pixels(width, height)
    shape = (height, width, 3) if header[1] == b"P6" else (height, width)
    dtype = np.dtype(">u1" if white < 256 else ">u2")
    check_length(len(data) - header.end(), shape, dtype)
    numbers = np.frombuffer(data, dtype, offset=header.end()).reshape(shape)
    if numbers.max() > white:
        raise DepthMapError(f"The file holds numbers up to {numbers.max()}; its header says {white}. Save it again.")
    return Samples(numbers.astype(dtype.newbyteorder("=")), float(white))


def encode_npy(values: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def encode_pfm(values: np.ndarray) -> bytes:
    """The bytes of a little-endian portable float map of (H, W) float32."""
    height, width = values.shape
    return f"Pf\n{width} {height}\n-1.0\n".encode() + values[::-1].astype("<f4").tobytes()


def npz_member(names: list[str]) -> str:
    """Which of the names in a .npz file is the map's, as :func:`read_npz` has it. Raises: DepthMapError."""
    arrays = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
    speaking = [name for name in arrays if _SPEAKING.search(name) and not _BESIDE.search(name)]
    for chosen in (["depth"], speaking, ["arr_0"], arrays):
        if len(chosen) == 1 and chosen[0] in arrays:
            return f"{chosen[0]}.npy"
    raise DepthMapError(
        f'The file holds the arrays {arrays}; expected a single one, or one named "depth". Save that one alone.'
    )


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the order is Fortran's, and type of the numbers that follow.

    Raises:
        DepthMapError: broken, or something else than numbers.
    """
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
            version
        ]
        whole, fortran, dtype = read_header(file)
    except Exception as error:  # the header is Python's source: from a SyntaxError to a TokenError
        raise DepthMapError(f"The file has a broken .npy header ({error}). Save or copy it again.") from error
    if dtype.kind not in "biuf":
        raise DepthMapError(
            f"The file holds an array of type {dtype}; expected numbers (bool, integer or float). Convert it."
        )
    return whole, fortran, dtype


def _read_npy(file: IO[bytes]) -> np.ndarray:
    whole, fortran, dtype = read_npy_header(file)
    shape = without_leading_ones(whole)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in SINGLE_LAST_AXES):
        shown = f"{whole}, a stack of {shape[0]}" if len(shape) > 2 else str(whole)
        raise DepthMapError(
            f"The file holds an array of shape {shown}; a depth map is (H, W), (H, W, 1), (H, W, 3) or "
            "(H, W, 4). Take one map out of a stack, or move the channels to the end."
        )
    check_pixels(shape[1], shape[0])
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_FILE_BYTES:
        raise DepthMapError(
            f"The file holds {size} bytes of {dtype}; at most {MAX_FILE_BYTES} are read. Save it as float32."
        )
    numbers = file.read(size)
    check_length(len(numbers) + len(file.read(1)), shape, dtype)
    return np.frombuffer(numbers, dtype).reshape(shape, order="F" if fortran else "C")


def check_length(got: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raises: DepthMapError where ``got`` bytes are not those of the numbers."""
    wanted = math.prod(shape) * dtype.itemsize
    if got < wanted:
        raise DepthMapError(
            f"The file is cut off: {got} bytes of numbers where its header promises {wanted}. Copy it again."
        )
    if got > wanted:
        raise DepthMapError(
            f"The file holds more than the {wanted} bytes of numbers that its header promises. It is broken, or holds "
            "several arrays; save one alone."
        )
