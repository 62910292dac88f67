"""``python -m lib_depth2img video``: a film to its depth maps, or to new pictures with the same depth.

Three passes, each of which goes on where it was interrupted: the maps, which are made steady and kept; what is made of
them, frame by frame; and the video, which is written from the frames. So a range of all frames can be known, and no
memory grows with the length.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..console import ProgressBar, say
from ..depth.control import Control
from ..errors import PictureError, RequestError
from ..estimators.presets import DEFAULT_PRESET
from ..progress import Progress
from ..sequences.film import Shown, open_film
from ..sequences.maps import Frame, Maps
from ..sequences.steady import STEADINESS, Steady
from ..sequences.video import TENTH_BIT, check_video, is_video, write_video
from ..sequences.work import Work
from .depth import FORMATS, add_adjustments, add_estimator, adjustments_of, detail_of, estimator_of, extent_of
from .img2img import add_generation, load, parameters_of, write_picture

if TYPE_CHECKING:
    from PIL import Image

    from ..depth.depth_map import DepthMap
    from ..depth.extent import Extent
    from ..estimators.estimator import DepthEstimator
    from ..standalone.loading import Model

__all__ = ["add_parser"]

RANGES = ("picture", "shot", "sequence")
STEADY = 0.9
_DECIDES_NOTHING = ("film", "output", "quiet", "run", "command", "ray")
"""Options that the frames do not depend on."""


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
        "the estimator's unit; default %(default)s",
    )
    low, high, _ = STEADINESS
    parser.add_argument(
        "--steady",
        type=float,
        default=STEADY,
        metavar="X",
        help=f"how much is carried over from frame to frame, {low:g} (nothing) to {high:g}; default %(default)s",
    )
    parser.add_argument("--fps", type=Fraction, default=Fraction(25), help="of a folder of frames; default %(default)s")
    parser.add_argument(
        "--broken", choices=("skip", "stop"), default="skip", help="frames that cannot be read; default %(default)s"
    )
    parser.add_argument("--format", choices=FORMATS, default="png", help="of maps in a folder; default %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
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
        self.adjustments, self.detail = adjustments_of(arguments), detail_of(arguments)
        self.by_hand = None if arguments.range in RANGES else extent_of(arguments)
        self.steady = Steady(arguments.steady)
        self.video, self.folder = _outputs(arguments.output)
        self.film = open_film(arguments.film, _checked_rate(arguments.fps))
        self.prompts = _prompts(arguments)
        self._check_outputs()
        self.work = Work(self._work_folder(), self._asked())
        self.maps = Maps(self.work.maps)
        self.broken = 0

    def is_done(self) -> bool:
        """Whether an earlier run has finished, and what it made is there."""
        return self.work.finished and (self.video is None or self.video.exists())

    def run(self, bar: ProgressBar) -> None:
        for remark in self.film.remarks:
            say(remark, to=sys.stderr)
        if self.work.begun:
            say(f"going on with {self.work.folder}", to=sys.stderr)
        maker = None if self.depth_only else _Maker(self.arguments, self.prompts)
        estimator = self._estimator(maker)
        estimate = functools.partial(estimator.estimate, detail=self.detail)
        frames = self.maps.make(
            self.film, estimate, self.steady, broken=self._told(bar), done=self._shown(bar, "estimating")
        )
        estimator.release()
        if not frames:
            raise PictureError(f"Not one frame of {self.film.path} can be read.")
        extents = self._extents(frames)
        self._make(frames, extents, maker, self._shown(bar, "writing" if maker is None else "sampling"))
        if self.video is not None:
            pictures = self._pictures(frames, extents, self._shown(bar, "writing video"))
            grey, square = self.depth_only, not self.depth_only
            write_video(self.video, self.film, pictures, grey=grey, square=square)
        self.work.finish(keep_note=self.folder is not None)

    def _check_outputs(self) -> None:
        if self.arguments.seed == -1:
            raise RequestError("--seed -1 draws another one for each run, which could not go on then; name a seed.")
        if not self.depth_only and self.arguments.prompt is None and self.arguments.prompts is None:
            raise RequestError("Name a --prompt for the pictures, or --depth-only for the depth maps.")
        for output in (self.video, self.folder):
            if output is not None and output.resolve() == self.film.path.resolve():
                raise RequestError(f"{output} is also what is read; name another output.")
        if self.video is not None:
            check_video(self.video, self.film, grey=self.depth_only)
        if self.folder is not None and not (self.folder / ".depth2img").exists() and _has_files(self.folder):
            raise RequestError(f"{self.folder} holds other files; name a folder that is empty, or not there yet.")

    def _work_folder(self) -> Path:
        if self.folder is not None:
            return self.folder / ".depth2img"
        assert self.video is not None
        return self.video.with_name(f"{self.video.name}.work")

    def _asked(self) -> dict[str, Any]:
        asked = {name: _plain(value) for name, value in vars(self.arguments).items() if name not in _DECIDES_NOTHING}
        return {**asked, "film": self.film.identity, "prompts": self.prompts}

    def _estimator(self, maker: _Maker | None) -> DepthEstimator:
        from ..estimators.cache import DepthCache

        own = None if maker is None else maker.model.estimator
        if own is not None and self.arguments.estimator is None:
            own.cache.max_bytes = 0  # no frame comes twice
            return own
        self.arguments.estimator = self.arguments.estimator or DEFAULT_PRESET
        return estimator_of(self.arguments, cache=DepthCache(0))

    def _extents(self, frames: Sequence[Frame]) -> dict[int, Extent | None]:
        if self.arguments.range in ("shot", "sequence"):
            by_shot = self.arguments.range == "shot"
            return dict(self.maps.extents(frames, self.adjustments.clip, by_shot=by_shot))
        return {frame.shot: self.by_hand for frame in frames}

    def _map(self, frame: Frame, extents: dict[int, Extent | None]) -> DepthMap:
        depth_map = self.maps.read(frame.name)
        return depth_map.adjusted(self.adjustments, extent=extents[frame.shot]).resized(frame.size)

    def _make(
        self,
        frames: Sequence[Frame],
        extents: dict[int, Extent | None],
        maker: _Maker | None,
        done: Callable[[int], None],
    ) -> None:
        """Each frame's file that is missing."""
        from ..depth.io.files import save_depth_map

        if maker is not None:
            self._generate(frames, extents, maker, done)
            return
        for number, frame in enumerate(frames if self.folder is not None else ()):
            target = self._target(frame)
            if not target.exists():
                save_depth_map(self._map(frame, extents), target)
            done(number + 1)

    def _generate(
        self,
        frames: Sequence[Frame],
        extents: dict[int, Extent | None],
        maker: _Maker,
        done: Callable[[int], None],
    ) -> None:
        by_name = {frame.name: frame for frame in frames}
        if all(self._target(frame).exists() for frame in frames):
            return
        for number, shown in enumerate(self.film.frames()):
            frame = by_name.get(shown.name)
            if frame is None or shown.picture is None:
                continue
            target = self._target(frame)
            if not target.exists():
                picture = maker.make(number, shown.picture, self.maps.read(frame.name), extents[frame.shot])
                write_picture(picture, target, told=False)
            done(number + 1)

    def _target(self, frame: Frame) -> Path:
        folder = self.folder or self.work.folder / "frames"
        return folder / f"{frame.name}.{self.arguments.format if self.depth_only else 'png'}"

    def _pictures(
        self, frames: Sequence[Frame], extents: dict[int, Extent | None], done: Callable[[int], None]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """What the video is written from. Raises: RequestError where the sizes differ."""
        first: tuple[int, ...] | None = None
        for number, frame in enumerate(frames):
            if self.depth_only:
                values = self._map(frame, extents).scaled().values
                array = np.rint(values.clip(0.0, 1.0) * TENTH_BIT).astype(np.uint16)
            else:
                array = _read_png(self._target(frame))
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


class _Maker:
    """Makes the picture of a frame, as ``img2img`` would."""

    def __init__(self, arguments: argparse.Namespace, prompts: list[tuple[int, int, str]]) -> None:
        self.arguments = argparse.Namespace(**vars(arguments))
        self.arguments.precision = "float32" if arguments.precision == "auto" else arguments.precision
        self.arguments.batch_size = 1
        self.arguments.prompt = arguments.prompt or ""
        self._prompts = prompts
        self.model: Model = load(self.arguments)
        self._of_size = functools.lru_cache(maxsize=4)(self._settings)

    def make(self, number: int, picture: Image.Image, depth_map: DepthMap, extent: Extent | None) -> Image.Image:
        """The picture of frame ``number``, from 0 on: every one from the same noise."""
        import dataclasses

        from ..standalone.generate import generate

        parameters, mask, control = self._of_size(picture.size)
        prompt = next((text for first, last, text in self._prompts if first <= number <= last), parameters.prompt)
        (made,) = generate(
            self.model,
            picture,
            depth_map,
            dataclasses.replace(parameters, prompt=prompt),
            mask=mask,
            adjustments=adjustments_of(self.arguments),
            control=control,
            extent=extent,
        )
        return made

    def _settings(self, size: tuple[int, int]) -> tuple[Any, Image.Image | None, Control]:
        from PIL import Image

        from ..depth.io.files import read_mask
        from ..standalone import pictures

        given, blank = self.arguments, Image.new("RGB", size)
        parameters = parameters_of(given, blank, self.model)
        mask = None if given.mask is None else read_mask(given.mask, size)
        region = None
        if given.depth_region is not None:
            region = pictures.region(read_mask(given.depth_region, size), blank, parameters.size)
        control = Control(given.depth_strength, given.depth_start, given.depth_end, given.depth_mode, region)
        return parameters, mask, control


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


def _plain(value: Any) -> Any:
    """An option as JSON holds it."""
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _read_png(path: Path) -> np.ndarray:
    from ..depth.io.files import read_picture

    return np.asarray(read_picture(path))
