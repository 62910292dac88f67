"""Lines for whoever watches the console, which may know few letters, or have gone."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TextIO

__all__ = ["say", "terminal"]


def say(text: str, *, to: TextIO | None = None, end: str = "\n") -> None:
    """Print ``text``, letters that the stream cannot show as backslash escapes; no work is lost for want of a console.

    ``to``: None for the standard output, which is None itself under pythonw.
    """
    stream = sys.stdout if to is None else to
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"  # other extensions put streams of their own there
    shown = f"{text}{end}".encode(encoding, "backslashreplace").decode(encoding)
    with suppress(OSError, ValueError):  # the window was closed, and the stream perhaps with it
        stream.write(shown)
        stream.flush()


def terminal() -> TextIO | None:
    """The standard output where it is a terminal, else None."""
    with suppress(AttributeError, ValueError):  # there is none, or it is closed
        return sys.stdout if sys.stdout.isatty() else None
    return None
