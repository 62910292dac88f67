"""The EXIF orientation: cameras store a photo as the sensor lies, and write beside it how it is to be turned."""

from __future__ import annotations

import numpy as np

__all__ = ["turned"]


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, ...) values as a viewer shows them. ``orientation``: 1 to 8, EXIF tag 0x0112; others change nothing."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
