"""Depth maps in colour, for looking at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import RequestError

if TYPE_CHECKING:
    from .depth_map import DepthMap

__all__ = ["COLORMAPS", "colorize"]

COLORMAPS = ("grey", "inferno", "turbo")


def colorize(depth_map: DepthMap, name: str) -> np.ndarray:
    """The map as a picture: (H, W, 3) uint8 RGB, near = the bright end (turbo: the red end). ``name``: one of
    ``COLORMAPS``.

    Raises:
        RequestError: a colour map of another name.
    """
    if name not in COLORMAPS:
        raise RequestError(f"The colour map is {name!r}; it has to be one of {', '.join(COLORMAPS)}.")
    grey = np.rint(depth_map.scaled().values.clip(0.0, 1.0) * 255.0).astype(np.uint8)
    if name == "grey":
        return np.repeat(grey[..., None], 3, axis=2)
    import cv2

    table = {"inferno": cv2.COLORMAP_INFERNO, "turbo": cv2.COLORMAP_TURBO}[name]
    picture: np.ndarray = np.ascontiguousarray(cv2.applyColorMap(grey, table)[..., ::-1])
    return picture
