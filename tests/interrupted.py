"""A command that is interrupted while it writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["Interrupted", "interrupted"]


class Interrupted(BaseException):
    """As Ctrl-C or a kill comes: no handler of errors takes it."""


@contextlib.contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[None]:
    """In it the ``at``-th file that is put in its place is not, and all ends there."""
    written = []
    original = Path.replace

    def replace(path: Path, target: Path) -> Path:
        written.append(target)
        if len(written) == at:
            raise Interrupted
        return original(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        with pytest.raises(Interrupted):
            yield
