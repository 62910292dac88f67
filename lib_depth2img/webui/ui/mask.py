"""The panel's *Depth as a mask*: two sliders over the preview's map, and the way to the Inpaint upload tab."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from ...depth.adjust import ADJUSTMENTS, Adjustments
from ...depth.mask import EDGE, depth_mask
from ...errors import Depth2ImgError, RequestError
from ...request.panel import PANEL_ORDER
from . import markup
from .asked_depth import depth_of, sending
from .data_url import as_data_url
from .preview_map import PreviewMap

if TYPE_CHECKING:
    from gradio.components import Component

    from .services import PanelServices

__all__ = ["MaskWidgets", "build"]

_NOTHING_YET = markup.note_line("Preview depth first: the mask is made of it.")


@dataclass(frozen=True)
class MaskWidgets:
    """The widgets of the box."""

    services: PanelServices
    low: Component
    high: Component
    edge: Component
    send: Component
    shown: Component
    sent: Component

    def answer(
        self, widgets: Mapping[str, Component], init_images: Sequence[Component], kept: Component, shows: Sequence[Any]
    ) -> None:
        """Add the events; ``widgets`` holds all of ``PANEL_ORDER``, ``kept`` is the preview's map.

        ``shows``: the events after which that may be another one. Not by the change event of the preview's HTML, which
        gradio 4 fires at other times too.
        """
        handlers = _Handlers(self.services)
        own = [self.low, self.high, self.edge]
        sliders = [*own, *(widgets[name] for name in ADJUSTMENTS)]
        for event in (*(slider.change for slider in own), *(answer.then for answer in shows)):
            event(handlers.show, [kept, *sliders], [self.shown], queue=False, show_progress="hidden")
        fields = [widgets[name] for name in PANEL_ORDER]
        script = sending(init_images, before=len(own))
        self.send.click(handlers.send, [*own, *fields, *init_images], [self.sent, self.shown], _js=script)


def build(services: PanelServices) -> MaskWidgets:
    """Add the box to the current Blocks."""
    with gr.Accordion("Depth as a mask", open=False, elem_id="depth2img_mask"):
        with gr.Row(elem_classes=markup.GRID):
            low = gr.Slider(0.0, 1.0, value=0.5, step=0.01, label="Paint from nearness", elem_id="depth2img_mask_low")
            high = gr.Slider(0.0, 1.0, value=1.0, step=0.01, label="Paint to nearness", elem_id="depth2img_mask_high")
            edge = gr.Slider(
                EDGE.minimum, EDGE.maximum, value=4.0, step=EDGE.step, label="Soft edge", elem_id="depth2img_mask_edge"
            )
        edge.webui_tooltip = "In pixels of the picture."
        shown = gr.HTML(_NOTHING_YET, elem_id="depth2img_mask_shown")
        send = gr.Button("Send to Inpaint upload", elem_id="depth2img_mask_send")
        sent = gr.HTML("", elem_id="depth2img_mask_sent", elem_classes=["depth2img-hidden"])
    for widget in (low, high, edge, send):
        widget.do_not_save_to_config = True
    return MaskWidgets(services, low, high, edge, send, shown, sent)


class _Handlers:
    """What the events do; each takes the values of its inputs and gives those of its outputs."""

    def __init__(self, services: PanelServices) -> None:
        self._services = services

    @staticmethod
    def show(kept: PreviewMap | None, low: float, high: float, edge: float, *adjustments: Any) -> str:
        """The mask small, and what it paints in words."""
        if kept is None:
            return _NOTHING_YET
        try:
            asked = Adjustments(**dict(zip(ADJUSTMENTS, adjustments, strict=True)))
            scale = max(kept.depth_map.size) / max(kept.size)
            mask = depth_mask(kept.adjusted(asked), low, high, edge=min(EDGE.maximum, edge * scale))
        except Depth2ImgError as error:
            return markup.error_line(error)
        ratio = f"aspect-ratio: {kept.size[0]} / {kept.size[1]}"
        picture = f'<img alt="Mask, white is painted" src="{as_data_url(_png(mask), "png")}" style="{ratio}">'
        says = markup.note_line(_in_words(low, high)) + markup.note_line(
            f"That is {mask.mean() / 255.0:.0%} of the picture."
        )
        return f'<div class="depth2img-mask">{picture}<div>{says}</div></div>'

    def send(self, low: float, high: float, edge: float, *values: Any) -> tuple[str, Any]:
        """The mask at the picture's size, for depth2img_mask.js to put where it belongs."""
        try:
            asked = depth_of(self._services, values)
            depth_map = asked.ranged.adjusted(asked.request.adjustments).scaled().resized(asked.size)
            mask = depth_mask(depth_map, low, high, edge=edge)
            if not mask.any():
                raise RequestError("The mask is empty: nothing of the picture has such a depth. Move the sliders.")
        except Depth2ImgError as error:
            return "", markup.error_line(error)
        return f'<img alt="" data-mask src="{as_data_url(_png(mask), "png")}">', gr.update()


def _in_words(low: float, high: float) -> str:
    if low <= 0.0 and high >= 1.0:
        return "Paints everything."
    if high >= 1.0:
        return f"Paints what is nearer than {low:.2f}."
    if low <= 0.0:
        return f"Paints what is farther than {high:.2f}."
    return f"Paints what lies between {low:.2f} and {high:.2f}."


def _png(mask: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG", compress_level=1)
    return file.getvalue()
