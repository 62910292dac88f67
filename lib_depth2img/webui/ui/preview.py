"""The panel's preview: a button that estimates, sliders that answer at once, a 16-bit PNG to take away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ...depth.adjust import ADJUSTMENTS, Adjustments
from ...depth.io.files import encode_png
from ...errors import Depth2ImgError
from ...request.fields import field_named
from ...request.panel import PANEL_ORDER
from . import markup
from .asked_depth import depth_of, sending
from .downloads import downloadable
from .preview_map import PreviewMap, render

if TYPE_CHECKING:
    from gradio.components import Component

    from .services import PanelServices

__all__ = ["build"]


@dataclass(frozen=True)
class PreviewWidgets:
    """What is seen of the preview; it answers once the rest of the panel is built too."""

    services: PanelServices
    look: Component
    edit: Component
    download: Component
    kept: Component
    shown: Component
    again: Component
    file: Component

    def answer(self, widgets: Mapping[str, Component], init_images: Sequence[Component]) -> list[Any]:
        """Add the events; ``widgets`` holds all of ``PANEL_ORDER``. Those after which another map may be shown."""
        handlers = _Handlers(self.services)
        everything = [*(widgets[name] for name in PANEL_ORDER), *init_images]
        script = sending(init_images)
        results = [self.kept, self.shown, self.file]
        shows = [self.look.click(handlers.look, everything, results, _js=script)]
        self.download.click(handlers.download, everything, [self.file, self.shown], _js=script)
        fields = [widgets[name] for name in PANEL_ORDER]
        for name in ("image", "source", "picture", "estimator", "meaning", "range"):
            change = widgets[name].change
            shows.append(change(handlers.look_at_upload, fields, results, queue=False, show_progress="hidden"))

        sliders = [widgets[name] for name in ADJUSTMENTS]
        for event in (*(slider.change for slider in sliders), self.again.click):
            answer = event(handlers.adjust, [self.kept, *sliders], [self.shown], queue=False, show_progress="hidden")
            shows.append(answer)
        return shows


def build(services: PanelServices) -> PreviewWidgets:
    """Add buttons and picture to the current Blocks."""
    kept = gr.State(None)
    with gr.Row(elem_id="depth2img_look"):
        look = gr.Button("Preview depth", elem_id="depth2img_preview_button", variant="primary")
        edit = gr.Button("Edit depth", elem_id="depth2img_edit_button")
        download = gr.Button("Download as 16-bit PNG", elem_id="depth2img_download_button")
    shown = gr.HTML("", elem_id="depth2img_preview")
    # Answers to quick moves may overtake each other; depth2img.js presses this when the last one shown is not the
    # latest.
    again = gr.Button("Adjust again", visible=False, elem_id="depth2img_adjust_again")
    file = gr.File(label="Depth map, 16 bits", visible=False, interactive=False, elem_id="depth2img_download")
    for widget in (look, edit, download, again, file):
        widget.do_not_save_to_config = True
    return PreviewWidgets(services, look, edit, download, kept, shown, again, file)


class _Handlers:
    """What the events do; each takes the values of its inputs and gives those of its outputs."""

    def __init__(self, services: PanelServices) -> None:
        self._services = services

    def look(self, *values: Any) -> tuple[Any, str, Any]:
        try:
            request, depth_map, size = depth_of(self._services, values)[:3]
            kept = PreviewMap.of(depth_map, size, request.extent)
            return kept, render(kept, request.adjustments).to_html(), gr.update(visible=False)
        except Depth2ImgError as error:
            return None, markup.error_line(error), gr.update(visible=False)

    def look_at_upload(self, *values: Any) -> tuple[Any, str, Any]:
        """A map is read at once, since that is cheap; what needs an estimate waits for the button."""
        named = dict(zip(PANEL_ORDER, values, strict=True))
        if named["image"] is None or field_named("source").value_of(named["source"]) != "depth_map":
            return None, "", gr.update(visible=False)
        return self.look(*values)

    def adjust(self, kept: PreviewMap | None, *values: Any) -> Any:
        if kept is None:
            return gr.update()
        try:
            return render(kept, Adjustments(**dict(zip(ADJUSTMENTS, values, strict=True)))).to_html()
        except Depth2ImgError as error:
            return markup.error_line(error)

    def download(self, *values: Any) -> tuple[Any, Any]:
        try:
            request, depth_map, size = depth_of(self._services, values)[:3]
            png = encode_png(
                depth_map.adjusted(request.adjustments, extent=request.extent).scaled().resized(size), bits=16
            )
        except Depth2ImgError as error:
            return gr.update(visible=False), markup.error_line(error)
        return gr.update(value=str(downloadable(png)), visible=True), gr.update()
