"""The folder in which a long command keeps what it has done, so that the same command goes on with it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..replacing import replacing

__all__ = ["Work", "asked_of"]

_LEFT = re.compile(r"\..*\.[0-9a-f]{12}\.part$")
"""What ``replacing`` leaves behind when the process is killed."""

_NEVER = ("command", "run", "output", "quiet", "ray", "ray_cores")
"""Options of all commands on which no result depends."""


class Work:
    """A folder of one command on one film.

    ``asked``: all that decides about the result, as JSON holds it.

    Raises:
        RequestError: the folder is another command's, or cannot be made.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any]) -> None:
        self.folder, self._asked = folder, json.loads(json.dumps(asked))
        self._note = folder / "job.json"
        known = self._known()
        if known is not None and known["asked"] != self._asked:
            changed = sorted(name for name in self._asked if known["asked"].get(name) != self._asked[name])
            raise RequestError(
                f"{folder} holds what was begun with another {', '.join(changed) or 'version'}. Give the same command "
                "to go on with it, remove it, or name another output."
            )
        self.finished: int | None = known["finished"] if known is not None else None
        """How many frames an earlier run has made, None where none has finished."""
        try:
            for path in (folder, self.maps):
                path.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.attempts, ignore_errors=True)  # whoever ended an earlier run, it was no frame's fault
            for path in (folder, self.maps, folder.parent):
                _sweep(path)
            if known is None:
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
            part.write_text(json.dumps({"asked": self._asked, "finished": finished}, indent=1), encoding="utf-8")


def asked_of(options: Mapping[str, Any], leaving_out: Collection[str]) -> dict[str, Any]:
    """The options of a command as JSON holds them, but for those on which no result depends."""
    return {name: _plain(value) for name, value in options.items() if name not in (*leaving_out, *_NEVER)}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _sweep(folder: Path) -> None:
    for path in folder.iterdir():
        if _LEFT.match(path.name):
            path.unlink(missing_ok=True)
