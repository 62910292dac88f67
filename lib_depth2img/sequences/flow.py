"""What moved where between two pictures: OpenCV's DIS optical flow (Kroeger et al. 2016), forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

__all__ = ["Motion", "motion"]

_SHORT_SIDE = 256
"""Flow is looked for in pictures of at least this short side where they have it, also for smaller maps."""

_TOLERANCE = 0.5
"""Pixels of the map by which the way there and the way back may differ until half of the trust is gone."""

_REST = 0.1
"""Pixels of the map that count as no motion at all."""

_AROUND = 7
"""Pixels of the picture over which it is told whether it looks the same in the same place."""

_BRIGHTNESS = 40.0
"""Grey levels of 255, less the picture's own change, by which a pixel and where it came from may differ likewise."""


@dataclass(frozen=True)
class Motion:
    """From a picture to the one before, on the grid of a depth map.

    ``back``: (h, w, 2) float32, where each pixel came from: x and y, in pixels of the map. ``trust``: (h, w) float32
    in [0, 1], how far the way there and the way back agree, and what is seen at either end.
    """

    back: np.ndarray
    trust: np.ndarray

    @property
    def at_rest(self) -> np.ndarray:
        """(h, w) bool: what is where it was."""
        found: np.ndarray = (np.hypot(*np.moveaxis(self.back, 2, 0)) < _REST) & (self.trust > 0.5)
        return found

    def carried(self, values: np.ndarray) -> np.ndarray:
        """(h, w) float32 ``values`` of the picture before, where they are now; what is at rest is not resampled."""
        import cv2

        there = _grid(values.shape) + self.back
        moved = cv2.remap(values, there[..., 0], there[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        carried: np.ndarray = np.where(self.at_rest, values, moved)
        return carried


def motion(before: np.ndarray, after: np.ndarray, size: tuple[int, int]) -> Motion:
    """The motion between two (H, W, 3) uint8 pictures of one size, for maps of ``size`` (width, height)."""
    import cv2

    wanted = _flow_size(before.shape[:2], size)
    grey = [
        cv2.cvtColor(cv2.resize(each, wanted, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        for each in (before, after)
    ]
    with _one_thread():
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        there, back = search.calc(grey[0], grey[1], None), search.calc(grey[1], grey[0], None)
    scale = np.array([size[0] / wanted[0], size[1] / wanted[1]], np.float32)
    at = _grid(back.shape[:2]) + back
    returned = cv2.remap(there, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    error = np.hypot(*np.moveaxis((back + returned) * scale, 2, 0))
    seen = cv2.remap(grey[0], at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    change = _change(grey[1], seen)
    still = _still(_change(grey[1], grey[0]), change)
    back[still], error[still], change[still] = 0.0, 0.0, 0.0
    height, width = grey[0].shape
    inside = ((at >= 0) & (at <= (width - 1, height - 1))).all(axis=2)
    trust = inside / (1.0 + (error / _TOLERANCE) ** 4 + (change / _BRIGHTNESS) ** 4)
    return Motion(
        cv2.resize(back, size, interpolation=cv2.INTER_AREA) * scale,
        cv2.resize(trust.astype(np.float32), size, interpolation=cv2.INTER_AREA),
    )


def _change(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(h, w) float32 grey levels, without what changes all around, which is other light."""
    import cv2

    change = after.astype(np.float32) - before
    width = 2 * (change.shape[1] // 16) + 1
    found: np.ndarray = np.abs(change - cv2.blur(change, (width, width)))
    return found


def _still(in_place: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """(h, w) bool: what looks in the same place as much the same as where the flow leads, whatever passes beside it."""
    import cv2

    here, there = (cv2.blur(each, (_AROUND, _AROUND)) for each in (in_place, moved))
    grain = np.median(there)
    found: np.ndarray = here <= 1.2 * np.clip(there, grain, 1.5 * grain)
    return found


def _flow_size(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) that flow is looked for at: the map's, or more where the map is small and the picture is not."""
    larger = min(max(1.0, _SHORT_SIDE / min(size)), max(1.0, min(shape) / min(size)))
    width, height = (max(16, round(side * larger)) for side in size)
    return width, height


def _grid(shape: tuple[int, ...]) -> np.ndarray:
    """(h, w, 2) float32: the x and y of each pixel."""
    return np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) for side in shape[1::-1])), axis=2)


@contextmanager
def _one_thread() -> Iterator[None]:
    """DIS cuts the picture into as many stripes as there are threads, and its result depends on that."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
