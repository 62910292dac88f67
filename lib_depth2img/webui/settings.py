"""The settings page "Depth2Img": what holds for all generations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .hosts import host
from .ui.settings_page import options_on_page

__all__ = ["Settings", "current", "register", "unregister"]

_PAGE = ("depth2img", "Depth2Img", "sd")  # under "Stable Diffusion" (shared_options.py:28), where img2img is
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


NAMES = tuple(Settings.__dataclass_fields__)


def current() -> Settings:
    """The settings as the user has them now; a default where the host has none yet, or something of another kind."""
    options, defaults = host.options(), Settings()
    kept: dict[str, Any] = {}
    for name in NAMES:
        value, default = getattr(options, _PREFIX + name, None), getattr(defaults, name)
        if _fits(value, default):
            kept[name] = type(default)(value)
    return Settings(**kept)


def register() -> None:
    """Add the page to the host's settings (``on_ui_settings``)."""
    for name, option in options_on_page(folders_visible=not host.command_line().hide_ui_dir_config).items():
        host.add_option(_PAGE, _PREFIX + name, getattr(Settings(), name), **vars(option))


def unregister() -> None:
    """Take the page away; what the user chose stays in the host's config.json."""
    host.remove_options([_PREFIX + name for name in NAMES])


def _fits(value: Any, default: Any) -> bool:
    kinds: Sequence[type] = (int, float) if type(default) is int else (type(default),)
    return type(value) in kinds
