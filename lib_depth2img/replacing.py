"""Write a file beside its place first, so that no half-written one ever stands there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

__all__ = ["replacing", "when_let_go"]

T = TypeVar("T")

HELD_SECONDS = 5.0  # virus scanners look at a fresh file for about a second
HELD_POLL = 0.1  # seconds between two attempts
SHOWN = 20  # characters of a short name in the temporary one, which says whose it is


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place at the end; after a failure all is as it was.

    Raises:
        OSError: `path` could not be replaced; where the system does not take such a name, before anything is written.
    """
    with suppress(FileNotFoundError):
        path.lstat()
    part = path.with_name(_beside(path.name))
    try:
        yield part
        when_let_go(lambda: part.replace(path))
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _beside(name: str) -> str:
    """A name that nobody else has; no longer than a long `name`, in bytes (Linux, macOS) and in UTF-16 (Windows)."""
    end = f".{uuid4().hex[:12]}.part"
    return f".{name[: max(SHOWN, len(name) - len(end) - 1)]}{end}"


def when_let_go(do: Callable[[], T], *, meanwhile: Callable[[], object] | None = None) -> T:
    """What `do` returns, as soon as no other program holds the file: Windows lets nobody rename what a scanner reads.

    meanwhile: called between the attempts; what it raises ends them.

    Raises:
        PermissionError: it is still held after `HELD_SECONDS`.
    """
    end = time.monotonic() + HELD_SECONDS
    while True:
        try:
            return do()
        except PermissionError:
            if time.monotonic() >= end:
                raise
        if meanwhile is not None:
            meanwhile()
        time.sleep(HELD_POLL)
