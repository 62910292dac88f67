"""``video`` on a cluster: what a worker of Ray does with a row of frames, and how the rows are made.

A row is a whole shot for the maps, since steadiness goes from frame to frame, and a few frames for what is made of
them.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import Depth2ImgError, RequestError
from ..sequences.cuts import Cuts
from ..sequences.film import Folder, Shown, open_film
from ..sequences.maps import Frame, Maps
from ..sequences.spread import Attempts
from ..sequences.steady import Steady
from ..sequences.work import Notes
from .depth import detail_of, estimator_of, weights_of
from .video_frames import Frames, extents_of, no_picture
from .workers import Workers

__all__ = ["Cluster"]

SCANNED = 64
"""Frames of a row that is only looked at for cuts."""

TOGETHER = 32
"""Frames of a row of which pictures are made."""

_BEFORE = 8
"""Frames before a row in which the last readable one is looked for."""


class Scanner:
    """Finds out where shots begin."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """``frames``: (number, path) of those to tell of; ``before``: paths of those before them."""
        cuts, begins = Cuts(), []
        for path in row["before"]:
            picture = _readable(path)
            if picture is not None:
                cuts.begins(picture)
        for number, path in row["frames"]:
            picture = _readable(path)
            if picture is not None and cuts.begins(picture):
                begins.append(number)
        return {"begins": begins}


class Mapper:
    """Makes the maps of a shot, with an estimator that stays loaded.

    ``at_once``: the folder that the depth maps of a shot go to as soon as all of them are there, where that is all.
    """

    def __init__(self, arguments: argparse.Namespace, maps: str, at_once: str | None) -> None:
        from ..estimators.cache import DepthCache

        self._arguments, self._at_once = arguments, at_once
        self._maps = Maps(Path(maps))
        self._made = Notes(Path(maps).parent / "made")
        self._attempts = Attempts(Path(maps).parent / "attempts")
        estimator = estimator_of(arguments, cache=DepthCache(0))
        self._estimate = functools.partial(estimator.estimate, detail=detail_of(arguments))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """``frames``: (number, path) of a whole shot; gives those that have a map now, and others' faults."""
        faults: list[str] = []
        name = f"shot-{row['shot']}"
        pictures = [Path(path) for _, path in row["frames"]]
        film = Folder(pictures[0].parent, self._arguments.fps, 1 / self._arguments.fps, pictures=pictures)
        try:
            self._attempts.begin(name, f"{name} ({pictures[0].name} to {pictures[-1].name})")
            made = self._maps.make(
                film,
                self._estimate,
                Steady(self._arguments.steady),
                broken=lambda shown: faults.append(shown.fault),
                done=lambda _: None,
            )
            if self._at_once is not None:
                self._finish(made, Path(self._at_once))
        except Depth2ImgError as error:
            return {"shot": row["shot"], "made": [], "faults": [*faults, str(error)], "through": len(pictures)}
        self._attempts.end(name)
        numbers = {Path(path).stem: number for number, path in row["frames"]}
        found = [(numbers[frame.name], frame.name, frame.size, frame.source) for frame in made]
        return {"shot": row["shot"], "made": found, "faults": faults, "through": len(pictures)}

    def _finish(self, made: Sequence[Frame], folder: Path) -> None:
        extents = extents_of(self._arguments, self._maps, made)
        frames = Frames(self._arguments, self._maps, extents, folder, self._made, [])
        for frame in made:
            frames.make(frame, no_picture)


class Writer:
    """Makes what is made of frames that have a map."""

    def __init__(self, frames: Frames, attempts: str) -> None:
        self._frames = frames
        self._attempts = Attempts(Path(attempts))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        name = f"frames-{row['first']}"
        try:
            first, last = (Path(path).name for _, path in (row["frames"][0], row["frames"][-1]))
            self._attempts.begin(name, f"{name} ({first} to {last})")
            for each, path in row["frames"]:
                self._frames.make(_frame(each), functools.partial(_picture, path))
        except Depth2ImgError as error:
            return {"faults": [str(error)], "through": len(row["frames"])}
        self._attempts.end(name)
        return {"faults": [], "through": len(row["frames"])}


class Cluster:
    """The passes of ``video`` over a folder of frames, on Ray.

    Raises:
        RequestError: Ray is missing or does not answer, or the film is a file.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        film = open_film(arguments.film, arguments.fps)
        if not isinstance(film, Folder):
            raise RequestError(
                "--ray takes a folder of frames, which every machine can read one by one; split the video first."
            )
        self._film = film
        if arguments.estimator is not None:
            arguments.weights = weights_of(arguments)
        self._workers = Workers(arguments)

    def close(self) -> None:
        """Leave the cluster."""
        self._workers.close()

    def maps(
        self, folder: Path, at_once: Path | None, *, broken: Callable[[Shown], None], done: Callable[[int], None]
    ) -> list[Frame]:
        """As :meth:`Maps.make`, shot by shot on the workers, which write depth maps to the folder ``at_once`` too."""
        shots = self._shots()
        rows = [{"shot": number, "frames": frames} for number, frames in enumerate(shots)]
        answers, through = {}, 0
        finished = None if at_once is None else str(at_once.absolute())
        arguments = (self._workers.sent, str(folder.absolute()), finished)
        for answer in self._workers.each(Mapper, arguments, rows):
            for fault in answer["faults"]:
                broken(_left_out(fault))
            answers[answer["shot"]] = answer["made"]
            through += answer["through"]
            done(through)
        return [
            Frame(number, name, number, 1, (size[0], size[1]), shot, source)
            for shot in sorted(answers)
            for number, name, size, source in answers[shot]
        ]

    def make(
        self, frames: Frames, made: Sequence[Frame], *, broken: Callable[[Shown], None], done: Callable[[int], None]
    ) -> None:
        """What is made of frames, on the workers."""
        parts = _parts(frames, made)
        rows = [
            {"first": part[0].name, "frames": [(_row(frame), str(self._film.pictures[frame.number])) for frame in part]}
            for part in parts
        ]
        through = len(made) - sum(map(len, parts))
        folder = frames.maps.folder.absolute()
        sent = dataclasses.replace(frames, arguments=self._workers.sent, folder=frames.folder.absolute())
        for answer in self._workers.each(Writer, (sent, str(folder.parent / "attempts")), rows):
            for fault in answer["faults"]:
                broken(_left_out(fault))
            through += answer["through"]
            done(through)

    def _shots(self) -> list[list[tuple[int, str]]]:
        """(number, path) of the frames of each shot."""
        paths = [(number, str(path.resolve())) for number, path in enumerate(self._film.pictures)]
        rows = [
            {
                "before": [path for _, path in paths[max(0, start - _BEFORE) : start]],
                "frames": paths[start : start + SCANNED],
            }
            for start in range(0, len(paths), SCANNED)
        ]
        begins = {number for answer in self._workers.each(Scanner, (), rows, light=True) for number in answer["begins"]}
        shots: list[list[tuple[int, str]]] = [[]]
        for number, path in paths:
            if number in begins and shots[-1] and min(begins) < number:
                shots.append([])
            shots[-1].append((number, path))
        return shots


def _readable(path: str) -> Any:
    from ..depth.io.files import read_picture

    try:
        return read_picture(Path(path))
    except Depth2ImgError:
        return None


def _picture(path: str) -> Any:
    from ..depth.io.files import read_picture

    return read_picture(Path(path))


def _parts(frames: Frames, made: Sequence[Frame]) -> list[list[Frame]]:
    """What each row makes: a few of the frames that are missing; where noise goes from frame to frame, a whole shot."""
    missing = [frame for frame in made if not frames.is_made(frame)]
    if frames.is_carried:
        unfinished = {frame.shot for frame in missing}
        shots = itertools.groupby(made, key=lambda frame: frame.shot)
        return [list(shot) for number, shot in shots if number in unfinished]
    return [missing[start : start + TOGETHER] for start in range(0, len(missing), TOGETHER)]


def _left_out(fault: str) -> Shown:
    return Shown(0, "", 0, 1, None, fault)


def _row(frame: Frame) -> list[Any]:
    return [frame.number, frame.name, frame.time, frame.length, list(frame.size), frame.shot, frame.source]


def _frame(row: Sequence[Any]) -> Frame:
    number, name, time, length, (width, height), shot, source = row
    return Frame(number, name, time, length, (width, height), shot, source)
