"""How finely an estimator looks at a picture."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import EstimatorError

__all__ = ["AS_TRAINED", "DETAIL", "RESOLUTIONS", "TILES", "Detail"]

RESOLUTIONS = (64, 2048)
"""Least and most of a network's input size, in pixels."""

TILES = (1, 8)
"""Fewest and most along a picture's shorter side."""


@dataclass(frozen=True)
class Detail:
    """``resolution``: of the network's input, in the place of the preset's side; 0 for that. ``tiles``: along the
    picture's shorter side, each seen at that resolution; 1: the picture is seen as a whole only.

    Raises:
        EstimatorError: out of range.
    """

    resolution: int = 0
    tiles: int = 1

    def __post_init__(self) -> None:
        least, most = RESOLUTIONS
        if self.resolution and not least <= self.resolution <= most:
            raise EstimatorError(f"The resolution is {self.resolution}; expected 0 or {least} to {most}.")
        if not TILES[0] <= self.tiles <= TILES[1]:
            raise EstimatorError(f"The number of tiles is {self.tiles}; expected {TILES[0]} to {TILES[1]}.")


AS_TRAINED = Detail()

DETAIL = tuple(Detail.__dataclass_fields__)
"""Names of the fields."""
