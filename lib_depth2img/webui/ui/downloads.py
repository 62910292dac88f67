"""Files of this process that the page may fetch; gone when it ends."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from pathlib import Path

__all__ = ["downloadable"]


def downloadable(png: bytes) -> Path:
    """A file that holds ``png``, the same for the same map however often it is asked for."""
    folder = Path(_folder().name, hashlib.sha256(png).hexdigest()[:16])
    folder.mkdir(exist_ok=True)
    path = folder / "depth-map.png"
    path.write_bytes(png)
    return path


@functools.lru_cache(maxsize=1)
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="depth2img-", ignore_cleanup_errors=True)
