"""The sliders: clip, invert, far and near, gamma, blur."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Real
from typing import NamedTuple

import numpy as np

from ..errors import RequestError

__all__ = ["ADJUSTMENTS", "RANGES", "Adjustments", "Range"]


class Range(NamedTuple):
    """What a number may be, and the step a slider takes."""

    minimum: float
    maximum: float
    step: float = 1.0

    def checked(self, name: str, value: object) -> float:
        """``value`` as a float. Raises: RequestError for anything but a number within, naming it ``name``."""
        is_number = isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
        # Compared before it is converted: float() of a whole number of 400 digits is an OverflowError.
        if not is_number or not self.minimum <= value <= self.maximum:  # type: ignore[operator]
            allowed = f"a number from {self.minimum:.10g} to {self.maximum:.10g}"
            raise RequestError(f"{name} is {value!r}; it has to be {allowed}.")
        return float(value)  # type: ignore[arg-type]


RANGES = {
    "far": Range(0.0, 1.0, 0.01),
    "near": Range(0.0, 1.0, 0.01),
    "gamma": Range(0.1, 10.0, 0.05),
    "blur": Range(0.0, 64.0, 0.5),
    "clip": Range(0.0, 0.25, 0.005),
}
"""The allowed range of every number of ``Adjustments``, for whoever draws the sliders."""


@dataclass(frozen=True)
class Adjustments:
    """Changes to a depth map on the [0, 1] scale, made in this order.

    ``invert``: nearness becomes 1 - nearness, for maps with black = near. First, so that the rest is about nearness.
    ``far``, ``near``: levels. Nearness at or below ``far`` becomes 0, at or above ``near`` 1, linear in between.
    ``gamma``: nearness ** (1 / gamma), as in the levels dialog of picture editors: above 1 brings the middle nearer.
    ``blur``: sigma of a Gaussian in pixels of the map. Last, so that it softens the edges made by the levels too.
    ``clip``: the share of the nearest and of the farthest pixels that the map is stretched without, before all else:
    otherwise one leaf before the lens, or a sky behind everything, leaves nothing of the range for the rest.

    Raises:
        RequestError: a field of the wrong type or out of its range, or ``far`` not below ``near``.
    """

    far: float = 0.0
    near: float = 1.0
    gamma: float = 1.0
    blur: float = 0.0
    invert: bool = False
    clip: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in RANGES.items():
            object.__setattr__(self, name, allowed.checked(name, getattr(self, name)))
        if not isinstance(self.invert, (bool, np.bool_)):
            raise RequestError(f"invert is {self.invert!r}; it has to be true or false.")
        if not self.far < self.near:
            raise RequestError(f"far is {self.far:g} and near is {self.near:g}; far has to be below near.")

    @property
    def is_identity(self) -> bool:
        """True when there is nothing to change."""
        return self == Adjustments()

    def apply(self, values: np.ndarray) -> np.ndarray:
        """All but ``clip``: (H, W) float32 in [0, 1] to the same; ``values`` itself where nothing changes."""
        if self.invert:
            values = 1.0 - values
        if (self.far, self.near) != (0.0, 1.0):
            values = ((values - np.float32(self.far)) / np.float32(self.near - self.far)).clip(0.0, 1.0)
        if self.gamma != 1.0:
            values = values ** np.float32(1.0 / self.gamma)
        if self.blur > 0.0:
            values = _blurred(values, self.blur)
        return values


ADJUSTMENTS = tuple(field.name for field in fields(Adjustments))
"""The names of all adjustments."""


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    # In float64, since in float32 the blur of a constant is not quite constant, and the conditioning scales that up.
    width = 2 * math.ceil(3.0 * sigma) + 1
    blurred = cv2.GaussianBlur(values.astype(np.float64), (width, width), sigma, borderType=cv2.BORDER_REPLICATE)
    clipped: np.ndarray = blurred.clip(0.0, 1.0).astype(np.float32)
    return clipped
