"""Where a tile lies in the picture it was cut from, for a depth map of the whole picture.

SD upscale cuts the picture up with ``images.split_grid`` and hands the tiles to ``p.init_images`` (sd_upscale.py:47-77)
without saying where they come from. So the tiles are labelled as they are cut.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from ..hosts import Point, host

if TYPE_CHECKING:
    from PIL import Image

    from ...depth.geometry import Box

__all__ = ["Tile", "hook", "tile_of"]

_LABEL = "_depth2img_tile"


class Tile(NamedTuple):
    """``box``: (x1, y1, x2, y2) in pixels of a picture of size ``whole``, (width, height)."""

    box: Box
    whole: tuple[int, int]


def tile_of(picture: Image.Image) -> Tile | None:
    """Where ``picture`` was cut from, None for a picture that is no tile."""
    tile: Tile | None = getattr(picture, _LABEL, None)
    return tile


def hook() -> None:
    """Label what the host cuts; ``host.undo`` puts its function back."""
    host.replace(Point.TILES, _labelling)


def _labelling(split_grid: Any) -> Any:
    @functools.wraps(split_grid)
    def split(image: Image.Image, *args: Any, **settings: Any) -> Any:
        grid = split_grid(image, *args, **settings)
        for top, height, row in grid.tiles:
            for left, width, tile in row:
                setattr(tile, _LABEL, Tile((left, top, left + width, top + height), image.size))
        return grid

    return split
