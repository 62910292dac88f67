"""Estimates of one frame after the other, made to agree where nothing has changed.

Each estimate has a scale and shift of its own, and trembles. The first is taken out by a robust line through the
pixels at rest, the second by an average along the optical flow, as far as it can be trusted. Nothing is carried over a
cut, and no more than one frame is remembered, so memory does not grow with the length.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from ..depth.adjust import Range
from ..depth.depth_map import DepthMap
from .cuts import Cuts
from .flow import Motion, motion

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["STEADINESS", "Steady", "fitted_line"]

STEADINESS = Range(0.0, 0.98, 0.01)
"""The share of a pixel that is carried over from the frame before: 0 leaves every estimate as it is."""

_HOMESICKNESS = 0.02
"""The share of its own scale and shift that each estimate keeps, so that small errors of the fits do not add up."""

_FEWEST = 0.01
"""The least share of pixels at rest, or that can be followed, for a line to be put through them."""

_SURPRISE, _SURPRISE_AT_REST = 0.18, 0.5
"""A difference of this share of the map's range counts as a change of the scene and not as trembling. Of what is at
rest and looks as before it has to be more: its estimate changes with what passes by elsewhere."""

_ROUNDS = 8


class Steady:
    """Takes pictures with their estimates in the order of the film; see the module.

    ``strength``: as ``STEADINESS``. Raises: RequestError when it is out of range.
    """

    def __init__(self, strength: float) -> None:
        self._strength = STEADINESS.checked("steady", strength)
        self._cuts = Cuts()
        self._picture: np.ndarray | None = None
        self._values: np.ndarray | None = None

    @property
    def is_off(self) -> bool:
        """Whether every map stays as it is."""
        return self._strength == 0.0

    def resumed(self, picture: Image.Image, depth_map: DepthMap) -> None:
        """Go on behind a frame whose map :meth:`following` has given before."""
        self._cuts.begins(picture)
        self._remember(picture, depth_map)

    def following(self, picture: Image.Image, depth_map: DepthMap) -> DepthMap:
        """The steady map of the next frame, in the unit of the shot's first; of that one the very estimate."""
        steady = depth_map
        if not self._cuts.begins(picture) and self._strength > 0.0:
            steady = self._steadied(np.asarray(picture), depth_map)
        self._remember(picture, steady)
        return steady

    def _remember(self, picture: Image.Image, depth_map: DepthMap) -> None:
        self._picture, self._values = np.asarray(picture), depth_map.values

    def _steadied(self, picture: np.ndarray, depth_map: DepthMap) -> DepthMap:
        assert self._picture is not None, "the first frame begins a shot"
        assert self._values is not None
        if self._values.shape != depth_map.values.shape:
            return depth_map
        moved = motion(self._picture, picture, depth_map.size)
        carried = moved.carried(self._values)
        fitted = self._fitted(depth_map.values, carried, moved)
        spread = float(np.ptp(carried)) or 1.0
        allowed = np.where(moved.at_rest, _SURPRISE_AT_REST, _SURPRISE) * spread
        agreement = 1.0 / (1.0 + ((fitted - carried) / allowed) ** 4)
        share = self._strength * moved.trust * agreement
        values = fitted + share * (carried - fitted)
        return DepthMap(values.astype(np.float32), unit=depth_map.unit)

    def _fitted(self, values: np.ndarray, carried: np.ndarray, moved: Motion) -> np.ndarray:
        """The estimate on the scale of the frame before: by what is at rest, else by what can be followed."""
        known = moved.at_rest
        if known.mean() < _FEWEST:
            known = moved.trust > 0.5
        if known.mean() < _FEWEST:
            return values
        calm = (1.0 - self._strength) / (1.0 + self._strength)  # of an average that has gone on for long
        scale, shift = fitted_line(values[known].astype(np.float64), carried[known].astype(np.float64), calm)
        kept = 1.0 - _HOMESICKNESS
        found: np.ndarray = values * (1.0 + kept * (scale - 1.0)) + kept * shift
        return found


def fitted_line(x: np.ndarray, y: np.ndarray, calm: float = 1.0) -> tuple[float, float]:
    """Scale a and shift b with which a x + b is y for most of the points; those far off count little.

    ``calm``: the variance with which ``y`` trembles, as a share of that of a ``x``. Least squares would take the
    trembling of ``x`` for a reason to flatten, a little in each of thousands of frames; this is Deming's line
    (Adcock 1878), weighted anew in each round by how far a point lies off (Cauchy).
    """
    weights = np.ones(x.shape)
    scale, shift = 1.0, 0.0
    for _ in range(_ROUNDS):
        middle_x, middle_y = (float(np.average(each, weights=weights)) for each in (x, y))
        xx, xy, yy = (
            float(np.average(one * other, weights=weights))
            for one, other in itertools.combinations_with_replacement((x - middle_x, y - middle_y), 2)
        )
        if xy <= 0.0 or min(xx, yy) <= 1e-12 * max(middle_x**2, middle_y**2):
            return 1.0, middle_y - middle_x
        share = calm * yy / xx  # of the variances in units of their own
        scale = (yy - share * xx + ((yy - share * xx) ** 2 + 4.0 * share * xy**2) ** 0.5) / (2.0 * xy)
        shift = middle_y - scale * middle_x
        off = np.abs(scale * x + shift - y)
        weights = 1.0 / (1.0 + (off / max(float(np.median(off)) * 2.0, 1e-9 * yy**0.5)) ** 2)
    return scale, shift
