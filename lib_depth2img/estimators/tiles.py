"""A large picture in overlapping tiles: each is estimated by itself, fitted to the estimate of the whole, and blended.

A network sees a picture at its own size, so of a large one it sees the composition and loses the edges; of a tile it
sees the edges and does not know how near the tile is. The estimate of the whole says where things are, at the size at
which it can tell; the tiles add what is finer than that. The idea is that of Miangoleh et al. (Boosting Monocular
Depth, arXiv:2105.14021), with one size of tile and an affine fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["OVERLAP", "Tile", "fitted", "merged", "tiles_of"]

OVERLAP = 1 / 3
"""Share of a tile's side that it has in common with the next one."""

_BLUR = 0.6
"""Standard deviation, in points of the whole's map, of the blur that makes a tile's map as coarse as the whole's."""

_DRIFT = 2.0
"""Likewise, of what is left of the difference between the two: where a tile errs on the whole, it is led back."""

_LONGEST = 16
"""Squares without overlap along the longer side at most: a strip of one pixel would have thousands."""

_FLOOR = 0.01
"""Share of a map's points that have to lie exactly at its least for that to be a floor, such as a sky."""


class Tile(NamedTuple):
    """A part of a picture, in its pixels: left, top, right, bottom."""

    x1: int
    y1: int
    x2: int
    y2: int


def tiles_of(size: tuple[int, int], count: int) -> list[Tile]:
    """Overlapping squares that cover a picture of ``size`` (width, height), ``count`` along its shorter side.

    Along a side of more than ``_LONGEST`` squares they are so large that they are no more, and as wide as the picture.
    """
    side = math.ceil(max(min(size) / (count - (count - 1) * OVERLAP), max(size) / _LONGEST))
    columns, rows = (_starts(length, side) for length in size)
    width, height = (min(side, length) for length in size)
    return [Tile(x, y, x + width, y + height) for y in rows for x in columns]


def _starts(length: int, side: int) -> list[int]:
    """Where tiles of ``side`` begin along a length, evenly, the last at its end."""
    if length <= side:
        return [0]
    steps = math.ceil((length - side) / (side * (1 - OVERLAP)) - 1e-6)
    return [round(step * (length - side) / steps) for step in range(steps + 1)]


def merged(whole: np.ndarray, tiles: Sequence[Tile], fine: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """One map (H, W) float32: the whole's nearness with the tiles' detail, on a grid as fine as theirs.

    ``whole``: (h, w) nearness of the picture of ``size`` (width, height). ``fine``: the nearness of each of ``tiles``,
    in whatever scale each came out. The grid is no finer than the picture. What lies at the whole's floor stays there:
    of a tile full of sky no network can tell how far it is.
    """
    grid = _grid(tiles[0], fine[0], size)
    coarse = _resized(whole, grid)
    total, weight = np.zeros_like(coarse), np.zeros_like(coarse)
    for tile, nearness in zip(tiles, fine, strict=True):
        place = _on_grid(tile, size, grid)
        inside = np.s_[place.y1 : place.y2, place.x1 : place.x2]
        share = _share(place, grid)
        total[inside] += share * fitted(nearness, coarse[inside], blur=grid[0] / whole.shape[1])
        weight[inside] += share
    together = total / weight
    least = whole.min()
    if np.count_nonzero(whole == least) <= _FLOOR * whole.size:
        return together
    return np.where(coarse <= least, least, np.maximum(together, least))


def fitted(nearness: np.ndarray, coarse: np.ndarray, *, blur: float) -> np.ndarray:
    """A tile's ``nearness`` in the scale of ``coarse`` (H, W), what the whole says of the same place, and as large.

    By the scale and the shift with the least squared difference, at the size at which the whole can tell, and then led
    back to it where the difference is wide. ``blur``: points of ``coarse`` for one of the whole's map. Where the tile
    contradicts the whole, or is flat, ``coarse`` itself.
    """
    import cv2

    fine = _resized(nearness, (coarse.shape[1], coarse.shape[0]))
    low = cv2.GaussianBlur(fine, (0, 0), _BLUR * blur)
    spread = low - low.mean()
    variance = float(np.mean(spread**2))
    scale = float(np.mean(spread * coarse)) / variance if variance > 0 else 0.0
    if not scale > 0:
        return coarse
    shift = float(coarse.mean()) - scale * float(low.mean())
    left = cv2.GaussianBlur(coarse - (scale * low + shift), (0, 0), _DRIFT * blur)
    return scale * fine + shift + left


def _grid(tile: Tile, nearness: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a map of the whole picture that is as fine as a tile's, and no finer than the picture."""
    rows, cols = nearness.shape
    finer = min(1.0, max(cols / (tile.x2 - tile.x1), rows / (tile.y2 - tile.y1)))
    return max(1, round(finer * size[0])), max(1, round(finer * size[1]))


def _on_grid(tile: Tile, size: tuple[int, int], grid: tuple[int, int]) -> Tile:
    across, down = grid[0] / size[0], grid[1] / size[1]
    return Tile(round(tile.x1 * across), round(tile.y1 * down), round(tile.x2 * across), round(tile.y2 * down))


def _share(place: Tile, grid: tuple[int, int]) -> np.ndarray:
    """(H, W) weights of a tile in what is blended: 1 in its middle, smoothly to almost nothing where others overlap."""
    across = _ramp(place.x2 - place.x1, begins=place.x1 > 0, ends=place.x2 < grid[0])
    down = _ramp(place.y2 - place.y1, begins=place.y1 > 0, ends=place.y2 < grid[1])
    return np.outer(down, across)


def _ramp(length: int, *, begins: bool, ends: bool) -> np.ndarray:
    """(length,) float32: rises at the beginning and falls at the end, where there is a neighbour."""
    place = (np.arange(length, dtype=np.float32) + 0.5) / (OVERLAP * length)
    least = np.ones_like(place)
    if begins:
        least = np.minimum(least, place)
    if ends:
        least = np.minimum(least, place[::-1])
    least = np.maximum(least, 1e-3)
    return least * least * (3 - 2 * least)


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    return cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
