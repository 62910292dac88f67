"""A mask of a picture by depth: what is nearer than, farther than, or between."""

from __future__ import annotations

import math

import numpy as np

from ..errors import RequestError
from .adjust import Range
from .depth_map import DepthMap

__all__ = ["EDGE", "depth_mask"]

EDGE = Range(0.0, 64.0, 0.5)
"""Of a mask's soft edge: the sigma of a Gaussian in pixels of the mask."""

_SHARE = Range(0.0, 1.0, 0.01)


def depth_mask(depth_map: DepthMap, low: float, high: float, *, edge: float = 0.0) -> np.ndarray:
    """(H, W) uint8: 255 where the nearness on the [0, 1] scale lies in [low, high], 0 elsewhere.

    ``edge``: in pixels of the map; soft on both sides of where the hard edge would be. What reaches the map's border is
    white up to it.

    Raises:
        RequestError: a number out of its range, or ``low`` above ``high``.
    """
    low, high, edge = _SHARE.checked("low", low), _SHARE.checked("high", high), EDGE.checked("edge", edge)
    if low > high:
        raise RequestError(
            f"low: got {low:g}, expected at most high, which is {high:g}.",
            in_panel=f"The mask goes from {low:g} to {high:g}: the first has to be the lower one.",
        )
    values = depth_map.scaled().values
    mask = np.where((values >= np.float32(low)) & (values <= np.float32(high)), np.uint8(255), np.uint8(0))
    return _softened(mask, edge) if edge > 0.0 else mask


def _softened(mask: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    width = 2 * math.ceil(3.0 * sigma) + 1
    soft: np.ndarray = cv2.GaussianBlur(mask, (width, width), sigma, borderType=cv2.BORDER_REPLICATE)
    return soft
