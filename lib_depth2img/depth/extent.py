"""The range that depth is scaled by: of one picture, of a sequence of them, or given by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

from ..errors import RequestError

__all__ = ["UNIT", "Extent", "checked_extent", "nearness_extent"]

Extent = tuple[float, float]
"""(lowest, highest), the first below the second."""

UNIT: Extent = (0.0, 1.0)


def checked_extent(name: str, value: object) -> Extent:
    """``value`` as an extent. Raises: RequestError, naming it ``name``, for all but two finite numbers that rise."""
    pair = list(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else []
    numbers = [float(each) for each in pair if isinstance(each, Real) and not isinstance(each, bool)]
    if len(pair) != 2 or len(numbers) != 2 or not all(map(math.isfinite, numbers)) or not numbers[0] < numbers[1]:
        raise RequestError(f"{name}: got {str(value)[:60]!r}, expected two numbers, the lower one first.")
    return numbers[0], numbers[1]


def nearness_extent(extent: Extent, meaning: str) -> Extent:
    """The extent of nearness that numbers of ``meaning`` from the lower to the higher one stand for.

    Raises:
        RequestError: distances that are not above 0.
    """
    lowest, highest = extent
    if meaning != "distance":
        return extent
    if lowest <= 0.0:
        raise RequestError(f"range: got {lowest:g} to {highest:g}, expected distances above 0, as meaning is distance.")
    return 1.0 / highest, 1.0 / lowest
