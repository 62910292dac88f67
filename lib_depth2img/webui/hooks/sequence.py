"""The pictures of a batch as the frames of a sequence: one range for all of them, and estimates that are steady."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...console import say
from ...depth.extent import Extent, nearness_extent
from ...depth.io.files import read_picture
from ...errors import Depth2ImgError
from ...request.panel import BatchOptions
from ...request.request import Depth2ImgRequest
from ...sequences.steady import Steady
from ..estimators import ESTIMATORS

if TYPE_CHECKING:
    from PIL import Image

    from ...depth.depth_map import DepthMap

__all__ = ["STEADY_KEY", "BatchSequence"]

STEADY_KEY = "Depth2Img steady"
"""In the infotext: how much of each estimate is carried over from the picture before."""

OwnMap = Callable[[Path], "DepthMap | None"]


class BatchSequence:
    """What one press of Generate remembers from picture to picture, in the order in which the host takes them.

    ``request``: what the panel says, of which the estimator and ``clip`` are looked at.
    """

    def __init__(self, options: BatchOptions, request: Depth2ImgRequest) -> None:
        self._options, self._request = options, request
        self._steady = Steady(options.steady)
        self._last: tuple[Path, DepthMap] | None = None
        self._extents: dict[bool, Extent] = {}

    def measure(self, pictures: Iterable[Path], own_map: OwnMap, *, estimates: bool) -> None:
        """Look at all pictures before the first one is generated from, where one range was asked for.

        ``own_map``: the user's map of a picture, None where there is none; it is estimated then, if ``estimates``. What
        cannot be read is passed over here; the batch itself tells of it. Maps and estimates have no unit in common, so
        each kind has its own range.

        Raises:
            Depth2ImgError: the estimator cannot run.
        """
        if not self._options.one_range:
            return
        say("Depth2Img: looking at all pictures of the batch for one range.")
        steady = Steady(self._options.steady)
        for path in pictures:
            depth_map, estimated = own_map(path), False
            if depth_map is None and estimates:
                try:
                    picture = read_picture(path)
                except Depth2ImgError:
                    continue
                (estimate,) = ESTIMATORS.estimate([picture], self._request.estimator, self._request.detail)
                depth_map, estimated = steady.following(picture, estimate), True
            if depth_map is not None:
                self._widen(depth_map.without_extremes(self._request.clip).extent, estimated)

    def values(self, meaning: str, *, estimated: bool) -> dict[str, Any]:
        """The range by field name, in the unit that ``meaning`` says; nothing where each picture has its own."""
        extent = self._extents.get(estimated)
        if extent is None or extent[0] == extent[1]:
            return {}
        return {"range": nearness_extent(extent, meaning), "clip": 0.0}  # distance and nearness turn into each other

    @property
    def described(self) -> dict[str, Any]:
        """What the infotext says of it beside the request."""
        return {STEADY_KEY: f"{self._options.steady:g}"} if self._options.steady > 0.0 else {}

    def steadied(self, path: Path | None, picture: Image.Image, depth_map: DepthMap) -> DepthMap:
        """The steady map of the picture at ``path``; the same one where the picture is asked for again."""
        if path is None or self._options.steady == 0.0:
            return depth_map
        if self._last is None or self._last[0] != path:
            self._last = path, self._steady.following(picture, depth_map)
        return self._last[1]

    def _widen(self, extent: Extent, estimated: bool) -> None:
        known = self._extents.get(estimated, extent)
        self._extents[estimated] = min(known[0], extent[0]), max(known[1], extent[1])
