"""Noise that moves along with what a film shows, and stays white.

Noise that is warped as a picture is gets blurred: neighbours become alike and the variance falls. Here nothing is
averaged. Each number of the latent's noise is the sum of finer ones, divided so that its variance is 1 again ("How I
Warped Your Noise", Chang et al. 2024), and a finer one goes to the next frame as a whole or not at all (as particles do
in "Go-with-the-Flow", Burgert et al. 2025). Where none arrives, one is drawn anew. So the fine numbers of each frame
are normal and independent of each other whatever the flow is, as long as it is not taken from the noise.
"""

from __future__ import annotations

import numpy as np

from .flow import Motion, motion

__all__ = ["SPLIT", "CarriedNoise", "FineNoise"]

SPLIT = 4
"""Fine pixels of one latent cell along each axis, of which each holds one number at first: two pixels of a result."""

FEWEST = 3 * SPLIT**2 // 4
"""Numbers of a cell below which its empty fine pixels get new ones."""

MOST = 2
"""Numbers of one fine pixel, above which the youngest go."""


class FineNoise:
    """Standard normal numbers, each somewhere on a grid ``SPLIT`` times finer than a latent's.

    A cell's noise is their sum over the root of how many they are, so cells may hold more of them or fewer.

    ``whole``: (C, h, w) float32, the noise that they give at first. ``random``: what all others come from.
    """

    def __init__(self, whole: np.ndarray, random: np.random.Generator) -> None:
        channels, height, width = whole.shape
        self._random = random
        self._width, self._height = width * SPLIT, height * SPLIT
        # Numbers of which nothing is known but their sum: any normal ones, moved so that they have it. In float64, so
        # that the sum is the very float32 again.
        free = random.standard_normal((channels, height, SPLIT, width, SPLIT))
        free += (whole / SPLIT - free.mean(axis=(2, 4)))[:, :, None, :, None]
        self._values: np.ndarray = free.reshape(channels, -1)
        self._places = self._middles(np.arange(self._width * self._height))
        self._ages = np.zeros(self._width * self._height, np.int64)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the fine grid."""
        return self._width, self._height

    @property
    def whole(self) -> np.ndarray:
        """(C, h, w) float32, standard normal and independent of each other."""
        cells, counts = self._cells(self._pixels(self._places))
        sums = [np.bincount(cells, each, len(counts)) for each in self._values]
        found: np.ndarray = np.stack(sums) / np.sqrt(counts)
        return found.reshape(-1, self._height // SPLIT, self._width // SPLIT).astype(np.float32)

    def move(self, there: Motion) -> None:
        """Take the numbers along. ``there``: of this frame where its pixels go to in the next, on the fine grid.

        What cannot be trusted stays where it is, unless something else comes there. Where too few arrive, new ones are
        drawn. Fractions of a pixel add up.
        """
        at = self._pixels(self._places)
        trusted = (there.trust > 0.5).ravel()[at]
        places = self._places + np.where(trusted[:, None], there.back.reshape(-1, 2)[at], 0.0)
        pixels = self._pixels(places)
        came = np.bincount(pixels[trusted & (pixels >= 0)], minlength=self._width * self._height) > 0
        kept = np.flatnonzero((pixels >= 0) & (trusted | ~came[pixels]))
        kept = kept[np.lexsort((-self._ages[kept], pixels[kept]))]
        sorted_pixels = pixels[kept]
        kept = kept[np.arange(len(kept)) - np.searchsorted(sorted_pixels, sorted_pixels) < MOST]
        empty = self._lacking(pixels[kept])
        drawn = self._random.standard_normal((len(self._values), len(empty)))
        self._values = np.concatenate([self._values[:, kept], drawn], axis=1)
        self._places = np.concatenate([places[kept], self._middles(empty)])
        self._ages = np.concatenate([self._ages[kept] + 1, np.zeros(len(empty), np.int64)])

    def _lacking(self, pixels: np.ndarray) -> np.ndarray:
        """The empty fine pixels of the cells that hold too few."""
        everywhere = np.arange(self._width * self._height)
        _, counts = self._cells(pixels)
        cells, _ = self._cells(everywhere)
        held = np.bincount(pixels, minlength=len(everywhere))
        found: np.ndarray = everywhere[(held == 0) & (counts[cells] < FEWEST)]
        return found

    def _cells(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cell of each fine pixel, and how many of these each cell of the latent has."""
        width = self._width // SPLIT
        cells = pixels // self._width // SPLIT * width + pixels % self._width // SPLIT
        return cells, np.bincount(cells, minlength=width * (self._height // SPLIT))

    def _pixels(self, places: np.ndarray) -> np.ndarray:
        """The fine pixel, counted row by row, of each place (x, y); -1 outside."""
        x, y = np.floor(places + 0.5).astype(np.int64).T
        inside = (x >= 0) & (x < self._width) & (y >= 0) & (y < self._height)
        found: np.ndarray = np.where(inside, y * self._width + x, -1)
        return found

    def _middles(self, pixels: np.ndarray) -> np.ndarray:
        """(N, 2): x and y of the middle of fine pixels."""
        return np.stack([pixels % self._width, pixels // self._width], axis=1).astype(np.float64)


class CarriedNoise:
    """The noise of a shot's frames, one after the other. Only one frame is remembered.

    ``whole``: (C, h, w) float32, that of the first frame. ``picture``: the first frame, (8 h, 8 w, 3) uint8. ``seed``:
    decides, with the pictures, about all that follows.
    """

    def __init__(self, whole: np.ndarray, picture: np.ndarray, seed: int) -> None:
        self._fine = FineNoise(whole, np.random.default_rng(seed))
        self._picture = picture

    @property
    def whole(self) -> np.ndarray:
        """(C, h, w) float32: the noise of the frame that was told of last."""
        return self._fine.whole

    def follow(self, picture: np.ndarray) -> None:
        """Go on to the next frame, (8 h, 8 w, 3) uint8."""
        # Where the next frame's pixels come from, asked of the frames in the other order: where this one's go to.
        self._fine.move(motion(picture, self._picture, self._fine.size))
        self._picture = picture
