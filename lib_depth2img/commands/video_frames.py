"""What ``video`` makes of a frame that has a map: a file of it, or a picture with the same depth."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..depth.control import Control
from ..depth.extent import Extent
from ..sequences.maps import Frame, Maps
from .depth import adjustments_of, extent_of
from .generation import load, parameters_of, write_picture

if TYPE_CHECKING:
    from PIL import Image

    from ..depth.depth_map import DepthMap
    from ..standalone.loading import Model

__all__ = ["SEQUENCE", "Frames", "Maker", "extents_of", "no_picture"]

Prompts = list[tuple[int, int, str]]
"""First frame, last frame, prompt."""


PICTURE, SHOT, SEQUENCE = "picture", "shot", "sequence"
"""What ``--range`` may take the lowest and highest of."""


class Maker:
    """Makes the picture of a frame, as ``img2img`` would, each from the same noise."""

    def __init__(self, arguments: argparse.Namespace, prompts: Prompts) -> None:
        self._given = argparse.Namespace(**vars(arguments))
        self._given.precision = "float32" if arguments.precision == "auto" else arguments.precision
        self._given.batch_size = 1
        self._given.prompt = arguments.prompt or ""
        self._prompts = prompts
        self.model: Model = load(self._given)
        self._of_size = functools.lru_cache(maxsize=4)(self._settings)

    def make(self, number: int, picture: Image.Image, depth_map: DepthMap, extent: Extent | None) -> Image.Image:
        """The picture of frame ``number``, from 0 on."""
        from ..standalone.generate import generate

        parameters, mask, control = self._of_size(picture.size)
        prompt = next((text for first, last, text in self._prompts if first <= number <= last), parameters.prompt)
        (made,) = generate(
            self.model,
            picture,
            depth_map,
            dataclasses.replace(parameters, prompt=prompt),
            mask=mask,
            adjustments=adjustments_of(self._given),
            control=control,
            extent=extent,
        )
        return made

    def _settings(self, size: tuple[int, int]) -> tuple[Any, Image.Image | None, Control]:
        from PIL import Image

        from ..depth.io.files import read_mask
        from ..standalone import pictures

        given, blank = self._given, Image.new("RGB", size)
        parameters = parameters_of(given, blank, self.model)
        mask = None if given.mask is None else read_mask(given.mask, size)
        region = None
        if given.depth_region is not None:
            region = pictures.region(read_mask(given.depth_region, size), blank, parameters.size)
        control = Control(given.depth_strength, given.depth_start, given.depth_end, given.depth_mode, region)
        return parameters, mask, control


@dataclass
class Frames:
    """The files of a film's frames in ``folder``: depth maps, or pictures by a :class:`Maker`.

    ``extents``: by shot what its maps are scaled by, None for each one's own. Can be sent to another process, where the
    model is loaded on first use.
    """

    arguments: argparse.Namespace
    maps: Maps
    extents: dict[int, Extent | None]
    folder: Path
    prompts: Prompts
    maker: Maker | None = None

    def target(self, frame: Frame) -> Path:
        """Where the file of a frame goes."""
        suffix = self.arguments.format if self.arguments.depth_only else "png"
        return self.folder / f"{frame.name}.{suffix}"

    def map(self, frame: Frame) -> DepthMap:
        """The map of a frame, adjusted and scaled, at the frame's size."""
        adjusted = self.maps.read(frame.name).adjusted(adjustments_of(self.arguments), extent=self.extents[frame.shot])
        return adjusted.resized(frame.size)

    def make(self, frame: Frame, picture: Callable[[], Image.Image], number: int | None = None) -> None:
        """Make the file if it is missing. ``number``: of the frame, for its prompt; its time, where there is none."""
        from ..depth.io.files import save_depth_map

        target = self.target(frame)
        if target.exists():
            return
        if self.arguments.depth_only:
            save_depth_map(self.map(frame), target)
            return
        if self.maker is None:
            self.maker = Maker(self.arguments, self.prompts)
        place = frame.time if number is None else number
        made = self.maker.make(place, picture(), self.maps.read(frame.name), self.extents[frame.shot])
        write_picture(made, target, told=False)


def no_picture() -> Image.Image:
    """In the place of a frame's picture where its depth map is all that is asked for."""
    raise AssertionError("a depth map needs no picture")


def extents_of(arguments: argparse.Namespace, maps: Maps | None, frames: Sequence[Frame]) -> dict[int, Extent | None]:
    """By shot what the maps of its frames are scaled by, as ``--range`` says; None for each one's own.

    ``maps``: where those of all frames are; None where there are no frames.

    Raises:
        RequestError: no such range.
    """
    asked = arguments.range
    if asked in (SHOT, SEQUENCE):
        clip = adjustments_of(arguments).clip
        return {} if maps is None else dict(maps.extents(frames, clip, by_shot=asked == SHOT))
    by_hand = None if asked == PICTURE else extent_of(arguments)
    return {frame.shot: by_hand for frame in frames}
