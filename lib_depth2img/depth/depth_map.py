"""The depth map: one (H, W) array of nearness, and nothing that depends on where it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import DepthMapError
from . import resample
from .nearness import nearness, samples_from_array, samples_from_image
from .orientation import turned
from .sizes import checked_size

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from PIL import Image

    from .adjust import Adjustments
    from .extent import Extent

__all__ = ["DepthMap", "Meaning"]

Meaning = Literal["nearness", "distance"]


@dataclass(frozen=True, eq=False)
class DepthMap:
    """Nearness over the whole of one picture.

    ``values``: (H, W) float32, finite, near = high. It is made read-only, so a map can be shared between threads
    and cached.
    ``unit``: True when the values are on the [0, 1] scale of their file type or of an adjustment; False when they are
    relative nearness in arbitrary units: an estimate, a float file, 1/distance.
    ``holes``: how many pixels held no measurement when the map was read, and are the farthest now: NaN, inf, what is
    transparent; of distances also 0, negative numbers, and 65535 in 16 bit, as depth cameras write them. 0 after
    :meth:`resized`.

    Raises:
        DepthMapError: ``values`` is not a filled (H, W) float32 array of finite numbers.
    """

    values: np.ndarray
    unit: bool
    holes: int = 0

    def __post_init__(self) -> None:
        values = self.values
        if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype != np.float32 or values.size == 0:
            raise DepthMapError(
                f"A depth map holds a filled (H, W) float32 array, not {_described(values)}; "
                "make one with DepthMap.from_array, which converts."
            )
        if not np.isfinite(values).all():
            raise DepthMapError("A depth map holds finite numbers only; DepthMap.from_array replaces NaN and inf.")
        if values.flags.writeable or not values.flags.c_contiguous:
            values = values.copy(order="C")
            values.flags.writeable = False
            object.__setattr__(self, "values", values)

    @classmethod
    def from_array(cls, array: ArrayLike, *, meaning: Meaning = "nearness") -> DepthMap:
        """A depth map from an array of any number type, scaled by that type and never by its content.

        ``array``: (H, W), (H, W, 1), or (H, W, 3 or 4) with equal colour channels, also in a batch of one. bool, uint8
        and uint16 are picture types and give a unit map (255 and 65535 are 1.0); every other type is taken as numbers
        in arbitrary units.
        ``meaning``: "nearness" (near = high) or "distance" (near = low; nearness becomes 1/distance).
        No measurement, hence the farthest value of the map: NaN, inf, numbers beyond 1e30, fully transparent pixels,
        and for distances 0 and negative numbers too.

        Raises:
            DepthMapError: another rank or type, a coloured picture, or not one measurement in it.
        """
        return cls(*nearness(samples_from_array(array), meaning))

    @classmethod
    def from_image(cls, image: Image.Image, *, meaning: Meaning = "nearness") -> DepthMap:
        """A depth map from a PIL picture of any mode, scaled by its mode and never by its content.

        Modes 1, L, LA, P, RGB, RGBA are 8 bit, I;16 is 16 bit, F is numbers in arbitrary units. Mode I is what
        several Pillow versions make of a 16-bit PNG, so it is 16 bit too, unless it comes from a TIFF that says more.
        ``meaning`` and pixels without a measurement: as in :meth:`from_array`.

        Raises:
            DepthMapError: a coloured picture, not one measurement in it, or numbers that its bit depth cannot hold.
        """
        return cls(*nearness(samples_from_image(image), meaning))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), as PIL has it."""
        height, width = self.values.shape
        return width, height

    @cached_property
    def extent(self) -> tuple[float, float]:
        """The exact (minimum, maximum) of the values."""
        return float(self.values.min()), float(self.values.max())

    @property
    def is_flat(self) -> bool:
        """True when every value is the same: there is no depth in the map, which is allowed."""
        lowest, highest = self.extent
        return lowest == highest

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over shape, unit and values: equal for equal maps on every machine."""
        height, width = self.values.shape
        sha256 = hashlib.sha256(f"{height}x{width} unit={self.unit} float32-le\n".encode())
        sha256.update(np.ascontiguousarray(self.values, dtype="<f4").data)
        return sha256.hexdigest()

    def scaled(self) -> DepthMap:
        """The map on the [0, 1] scale: itself when it is there, else by its own minimum and maximum; flat gives 0."""
        if self.unit:
            return self
        lowest, highest = self.extent
        if lowest == highest:
            return _frozen(np.zeros_like(self.values), unit=True, holes=self.holes)
        # In float64: the difference of two large float32 neighbours may overflow or vanish in float32.
        scaled = (self.values.astype(np.float64) - lowest) / (highest - lowest)
        return _frozen(scaled.astype(np.float32), unit=True, holes=self.holes)

    def within(self, extent: Extent) -> DepthMap:
        """A unit map: 0 at the lower end of ``extent``, in this map's unit, and below; 1 at its upper end and above."""
        lowest, highest = extent
        scaled = (self.values.astype(np.float64) - lowest) / (highest - lowest)
        return _frozen(scaled.clip(0.0, 1.0).astype(np.float32), unit=True, holes=self.holes)

    def lies_outside(self, extent: Extent) -> bool:
        """Whether no pixel lies within ``extent``, so that :meth:`within` gives a flat map."""
        return self.extent[1] <= extent[0] or self.extent[0] >= extent[1]

    def adjusted(self, adjustments: Adjustments, *, extent: Extent | None = None) -> DepthMap:
        """The map with ``adjustments`` made, a unit map; this very map when there is nothing to adjust.

        ``extent``: scale by this one, as :meth:`within`, and not by the map's own; ``clip`` is not looked at then.
        """
        if extent is not None:
            return DepthMap(adjustments.apply(self.within(extent).values), unit=True, holes=self.holes)
        if adjustments.is_identity:
            return self
        values = adjustments.apply(self.without_extremes(adjustments.clip).scaled().values)
        return DepthMap(values, unit=True, holes=self.holes)

    def without_extremes(self, share: float) -> DepthMap:
        """The map with the nearest and the farthest ``share`` of its pixels brought to the nearest and farthest of the
        rest; this very map for 0. In arbitrary units, so that it will be stretched.
        """
        if share <= 0.0:
            return self
        farthest, nearest = np.quantile(self.values, (share, 1.0 - share), method="nearest")
        return _frozen(self.values.clip(farthest, nearest), unit=False, holes=self.holes)

    def resized(self, size: tuple[int, int]) -> DepthMap:
        """The map at ``size`` (width, height); this very map when it has that size.

        Bicubic (a = -0.75, as ``torch.nn.functional.interpolate(mode="bicubic", align_corners=False)``), and the
        area average along an axis that shrinks to less than half. A unit map is kept within [0, 1], which bicubic
        alone would overshoot.

        Raises:
            RequestError: a size that is not two positive whole numbers.
        """
        size = checked_size("size", size)
        if size == self.size:
            return self
        values = resample.resize(self.values, size)
        if self.unit:
            values = values.clip(0.0, 1.0)
        return _frozen(values, unit=self.unit)

    def turned(self, orientation: int) -> DepthMap:
        """The map turned as EXIF's ``orientation``, 1 to 8, tells viewers to turn a photo."""
        values = np.ascontiguousarray(turned(self.values, orientation))
        return self if values is self.values else DepthMap(values, unit=self.unit, holes=self.holes)


def _frozen(values: np.ndarray, *, unit: bool, holes: int = 0) -> DepthMap:
    """A map that takes over an array nobody else holds, without a copy."""
    values.flags.writeable = False
    return DepthMap(values, unit=unit, holes=holes)


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return f"a {type(value).__name__}"
