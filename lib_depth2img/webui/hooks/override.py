"""The depth channel of one generation: bound to that generation's ``p``, never to the host's classes.

``p.img2img_image_conditioning`` is where the host asks for it (processing.py:1757). It is called at the end of
``p.init``, with the latent already made, so neither the size nor the batch has to be found out by another VAE encode.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from ...depth.conditioning import conditioning, region_share
from ...depth.control import Control
from ...depth.extent import UNIT
from ...depth.geometry import LATENT_FACTOR, ResizeMode, place
from ...depth.sizes import same_shape
from ...errors import Depth2ImgError
from ...request.request import Depth2ImgRequest
from ..estimators import ESTIMATORS
from ..hosts import Point, host
from ..refusal import as_unprocessable, in_words_for
from . import batch
from .tiles import tile_of

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ...depth.depth_map import DepthMap
    from ...depth.geometry import Box, Placement
    from .tiles import Tile

__all__ = ["Cover", "Generation", "bind", "current", "hook", "refuse", "unbind"]

OUTSIDE = "Depth2Img: the whole depth map lies outside of the range, so there is no depth in it."

_ATTRIBUTE = "_depth2img_generation"
_BOUND = ("init", "img2img_image_conditioning")


class Cover(NamedTuple):
    """Which part of a picture of ``size`` (width, height) a map is of: ``box`` (x1, y1, x2, y2), None for all of it."""

    size: tuple[int, int]
    box: Box | None = None


class Generation:
    """One run of ``process_images`` on a depth model.

    ``depth_maps``: the adjusted maps that were used, near = high, one for each init image of the host's batch; empty
    until the host has asked for the conditioning. ``covers``: what each map is of. ``control``: how much depth counts;
    everywhere and once until then.
    """

    def __init__(self, p: Any, request: Depth2ImgRequest) -> None:
        # ``p`` holds this one. A circle of the two would keep the latents of a failed generation until somebody
        # collects garbage, since the host calls no ``postprocess`` then.
        self._p = weakref.ref(p)
        self.request = request
        self.depth_maps: list[DepthMap] = []
        self.covers: list[Cover] = []
        self.control = Control()

    @property
    def p(self) -> Any:
        """The ``p`` this is bound to."""
        p = self._p()
        assert p is not None, "who calls this holds p"
        return p

    def image_conditioning(
        self, _source_image: Any, latent_image: Tensor, _image_mask: Any = None, _round_image_mask: bool = True
    ) -> Tensor:
        """In the place of the host's method: (B, 1, h, w) float32 in [-1, 1] beside the latent (B, 4, h, w).

        Raises:
            Depth2ImgError: the depth cannot be had.
        """
        with as_unprocessable(in_panel=not self.p.is_api):
            channel = self._channel(latent_image)
            self.control = self.request.control(self._region(latent_image))
        if self.request.from_noise:
            self._start_from_noise()
        return channel.to(latent_image.device)

    def _channel(self, latent_image: Tensor) -> Tensor:
        height, width = (side * LATENT_FACTOR for side in latent_image.shape[-2:])
        box = self._only_masked_box()
        whole = [host.flattened(picture) for picture in self.p.init_images]
        cropped = box is not None and self._estimates_crop
        pictures = [picture.crop(box) for picture in whole] if cropped else whole
        placements = [
            self._placement(picture.size, (width, height), box, tile_of(init_image))
            for picture, init_image in zip(pictures, self.p.init_images, strict=True)
        ]
        self.depth_maps = [self._adjusted(depth_map) for depth_map in self._maps(pictures)]
        self.covers = [
            Cover(picture.size, box) if cropped else Cover(placement.picture_size)
            for picture, placement in zip(whole, placements, strict=True)
        ]
        extent = None if self.request.extent is None else UNIT
        return conditioning(self.depth_maps, placements, batch_size=latent_image.shape[0], extent=extent)

    def _adjusted(self, depth_map: DepthMap) -> DepthMap:
        extent = self.request.extent
        if extent is not None and depth_map.lies_outside(extent):
            self.p.comment(OUTSIDE)
        return depth_map.adjusted(self.request.adjustments, extent=extent)

    def _region(self, latent_image: Tensor) -> Tensor | None:
        """Where depth counts, (B or 1, 1, h, w) on the CPU; None for everywhere."""
        share = None
        if self.request.region is not None:
            height, width = (side * LATENT_FACTOR for side in latent_image.shape[-2:])
            box = self._only_masked_box()
            placements = [
                self._whole_placement(picture.size, (width, height), box, tile_of(picture))
                for picture in self.p.init_images
            ]
            share = region_share(self.request.region.content, placements, batch_size=latent_image.shape[0])
        if self.request.outside_mask and self.p.mask is not None:
            kept = self.p.mask[:1][None].float().cpu()  # processing.py:1744
            share = kept if share is None else share * kept
        return share

    def _maps(self, pictures: list[Image.Image]) -> list[DepthMap]:
        """One map for each picture; the estimator looks at equal pictures once, as the Batch tab hands them over."""
        request = self.request
        if request.source == "init_image":
            estimates = ESTIMATORS.estimate(pictures, request.estimator, request.detail)
            return estimates if self._estimates_crop else batch.steadied(self.p, pictures, estimates)
        assert request.image is not None, "the request refuses a source without its image"
        if request.source == "image":
            return ESTIMATORS.estimate([request.image.content], request.estimator, request.detail) * len(pictures)
        self._tell_of_shapes(request.image.content.size)
        return [request.image.content] * len(pictures)

    def _tell_of_shapes(self, depth_map: tuple[int, int]) -> None:
        """Such as a photograph that is turned by EXIF, and its map that is not."""
        for init_image in self.p.init_images:
            tile = tile_of(init_image)
            picture = init_image.size if tile is None else tile.whole
            if not same_shape(depth_map, picture):
                (width, height), (wide, high) = depth_map, picture
                self.p.comment(
                    f"Depth2Img: the depth map is {width}x{height} and the picture {wide}x{high}, another shape: it "
                    "was stretched over it."
                )

    @property
    def _estimates_crop(self) -> bool:
        return self.request.source == "init_image" and self.request.only_masked == "crop"

    def _placement(
        self, picture: tuple[int, int], canvas: tuple[int, int], box: Box | None, tile: Tile | None
    ) -> Placement:
        """How the map lies on the canvas: as the host laid the picture (processing.py:1679, 1691-1693)."""
        if box is not None and self._estimates_crop:
            return place(picture, canvas, resize_mode=ResizeMode.RESIZE_AND_FILL)
        return self._whole_placement(picture, canvas, box, tile if self.request.source != "init_image" else None)

    def _whole_placement(
        self, picture: tuple[int, int], canvas: tuple[int, int], box: Box | None, tile: Tile | None
    ) -> Placement:
        """How what covers the whole picture lies on the canvas."""
        if box is not None:
            return place(picture, canvas, crop=box)
        if tile is not None:
            return place(tile.whole, canvas, crop=tile.box)
        return place(picture, canvas, resize_mode=self.p.resize_mode)

    def _only_masked_box(self) -> Box | None:
        """(x1, y1, x2, y2) in the picture's pixels. The host never resets ``paste_to``, so alone it says nothing."""
        p = self.p
        if p.image_mask is None or not p.inpaint_full_res or p.paste_to is None:
            return None
        x, y, width, height = p.paste_to
        return x, y, x + width, y + height

    def _start_from_noise(self) -> None:
        """Take the init image out of the latent, but where the mask keeps it: "latent nothing", processing.py:1753."""
        p = self.p
        if p.denoising_strength < 1:
            p.comment(
                f"Depth2Img: starting from pure noise needs denoising strength 1. It is {p.denoising_strength:g}, "
                "so the init image was the start."
            )
        else:
            p.init_latent = p.init_latent * (0 if p.mask is None else p.mask)


def hook() -> None:
    """Give depth to what nothing is bound to, in a host that has none of its own; ``host.undo`` takes it back.

    That is a ``p`` whose request is switched off, or that runs without scripts. v1.10.1 lets its own depth stage look
    at the picture then (processing.py:380); Forge would hand nine channels to a UNet that takes five.
    """
    host.replace(Point.IMG2IMG_CONDITIONING, _never_without)


def _never_without(original: Any) -> Any:
    @functools.wraps(original)
    def img2img_image_conditioning(p: Any, *args: Any, **keywords: Any) -> Any:
        if host.selected().is_depth_model:
            return Generation(p, Depth2ImgRequest()).image_conditioning(*args, **keywords)
        return original(p, *args, **keywords)

    return img2img_image_conditioning


def bind(p: Any, request: Depth2ImgRequest) -> None:
    """Give ``p`` the depth that ``request`` asks for, until ``unbind``; an earlier binding is taken off first."""
    unbind(p)
    generation = Generation(p, request)
    setattr(p, _ATTRIBUTE, generation)
    p.img2img_image_conditioning = generation.image_conditioning


def refuse(p: Any, error: Depth2ImgError) -> None:
    """Let ``p`` end with ``error`` before any work.

    The host swallows what a script's callback raises (scripts.py:823), but not what ``p.init`` raises.
    """
    unbind(p)
    refused = weakref.ref(p)
    # One that was raised holds frames, and those hold ``p``.
    anew = functools.partial(type(error), *in_words_for(error, in_panel=not p.is_api).args)

    def init(*_: Any) -> None:
        if (here := refused()) is not None:
            unbind(here)
        with as_unprocessable():
            raise anew()

    p.init = init


def unbind(p: Any) -> None:
    """Give ``p`` the host's own methods back; also a copy of a ``p``, which was copied with what was bound to it."""
    for name in (_ATTRIBUTE, *_BOUND):
        vars(p).pop(name, None)


def current(p: Any) -> Generation | None:
    """What is bound to ``p``, or None."""
    generation: Generation | None = vars(p).get(_ATTRIBUTE)
    return generation
