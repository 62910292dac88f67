"""What the settings page "Depth2Img" shows, by the names of ``settings.Settings``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ...devices import PRECISIONS
from ...request.fields import field_named
from ...request.kinds import Choice

__all__ = ["Option", "options_on_page"]


@dataclass(frozen=True)
class Option:
    """One line of the page. ``component``: a gradio class, with ``arguments`` for it."""

    label: str
    info: str
    component: Any
    arguments: Mapping[str, Any] = field(default_factory=dict)


def options_on_page(*, folders_visible: bool) -> dict[str, Option]:
    """The page's lines. ``folders_visible``: not under --hide-ui-dir-config."""
    estimator = field_named("estimator")
    assert isinstance(estimator, Choice)
    return {
        "estimator": Option(
            "Estimator that the panel starts with",
            "needs Reload UI; “checkpoint” is the one inside the depth model",
            gr.Dropdown,
            {"choices": estimator.values},
        ),
        "precision": Option(
            "Precision of estimators other than the checkpoint's own",
            "auto: float16 on CUDA, but float32 under --no-half; float32 on other devices",
            gr.Dropdown,
            {"choices": list(PRECISIONS)},
        ),
        "device": Option(
            "Device of estimators other than the checkpoint's own",
            "model: where the host computes; cpu leaves the GPU's memory to the model",
            gr.Radio,
            {"choices": ["model", "cpu"]},
        ),
        "cache_megabytes": Option(
            "Memory for estimated depth maps, in MB",
            "one takes about 0.6 MB; 0 keeps none",
            gr.Slider,
            {"minimum": 0, "maximum": 4096, "step": 16},
        ),
        "keep_loaded": Option(
            "Keep the estimator in memory between generations", "off: loaded each time it is needed", gr.Checkbox
        ),
        "maps_folder": Option(
            "Folder for saved depth maps", "empty: beside the pictures", gr.Textbox, {"visible": folders_visible}
        ),
    }
