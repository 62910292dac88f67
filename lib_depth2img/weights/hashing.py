"""The sha256 of a file."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from ..progress import Reporter

__all__ = ["kept_sha256", "sha256_of"]

READ_BYTES = 4 * 2**20


def sha256_of(path: Path, reporter: Reporter | None = None) -> str:
    """The file's sha256, hexadecimal."""
    digest = hashlib.sha256()
    total = path.stat().st_size
    done = 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
            done += len(block)
            if reporter is not None:
                reporter.at("verifying", done, total)
    return digest.hexdigest()


def kept_sha256(path: Path) -> str:
    """The same, computed once for as long as the file's size and time stay as they are.

    Under --medvram a network is built for every generation, and its file would be hashed for each.
    """
    status = path.stat()
    return _kept(path.resolve(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _kept(path: Path, _size: int, _changed: int) -> str:
    return sha256_of(path)
