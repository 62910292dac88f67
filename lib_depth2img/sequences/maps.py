"""The depth maps of a film: estimated, or the user's own; made steady, and kept in a folder until the film is done."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..depth.depth_map import DepthMap
from ..depth.extent import Extent
from ..errors import DepthMapError
from ..replacing import replacing
from .film import Film, Group, Shown, groups
from .own_maps import OwnMaps
from .steady import Steady
from .work import SOURCES, Notes, digest

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Frame", "Maps"]

Estimate = Callable[[Sequence["Image.Image"]], Sequence[DepthMap]]

_Kept = tuple[Shown, "Image.Image", str]
"""A frame that has a map now, its picture, and the digest of what the map was made from."""


@dataclass(frozen=True)
class Frame:
    """A frame that has a map: its number and its shot, both from 0 on, its name, when and how long it is shown, and its
    (width, height). ``source``: the digest of all that its map was made from.
    """

    number: int
    name: str
    time: int
    length: int
    size: tuple[int, int]
    shot: int
    source: str


class Maps:
    """The maps of a film's frames in ``folder``, on the network's grid, each a NPY of float32 under its frame's name.

    A map that is there, and was made from the same pictures, is not estimated again: what was interrupted goes on
    behind it, and gives the same bytes, since the groups that go through the network together are the same and
    steadiness remembers the frame before only. A map on the [0, 1] scale, which only own ones are, has a leading axis
    of one.

    ``own``: the user's maps, in the place of estimates. They are read where they lie, unless they are made steady.
    """

    def __init__(self, folder: Path, own: OwnMaps | None = None) -> None:
        self.folder, self._own = folder, own
        self._notes = Notes(folder / SOURCES)
        self._before = ""  # the source of the own map before

    def make(
        self,
        film: Film,
        estimate: Estimate,
        steady: Steady,
        *,
        broken: Callable[[Shown], None],
        done: Callable[[int], None],
    ) -> list[Frame]:
        """Make those that are missing; the frames, in their order.

        ``broken``: told of each frame that cannot be read, which is left out; what it raises ends all. ``done``: told
        how many frames are through.

        Raises:
            DepthMapError: a map cannot be written.
        """
        keep = functools.partial(self._make_group, estimate, steady)
        return self._through(film, keep, broken=broken, done=done)

    def take(
        self, film: Film, steady: Steady, *, broken: Callable[[Shown], None], done: Callable[[int], None]
    ) -> list[Frame]:
        """As :meth:`make`, of the user's own: those that cannot be read are told of as broken frames.

        Raises:
            DepthMapError: a map cannot be written.
        """
        keep = functools.partial(self._take_group, steady, broken)
        return self._through(film, keep, broken=broken, done=done)

    def read(self, name: str) -> DepthMap:
        """The map of a frame. Raises: DepthMapError for an own one that cannot be read."""
        path = self._path(name)
        if self._own is not None and not path.exists():
            return self._own.read(name)
        return self._kept(name)

    def _kept(self, name: str) -> DepthMap:
        values = np.load(self._path(name), allow_pickle=False)
        return DepthMap(values.reshape(values.shape[-2:]), unit=values.ndim == 3)

    def _through(
        self,
        film: Film,
        keep: Callable[[Group], Sequence[_Kept]],
        *,
        broken: Callable[[Shown], None],
        done: Callable[[int], None],
    ) -> list[Frame]:
        """The frames that ``keep`` has found or made maps of."""
        frames: list[Frame] = []
        through = 0
        for group in groups(film.frames()):
            if isinstance(group, Shown):
                broken(group)
                through += 1
            else:
                frames += [
                    Frame(shown.number, shown.name, shown.time, shown.length, picture.size, group.shot, source)
                    for shown, picture, source in keep(group)
                ]
                through += len(group.frames)
            done(through)
        return frames

    def extents(self, frames: Sequence[Frame], clip: float, *, by_shot: bool) -> dict[int, Extent]:
        """By shot the lowest and highest of its maps, or those of the whole film.

        ``clip``: the share of each map's nearest and farthest pixels that are left out.
        """
        by_number: dict[int, list[Extent]] = defaultdict(list)
        for frame in frames:
            by_number[frame.shot if by_shot else 0].append(self.read(frame.name).without_extremes(clip).extent)
        found = {number: _around(extents) for number, extents in by_number.items()}
        return {frame.shot: found[frame.shot if by_shot else 0] for frame in frames}

    def _make_group(self, estimate: Estimate, steady: Steady, group: Group) -> Sequence[_Kept]:
        kept = [(shown, picture, group.source) for shown, picture in group.frames]
        pictures = [picture for _, picture in group.frames]
        names = [shown.name for shown, _ in group.frames]
        if all(self._is_made(name, group.source) for name in names):
            steady.resumed(pictures[-1], self._kept(names[-1]))
            return kept
        for name, picture, depth_map in zip(names, pictures, estimate(pictures), strict=True):
            self._write(name, steady.following(picture, depth_map), group.source)
        return kept

    def _take_group(self, steady: Steady, broken: Callable[[Shown], None], group: Group) -> Sequence[_Kept]:
        assert self._own is not None
        kept: list[_Kept] = []
        before = "" if group.first or steady.is_off else self._before
        for shown, picture in group.frames:
            try:
                own = self._own.read(shown.name)
            except DepthMapError as error:
                broken(dataclasses.replace(shown, picture=None, fault=str(error)))
                continue
            source = _digest_of(group.source, "" if steady.is_off else before, own)
            before = source
            kept.append((shown, picture, source))
            if steady.is_off:
                continue
            if self._is_made(shown.name, source):
                steady.resumed(picture, self._kept(shown.name))
            else:
                self._write(shown.name, steady.following(picture, own), source)
        self._before = before
        return kept

    def _is_made(self, name: str, source: str) -> bool:
        return self._path(name).exists() and self._notes.of(name) == source

    def _write(self, name: str, depth_map: DepthMap, source: str) -> None:
        file = io.BytesIO()
        np.save(file, depth_map.values[None] if depth_map.unit else depth_map.values, allow_pickle=False)
        try:
            with replacing(self._path(name)) as part:
                part.write_bytes(file.getvalue())
            self._notes.write(name, source)
        except OSError as error:
            raise DepthMapError(f"{self._path(name)} cannot be written: {error.strerror}.") from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


def _digest_of(pictures: str, before: str, own: DepthMap) -> str:
    """Of an own map with all that becomes of it: the ``pictures`` of its shot, and the own maps ``before`` it there."""
    found = digest()
    found.update(f"{pictures} {before} {own.unit} {own.values.shape}".encode())
    found.update(own.values.tobytes())
    return found.hexdigest()


def _around(extents: Sequence[Extent]) -> Extent:
    """The extent that holds all of them; a flat one is given a length, in which all lies at its lower end."""
    lowest, highest = min(low for low, _ in extents), max(high for _, high in extents)
    return (lowest, highest) if lowest < highest else (lowest, lowest + max(abs(lowest), 1.0))
