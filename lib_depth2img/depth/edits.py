"""Edits of a depth map as a list of strokes, which is kept as it is and made again at any size of the map.

A stroke is a plain object, as JSON has it. Places are shares of the map's width and height, from the left and from the
top; sizes are shares of its longer side; values are nearness on the [0, 1] scale. Pixels that no stroke touches keep
their bits.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..errors import RequestError
from .adjust import Range
from .depth_map import DepthMap

__all__ = [
    "MAX_CHARACTERS",
    "MAX_POINTS",
    "MAX_STROKES",
    "TOOLS",
    "Stroke",
    "apply_strokes",
    "edited",
    "strokes_from_json",
    "strokes_from_list",
]

MAX_STROKES = 500
MAX_POINTS = 2000
"""Of one stroke."""
MAX_CHARACTERS = 4 * 2**20
"""Of the JSON of all strokes."""

_SHARE = Range(0.0, 1.0)
_PLACE = Range(-0.5, 1.5)
"""A brush may be led out of the map."""
_SIZE = Range(0.0, 0.5)

_PRESSURES = 8
"""Steps of a pen's pressure that are told apart."""

_FEATHER = 0.1
"""How far from its edge a polygon of softness 1 has its full value, of the map's longer side."""


@dataclass(frozen=True)
class Stroke(ABC):
    """One edit; the children are the tools. Fields are checked when it is made.

    Raises:
        RequestError: a field of the wrong type or out of its range.
    """

    tool: str

    @abstractmethod
    def apply(self, values: np.ndarray) -> np.ndarray:
        """(H, W) float32 in [0, 1] to the same, a new array."""


@dataclass(frozen=True)
class Brush(Stroke):
    """What is led over the map: nearer and away by ``value``, set to ``value``, or smooth.

    ``points``: (x, y) or (x, y, pressure), pressure from 0 to 1. ``size``: the diameter. ``softness``: the share of the
    radius over which the edge fades. One stroke has its full effect once, however often it crosses itself.
    """

    points: tuple[tuple[float, ...], ...]
    size: float = 0.1
    softness: float = 0.5
    value: float = 0.1

    def __post_init__(self) -> None:
        _keep(self, points=_points("points", self.points, pressure=True), size=_SIZE.checked("size", self.size))
        _keep(self, softness=_share(self, "softness"), value=_share(self, "value"))

    def apply(self, values: np.ndarray) -> np.ndarray:
        longer = max(values.shape)
        radius = max(0.5, self.size * longer / 2.0)
        places = _in_pixels(self.points, values.shape)
        changed = values.copy()
        window = _window(places, radius, values.shape)
        if window is None:
            return changed
        weights = _weights(self.points, places, window, radius, self.softness)
        part = changed[window]
        # Where the weight is nothing, not even rounding may change a value.
        changed[window] = np.where(weights > 0.0, self._mixed(values, window, part, weights, radius), part)
        return changed

    def _mixed(
        self, values: np.ndarray, window: Window, part: np.ndarray, weights: np.ndarray, radius: float
    ) -> np.ndarray:
        if self.tool == "nearer":
            return (part + np.float32(self.value) * weights).clip(0.0, 1.0)
        if self.tool == "away":
            return (part - np.float32(self.value) * weights).clip(0.0, 1.0)
        goal = np.float32(self.value) if self.tool == "set" else _smoothed(values, window, radius / 3.0)
        return np.where(weights == 1.0, goal, part + (goal - part) * weights)


@dataclass(frozen=True)
class Fill(Stroke):
    """A polygon set to ``value``; with ``softness`` it fades inwards from its edge."""

    points: tuple[tuple[float, ...], ...]
    value: float = 0.5
    softness: float = 0.0

    def __post_init__(self) -> None:
        _keep(self, points=_points("points", self.points, fewest=3))
        _keep(self, softness=_share(self, "softness"), value=_share(self, "value"))

    def apply(self, values: np.ndarray) -> np.ndarray:
        import cv2

        corners = np.rint(_in_pixels(self.points, values.shape) * 16.0).astype(np.int32)
        inside = np.zeros(values.shape, np.uint8)
        cv2.fillPoly(inside, [corners], 1, shift=4)
        feather = self.softness * _FEATHER * max(values.shape)
        goal = np.float32(self.value)
        if feather < 1.0:
            return np.where(inside, goal, values)
        # The frame counts as inside, so that what is filled to the map's edge is so to its last pixel.
        depth = cv2.distanceTransform(np.pad(inside, 1, mode="edge"), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        weights = _smoothstep(depth / np.float32(feather))
        return np.where(inside, values + (goal - values) * weights, values)


@dataclass(frozen=True)
class AtPoint(Stroke):
    """What is done by the nearness that the map has at ``at``.

    flatten: everything beyond comes up to it, a wall. cut: everything from there on back becomes the farthest.
    """

    at: tuple[float, float]

    def __post_init__(self) -> None:
        _keep(self, at=_points("at", (self.at,))[0])

    def apply(self, values: np.ndarray) -> np.ndarray:
        here = values[_pixel(self.at, values.shape)]
        if self.tool == "flatten":
            return np.maximum(values, here)
        return np.where(values <= here, np.float32(0.0), values)


@dataclass(frozen=True)
class Gradient(Stroke):
    """A straight gradient over the map, as of a floor or a wall: from one place and its value to another.

    ``behind``: only where the map is farther than the gradient.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    value: float = 1.0
    end_value: float = 0.0
    behind: bool = True

    def __post_init__(self) -> None:
        _keep(self, start=_points("start", (self.start,))[0], end=_points("end", (self.end,))[0])
        _keep(self, value=_share(self, "value"), end_value=_share(self, "end_value"))
        if not isinstance(self.behind, bool):
            raise RequestError(f"behind is {self.behind!r}; it has to be true or false.")

    def apply(self, values: np.ndarray) -> np.ndarray:
        (x0, y0), (x1, y1) = _in_pixels((self.start, self.end), values.shape)
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        height, width = values.shape
        y, x = np.ogrid[:height, :width]
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / max(length, 1e-9)
        slope = (self.value + along.clip(0.0, 1.0) * (self.end_value - self.value)).astype(np.float32)
        return np.maximum(values, slope) if self.behind else slope


TOOLS: Mapping[str, type[Stroke]] = {
    "nearer": Brush,
    "away": Brush,
    "set": Brush,
    "smooth": Brush,
    "fill": Fill,
    "flatten": AtPoint,
    "cut": AtPoint,
    "gradient": Gradient,
}

Window = tuple[slice, slice]


def strokes_from_json(text: str) -> tuple[Stroke, ...]:
    """The strokes in a JSON list. Raises: RequestError."""
    if len(text) > MAX_CHARACTERS:
        raise RequestError(
            f"strokes: got {len(text) / 2**20:.1f} MiB, expected at most {MAX_CHARACTERS // 2**20}. "
            "Apply the edit, and go on from there."
        )
    try:
        strokes = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"strokes: got no JSON ({error}), expected a list of strokes.") from error
    return strokes_from_list(strokes)


def strokes_from_list(strokes: Any) -> tuple[Stroke, ...]:
    """The strokes in a list of plain objects. Raises: RequestError."""
    if not isinstance(strokes, list):
        raise RequestError(f"strokes: got {type(strokes).__name__}, expected a list of strokes.")
    if len(strokes) > MAX_STROKES:
        raise RequestError(
            f"strokes: got {len(strokes)}, expected at most {MAX_STROKES}. Apply the edit, and go on from there."
        )
    return tuple(_stroke(index, stroke) for index, stroke in enumerate(strokes))


def apply_strokes(values: np.ndarray, strokes: Sequence[Stroke]) -> np.ndarray:
    """(H, W) float32 in [0, 1] with the strokes made in their order; ``values`` itself without any."""
    for stroke in strokes:
        values = stroke.apply(values)
    return values


def edited(depth_map: DepthMap, strokes: Sequence[Stroke]) -> DepthMap:
    """The map on the [0, 1] scale with the strokes made; this very map without any."""
    if not strokes:
        return depth_map
    return DepthMap(apply_strokes(depth_map.scaled().values, strokes), unit=True)


def _stroke(index: int, stroke: Any) -> Stroke:
    where = f"strokes[{index}]"
    tool = stroke.get("tool") if isinstance(stroke, Mapping) else None
    if not isinstance(tool, str) or tool not in TOOLS:
        raise RequestError(f"{where}: got tool {tool!r}, expected one of {', '.join(TOOLS)}.")
    kind = TOOLS[tool]
    known = {each.name for each in fields(kind)}
    for name in stroke:
        if name not in known:
            raise RequestError(f"{where}: got {name!r}, which {tool} has not. It has {', '.join(sorted(known))}.")
    try:
        return kind(**stroke)
    except TypeError as error:
        raise RequestError(f"{where}: {tool} needs more than {', '.join(sorted(stroke))}.") from error
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from error


def _keep(stroke: Stroke, **checked: Any) -> None:
    for name, value in checked.items():
        object.__setattr__(stroke, name, value)


def _share(stroke: Stroke, name: str) -> float:
    return _SHARE.checked(name, getattr(stroke, name))


def _points(name: str, points: Any, *, fewest: int = 1, pressure: bool = False) -> tuple[tuple[float, ...], ...]:
    if not isinstance(points, (list, tuple)) or not fewest <= len(points) <= MAX_POINTS:
        got = len(points) if isinstance(points, (list, tuple)) else type(points).__name__
        raise RequestError(f"{name}: got {got}, expected {fewest} to {MAX_POINTS} points.")
    for point in points:
        if not isinstance(point, (list, tuple)) or len(point) not in ((2, 3) if pressure else (2,)):
            raise RequestError(f"{name}: got the point {point!r}, expected [x, y].")
    return tuple(
        (
            _PLACE.checked("x", point[0]),
            _PLACE.checked("y", point[1]),
            *(_SHARE.checked("pressure", p) for p in point[2:]),
        )
        for point in points
    )


def _in_pixels(points: Sequence[Sequence[float]], shape: tuple[int, ...]) -> np.ndarray:
    """(n, 2) float64: x and y of the points, where whole numbers are the centres of pixels."""
    height, width = shape
    return np.array([point[:2] for point in points], np.float64) * (width, height) - 0.5


def _pixel(point: Sequence[float], shape: tuple[int, ...]) -> tuple[int, int]:
    """(row, column) of the pixel that a place is in, the nearest one for a place outside."""
    ((x, y),) = np.rint(_in_pixels((point,), shape)).astype(int)
    return min(max(y, 0), shape[0] - 1), min(max(x, 0), shape[1] - 1)


def _window(places: np.ndarray, reach: float, shape: tuple[int, ...]) -> Window | None:
    """The rows and columns that lie within ``reach`` of the places; None where that is nothing."""
    height, width = shape
    left, top = np.floor(places.min(axis=0) - reach).astype(int).clip(0)
    right, bottom = np.ceil(places.max(axis=0) + reach).astype(int) + 1
    right, bottom = min(right, width), min(bottom, height)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _weights(
    points: Sequence[Sequence[float]], places: np.ndarray, window: Window, radius: float, softness: float
) -> np.ndarray:
    """(h, w) float32 in [0, 1]: the effect of a brush on the pixels of ``window``."""
    import cv2

    rows, columns = window
    margin = math.ceil(radius) + 1  # a line just outside of the map still reaches into it
    shape = (rows.stop - rows.start + 2 * margin, columns.stop - columns.start + 2 * margin)
    ends = np.rint(places - (columns.start - margin, rows.start - margin)).astype(int).tolist()
    lines: dict[float, list[tuple[list[int], list[int]]]] = {}
    for index in range(max(1, len(ends) - 1)):
        first, last = index, min(index + 1, len(ends) - 1)
        lines.setdefault(_pressure(points[first], points[last]), []).append((ends[first], ends[last]))
    weights = np.zeros(shape, np.float32)
    for pressure, drawn in lines.items():
        away = np.ones(shape, np.uint8)
        for start, end in drawn:
            cv2.line(away, start, end, 0)
        if away.all():
            continue
        distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        weights = np.maximum(weights, np.float32(pressure) * _falloff(distance, radius, softness))
    return weights[margin:-margin, margin:-margin]


def _pressure(first: Sequence[float], last: Sequence[float]) -> float:
    """Of the line between two points, in ``_PRESSURES`` steps; 1 where a point has none."""
    pressures = [point[2] if len(point) > 2 else 1.0 for point in (first, last)]
    return math.ceil(sum(pressures) / 2.0 * _PRESSURES) / _PRESSURES


def _falloff(distance: np.ndarray, radius: float, softness: float) -> np.ndarray:
    if softness * radius < 0.5:
        return (distance <= radius).astype(np.float32)
    return _smoothstep((radius - distance) / np.float32(radius * softness))


def _smoothstep(share: np.ndarray) -> np.ndarray:
    share = share.clip(0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def _smoothed(values: np.ndarray, window: Window, sigma: float) -> np.ndarray:
    """The window of a blurred map; what lies around it flows in."""
    import cv2

    margin = math.ceil(3.0 * sigma)
    rows, columns = window
    top, left = max(0, rows.start - margin), max(0, columns.start - margin)
    around = values[top : rows.stop + margin, left : columns.stop + margin]
    blurred = cv2.GaussianBlur(around, (2 * margin + 1,) * 2, sigma, borderType=cv2.BORDER_REPLICATE)
    return blurred[rows.start - top :, columns.start - left :][: rows.stop - rows.start, : columns.stop - columns.start]
