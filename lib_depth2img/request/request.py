"""What one generation asks of the extension, checked: the same object for the tabs, the API and the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..depth.adjust import RANGES, Adjustments
from ..errors import RequestError
from .fields import FIELDS, PANEL_ORDER, Choice, field_named, refuse_unknown
from .user_image import ImageDecoder, UserImage, decode_image, shortened

__all__ = ["FIELDS", "PANEL_ORDER", "Depth2ImgRequest", "UserImage", "field_named"]


@dataclass(frozen=True)
class Depth2ImgRequest:
    """The fields of one generation. ``FIELDS`` says what each means and which values it takes.

    Raises:
        RequestError: a value of the wrong type or out of range, ``far`` not below ``near``, a source without its image,
            or an image that the source does not use.
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

    def __post_init__(self) -> None:
        for entry in FIELDS:
            object.__setattr__(self, entry.name, entry.check(getattr(self, entry.name)))
        if self.far >= self.near:
            raise RequestError(f"near: got {self.near:g}, expected more than far, which is {self.far:g}.")
        if self.source != "init_image" and self.image is None:
            raise RequestError(f"image: got none, expected one, since source is {self.source}.")
        _refuse_unused(self.image, self.source)

    @property
    def adjustments(self) -> Adjustments:
        """Far, near, gamma, blur and invert, as the depth library takes them."""
        return Adjustments(invert=self.invert, **{name: getattr(self, name) for name in RANGES})

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
        _refuse_unused(values.get("image"), source)
        if values.get("image") is not None:
            values["image"] = decode_image(values["image"], source, decoder=image_decoder)
        return base.replace(**values)

    @classmethod
    def from_panel(
        cls,
        values: Sequence[Any],
        *,
        image_decoder: ImageDecoder | None = None,
        base: Depth2ImgRequest | None = None,
    ) -> Depth2ImgRequest:
        """From values in ``PANEL_ORDER``. Fewer are completed from ``base``; more are not looked at.

        An upload stays in the panel when the source changes, so the one that the source does not use is passed over.
        Raises: RequestError.
        """
        named = dict(zip(PANEL_ORDER, values, strict=False))
        for entry in FIELDS:
            if isinstance(entry, Choice) and entry.name in named:
                named[entry.name] = entry.value_of(named[entry.name])
        picture = named.pop("picture", None)
        source = named.get("source", (base or cls()).source)
        if source == "init_image":
            named["image"] = None
        elif source == "image" and picture is not None:
            named["image"] = picture
        return cls.from_mapping(named, image_decoder=image_decoder, base=base)

    @classmethod
    def from_api_args(
        cls,
        args: Sequence[Any],
        *,
        image_decoder: ImageDecoder | None = None,
        base: Depth2ImgRequest | None = None,
    ) -> Depth2ImgRequest:
        """From what the host hands an always-on script: nothing, one object, or values in ``PANEL_ORDER``.

        The host fills up with the panel's own values (modules/api/api.py:357-360), so what follows an object is not
        looked at. Raises: RequestError.
        """
        if not args or args[0] is None:
            return base or cls()
        if isinstance(args[0], Mapping):
            return cls.from_mapping(args[0], image_decoder=image_decoder, base=base)
        return cls.from_panel(args, image_decoder=image_decoder, base=base)


def _refuse_unused(image: Any, source: str) -> None:
    """An image passed over in silence would hide a forgotten ``source``: the result looks almost right."""
    if image is not None and source == "init_image":
        raise RequestError(
            "image: got one, but source is init_image, which does not use it. "
            "Set source to depth_map or image, or leave image out."
        )
