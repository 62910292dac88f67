"""The Extras tab's "Depth map". The host brings one picture at a time, whether there is one, several or a folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...depth.adjust import ADJUSTMENTS
from ...depth.colormap import COLORMAPS, colorize
from ...depth.depth_map import DepthMap
from ...depth.io.files import picture_from_image
from ...estimators.detail import DETAIL
from ...request.fields import FIELDS, field_named
from ...request.kinds import Number, text_of
from ...request.request import Depth2ImgRequest
from .markup import GRID

if TYPE_CHECKING:
    from gradio.components import Component
    from PIL import Image

    from .services import PanelServices

__all__ = ["NAME", "ORDER", "build", "depth_picture", "process"]

NAME = "Depth map"
ORDER = 9000
"""After every script of the host: what they would upscale or restore is the picture, not its depth."""

COLOURS = {"Grey, 16 bits": None, "Grey, 8 bits": "grey"} | {name.capitalize(): name for name in COLORMAPS[1:]}
RESULTS = ("The depth map", "The picture and the depth map")


def build(services: PanelServices, accordion: Callable[..., Any]) -> dict[str, Component]:
    """The widgets by argument name of :func:`process`.

    ``accordion``: the host's ``InputAccordion`` (modules/ui_components.py:88), whose being open means yes.
    """
    import gradio as gr

    with accordion(False, label=NAME, elem_id="depth2img_extras") as enable:
        with gr.Row():
            names = [estimator.name for estimator in services.estimators()]
            estimator = gr.Dropdown(
                label=f"Depth map {field_named('estimator').label.lower()}",
                choices=names,
                value=services.default_estimator(),
                elem_id="depth2img_extras_estimator",
            )
            colour = gr.Radio(
                label="Depth map colour",
                choices=list(COLOURS),
                value=next(iter(COLOURS)),
                elem_id="depth2img_extras_colour",
            )
        with gr.Row(elem_classes=GRID):
            sliders = {name: _slider(name) for name in (*ADJUSTMENTS, *DETAIL) if name != "invert"}
        with gr.Row():
            invert = gr.Checkbox(label="Depth map invert", value=False, elem_id="depth2img_extras_invert")
            result = gr.Radio(
                label="Depth map result", choices=list(RESULTS), value=RESULTS[0], elem_id="depth2img_extras_result"
            )
    return {"enable": enable, "estimator": estimator, "colour": colour, **sliders, "invert": invert, "result": result}


def process(services: PanelServices, pp: Any, *, deep: bool, **values: Any) -> None:
    """Turn the picture of ``pp`` (the host's ``PostprocessedImage``) into its depth map, or put the map beside it.

    ``values``: what :func:`build` named; from the API any may be None, which means the default
    (scripts_postprocessing.py:216). ``deep``: 16 bits can be stored where the picture goes.

    Raises:
        Depth2ImgError: a value out of range, or an estimator that cannot run.
    """
    if not values.get("enable"):
        return
    asked = {name: values[name] for name in ("estimator", *ADJUSTMENTS, *DETAIL) if values.get(name) is not None}
    request = Depth2ImgRequest.from_mapping({"estimator": services.default_estimator()} | asked)
    picture = picture_from_image(pp.image)
    depth_map = services.estimate(picture, request.estimator, request.detail).adjusted(request.adjustments).scaled()
    colour = COLOURS.get(values.get("colour") or "", None)
    image = depth_picture(depth_map.resized(picture.size), colour, deep=deep)
    pp.info[NAME] = _described(request)
    if values.get("result") == RESULTS[1]:
        beside = pp.create_copy(image, nametags=["depth"], disable_processing=True)
        pp.extra_images.append(beside)
        return
    pp.image = image
    pp.nametags.append("depth")
    pp.disable_processing = True


def depth_picture(depth_map: DepthMap, colour: str | None, *, deep: bool) -> Image.Image:
    """A unit map as a picture: I;16 for no colour where ``deep``, otherwise RGB."""
    from PIL import Image

    if colour is None and deep:
        return Image.fromarray(np.rint(depth_map.values.clip(0.0, 1.0) * 65535.0).astype(np.uint16))
    return Image.fromarray(colorize(depth_map, colour or "grey"))


def _slider(name: str) -> Component:
    import gradio as gr

    entry = field_named(name)
    assert isinstance(entry, Number)
    slider = gr.Slider(
        entry.least,
        entry.high,
        value=entry.default,
        step=entry.step,
        label=f"Depth map {entry.label.lower()}",
        elem_id=f"depth2img_extras_{name}",
    )
    slider.webui_tooltip = entry.hint
    return slider


def _described(request: Depth2ImgRequest) -> str:
    """The estimator and what was adjusted, for the picture's own parameters."""
    changed = [
        f"{entry.label.lower()} {text_of(getattr(request, entry.name))}"
        for entry in FIELDS
        if entry.name in (*ADJUSTMENTS, *DETAIL) and getattr(request, entry.name) != entry.default
    ]
    return ", ".join([request.estimator, *changed])
