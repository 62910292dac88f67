"""Pictures and depth maps to and from files."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, BinaryIO

from .depth_map import DepthMap, Meaning

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "encode_png", "read_depth_map", "read_picture", "save_depth_map"]

Source = str | PathLike[str] | bytes | BinaryIO

MAX_PIXELS = 2**26
"""The largest picture or depth map that is decoded: 8192x8192."""


def read_picture(source: Source) -> Image.Image:
    """The picture as PIL RGB, upright, transparency over white."""
    raise NotImplementedError


def read_depth_map(source: Source, *, meaning: Meaning = "nearness") -> DepthMap:
    """A depth map from a file."""
    raise NotImplementedError


def save_depth_map(
    depth_map: DepthMap, path: str | PathLike[str], *, bits: int = 16, colormap: str | None = None
) -> None:
    """Write the map in the format of the path's suffix."""
    raise NotImplementedError


def encode_png(depth_map: DepthMap, *, bits: int = 16, colormap: str | None = None) -> bytes:
    """The map as the bytes of a PNG."""
    raise NotImplementedError
