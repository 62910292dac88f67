"""What one generation asks of the extension, checked: the same object for the tabs, the API and the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..depth.adjust import ADJUSTMENTS, Adjustments
from ..depth.control import Control
from ..depth.extent import Extent, nearness_extent
from ..errors import RequestError
from ..estimators.detail import Detail
from .fields import FIELDS, field_named, refuse_unknown, source_label
from .user_image import ImageDecoder, UserImage, decode_image, shortened

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Depth2ImgRequest"]


@dataclass(frozen=True)
class Depth2ImgRequest:
    """The fields of one generation. ``FIELDS`` says what each means and which values it takes.

    Raises:
        RequestError: a value of the wrong type or out of range, ``far`` not below ``near``, ``start`` above ``end``, a
            source without its image, or an image that the source does not use, ``range`` beside ``clip``.
    """

    enabled: bool = True
    source: str = "init_image"
    image: UserImage | None = None
    estimator: str = "checkpoint"
    far: float = 0.0
    near: float = 1.0
    gamma: float = 1.0
    blur: float = 0.0
    invert: bool = False
    only_masked: str = "picture"
    from_noise: bool = False
    append_depth_map: bool = False
    save_depth_map: bool = False
    meaning: str = "nearness"
    clip: float = 0.0
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    mode: str = "balanced"
    region: UserImage | None = None
    outside_mask: bool = False
    range: Extent | None = None
    resolution: int = 0
    tiles: int = 1

    def __post_init__(self) -> None:
        for entry in FIELDS:
            object.__setattr__(self, entry.name, entry.check(getattr(self, entry.name)))
        if self.far >= self.near:
            raise RequestError(
                f"near: got {self.near:g}, expected more than far, which is {self.far:g}.",
                in_panel=f"Near is {self.near:g} and Far is {self.far:g}: Near has to be more.",
            )
        if self.start > self.end:
            raise RequestError(
                f"start: got {self.start:g}, expected at most end, which is {self.end:g}.",
                in_panel=f"Depth counts from {self.start:g} to {self.end:g} of the steps: it has to begin before it "
                "ends.",
            )
        if self.source != "init_image" and self.image is None:
            raise RequestError(
                f"image: got none, expected one, since source is {self.source}.",
                in_panel=f"{source_label(self.source)}: choose one in the Depth2Img panel, or take the depth from "
                "elsewhere.",
            )
        _refuse_unused(self.image, self.source)
        if self.range is not None:
            self._check_range(self.range)
        if self.meaning != "nearness" and self.source != "depth_map":
            raise RequestError(
                f"meaning: got {self.meaning}, but source is {self.source}, whose depth is estimated. Leave meaning "
                "out, or set source to depth_map."
            )

    def _check_range(self, extent: Extent) -> None:
        nearness_extent(extent, self.meaning)
        if self.clip > 0.0:
            raise RequestError(
                f"clip: got {self.clip:g}, but range says what the map is scaled by. Leave one of them out.",
                in_panel="Range says what the depth map is scaled by: set Cut off to 0, or leave Range empty.",
            )

    @property
    def extent(self) -> Extent | None:
        """The range as nearness, as the depth library takes it; None for each picture's own."""
        return None if self.range is None else nearness_extent(self.range, self.meaning)

    @property
    def adjustments(self) -> Adjustments:
        """What is changed on the depth map, as the depth library takes it."""
        return Adjustments(**{name: getattr(self, name) for name in ADJUSTMENTS})

    @property
    def detail(self) -> Detail:
        """How finely depth is estimated, as the estimators take it."""
        return Detail(self.resolution, self.tiles)

    def control(self, region: Tensor | None) -> Control:
        """How much depth counts; ``region``: (B, 1, h, w) as ``Control`` takes it, None for everywhere."""
        return Control(self.strength, self.start, self.end, self.mode, region)

    def replace(self, **changes: Any) -> Depth2ImgRequest:
        """A copy with some fields changed, checked again. Raises: RequestError."""
        refuse_unknown(changes)
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_mapping(
        cls,
        mapping: Mapping[str, Any],
        *,
        image_decoder: ImageDecoder | None = None,
        base: Depth2ImgRequest | None = None,
    ) -> Depth2ImgRequest:
        """From named fields, as the API sends them; what is not named is as in ``base``. Raises: RequestError."""
        if not isinstance(mapping, Mapping):
            raise RequestError(f"Depth2Img: got {shortened(mapping)}, expected an object with named fields.")
        refuse_unknown(mapping)
        base = base or cls()
        values = dict(mapping)
        source = field_named("source").check(values.get("source", base.source))
        meaning = field_named("meaning").check(values.get("meaning", base.meaning))
        _refuse_unused(values.get("image"), source)
        if values.get("image") is not None:
            try:
                values["image"] = decode_image(values["image"], source, meaning, decoder=image_decoder)
            except RequestError as error:
                raise RequestError(str(error), in_panel=f"{source_label(source)}: {error.in_panel}") from error
        if values.get("region") is not None:
            try:
                values["region"] = decode_image(values["region"], "region", field_name="region", decoder=image_decoder)
            except RequestError as error:
                label = field_named("region").label
                raise RequestError(str(error), in_panel=f"{label}: {error.in_panel}") from error
        return base.replace(**values)


def _refuse_unused(image: Any, source: str) -> None:
    """An image passed over in silence would hide a forgotten ``source``: the result looks almost right."""
    if image is not None and source == "init_image":
        raise RequestError(
            "image: got one, but source is init_image, which does not use it. "
            "Set source to depth_map or image, or leave image out."
        )
