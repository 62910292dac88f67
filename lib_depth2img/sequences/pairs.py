"""Depth maps of a folder, found by the names of the pictures they belong to."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ..errors import RequestError

__all__ = ["MAP_SUFFIXES", "MapFolder"]

MAP_SUFFIXES = (".npy", ".npz", ".exr", ".pfm", ".tiff", ".tif", ".png", ".pgm", ".webp", ".bmp", ".jpg", ".jpeg")
"""Of several maps for one picture the first kind in this order is taken: the one that keeps most of the depth."""

_MARK = re.compile(r"(?:^depth(?:[-_. ]?map)?[-_. ]+)|(?:[-_. ]+depth(?:[-_. ]?map)?$)")
_FRAME = re.compile(r"(\d+)\D*$")


@dataclass(frozen=True)
class _Map:
    path: Path
    marked: bool


class MapFolder:
    """The depth maps of one folder, found by a picture's name.

    ``a.png`` goes with ``a.*`` first, then with ``a_depth.*``, ``a-depth.*``, ``a_depthmap.*``, ``depth_a.*``; upper
    and lower case are the same. Failing that, with the only map of the same frame number (the last number in the
    name). In the pictures' own folder only marked names and files of bare numbers count, since all else there are
    pictures.

    Raises:
        RequestError: no such folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            files = sorted(path for path in folder.iterdir() if path.suffix.lower() in MAP_SUFFIXES)
        except OSError as error:
            raise RequestError(f"The folder of depth maps {folder} cannot be read: {error.strerror}.") from error
        self._by_name: dict[str, list[_Map]] = defaultdict(list)
        self._by_frame: dict[int, set[str]] = defaultdict(set)
        for path in files:
            stem = path.stem.casefold()
            name = _MARK.sub("", stem)
            self._by_name[stem].append(_Map(path, marked=False))
            if name != stem:
                self._by_name[name].append(_Map(path, marked=True))
            if frame := _FRAME.search(name):
                self._by_frame[int(frame[1])].add(name)

    def partner(self, picture: Path) -> Path | None:
        """The depth map of ``picture``, or None."""
        stem = picture.stem.casefold()
        own_folder = picture.parent.resolve() == self.folder.resolve()
        found = self._best(stem, own_folder)
        frame = _FRAME.search(stem)
        if found is None and frame and not own_folder:
            names = self._by_frame.get(int(frame[1]), set())
            found = self._best(next(iter(names)), own_folder) if len(names) == 1 else None
        return found

    def _best(self, name: str, own_folder: bool) -> Path | None:
        maps = self._by_name.get(name, [])
        if own_folder:
            maps = [each for each in maps if each.marked or each.path.suffix.lower() in MAP_SUFFIXES[:4]]
        ranked = sorted(maps, key=lambda each: (each.marked, MAP_SUFFIXES.index(each.path.suffix.lower())))
        return ranked[0].path if ranked else None
