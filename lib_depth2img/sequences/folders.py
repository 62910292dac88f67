"""The pictures of a folder, and where what is made of them goes."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..depth.io.pictures import picture_suffixes
from ..errors import RequestError

__all__ = ["Found", "exists", "expanded", "is_folder", "listed", "map_targets", "pictures_in", "targets_in"]

_OF_PHONES = {".heic": "HEIC", ".heif": "HEIF", ".avif": "AVIF", ".jxl": "JPEG XL"}

_COMPANION = re.compile(r"\.|~|thumbs\.db$|desktop\.ini$|.*\.part$", re.IGNORECASE)
"""Files that systems and programs leave beside others, such as macOS's ``._a.png``."""

_OWN = "_depth"
"""What the name of a map ends with that lies beside its picture."""


@dataclass(frozen=True)
class Found:
    """What lies in a folder: pictures, in the order of their names, and remarks on what else lies there."""

    pictures: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def pictures_in(folder: Path) -> Found:
    """The pictures in ``folder``, not in folders inside it.

    Maps that lie beside the pictures they were made of are none (``a_depth.png`` beside ``a.*``). Other files are told
    of in the remarks, but for companions, which systems leave there.

    Raises:
        RequestError: it cannot be read, or holds no pictures.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not _COMPANION.match(path.name))
    except OSError as error:
        raise RequestError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    suffixes = picture_suffixes()
    named = [path for path in files if path.suffix.lower() in suffixes]
    names = {name for path in named for name in (path.stem, path.name)}  # a.png of a.jpg and a.png keeps its suffix
    own = [path for path in files if path.stem.endswith(_OWN) and path.stem.removesuffix(_OWN) in names]
    unreadable = [path for path in files if path.suffix.lower() in _OF_PHONES.keys() - suffixes]
    known, ours = {*named, *unreadable, *own}, set(own)
    other = [path for path in files if path not in known]
    found = Found([path for path in named if path not in ours], [])
    if own:
        found.remarks.append(f"Left alone, as maps of the pictures beside them: {listed(own)}.")
    for path in unreadable:
        kind = _OF_PHONES[path.suffix.lower()]
        found.remarks.append(f"Passed over: {path.name}. Pillow opens no {kind} here; convert it to JPEG or PNG.")
    if other:
        found.remarks.append(f"Passed over, as no pictures: {listed(other)}.")
    if not found.pictures:
        said = " ".join(found.remarks)
        raise RequestError(f"{folder} holds no pictures (.png, .jpg, .webp, .tif and others). {said}".rstrip())
    return found


def listed(files: Sequence[Path]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(path.name for path in files[:5])
    return shown if len(files) <= 5 else f"{shown} and {len(files) - 5} more"


def expanded(named: Iterable[Path]) -> list[Path]:
    """Paths as they are, and what their wildcards stand for: cmd.exe hands ``*.png`` on as it was typed."""
    paths: list[Path] = []
    for path in named:
        matches = [] if exists(path) else sorted(glob.glob(os.fspath(path)))  # noqa: PTH207 - of whole paths
        paths += map(Path, matches) if matches else [path]
    return paths


def exists(path: Path) -> bool:
    """Whether it is there; False also for names that the system does not take, at which pathlib raises until 3.14."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """As :func:`exists`, of a folder."""
    return os.path.isdir(path)  # noqa: PTH112


def map_targets(pictures: Sequence[Path], folder: Path, suffix: str) -> dict[Path, Path]:
    """Where the map of each picture goes, as :func:`targets_in`.

    Beside the pictures the name ends with ``_depth``, so that no picture is overwritten and the next run knows it.

    Raises:
        RequestError: two pictures would go to one file.
    """
    beside = any(_same(parent, folder) for parent in {picture.parent for picture in pictures})
    return targets_in(folder, pictures, f"{_OWN if beside else ''}{suffix}", "depth maps")


def targets_in(folder: Path, pictures: Sequence[Path], ending: str, what: str) -> dict[Path, Path]:
    """Where ``what`` is made of each picture goes: its name with ``ending`` in ``folder``.

    Pictures that share a name keep their own suffix: ``a.jpg.png`` and ``a.png.png``.

    Raises:
        RequestError: two pictures would go to one file.
    """
    shared = Counter(picture.stem.casefold() for picture in pictures)
    targets = {}
    for picture in pictures:
        stem = picture.stem if shared[picture.stem.casefold()] == 1 else picture.name
        targets[picture] = folder / f"{stem}{ending}"
    twice = [name for name, count in Counter(path.name.casefold() for path in targets.values()).items() if count > 1]
    if twice:
        raise RequestError(
            f"Several pictures are called {', '.join(sorted(twice))}; their {what} would overwrite each other."
        )
    return targets


def _same(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()
