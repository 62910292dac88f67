"""The folder in which a long command keeps what it has done, so that the same command goes on with it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..replacing import replacing

__all__ = ["SOURCES", "Notes", "Work", "asked_of", "digest", "stamp"]

_LEFT = re.compile(r"\..*\.[0-9a-f]{12}\.part$")
"""What ``replacing`` leaves behind when the process is killed."""

SOURCES = "sources"
"""The folder of the :class:`Notes` of maps, among these."""

_NEVER = ("command", "run", "output", "quiet", "ray", "ray_cores")
"""Options of all commands on which no result depends."""


class Work:
    """A folder of one command on one film.

    ``asked``: all that is asked for, as JSON holds it. ``read``: a digest of the files that are read, which tells
    whether one of them was changed.

    Raises:
        RequestError: the folder is another command's, or cannot be made.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any], read: str = "") -> None:
        self.folder, self._asked, self._read = folder, json.loads(json.dumps(asked)), read
        self._note = folder / "job.json"
        known = self._known()
        if known is not None and known["asked"] != self._asked:
            changed = sorted(name for name in self._asked if known["asked"].get(name) != self._asked[name])
            raise RequestError(
                f"{folder} holds what was begun with another {', '.join(changed) or 'version'}. Give the same command "
                "to go on with it, remove it, or name another output."
            )
        self.finished: int | None = known["finished"] if known is not None and known.get("read") == read else None
        """How many frames an earlier run has made of the same files, None where none has finished."""
        try:
            for path in (folder, self.maps):
                path.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.attempts, ignore_errors=True)  # whoever ended an earlier run, it was no frame's fault
            for path in (folder, self.maps, self.maps / SOURCES, self.made, folder.parent):
                _sweep(path)
            if self.finished is None:
                self._write(finished=None)
        except OSError as error:
            raise RequestError(f"The folder {folder} cannot be made: {error.strerror}.") from error

    @property
    def begun(self) -> bool:
        """Whether there is anything from an earlier run."""
        return any(self.maps.iterdir())

    @property
    def maps(self) -> Path:
        """Where the depth maps are kept."""
        return self.folder / "maps"

    @property
    def attempts(self) -> Path:
        """Where the workers of this run count what they begin."""
        return self.folder / "attempts"

    @property
    def made(self) -> Path:
        """Where the :class:`Notes` of the result are."""
        return self.folder / "made"

    def finish(self, frames: int, *, keep_note: bool) -> None:
        """Remove what only this work needed; ``keep_note``: leave a note that so many ``frames`` are made."""
        for path in (self.maps, self.attempts):
            shutil.rmtree(path, ignore_errors=True)
        if keep_note:
            self._write(finished=frames)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _known(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._note.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RequestError(f"{self._note} cannot be read ({error}). Remove it to begin anew.") from error
        return found

    def _write(self, *, finished: int | None) -> None:
        with replacing(self._note) as part:
            text = json.dumps({"asked": self._asked, "read": self._read, "finished": finished}, indent=1)
            part.write_text(text, encoding="utf-8")


class Notes:
    """Tell of files what they were made from, so that none is kept when that has changed; in a folder of their own.

    A note is written after its file: whoever is killed in between makes the file again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def of(self, name: str) -> str | None:
        """What the file of that name was made from, None where that is not known."""
        try:
            return (self._folder / name).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None

    def write(self, name: str, source: str) -> None:
        """Say it. ``source``: as :meth:`of`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._folder / name) as part:
            part.write_text(source, encoding="ascii")

    def names(self) -> list[str]:
        """The files that something is known of."""
        return sorted(path.name for path in self._folder.iterdir()) if self._folder.is_dir() else []


def asked_of(options: Mapping[str, Any], leaving_out: Collection[str]) -> dict[str, Any]:
    """The options of a command as JSON holds them, but for those on which no result depends.

    Of a file its size and time count too: a mask that was painted over is another mask.
    """
    return {name: _plain(value) for name, value in options.items() if name not in (*leaving_out, *_NEVER)}


def digest() -> hashlib.blake2b:
    """An empty one, of 128 bits, for what a file was made from."""
    return hashlib.blake2b(digest_size=16)


def stamp(path: Path) -> str:
    """The size and the time of a file, by which a change is seen without reading it; empty where it cannot be asked."""
    try:
        status = path.stat()
    except OSError:  # it went since the folder was looked through, or its share does not answer; reading it tells that
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Path) and value.is_file():
        return [str(value), stamp(value)]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _sweep(folder: Path) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if _LEFT.match(path.name):
            path.unlink(missing_ok=True)
