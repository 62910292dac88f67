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
from ..sequences.noise import CarriedNoise
from ..sequences.work import Notes, digest
from .depth import adjustments_of, extent_of
from .generation import load, parameters_of, write_picture

if TYPE_CHECKING:
    from PIL import Image

    from ..depth.depth_map import DepthMap
    from ..standalone.loading import Model

__all__ = ["FIXED", "FLOW", "NOISES", "SEQUENCE", "Frames", "Maker", "by_hand_of", "extents_of", "no_picture"]

Prompts = list[tuple[int, int, str]]
"""First frame, last frame, prompt."""


PICTURE, SHOT, SEQUENCE = "picture", "shot", "sequence"
"""What ``--range`` may take the lowest and highest of."""

FIXED, FLOW = NOISES = ("fixed", "flow")
"""What each picture is made from: the same noise, or noise that moves along with what the film shows."""


class Maker:
    """Makes the picture of a frame, as ``img2img`` would, each from the same noise, or from noise that moves along."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._given = argparse.Namespace(**vars(arguments))
        self._given.precision = "float32" if arguments.precision == "auto" else arguments.precision
        self._given.batch_size = 1
        self._given.prompt = arguments.prompt or ""
        self.model: Model = load(self._given)
        self._of_size = functools.lru_cache(maxsize=4)(self._settings)
        self._shot: int | None = None
        self._noise: CarriedNoise | None = None

    def carry(self, shot: int, picture: Image.Image) -> None:
        """Move the noise along to a frame of ``shot``: each one in its order, also those that are not made.

        With each shot it begins anew, from the seed plus the shot's number, so the film begins as with fixed noise.
        """
        import numpy as np
        import torch

        from ..standalone.pictures import crop_and_resize
        from ..standalone.sampling import noise_of

        parameters = self._of_size(picture.size)[0]
        array = np.asarray(crop_and_resize(picture, parameters.size))
        if self._noise is not None and shot == self._shot:
            self._noise.follow(array)
            return
        seed = parameters.seed + shot
        whole = noise_of(torch.Generator().manual_seed(seed), parameters.latent_shape).numpy()
        self._shot, self._noise = shot, CarriedNoise(whole, array, seed)

    def make(self, prompt: str, picture: Image.Image, depth_map: DepthMap, extent: Extent | None) -> Image.Image:
        """What becomes of a ``picture``; with noise that moves along, of the one carried to last."""
        import torch

        from ..standalone.generate import generate

        parameters, mask, control = self._of_size(picture.size)
        (made,) = generate(
            self.model,
            picture,
            depth_map,
            dataclasses.replace(parameters, prompt=prompt),
            mask=mask,
            adjustments=adjustments_of(self._given),
            control=control,
            extent=extent,
            noise=None if self._noise is None else torch.from_numpy(self._noise.whole)[None],
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

    ``extents``: by shot what its maps are scaled by, None for each one's own. ``notes``: what the files were made from;
    one that was made from something else is made again. Can be sent to another process, where the model is loaded on
    first use.
    """

    arguments: argparse.Namespace
    maps: Maps
    extents: dict[int, Extent | None]
    folder: Path
    notes: Notes
    prompts: Prompts
    maker: Maker | None = None

    def target(self, frame: Frame) -> Path:
        """Where the file of a frame goes."""
        suffix = self.arguments.format if self.arguments.depth_only else "png"
        return self.folder / f"{frame.name}.{suffix}"

    def is_made(self, frame: Frame) -> bool:
        """Whether the file of a frame is there, and is made from what the frame is now."""
        return self.target(frame).exists() and self.notes.of(frame.name) == self._source(frame)

    def map(self, frame: Frame) -> DepthMap:
        """The map of a frame, adjusted and scaled, at the frame's size."""
        adjusted = self.maps.read(frame.name).adjusted(adjustments_of(self.arguments), extent=self.extents[frame.shot])
        return adjusted.resized(frame.size)

    def make(self, frame: Frame, picture: Callable[[], Image.Image]) -> None:
        """Make the file, unless it is made.

        Where noise moves along, all frames of a shot have to come, in their order.
        """
        from ..depth.io.files import save_depth_map

        is_made = self.is_made(frame)
        if is_made and not self.is_carried:
            return
        if self.arguments.depth_only:
            save_depth_map(self.map(frame), self.target(frame))
        else:
            shown = picture()
            self.maker = self.maker or Maker(self.arguments)
            if self.is_carried:
                self.maker.carry(frame.shot, shown)
            if is_made:
                return
            depth_map, extent = self.maps.read(frame.name), self.extents[frame.shot]
            made = self.maker.make(self._prompt(frame), shown, depth_map, extent)
            write_picture(made, self.target(frame), told=False)
        self.notes.write(frame.name, self._source(frame))

    @property
    def is_carried(self) -> bool:
        """Whether noise goes from frame to frame, so that no shot can be divided."""
        return self.arguments.noise == FLOW and not self.arguments.depth_only

    def _source(self, frame: Frame) -> str:
        """The digest of what the file of a frame is made from, beside the options, which stay."""
        found = digest()
        shot = frame.shot if self.is_carried else None  # decides about its first noise
        extent = [float(end) for end in self.extents[frame.shot] or ()]
        found.update(f"{frame.source} {extent} {shot} {self._prompt(frame)}".encode())
        return found.hexdigest()

    def _prompt(self, frame: Frame) -> str:
        usual = self.arguments.prompt or ""
        return next((text for first, last, text in self.prompts if first <= frame.number <= last), usual)


def no_picture() -> Image.Image:
    """In the place of a frame's picture where its depth map is all that is asked for."""
    raise AssertionError("a depth map needs no picture")


def by_hand_of(arguments: argparse.Namespace) -> Extent | None:
    """The nearness of two numbers after ``--range``, None where it is found. Raises: RequestError: no such range."""
    return None if arguments.range in (PICTURE, SHOT, SEQUENCE) else extent_of(arguments, arguments.meaning)


def extents_of(arguments: argparse.Namespace, maps: Maps, frames: Sequence[Frame]) -> dict[int, Extent | None]:
    """By shot what the maps of its frames are scaled by, as ``--range`` says; None for each one's own. Raises: as
    :func:`by_hand_of`.
    """
    asked = arguments.range
    if asked in (SHOT, SEQUENCE):
        clip = adjustments_of(arguments).clip
        return dict(maps.extents(frames, clip, by_shot=asked == SHOT))
    by_hand = by_hand_of(arguments)
    return {frame.shot: by_hand for frame in frames}
