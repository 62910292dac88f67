"""Sizes of pictures, canvases and maps: (width, height) in whole pixels."""

from __future__ import annotations

from numbers import Integral

from ..errors import RequestError

__all__ = ["Size", "checked_size", "same_shape"]

Size = tuple[int, int]
"""(width, height)."""


def checked_size(what: str, size: Size) -> Size:
    """``size`` as two ints; raises RequestError when it is not two positive whole numbers."""
    try:
        width, height = size
    except (TypeError, ValueError):
        width = height = 0
    whole = all(isinstance(side, Integral) and not isinstance(side, bool) for side in (width, height))
    if not whole or width < 1 or height < 1:
        raise RequestError(f"The {what} is {size!r}; it has to be (width, height), two whole numbers above 0.")
    return int(width), int(height)


def same_shape(one: Size, other: Size) -> bool:
    """Whether two (width, height) are of one shape, apart from the rounding of the smaller one to whole pixels."""
    difference = abs(one[0] * other[1] - one[1] * other[0])
    return 2 * difference <= max(sum(one), sum(other))
