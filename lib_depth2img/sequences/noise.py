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
"""Fine numbers of one latent cell along each axis: one for each two pixels of a result."""


class FineNoise:
    """Standard normal numbers, one in each pixel of a grid ``SPLIT`` times finer than a latent's, somewhere in it.

    ``whole``: (C, h, w) float32, the noise that they are to sum up to at first. ``random``: what all others come from.
    """

    def __init__(self, whole: np.ndarray, random: np.random.Generator) -> None:
        channels, height, width = whole.shape
        self._random = random
        # Numbers of which nothing is known but their sum: any normal ones, moved so that they have it. In float64, so
        # that the sum is the very float32 again.
        free = random.standard_normal((channels, height, SPLIT, width, SPLIT))
        free += (whole / SPLIT - free.mean(axis=(2, 4)))[:, :, None, :, None]
        self._values: np.ndarray = free.reshape(channels, height * SPLIT, width * SPLIT)
        self._offsets = np.zeros((height * SPLIT, width * SPLIT, 2))
        self._ages = np.zeros((height * SPLIT, width * SPLIT), np.int64)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the fine grid."""
        height, width = self._offsets.shape[:2]
        return width, height

    @property
    def whole(self) -> np.ndarray:
        """(C, h, w) float32, standard normal and independent of each other."""
        channels, height, width = self._values.shape
        cells = self._values.reshape(channels, height // SPLIT, SPLIT, width // SPLIT, SPLIT)
        found: np.ndarray = (cells.sum(axis=(2, 4)) / SPLIT).astype(np.float32)
        return found

    def move(self, there: Motion) -> None:
        """Take the numbers along. ``there``: of this frame where its pixels go to in the next, on the fine grid.

        What cannot be trusted stays where it is, unless something else comes there. Of several that come to one pixel
        the oldest is kept; pixels to which none comes get new ones. Places are kept with their fractions, so slow
        motion adds up.
        """
        width, height = self.size
        trusted = there.trust > 0.5
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2)
        places = grid + self._offsets + np.where(trusted[..., None], there.back, 0.0)
        pixels = np.floor(places + 0.5).astype(np.int64)
        inside = ((pixels >= 0) & (pixels < (width, height))).all(axis=2)
        order = np.lexsort((-self._ages[inside], ~trusted[inside]))
        came_from = np.flatnonzero(inside)[order]
        goes_to = (pixels[..., 1] * width + pixels[..., 0])[inside][order]
        taken, firsts = np.unique(goes_to, return_index=True)
        kept = came_from[firsts]
        before = self._values.reshape(len(self._values), -1)
        values, offsets, ages = np.empty_like(before), np.zeros((height * width, 2)), np.zeros(height * width, np.int64)
        values[:, taken], offsets[taken] = before[:, kept], (places - pixels).reshape(-1, 2)[kept]
        ages[taken] = self._ages.ravel()[kept] + 1
        empty = np.setdiff1d(np.arange(height * width), taken, assume_unique=True)
        values[:, empty] = self._random.standard_normal((len(values), len(empty)))
        self._values, self._offsets = values.reshape(self._values.shape), offsets.reshape(self._offsets.shape)
        self._ages = ages.reshape(height, width)


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
