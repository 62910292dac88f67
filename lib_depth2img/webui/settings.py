"""The settings page "Depth2Img": what holds for all generations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..request.fields import Choice, field_named

__all__ = ["Settings", "read_settings", "register", "unregister"]

_SECTION = ("depth2img", "Depth2Img")
_PREFIX = "depth2img_"


@dataclass(frozen=True)
class Settings:
    """The settings with their defaults.

    ``precision``: as ``DepthEstimator`` takes it. ``device``: "model" (where the host computes) or "cpu".
    ``cache_megabytes``: of depth maps kept, 0 for none. ``keep_loaded``: an estimator of its own stays in memory
    after a generation. ``maps_folder``: where depth maps are saved; empty: beside the pictures.
    """

    estimator: str = "checkpoint"
    precision: str = "auto"
    device: str = "model"
    cache_megabytes: int = 256
    keep_loaded: bool = True
    maps_folder: str = ""


@dataclass(frozen=True)
class _Option:
    label: str
    info: str
    component: str
    arguments: dict[str, Any]


def _options(folders_visible: bool) -> dict[str, _Option]:
    estimator = field_named("estimator")
    assert isinstance(estimator, Choice)
    return {
        "estimator": _Option(
            "Estimator that the panel starts with",
            "needs Reload UI; “checkpoint” is the one inside the depth model",
            "Dropdown",
            {"choices": estimator.values},
        ),
        "precision": _Option(
            "Precision of estimators other than the checkpoint's own",
            "auto: float16 on CUDA, but float32 under --no-half; float32 on other devices",
            "Dropdown",
            {"choices": ["auto", "float32", "bfloat16", "float16"]},
        ),
        "device": _Option(
            "Device of estimators other than the checkpoint's own",
            "model: where the host computes; cpu leaves the GPU's memory to the model",
            "Radio",
            {"choices": ["model", "cpu"]},
        ),
        "cache_megabytes": _Option(
            "Memory for estimated depth maps, in MB",
            "one takes about 0.6 MB; 0 keeps none",
            "Slider",
            {"minimum": 0, "maximum": 4096, "step": 16},
        ),
        "keep_loaded": _Option(
            "Keep the estimator in memory between generations", "off: loaded each time it is needed", "Checkbox", {}
        ),
        "maps_folder": _Option(
            "Folder for saved depth maps", "empty: beside the pictures", "Textbox", {"visible": folders_visible}
        ),
    }


def register(*, folders_visible: bool = True) -> None:
    """Add the page to the host's settings (``on_ui_settings``). ``folders_visible``: not under --hide-ui-dir-config."""
    import gradio as gr
    from modules import shared

    for name, option in _options(folders_visible).items():
        info = shared.OptionInfo(
            getattr(Settings(), name),
            option.label,
            getattr(gr, option.component),
            option.arguments,
            section=_SECTION,
        )
        shared.opts.add_option(_PREFIX + name, info.info(option.info))


def unregister() -> None:
    """Take the page away; what the user chose stays in the host's config.json."""
    from modules import shared

    for name in Settings.__dataclass_fields__:
        shared.opts.data_labels.pop(_PREFIX + name, None)


def read_settings(opts: Any) -> Settings:
    """The settings in ``shared.opts``; a default where the host has none yet, or something of another kind."""
    defaults = Settings()
    kept: dict[str, Any] = {}
    for name in Settings.__dataclass_fields__:
        value, default = getattr(opts, _PREFIX + name, None), getattr(defaults, name)
        if _fits(value, default):
            kept[name] = type(default)(value)
    return Settings(**kept)


def _fits(value: Any, default: Any) -> bool:
    kinds: Sequence[type] = (int, float) if type(default) is int else (type(default),)
    return type(value) in kinds
