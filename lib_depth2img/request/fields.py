"""The one table of a request's fields.

The panel's widgets, the API's arguments, the infotext and the X/Y/Z axes are all made from ``FIELDS``, so a field is
added here (and to the dataclass in ``request.py``, which a test holds against it) or nowhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from ..depth.adjust import RANGES, Adjustments, Range
from ..depth.control import CONTROL_RANGES, MODES
from ..errors import RequestError
from ..estimators.detail import RESOLUTIONS, TILES
from .kinds import Choice, Count, Field, Flag, Interval, Number, Picture
from .user_image import shortened

__all__ = ["FIELDS", "field_named", "refuse_unknown", "source_label"]


def _sources() -> Sequence[tuple[str, str]]:
    return (("init_image", "Init image"), ("depth_map", "Depth map"), ("image", "Another picture"))


def _only_masked() -> Sequence[tuple[str, str]]:
    return (("picture", "Whole picture"), ("crop", "Crop"))


def _meanings() -> Sequence[tuple[str, str]]:
    return (("nearness", "near"), ("distance", "far away"))


def _modes() -> Sequence[tuple[str, str]]:
    return tuple(zip(MODES, ("Balanced", "The prompt is more important", "Depth is more important"), strict=True))


def _estimators() -> Sequence[tuple[str, str]]:
    from ..estimators.presets import PRESETS

    return tuple((name, name) for name in ("checkpoint", *PRESETS))


def _adjustment(name: str, label: str, hint: str) -> Number:
    return _number(name, label, getattr(Adjustments(), name), hint, RANGES[name])


def _number(name: str, label: str, default: float, hint: str, allowed: Range) -> Number:
    low, high, step = allowed
    return Number(name, label, default, hint, f"Depth2Img {name}", axis=True, low=low, high=high, step=step)


FIELDS: tuple[Field, ...] = (
    Flag(
        "enabled",
        "Enable",
        True,
        "Off: the host's own depth conditioning is used. This model is made for denoising strengths up to 1.0.",
        "Depth2Img enabled",
    ),
    Choice("source", "Depth from", "init_image", "Where the depth comes from.", "Depth2Img source", choices=_sources),
    Picture("image", "Depth map file", None, "PNG and TIFF of 8 or 16 bits, float TIFF, OpenEXR, PFM, NPY or NPZ."),
    Choice(
        "estimator",
        "Estimator",
        "checkpoint",
        "The network that sees depth; “checkpoint” is the one inside the depth model, which was trained with it.",
        "Depth2Img estimator",
        axis=True,
        choices=_estimators,
    ),
    _adjustment("far", "Far", "Nearness at or below this becomes the background."),
    _adjustment("near", "Near", "Nearness at or above this becomes the foreground."),
    _adjustment("gamma", "Gamma", "Above 1 brings the middle nearer, below 1 pushes it away."),
    _adjustment("blur", "Blur", "In pixels of the map; softens steps and hard edges."),
    Flag("invert", "Invert", False, "For maps in which white is far.", "Depth2Img invert", axis=True),
    Choice(
        "only_masked",
        "With “Only masked”, estimate on",
        "picture",
        "The whole picture keeps depth in proportion to what surrounds the mask; the crop shows more detail in it.",
        "Depth2Img only masked",
        axis=True,
        choices=_only_masked,
    ),
    Flag(
        "from_noise",
        "Start from pure noise",
        False,
        "At denoising strength 1 no colour of the init image is left; unmasked parts stay.",
        "Depth2Img from noise",
        axis=True,
    ),
    Flag(
        "append_depth_map",
        "Add depth map to results",
        False,
        "It comes last.",
        "Depth2Img append depth map",
        in_tabs=True,
    ),
    Flag(
        "save_depth_map", "Save depth map", False, "A 16-bit PNG named after the picture.", "Depth2Img save depth map"
    ),
    Choice(
        "meaning",
        "High values are",
        "nearness",
        "What high numbers in your map say. Estimates have nearness; depth cameras and 3D programs have distance.",
        "Depth2Img meaning",
        axis=True,
        choices=_meanings,
    ),
    _adjustment(
        "clip",
        "Cut off",
        "The share of the nearest and of the farthest pixels that the map is stretched without: for a leaf before the "
        "lens, or a sky behind all.",
    ),
    _number(
        "strength",
        "Depth strength",
        1.0,
        "How much depth counts: 0 not at all, 1 as the model was trained, above 1 more than that. Between 0 and 1 it "
        "takes twice the time.",
        CONTROL_RANGES["strength"],
    ),
    _number("start", "Depth start", 0.0, "From which share of the steps on depth counts.", CONTROL_RANGES["start"]),
    _number("end", "Depth end", 1.0, "Up to which share of the steps depth counts.", CONTROL_RANGES["end"]),
    Choice(
        "mode",
        "Depth mode",
        MODES[0],
        "Whose part guidance takes: the depth's, the prompt's, or neither's.",
        "Depth2Img mode",
        axis=True,
        choices=_modes,
    ),
    Picture("region", "Depth region", None, "A picture: depth counts where it is white. None: everywhere."),
    Flag(
        "outside_mask",
        "Depth outside of the inpaint mask only",
        False,
        "What is painted anew under the mask is free to have another shape.",
        "Depth2Img outside mask",
        axis=True,
    ),
    Interval(
        "range",
        "Range",
        None,
        "From which to which number of the map depth reaches, such as 0.5 to 20, the same for every picture; metres "
        "for maps of distances in metres, 0 to 1 for PNG. Empty: each picture's own lowest and highest.",
        "Depth2Img range",
    ),
    Count(
        "resolution",
        "Resolution of the estimate",
        0,
        "How large the estimator sees a picture, in pixels. More shows finer things and may lose the whole.",
        "Depth2Img resolution",
        axis=True,
        low=RESOLUTIONS[0],
        high=RESOLUTIONS[1],
        step=32,
        zero="the network's own",
    ),
    Count(
        "tiles",
        "Tiles of the estimate",
        1,
        "How many along the shorter side are estimated by themselves too, for large pictures: 1 none, 2 about 5 times "
        "the time, 4 about 17 times.",
        "Depth2Img tiles",
        axis=True,
        low=TILES[0],
        high=TILES[1],
    ),
)
"""In the dataclass's order, which is also that of positional API arguments."""

_BY_NAME = {entry.name: entry for entry in FIELDS}


def field_named(name: str) -> Field:
    """The table's entry. Raises: RequestError when there is none; the text suggests the nearest name."""
    refuse_unknown([name])
    return _BY_NAME[name]


def source_label(source: str) -> str:
    """What the panel calls a source of depth."""
    return dict(_sources())[source]


def refuse_unknown(names: Iterable[Any]) -> None:
    """Raises: RequestError for the first name that is no field's."""
    for name in names:
        if not isinstance(name, str) or name not in _BY_NAME:
            near = difflib.get_close_matches(str(name), _BY_NAME, n=1, cutoff=0.5)
            advice = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(_BY_NAME)}."
            raise RequestError(f"Unknown field {shortened(name)}. {advice}")
