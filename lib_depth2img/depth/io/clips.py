"""Clips: NPY and NPZ files that hold the maps of many frames, as estimators for video write them.

A clip is (T, H, W), (T, H, W, 1) or (T, 1, H, W) with T above 1. A frame is read without those after it.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ...errors import DepthMapError
from .arrays import SINGLE_LAST_AXES, check_length, npz_member, read_npy_header
from .bounds import check_pixels

__all__ = ["frames_in", "read_frame"]

_SUFFIXES = (".npy", ".npz")


def frames_in(path: Path) -> int:
    """How many maps lie in a clip, from its header alone; 0 for a file that is no clip, or cannot be read."""
    if path.suffix.lower() not in _SUFFIXES:
        return 0
    try:
        with _opened(path) as file:
            return _layout(file)[0]
    except (DepthMapError, OSError):
        return 0


def read_frame(path: Path, index: int) -> np.ndarray:
    """The (H, W) numbers of map ``index``, counted from 0.

    Raises:
        DepthMapError: no clip, no such map in it, or a broken file.
    """
    try:
        with _opened(path) as file:
            count, size, dtype = _layout(file)
            if not 0 <= index < count:
                raise DepthMapError(f"The file holds {count} maps; there is no map {index}.")
            check_pixels(size[1], size[0])
            length = math.prod(size) * dtype.itemsize
            file.seek(index * length, io.SEEK_CUR)
            numbers = file.read(length)
            last = index == count - 1
            check_length(len(numbers) + (len(file.read(1)) if last else 0), size, dtype)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DepthMapError(f"The clip cannot be read ({error}). Save or copy it again.") from error
    return np.frombuffer(numbers, dtype).reshape(size)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The .npy file, or the one in the .npz file that holds the maps."""
    with path.open("rb") as file:
        if path.suffix.lower() == ".npy":
            yield file
            return
        try:
            archive = zipfile.ZipFile(file)
            member = archive.open(npz_member(archive.namelist()))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, KeyError, ValueError) as error:
            raise DepthMapError(f"The .npz file is broken ({error}). Save or copy it again.") from error
        with archive, member:
            yield member


def _layout(file: IO[bytes]) -> tuple[int, tuple[int, int], np.dtype]:
    """How many maps, (H, W) and type; 0 maps where the numbers are no clip, or not frame after frame."""
    shape, fortran, dtype = read_npy_header(file)
    if len(shape) == 4 and 1 in (shape[1], shape[3]):
        shape = (shape[0], *shape[2:]) if shape[1] == 1 else shape[:3]
    elif len(shape) == 3 and shape[2] in SINGLE_LAST_AXES:
        return 0, (0, 0), dtype
    if len(shape) != 3 or shape[0] < 2 or fortran:
        return 0, (0, 0), dtype
    return shape[0], (shape[1], shape[2]), dtype
