"""The editor's widgets: what opens it, and hidden ones through which depth2img_editor.js opens, applies and saves.

What is drawn goes another way: editor_route.py.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ...depth.edits import strokes_from_list
from ...depth.extent import UNIT
from ...errors import Depth2ImgError
from ...request.fields import field_named
from ...request.kinds import Choice
from ...request.panel import PANEL_ORDER
from . import markup
from .asked_depth import depth_of, sending
from .data_url import as_data_url
from .downloads import downloadable
from .editing import APPLIED, OPEN, Applied, Editing
from .editor_route import Said

if TYPE_CHECKING:
    from gradio.components import Component

    from .services import PanelServices

__all__ = ["EditorWidgets", "build", "note_of"]

_SENT = "() => [depth2imgEditor.sends()]"
_KEPT = "() => [depth2imgEditor.applied()]"
"""What the page puts in the place of the input."""


@dataclass(frozen=True)
class EditorWidgets:
    """The editor's widgets, of which the user sees ``edit`` and ``note``."""

    services: PanelServices
    edit: Component
    sent: Component
    answered: Component
    buttons: Mapping[str, Component]
    note: Component
    file: Component

    def answer(self, widgets: Mapping[str, Component], init_images: Sequence[Component], shown: Component) -> None:
        """Add the events; ``widgets`` holds all of ``PANEL_ORDER``, ``shown`` is where a refusal is read."""
        handlers = _Handlers(self.services)
        everything = [*(widgets[name] for name in PANEL_ORDER), *init_images]
        opened = [self.answered, shown]
        self.edit.click(handlers.open, everything, opened, _js=sending(init_images))
        panel = [*(widgets[name] for name in ("image", "source", "meaning", "range")), self.note]
        for name, function, outputs, script in (
            ("apply", handlers.apply, [self.answered, *panel], _SENT),
            ("download", handlers.download, [self.answered, self.file], _SENT),
            ("restore", handlers.restore, panel, _KEPT),
        ):
            self.buttons[name].click(function, [self.sent], outputs, _js=script, queue=False, show_progress="hidden")
        widgets["image"].change(note_of, [widgets["image"]], [self.note], queue=False, show_progress="hidden")


def build(services: PanelServices, edit: Component, file: Component) -> EditorWidgets:
    """Add the hidden widgets to the current Blocks. ``edit``: what opens it. ``file``: where downloads are put."""
    note = gr.HTML("", elem_id="depth2img_edited")
    with gr.Column(elem_id="depth2img_editor_widgets", elem_classes=["depth2img-hidden"]):
        answered = gr.HTML("", elem_id="depth2img_editor_answer")
        sent = gr.Textbox("", label="Strokes of the depth editor", elem_id="depth2img_editor_sent")
        buttons = {
            name: gr.Button(f"Depth editor: {name}", elem_id=f"depth2img_editor_{name}")
            for name in ("apply", "download", "restore")
        }
    for widget in (sent, *buttons.values()):
        widget.do_not_save_to_config = True
    return EditorWidgets(services, edit, sent, answered, buttons, note, file)


def note_of(image: bytes | None) -> str:
    """A line while the map in the panel is one that was made in the editor; depth2img_editor.js reads its data."""
    applied = APPLIED.get(hashlib.sha256(image).hexdigest()) if isinstance(image, bytes) else None
    if applied is None:
        return ""
    count = len(json.loads(applied.strokes))
    text = "Edited in the page: 1 stroke." if count == 1 else f"Edited in the page: {count} strokes."
    return f'<p class="depth2img-note" data-edited="{applied.sha256}">{html.escape(text)}</p>'


class _Handlers:
    """What the events do; each takes the values of its inputs and gives those of its outputs."""

    def __init__(self, services: PanelServices) -> None:
        self._services = services

    def open(self, *values: Any) -> tuple[str, Any]:
        """Open the map that the panel asks for; one that was edited before with its strokes."""
        try:
            asked = depth_of(self._services, values)
        except Depth2ImgError as error:
            return "", markup.error_line(error)
        applied = APPLIED.get(asked.request.image.sha256) if asked.request.image is not None else None
        if applied is not None:
            editing = Editing(applied.base, applied.size, strokes=applied.strokes, extent=applied.extent)
        else:
            extent = None if asked.request.extent is None else UNIT
            editing = Editing(asked.ranged, asked.size, picture=asked.picture, extent=extent)
        width, height = editing.base.size
        facts = {"opened": f"{width} {height}", "token": OPEN.add(editing), "strokes": editing.strokes}
        if editing.picture is not None:
            facts["picture"] = as_data_url(editing.picture, "jpeg")
        return _answer(editing.shown(strokes_from_list(json.loads(editing.strokes))), **facts), gr.update()

    @staticmethod
    def apply(sent: str) -> tuple[Any, ...]:
        """The edited map becomes the panel's own depth map."""
        try:
            said = Said.of(sent)
            applied = APPLIED.add(said.editing, said.strokes, said.text)
        except Depth2ImgError as error:
            return _answer(None, error=error.in_panel), *[gr.update()] * 5
        return _answer(None, applied=applied.sha256), *_in_panel(applied)

    @staticmethod
    def download(sent: str) -> tuple[str, Any]:
        """The edited map as a file, without making it the panel's."""
        try:
            said = Said.of(sent)
            path = str(downloadable(said.editing.png(said.strokes)))
        except Depth2ImgError as error:
            return _answer(None, error=error.in_panel), gr.update()
        return _answer(None, saved="true"), gr.update(value=path, visible=True)

    @staticmethod
    def restore(sha256: str) -> tuple[Any, ...]:
        """What was applied before the page was loaded anew, back into the panel."""
        applied = APPLIED.get(sha256)
        return _in_panel(applied) if applied is not None else (gr.update(),) * 5


def _answer(picture: bytes | None, /, **facts: str) -> str:
    """HTML for depth2img_editor.js: facts as ``data-``, and the map."""
    data = " ".join(f'data-{name}="{html.escape(value)}"' for name, value in facts.items())
    shown = f'<img alt="" src="{as_data_url(picture, "png")}">' if picture is not None else ""
    return f"<div data-answer {data}>{shown}</div>"


def _in_panel(applied: Applied) -> tuple[Any, ...]:
    """Values of the panel's file, source, meaning, range, and the note."""
    labels = []
    for name, value in (("source", "depth_map"), ("meaning", "nearness")):
        entry = field_named(name)
        assert isinstance(entry, Choice)
        labels.append(entry.label_of(value))
    return (
        str(applied.path),
        *labels,
        field_named("range").shown(applied.extent) or "",
        note_of(applied.path.read_bytes()),
    )
