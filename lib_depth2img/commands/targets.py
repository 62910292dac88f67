"""What a command reads, and the files it makes of it: one picture, several, a folder of them, or a wildcard."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..console import say
from ..depth.io.files import SUFFIXES
from ..depth.io.pictures import picture_suffixes
from ..errors import RequestError
from ..sequences.folders import exists, expanded, is_folder, pictures_in

__all__ = ["make_folders", "pictures_for_folder", "refuse_overwriting", "single_picture"]


def single_picture(named: Sequence[Path], output: Path) -> Path | None:
    """The picture where one was named, and a file for what is made of it; None where a folder has to do with it."""
    paths = expanded(named)
    return paths[0] if len(paths) == 1 and not is_folder(paths[0]) and not _is_folder(output) else None


def pictures_for_folder(named: Sequence[Path], output: Path) -> list[Path]:
    """The pictures that were named, and those in folders. What is passed over is said.

    Raises:
        RequestError: a folder without pictures, or an ``output`` that is no folder.
    """
    pictures: list[Path] = []
    for path in expanded(named):
        if is_folder(path):
            found = pictures_in(path)
            pictures += found.pictures
            for remark in found.remarks:
                say(remark, to=sys.stderr)
        else:
            pictures.append(path)
    if not _is_folder(output):
        raise RequestError(f"{len(pictures)} pictures do not go into the one file {output}; name a folder.")
    return pictures


def make_folders(targets: Iterable[Path]) -> None:
    """The folders that they lie in. Raises: RequestError."""
    for folder in {target.parent for target in targets}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"The folder {folder} cannot be made: {error.strerror}.") from error


def refuse_overwriting(targets: Iterable[Path], read: Iterable[Path]) -> None:
    """Raises: RequestError when a file to be written is one of those that are read, by whatever path, or cannot be."""
    identities = {_identity(path) for path in read if exists(path)}
    for target in targets:
        try:
            identity = _identity(target)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise RequestError(
                f"{target.name} cannot be written: {error.strerror}. Name another file or folder, or give the "
                "picture a shorter name."
            ) from error
        if identity in identities:
            raise RequestError(f"{target} is also what is read, and would be overwritten; name another file or folder.")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_folder(output: Path) -> bool:
    """A folder that is there, or a name that no file of pictures has: ``maps``, ``shot.v002``."""
    return is_folder(output) or output.suffix.lower() not in picture_suffixes().union(SUFFIXES)
