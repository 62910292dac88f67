"""The panel's preview: a button that estimates, sliders that answer at once, a 16-bit PNG to take away."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ...depth.adjust import ADJUSTMENTS, Adjustments
from ...depth.depth_map import DepthMap
from ...depth.io.files import encode_png
from ...errors import Depth2ImgError, RequestError
from ...request.fields import field_named
from ...request.panel import PANEL_ORDER, panel_values
from ...request.request import Depth2ImgRequest
from . import markup
from .preview_map import PreviewMap, render

if TYPE_CHECKING:
    from gradio.components import Component
    from PIL import Image

    from .services import PanelServices

__all__ = ["build"]

# Only the picture of the open tab is sent; the others would be megabytes for nothing. gradio hands the outputs' values
# behind those of the inputs. `get_tab_index` is the host's (javascript/ui.js:93). A widget with a mask gives both, but
# the picture alone before it has drawn itself, which gradio cannot read (components/image.py:242-245): so the mask is
# one empty pixel.
_ONLY_OPEN_TAB = """(...values) => {
    const [first, masked] = [%d, %s];
    const end = first + masked.length;
    const open = masked.length > 1 ? get_tab_index('mode_img2img') : 0;
    const picture = values[first + open] ?? null;
    const mask = 'data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==';
    values.fill(null, first, end);
    if (picture && open < masked.length)
        values[first + open] = masked[open] ? {image: picture.image ?? picture, mask} : picture;
    return values.slice(0, end);
}"""


def build(services: PanelServices, widgets: Mapping[str, Component], init_images: Sequence[Component]) -> None:
    """Add buttons, picture and events; ``widgets`` holds all of ``PANEL_ORDER``."""
    handlers = _Handlers(services)
    kept = gr.State(None)
    with gr.Row(elem_id="depth2img_look"):
        look = gr.Button("Preview depth", elem_id="depth2img_preview_button", size="sm")
        download = gr.Button("Download as 16-bit PNG", elem_id="depth2img_download_button", size="sm")
    shown = gr.HTML("", elem_id="depth2img_preview")
    # Answers to quick moves may overtake each other; depth2img.js presses this when the last one shown is not the
    # latest.
    again = gr.Button("Adjust again", visible=False, elem_id="depth2img_adjust_again")
    file = gr.File(label="Depth map, 16 bits", visible=False, interactive=False, elem_id="depth2img_download")
    for widget in (look, download, again, file):
        widget.do_not_save_to_config = True

    everything = [*(widgets[name] for name in PANEL_ORDER), *init_images]
    script = _sending(init_images)
    look.click(handlers.look, everything, [kept, shown, file], _js=script)
    download.click(handlers.download, everything, [file, shown], _js=script)
    fields = [widgets[name] for name in PANEL_ORDER]
    for name in ("image", "source", "picture", "estimator", "meaning"):
        widgets[name].change(handlers.look_at_upload, fields, [kept, shown, file], queue=False, show_progress="hidden")

    sliders = [widgets[name] for name in ADJUSTMENTS]
    for event in (*(slider.change for slider in sliders), again.click):
        event(handlers.adjust, [kept, *sliders], [shown], queue=False, show_progress="hidden")


def _sending(init_images: Sequence[Component]) -> str | None:
    """The page's part of a click."""
    if not init_images:
        return None
    masked = [getattr(picture, "tool", None) == "sketch" for picture in init_images]
    return _ONLY_OPEN_TAB % (len(PANEL_ORDER), json.dumps(masked))


class _Handlers:
    """What the events do; each takes the values of its inputs and gives those of its outputs."""

    def __init__(self, services: PanelServices) -> None:
        self._services = services

    def look(self, *values: Any) -> tuple[Any, str, Any]:
        try:
            request, depth_map, size = self._depth_map(values)
            kept = PreviewMap.of(depth_map, size)
            return kept, render(kept, request.adjustments).to_html(), gr.update(visible=False)
        except Depth2ImgError as error:
            return None, markup.error_line(error), gr.update(visible=False)

    def look_at_upload(self, *values: Any) -> tuple[Any, str, Any]:
        """A map is read at once, since that is cheap; what needs an estimate waits for the button."""
        named = dict(zip(PANEL_ORDER, values, strict=True))
        if named["image"] is None or field_named("source").value_of(named["source"]) != "depth_map":  # type: ignore[attr-defined]
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
            request, depth_map, size = self._depth_map(values)
            png = encode_png(depth_map.adjusted(request.adjustments).scaled().resized(size), bits=16)
        except Depth2ImgError as error:
            return gr.update(visible=False), markup.error_line(error)
        return gr.update(value=str(_downloadable(png)), visible=True), gr.update()

    def _depth_map(self, values: Sequence[Any]) -> tuple[Depth2ImgRequest, DepthMap, tuple[int, int]]:
        """The request, its depth map before the sliders, and the (width, height) it is for."""
        request = Depth2ImgRequest.from_mapping(panel_values(values))
        if request.image is None:
            content = self._services.init_picture(_open_picture(values[len(PANEL_ORDER) :]))
        else:
            content = request.image.content
        if isinstance(content, DepthMap):
            return request, content, content.size
        return request, self._services.estimate(content, request.estimator, request.detail), content.size


@functools.lru_cache(maxsize=1)
def _downloads() -> tempfile.TemporaryDirectory[str]:
    """The folder of this process for what is downloaded; gone when it ends."""
    return tempfile.TemporaryDirectory(prefix="depth2img-", ignore_cleanup_errors=True)


def _downloadable(png: bytes) -> Path:
    """A file that holds ``png``, the same for the same map however often it is asked for."""
    folder = Path(_downloads().name, hashlib.sha256(png).hexdigest()[:16])
    folder.mkdir(exist_ok=True)
    path = folder / "depth-map.png"
    path.write_bytes(png)
    return path


def _open_picture(init_images: Sequence[Any]) -> Image.Image:
    """The init image of the open tab, as its widget has it. Raises: RequestError when there is none."""
    for value in init_images:
        picture: Image.Image | None = value["image"] if isinstance(value, dict) else value  # a dict from tool="sketch"
        if picture is not None:
            return picture
    raise RequestError("There is no init image in the open tab. Choose one, or another source of depth above.")
