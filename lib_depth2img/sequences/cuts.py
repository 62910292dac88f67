"""Where a film is cut: two pictures that follow each other and show different scenes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Cuts", "is_cut"]

_SIDE = 48
_BINS = 8
_AROUND = 9

MOST_IN_COMMON = 0.9
"""Of 2: the share of the colours that both pictures have, and the correlation of their outlines. In films of the
benchmark a cut has 0.2 and no other step less than 1.3."""


def is_cut(before: Image.Image, after: Image.Image) -> bool:
    """Whether a new scene begins with ``after``. Nothing but the two pictures decides.

    Colours and outlines are compared: what moves keeps the colours, and other light keeps the outlines.
    """
    one, other = _thumbnail(before), _thumbnail(after)
    return _shared(one, other) + max(_correlation(one, other), 0.0) < MOST_IN_COMMON


class Cuts:
    """Goes through the pictures of a film in their order; keeps the last one only."""

    def __init__(self) -> None:
        self._before: Image.Image | None = None

    def begins(self, picture: Image.Image) -> bool:
        """Whether a scene begins with ``picture``; so it does with the first one, and where the size changes."""
        before, self._before = self._before, picture
        return before is None or before.size != picture.size or is_cut(before, picture)


def _thumbnail(picture: Image.Image) -> np.ndarray:
    """(48, 48, 3) uint8."""
    import cv2

    small: np.ndarray = cv2.resize(np.asarray(picture.convert("RGB")), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return small


def _shared(one: np.ndarray, other: np.ndarray) -> float:
    """The share of the histogram of colours, in [0, 1], that two thumbnails have in common."""
    counts = [
        np.histogramdd(each.reshape(-1, 3), bins=(_BINS,) * 3, range=((0, 256),) * 3)[0] / _SIDE**2
        for each in (one, other)
    ]
    return float(np.minimum(*counts).sum())


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of the brightness less that of the surroundings, so that it is one of outlines: in [-1, 1]."""
    import cv2

    grey = [each.mean(axis=2, dtype=np.float32) for each in (one, other)]
    deviations = [(each - cv2.blur(each, (_AROUND, _AROUND))).ravel() for each in grey]
    norm = float(np.prod([np.linalg.norm(each) for each in deviations]))
    return float(deviations[0] @ deviations[1]) / norm if norm > 0.0 else 0.0
