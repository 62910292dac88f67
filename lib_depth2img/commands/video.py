"""``python -m lib_depth2img video``: a film to its depth maps, or to new pictures with the same depth.

Three passes, each of which goes on where it was interrupted: the maps, which are made steady and kept; what is made of
them, frame by frame; and the video, which is written from the frames. So a range of all frames can be known, and no
memory grows with the length.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..console import ProgressBar, say
from ..errors import PictureError, RequestError
from ..estimators.presets import DEFAULT_PRESET
from ..progress import Progress
from ..sequences.film import Shown, open_film
from ..sequences.folders import listed
from ..sequences.maps import Frame, Maps
from ..sequences.steady import STEADINESS, Steady
from ..sequences.video import TENTH_BIT, check_video, is_video, write_video
from ..sequences.work import Notes, Work, asked_of, digest, stamp
from .depth import FORMATS, SMALL, add_adjustments, add_estimator, detail_of, estimator_of
from .generation import add_generation
from .video_frames import FIXED, NOISES, SEQUENCE, Frames, Maker, by_hand_of, extents_of, no_picture
from .video_maps import add_own_maps, own_maps_of, tell_of_own
from .video_workers import Cluster
from .workers import add_ray

if TYPE_CHECKING:
    from PIL import Image

    from ..estimators.estimator import DepthEstimator

__all__ = ["add_parser"]

STEADY = 0.9


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``video`` to the command line."""
    parser = subparsers.add_parser(
        "video",
        help="a film to its depth maps, or to new pictures with the same depth",
        description="A video file, or a folder of frames, to a video (.mp4, .mov, .mkv), a folder of frames, or both. "
        "Interrupted, the same command goes on where it stopped.",
    )
    parser.add_argument("film", type=Path, metavar="IN", help="a video file, or a folder of frames")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, action="append", metavar="OUT", help="may be given twice"
    )
    parser.add_argument("--depth-only", action="store_true", help="the depth maps; grey of 10 bits in a video")
    parser.add_argument("--prompt", help="of the pictures, where they are no depth maps")
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="lines such as 0-99: a prompt, by frames from 0 on"
    )
    parser.add_argument(
        "--range",
        default="shot",
        metavar="RANGE",
        help="what maps are scaled by: the lowest and highest of each picture, each shot or the sequence, or LO:HI in "
        "the unit of the maps; default %(default)s",
    )
    low, high, _ = STEADINESS
    parser.add_argument(
        "--steady",
        type=float,
        metavar="X",
        help=f"how much is carried over from frame to frame, {low:g} (nothing) to {high:g}; default {STEADY:g}, and 0 "
        "for --maps",
    )
    parser.add_argument(
        "--noise",
        choices=NOISES,
        default=FIXED,
        help="of pictures: in every frame the same, or moved along with what is seen; default %(default)s",
    )
    parser.add_argument("--fps", type=Fraction, default=Fraction(25), help="of a folder of frames; default %(default)s")
    parser.add_argument(
        "--broken", choices=("skip", "stop"), default="skip", help="frames that cannot be read; default %(default)s"
    )
    parser.add_argument("--format", choices=FORMATS, default="png", help="of maps in a folder; default %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_ray(parser, "a folder of frames")
    add_own_maps(parser)
    add_estimator(parser, None)
    add_adjustments(parser)
    add_generation(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make all frames and the video; returns 0, or 2 when some frames could not be read."""
    job = _Job(arguments)
    with ProgressBar(quiet=arguments.quiet) as bar:
        if not job.is_done():
            job.run(bar)
    for output in arguments.output:
        print(output)
    return 2 if job.broken else 0


class _Job:
    """One call of the command, checked before any work."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.depth_only = bool(arguments.depth_only)
        self.detail, self.by_hand = detail_of(arguments), by_hand_of(arguments)
        if arguments.steady is None:
            arguments.steady = STEADY if arguments.maps is None else 0.0
        self.steady = Steady(arguments.steady)
        self.video, self.folder = _outputs(arguments.output)
        self.film = open_film(arguments.film, _checked_rate(arguments.fps))
        self.prompts = _prompts(arguments)
        self._check_outputs()
        self.own = own_maps_of(arguments, self.film)
        asked = self._asked()
        if arguments.estimator is None and self.own is None and (self.depth_only or arguments.ray):
            self._choose_estimator()
        self.cluster = Cluster(arguments) if arguments.ray else None
        self.work = Work(self._work_folder(), asked, self._read())
        self.maps = Maps(self.work.maps.absolute(), self.own)
        self.broken = 0

    def is_done(self) -> bool:
        """Whether an earlier run has finished, and what it made is there."""
        if self.work.finished is None or self.folder is None or (self.video is not None and not self.video.exists()):
            return False
        suffix = self.arguments.format if self.depth_only else "png"
        return len(list(self.folder.glob(f"*.{suffix}"))) >= self.work.finished

    def run(self, bar: ProgressBar) -> None:
        for remark in self.film.remarks:
            say(remark, to=sys.stderr)
        if self.work.begun:
            say(f"going on with {self.work.folder}", to=sys.stderr)
        made, maker = self._maps(bar)
        if not made:
            raise PictureError(f"Not one frame of {self.film.path} can be read.")
        folder = self.folder or self.work.folder / "frames"
        extents = extents_of(self.arguments, self.maps, made)
        frames = Frames(self.arguments, self.maps, extents, folder, Notes(self.work.made), self.prompts, maker)
        if self.folder is not None or not self.depth_only:
            self._tell_of_changes(frames, made)
            phase = "writing" if self.depth_only else "sampling"
            self._make(frames, made, self._shown(bar, phase), self._told(bar))
            made = [frame for frame in made if frames.is_made(frame)]
        if self.video is not None:
            pictures = self._pictures(frames, made, self._shown(bar, "writing video"))
            grey, square = self.depth_only, not self.depth_only
            write_video(self.video, self.film, pictures, grey=grey, square=square)
        if self.cluster is not None:
            self.cluster.close()
        self.work.finish(len(made), keep_note=self.folder is not None)

    def _maps(self, bar: ProgressBar) -> tuple[list[Frame], Maker | None]:
        """The first pass; the maker, where one was needed for its estimator."""
        broken, done = self._told(bar), self._shown(bar, "estimating")
        if self.cluster is not None and self.own is None:
            at_once = self.folder if self.depth_only and self.arguments.range != SEQUENCE else None
            return self.cluster.maps(self.work.maps, at_once, broken=broken, done=done), None
        maker = None if self.depth_only or self.cluster is not None else Maker(self.arguments)
        if self.own is not None:
            made = self.maps.take(self.film, self.steady, broken=broken, done=self._shown(bar, "checking"))
            tell_of_own(self.maps, made, self.by_hand)
            return made, maker
        estimator = self._estimator(maker)
        estimate = functools.partial(estimator.estimate, detail=self.detail)
        made = self.maps.make(self.film, estimate, self.steady, broken=broken, done=done)
        estimator.release()
        return made, maker

    def _check_outputs(self) -> None:
        if self.arguments.seed == -1:
            raise RequestError("--seed -1 draws another one for each run, which could not go on then; name a seed.")
        if not self.depth_only and self.arguments.prompt is None and self.arguments.prompts is None:
            raise RequestError("Name a --prompt for the pictures, or --depth-only for the depth maps.")
        for output in (self.video, self.folder):
            if output is not None and output.resolve() == self.film.path.resolve():
                raise RequestError(f"{output} is also what is read; name another output.")
        if self.video is not None:
            self.film.remarks += check_video(self.video, self.film, grey=self.depth_only)
        if self.folder is not None and not (self.folder / ".depth2img").exists() and _has_files(self.folder):
            raise RequestError(f"{self.folder} holds other files; name a folder that is empty, or not there yet.")

    def _choose_estimator(self) -> None:
        """The usual one, or, for pictures, by name what is inside the checkpoint."""
        given = self.arguments
        given.estimator = DEFAULT_PRESET
        if not self.depth_only:
            given.estimator = SMALL if given.checkpoint is None else DEFAULT_PRESET
            given.weights = given.checkpoint
            given.precision = "float32" if given.precision == "auto" else given.precision

    def _work_folder(self) -> Path:
        if self.folder is not None:
            return self.folder / ".depth2img"
        assert self.video is not None
        return self.video.with_name(f"{self.video.name}.work")

    def _asked(self) -> dict[str, Any]:
        paths = {"film": self.film.path, "maps": self.arguments.maps}
        return {
            **asked_of(vars(self.arguments), paths),
            **{name: None if path is None else os.fspath(path.resolve()) for name, path in paths.items()},
            "prompts": self.prompts,
        }

    def _read(self) -> str:
        """The digest of the stamps of all files that are read."""
        found = digest()
        for path in (*self.film.files, *(self.own.files if self.own is not None else ())):
            found.update(os.fsencode(f"{path.name} {stamp(path)}\n"))
        return found.hexdigest()

    def _tell_of_changes(self, frames: Frames, made: Sequence[Frame]) -> None:
        """Say which files of an earlier run are made again, and which are of no frame any more."""
        noted = set(frames.notes.names())
        again = [frame.name for frame in made if frame.name in noted and not frames.is_made(frame)]
        if again:
            text = f"Made again, since what they are made from has changed: {len(again)} frames, the first {again[0]}."
            say(text, to=sys.stderr)
        gone = sorted(noted - {frame.name for frame in made})
        if gone and self.folder is not None:
            named = listed([Path(name) for name in gone])
            say(f"{frames.folder} holds files of frames that are gone, or left out now: {named}.", to=sys.stderr)

    def _estimator(self, maker: Maker | None) -> DepthEstimator:
        from ..estimators.cache import DepthCache

        own = None if maker is None else maker.model.estimator
        if own is not None and self.arguments.estimator is None:
            own.cache.max_bytes = 0  # no frame comes twice
            return own
        return estimator_of(self.arguments, cache=DepthCache(0))

    def _make(
        self, frames: Frames, made: Sequence[Frame], done: Callable[[int], None], broken: Callable[[Shown], None]
    ) -> None:
        """Each frame's file that is missing."""
        if all(frames.is_made(frame) for frame in made):
            return
        if self.cluster is not None:
            self.cluster.make(frames, made, broken=broken, done=done)
            return
        if self.depth_only:
            for number, frame in enumerate(made):
                frames.make(frame, no_picture)
                done(number + 1)
            return
        unfinished = {frame.shot for frame in made if not frames.is_made(frame)}
        by_name = {frame.name: frame for frame in made if frame.shot in unfinished}
        for shown in self.film.frames():
            if shown.name in by_name and shown.picture is not None:
                frames.make(by_name[shown.name], functools.partial(_given, shown.picture))
            done(shown.number + 1)

    def _pictures(
        self, frames: Frames, made: Sequence[Frame], done: Callable[[int], None]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """What the video is written from. Raises: RequestError where the sizes differ."""
        first: tuple[int, ...] | None = None
        for number, frame in enumerate(made):
            if self.depth_only:
                values = frames.map(frame).scaled().values
                array = np.rint(values.clip(0.0, 1.0) * TENTH_BIT).astype(np.uint16)
            else:
                array = _read_png(frames.target(frame))
            first = first or array.shape
            if array.shape != first:
                raise RequestError(f"The frames differ in size (from {frame.name} on); name a folder, not a video.")
            yield frame.time, frame.length, array
            done(number + 1)

    def _told(self, bar: ProgressBar) -> Callable[[Shown], None]:
        def told(shown: Shown) -> None:
            if self.arguments.broken == "stop":
                raise PictureError(f"{shown.fault} Mend it, or leave it out with --broken skip.")
            self.broken += 1
            bar.say(f"left out: {shown.fault}")

        return told

    def _shown(self, bar: ProgressBar, phase: Any) -> Callable[[int], None]:
        return lambda done: bar.show(Progress(phase, self.film.path.name, done, self.film.count, unit="frame"))


def _outputs(named: Sequence[Path]) -> tuple[Path | None, Path | None]:
    """The video and the folder. Raises: RequestError for two of a kind, or a file that is neither."""
    videos = [path for path in named if is_video(path)]
    folders = [path for path in named if path not in videos]
    if len(videos) > 1 or len(folders) > 1:
        raise RequestError("-o takes one video and one folder; got two of a kind.")
    if folders and folders[0].is_file():
        raise RequestError(f"{folders[0]} is a file; name a folder, or a video: .mp4, .mov or .mkv.")
    return (videos or [None])[0], (folders or [None])[0]  # type: ignore[list-item]


def _checked_rate(rate: Fraction) -> Fraction:
    if not 0 < rate <= 1000:
        raise RequestError(f"--fps: got {rate}, expected more than 0 and at most 1000.")
    return rate


def _prompts(arguments: argparse.Namespace) -> list[tuple[int, int, str]]:
    """From the lines of ``--prompts``: first frame, last frame, prompt. Raises: RequestError."""
    if arguments.prompts is None:
        return []
    try:
        lines = arguments.prompts.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{arguments.prompts} cannot be read: {error}.") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"\s*(\d+)(-(\d*))?\s*:\s*(.+)", line)
        if match is None:
            raise RequestError(
                f"{arguments.prompts}, line {number}: got {line[:40]!r}, expected frames and a prompt: 0-99: a forest."
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[3]) if match[3] else sys.maxsize
        found.append((first, last, match[4].strip()))
    return found


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _given(picture: Image.Image) -> Image.Image:
    return picture


def _read_png(path: Path) -> np.ndarray:
    from ..depth.io.files import read_picture

    return np.asarray(read_picture(path))
