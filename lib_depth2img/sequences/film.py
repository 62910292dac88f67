"""Films: the frames of a video file, or of a folder of pictures, one after the other."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..depth.io.files import read_picture
from ..errors import Depth2ImgError, PictureError, RequestError
from .cuts import Cuts
from .folders import is_folder, pictures_in
from .work import digest

if TYPE_CHECKING:
    from types import ModuleType

    from PIL import Image

__all__ = ["Film", "Folder", "Group", "Shown", "Video", "groups", "open_film", "pyav"]

CARRIED = ("audio", "subtitle")
"""What a video is given of a film beside its pictures."""

TOGETHER = 8
"""Frames that go through a network together. The same ones in every run, since a network's last bits depend on it."""


@dataclass(frozen=True)
class Shown:
    """One frame. ``number``: counted from 0. ``name``: its number, or its file's name without the suffix. ``time`` and
    ``length``: of its being shown, in the film's time base. ``picture``: upright RGB; None for a broken frame, and
    ``fault`` says why.
    """

    number: int
    name: str
    time: int
    length: int
    picture: Image.Image | None
    fault: str = ""


@dataclass
class Film(ABC):
    """What has frames. ``count``: how many, None where only reading tells. ``tracks``: the numbers in its file of what
    is heard and of subtitles. ``remarks``: what was passed over.
    """

    path: Path
    rate: Fraction
    time_base: Fraction
    count: int | None = None
    tracks: tuple[int, ...] = ()
    pixel_shape: Fraction = Fraction(1)
    remarks: list[str] = field(default_factory=list)

    @property
    @abstractmethod
    def files(self) -> list[Path]:
        """What is read."""

    @abstractmethod
    def frames(self) -> Iterator[Shown]:
        """All frames in their order, each decoded when it is asked for."""

    @abstractmethod
    def paths(self) -> list[Path]:
        """A path for each frame, in their order, whose stem is the frame's name; of a video's there are no files."""


@dataclass
class Folder(Film):
    """The pictures of a folder in the order of their names, one after the other at ``rate``."""

    pictures: list[Path] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        return list(self.pictures)

    def frames(self) -> Iterator[Shown]:
        for number, path in enumerate(self.pictures):
            try:
                picture, fault = read_picture(path), ""
            except Depth2ImgError as error:
                picture, fault = None, str(error)
            yield Shown(number, path.stem, number, 1, picture, fault)

    def paths(self) -> list[Path]:
        return list(self.pictures)


@dataclass
class Video(Film):
    """A video file, by PyAV."""

    @property
    def files(self) -> list[Path]:
        return [self.path]

    def frames(self) -> Iterator[Shown]:
        av = pyav()
        with av.open(os.fspath(self.path)) as container:
            stream = container.streams.video[0]
            clock = _Clock(max(1, round(1 / (self.rate * self.time_base))))
            for number, found in enumerate(_decoded(av, container, stream)):
                yield self._shown(number, clock, found)

    def paths(self) -> list[Path]:
        av = pyav()
        with av.open(os.fspath(self.path)) as container:  # what it says of their number may be wrong
            count = sum(1 for _ in _decoded(av, container, container.streams.video[0]))
        return [self.path / _name(number) for number in range(count)]

    def _shown(self, number: int, clock: _Clock, found: Any) -> Shown:
        name = _name(number)
        if isinstance(found, str):
            return Shown(number, name, *clock.without(), None, f"{self.path.name}, frame {number}: {found}")
        time, length = clock.of(found)
        if found.is_corrupt:
            seconds = float(time * self.time_base)
            fault = f"{self.path.name}, frame {number} at {seconds:.2f} s is damaged."
            return Shown(number, name, time, length, None, fault)
        return Shown(number, name, time, length, _upright(found))


class _Clock:
    """Times of frames, also of those whose file tells none: behind the one before then."""

    def __init__(self, usual: int) -> None:
        self._usual = usual
        self._next = 0

    def of(self, frame: Any) -> tuple[int, int]:
        time = self._next if frame.pts is None else int(frame.pts)
        length = int(frame.duration or 0) or self._usual
        self._next = time + length
        return time, length

    def without(self) -> tuple[int, int]:
        time, self._next = self._next, self._next + self._usual
        return time, self._usual


def open_film(path: Path, rate: Fraction) -> Film:
    """The film at ``path``; ``rate``: frames per second of a folder, which says nothing of it.

    Raises:
        RequestError: there is none, PyAV is missing, or the folder holds no pictures.
        PictureError: a file that is no video.
    """
    if is_folder(path):
        found = pictures_in(path)
        _refuse_equal_names(found.pictures)
        return Folder(path, rate, 1 / rate, len(found.pictures), remarks=found.remarks, pictures=found.pictures)
    if not path.is_file():
        raise RequestError(f"There is no film at {path}; name a video file, or a folder of frames.")
    av = pyav()
    try:
        with av.open(os.fspath(path)) as container:
            if not container.streams.video:
                raise PictureError(f"{path.name} holds no moving pictures; name a video file, or a folder of frames.")
            stream = container.streams.video[0]
            return Video(
                path,
                stream.average_rate or stream.base_rate or rate,
                stream.time_base,
                stream.frames or None,
                tracks=tuple(each.index for each in container.streams if each.type in CARRIED),
                pixel_shape=stream.sample_aspect_ratio or Fraction(1),
            )
    except av.FFmpegError as error:
        raise PictureError(f"{path.name} cannot be read as a video ({_reason(error)}).") from error


def pyav() -> ModuleType:
    """The package. Raises: RequestError when it is missing."""
    try:
        import av
        import av.logging
    except ImportError as error:
        raise RequestError(
            'Video files need PyAV: pip install "sd-webui-depth2img[video]", or pip install av. Folders of frames work '
            "without it."
        ) from error
    av.logging.set_level(None)
    return av


@dataclass
class Group:
    """Frames of one shot that go through the network together. ``shot``: counted from 0. ``first``: of its shot.
    ``source``: the digest of all pictures of the shot up to the last one of the group, which is what its maps are made
    from.
    """

    shot: int
    first: bool
    frames: list[tuple[Shown, Image.Image]]
    source: str = ""


def groups(frames: Iterator[Shown]) -> Iterator[Group | Shown]:
    """The frames in groups of up to ``TOGETHER`` that no cut goes through; broken frames as they come, on their own."""
    cuts, shot = Cuts(), -1
    seen = digest()
    group: Group | None = None
    for shown in frames:
        if shown.picture is None:
            yield shown
            continue
        begins = cuts.begins(shown.picture)
        if group is not None and (begins or len(group.frames) == TOGETHER):
            yield group
            group = None
        shot += begins
        if group is None:
            group = Group(shot, begins, [])
        seen = digest() if begins else seen
        seen.update(f"{shown.picture.mode} {shown.picture.size}".encode())
        seen.update(shown.picture.tobytes())
        group.frames.append((shown, shown.picture))
        group.source = seen.hexdigest()
    if group is not None:
        yield group


def _name(number: int) -> str:
    return f"{number:08d}"


def _decoded(av: Any, container: Any, stream: Any) -> Iterator[Any]:
    """Frames, and sentences in the place of packets that could not be decoded."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.FFmpegError as error:
                yield f"it cannot be decoded ({_reason(error)})."
    except av.FFmpegError as error:
        yield f"the file ends in the middle ({_reason(error)})."


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error)


def _upright(frame: Any) -> Image.Image:
    """RGB of 8 bit, turned as the display matrix says: by so many degrees against the clock."""
    from PIL import Image

    array = frame.to_ndarray(format="rgb24")
    return Image.fromarray(np.ascontiguousarray(np.rot90(array, round(frame.rotation / 90) % 4)))


def _refuse_equal_names(pictures: list[Path]) -> None:
    stems = Counter(picture.stem.casefold() for picture in pictures)
    twice = sorted(stem for stem, count in stems.items() if count > 1)
    if twice:
        raise RequestError(
            f"Several frames are called {', '.join(twice[:5])}; their results would overwrite each other."
        )
