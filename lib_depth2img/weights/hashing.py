"""The sha256 of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..progress import Reporter

__all__ = ["sha256_of"]

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
