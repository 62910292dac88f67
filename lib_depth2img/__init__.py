"""Depth-to-image for Stable Diffusion 2: depth maps, the bundled MiDaS runner, and the model pair.

Importing this package does no work and imports neither torch nor timm nor cv2: the names below are fetched on first
use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .depth.adjust import Adjustments
    from .depth.conditioning import conditioning
    from .depth.depth_map import DepthMap
    from .depth.geometry import Placement, ResizeMode, place
    from .depth.io.files import read_depth_map, read_picture, save_depth_map
    from .errors import Depth2ImgError
    from .estimators.estimator import DepthEstimator

__version__ = "0.1.0"

__all__ = [
    "Adjustments",
    "Depth2ImgError",
    "DepthEstimator",
    "DepthMap",
    "Placement",
    "ResizeMode",
    "__version__",
    "conditioning",
    "place",
    "read_depth_map",
    "read_picture",
    "save_depth_map",
]

_HOMES = {
    "Adjustments": "depth.adjust",
    "Depth2ImgError": "errors",
    "DepthEstimator": "estimators.estimator",
    "DepthMap": "depth.depth_map",
    "Placement": "depth.geometry",
    "ResizeMode": "depth.geometry",
    "conditioning": "depth.conditioning",
    "place": "depth.geometry",
    "read_depth_map": "depth.io.files",
    "read_picture": "depth.io.files",
    "save_depth_map": "depth.io.files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
