"""Depth maps that do not know of the EXIF orientation of their photo.

Cameras store a photo as the sensor lies and write beside it how to turn it. Who estimates the depth of the stored
pixels leaves the turn out, and the map lies across the photo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .sizes import Size

if TYPE_CHECKING:
    from .depth_map import DepthMap

__all__ = ["Upright", "upright_with"]

TOLERANCE = 1.1
"""Between two ratios of sides that count as one: networks want multiples of 14 or 32."""


class Upright(NamedTuple):
    """A depth map beside its picture, and what is to be told of it: None where all is as it should be."""

    depth_map: DepthMap
    remark: str | None


def upright_with(depth_map: DepthMap, picture_size: Size, orientation: int = 1) -> Upright:
    """The map turned as its picture was, where their shapes show that only the picture was turned.

    ``picture_size``: (width, height) of the upright picture. ``orientation``: what its file says, 1 where it is not
    known. A map that lies across a picture which nobody turned stays as it is, with a remark.
    """
    if _alike(depth_map.size, picture_size) or not _alike(depth_map.size, picture_size[::-1]):
        return Upright(depth_map, None)
    if orientation in (5, 6, 7, 8):
        return Upright(
            depth_map.turned(orientation), f"The depth map was turned as its photo is (EXIF orientation {orientation})."
        )
    width, height = depth_map.size
    return Upright(
        depth_map,
        f"The depth map of {width}x{height} lies across the picture of {picture_size[0]}x{picture_size[1]}. If it was "
        "made of the photo before that was turned upright, turn it by 90 degrees too.",
    )


def _alike(one: Size, other: Size) -> bool:
    ratio = one[0] * other[1] / (one[1] * other[0])
    return 1 / TOLERANCE < ratio < TOLERANCE
