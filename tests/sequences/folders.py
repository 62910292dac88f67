"""Folders full of empty files."""

from __future__ import annotations

from pathlib import Path

__all__ = ["fill"]


def fill(folder: Path, *names: str) -> Path:
    """Make ``folder`` with empty files of these names."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder
