"""Lines for whoever watches the console, which may know few letters, or have gone."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, TextIO

from .progress import Progress

__all__ = ["ProgressBar", "say"]


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


class ProgressBar:
    """A bar on standard error for each phase of a long piece of work; size, rate and time left are tqdm's.

    ``show`` is a `Listener`. A phase with nothing to count is said in one line. As with `say`, a console that knows few
    letters or has gone ends no work.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet or sys.stderr is None
        self._bar: Any = None
        self._phase: tuple[str, str] | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the line of the bar that is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def show(self, progress: Progress) -> None:
        """Draw ``progress``."""
        if self._quiet:
            return
        if (progress.phase, progress.name) != self._phase:
            self._phase = (progress.phase, progress.name)
            self._begin(progress)
        if self._bar is not None:
            self._bar.total = progress.total
            self._bar.update(progress.done - self._bar.n)
            if progress.done == progress.total:
                self._bar.refresh()

    def say(self, text: str) -> None:
        """A line on standard error, above the bar; also where the bar is quiet."""
        if self._bar is not None:
            self._bar.clear()
        say(text, to=sys.stderr)
        if self._bar is not None:
            self._bar.refresh()

    def _begin(self, progress: Progress) -> None:
        from tqdm import tqdm

        self.close()
        if not progress.can_be_counted:
            say(str(progress), to=sys.stderr)
            return
        title = f"{progress.phase} {progress.name}".strip()
        self._bar = tqdm(
            total=progress.total,
            initial=progress.done,
            desc=title,
            unit=progress.unit,
            unit_scale=progress.unit == "B",
            file=_Lenient(sys.stderr),
        )


class _Lenient:
    """A stream that takes whatever is written to it; see `say`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        say(text, to=self._stream, end="")

    def flush(self) -> None:
        """Nothing: `say` hands all on at once."""
