"""The accordion "Depth2Img" of the img2img tab, built from the table of fields.

Nothing here is kept between two calls: the host builds a tab's widgets more than once and throws some of them away.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ...depth.io.pictures import picture_suffixes
from ...request.fields import field_named
from ...request.kinds import Choice, Flag, Interval, Number
from ...request.panel import BATCH_ORDER, BATCH_RANGES, MISSING, PANEL_ORDER
from ...request.user_image import digest_of
from . import editor as editor_ui
from . import install as install_ui
from . import markup
from . import mask as mask_ui
from . import preview as preview_ui
from .upload import UploadedFile

if TYPE_CHECKING:
    from gradio.components import Component

    from .services import PanelServices

__all__ = ["TITLE", "Panel", "build_panel"]

TITLE = "Depth2Img"


_SUFFIXES = [".png", ".tif", ".tiff", ".exr", ".pfm", ".npy", ".npz", ".webp", ".jpg", ".jpeg", ".bmp", ".pgm"]


@dataclass(frozen=True)
class Panel:
    """The widgets by name; ``note`` says what an infotext asks for and the panel cannot bring back."""

    widgets: dict[str, Component]
    note: Component

    @property
    def inputs(self) -> list[Component]:
        """What the script returns to the host: ``PANEL_ORDER``, then ``BATCH_ORDER``."""
        return [self.widgets[name] for name in (*PANEL_ORDER, *BATCH_ORDER)]


def build_panel(
    services: PanelServices, *, init_images: Sequence[Component] = (), append_by_default: bool = True
) -> Panel:
    """Build the accordion inside the current Blocks.

    ``init_images``: the host's picture widgets, in the order of the img2img tabs they are on; the preview looks at
    the one whose tab is open. ``append_by_default``: False where the host builds widgets to learn the API's defaults
    (api.py:333-339).
    """
    with gr.Accordion(TITLE, open=False, elem_id="depth2img_panel"):
        status = gr.HTML(markup.status_line(services.model()), elem_id="depth2img_status")
        gr.HTML(_line("size", "note"))
        widgets, about = _source_rows(services)
        gr.HTML(_line("shape", "warning"))
        note = gr.HTML("", elem_id="depth2img_note")
        widgets |= _slider_rows()
        preview = preview_ui.build(services)
        editor = editor_ui.build(services, preview.edit, preview.file)
        mask = mask_ui.build(services)
        widgets |= _flag_rows(append_by_default) | _control_rows() | _batch_rows()
        install_ui.build(services)
        for name in ("image", "picture", "region"):
            inputs = [widgets["image"], widgets["picture"], widgets["region"], note]
            widgets[name].change(_note_left, inputs, [note], queue=False, show_progress="hidden")
        _refresh_button(services, status, widgets["estimator"], about)
    shows = preview.answer(widgets, init_images)
    editor.answer(widgets, init_images, preview.shown)
    mask.answer(widgets, init_images, preview.kept, shows)
    return Panel(widgets, note)


def _widget(name: str, **settings: Any) -> Component:
    """The widget of one field of the table, with its hint for the host to show (modules/gradio_extensons.py:40)."""
    widget = _bare_widget(name, settings)
    widget.webui_tooltip = field_named(name).hint
    return widget


def _bare_widget(name: str, settings: dict[str, Any]) -> Component:
    entry = field_named(name)
    settings = {"label": entry.label, "elem_id": f"depth2img_{name}", "value": entry.panel_default} | settings
    if isinstance(entry, Flag):
        return gr.Checkbox(**settings)
    if isinstance(entry, Number):
        return gr.Slider(minimum=entry.least, maximum=entry.high, step=entry.step, **settings)
    if isinstance(entry, Interval):
        return gr.Textbox(
            placeholder="Each picture's own, or such as 0.5 to 20",
            max_lines=1,
            **settings | {"value": entry.shown(settings["value"])},
        )
    if isinstance(entry, Choice):
        # Labels are the values here: the host's ui-config.json knows no others (modules/ui_loadsave.py:10-11).
        return gr.Radio(choices=entry.labels, **settings | {"value": entry.label_of(settings["value"])})
    return UploadedFile(**{"file_types": _SUFFIXES} | settings)


def _source_rows(services: PanelServices) -> tuple[dict[str, Component], Component]:
    """The widgets, and where something is said about the chosen estimator."""
    widgets = {"enabled": _widget("enabled"), "source": _widget("source")}
    with gr.Column(visible=False, elem_id="depth2img_own_map") as own_map:
        widgets["image"] = _widget("image", height=80)
        gr.HTML(markup.note_line(field_named("image").hint))
        widgets["meaning"] = _widget("meaning")
    widgets["picture"] = gr.Image(
        label="Picture to take the depth from",
        type="pil",
        source="upload",
        height=240,
        visible=False,
        elem_id="depth2img_picture",
    )
    with gr.Column(elem_id="depth2img_estimator_row") as estimator_row:
        names = [estimator.name for estimator in services.estimators()]
        widgets["estimator"] = gr.Dropdown(
            label=field_named("estimator").label,
            choices=names,
            value=services.default_estimator(),
            elem_id="depth2img_estimator",
        )
        about = gr.HTML(_estimator_note(services, services.default_estimator()), elem_id="depth2img_estimator_note")
    widgets["estimator"].change(
        lambda name: _estimator_note(services, name),
        [widgets["estimator"]],
        [about],
        queue=False,
        show_progress="hidden",
    )
    widgets["source"].change(
        _visible_for,
        [widgets["source"]],
        [own_map, widgets["picture"], estimator_row],
        queue=False,
        show_progress="hidden",
    )
    return widgets, about


def _slider_rows() -> dict[str, Component]:
    widgets: dict[str, Component] = {}
    for row in (("far", "near"), ("gamma", "blur"), ("clip", "range"), ("resolution", "tiles")):
        with gr.Row(elem_classes=markup.GRID):
            widgets |= {name: _widget(name) for name in row}
    return widgets


def _flag_rows(append_by_default: bool) -> dict[str, Component]:
    with gr.Row(elem_classes=markup.GRID):
        widgets = {name: _widget(name) for name in ("invert", "from_noise")}
    with gr.Row(elem_classes=markup.GRID):
        widgets["append_depth_map"] = _widget("append_depth_map", value=append_by_default)
        widgets["save_depth_map"] = _widget("save_depth_map")
    with gr.Column(elem_id="depth2img_only_masked_row"):
        widgets["only_masked"] = _widget("only_masked")
    return widgets


def _control_rows() -> dict[str, Component]:
    with gr.Accordion("Strength, steps and region of the depth", open=False, elem_id="depth2img_control"):
        with gr.Row(elem_classes=markup.GRID):
            widgets = {name: _widget(name) for name in ("strength", "start", "end")}
        widgets["mode"] = _widget("mode")
        widgets["region"] = _widget("region", height=80, file_types=sorted(picture_suffixes()))
        gr.HTML(markup.note_line(field_named("region").hint))
        widgets["outside_mask"] = _widget("outside_mask")
    return widgets


def _batch_rows() -> dict[str, Component]:
    with gr.Accordion("Batch: depth maps from a folder", open=False, elem_id="depth2img_batch"):
        folder = gr.Textbox(
            label="Folder of depth maps",
            info="Paired by file name: a.png with a.png, a_depth.png, a.npy. Empty: not used.",
            elem_id="depth2img_batch_folder",
        )
        missing = gr.Radio(
            label="A picture without a depth map",
            choices=list(MISSING),
            value=MISSING[0],
            elem_id="depth2img_batch_missing",
        )
        shared = gr.Radio(
            label="Range of the depth",
            choices=list(BATCH_RANGES),
            value=BATCH_RANGES[0],
            elem_id="depth2img_batch_range",
        )
        steady = gr.Slider(
            0.0, 0.98, value=0.0, step=0.01, label="Steadiness of estimates", elem_id="depth2img_batch_steady"
        )
    return {"batch_folder": folder, "batch_missing": missing, "batch_range": shared, "batch_steady": steady}


def _line(name: str, kind: str) -> str:
    """Where depth2img.js says what only the page knows."""
    return f'<p id="depth2img_{name}" class="depth2img-{kind} depth2img-hidden"></p>'


def _refresh_button(services: PanelServices, status: Component, estimator: Component, about: Component) -> None:
    """Pressed by depth2img.js when the page is loaded and when the checkpoint has changed: works without --api."""
    button = gr.Button("Refresh Depth2Img", visible=False, elem_id="depth2img_refresh")
    button.do_not_save_to_config = True  # modules/ui_loadsave.py:53

    def refresh(chosen: str) -> tuple[str, Any, str]:
        names = [entry.name for entry in services.estimators()]
        line = markup.status_line(services.model(), asked=True)
        return line, gr.Dropdown.update(choices=names), _estimator_note(services, chosen)

    button.click(refresh, [estimator], [status, estimator, about], queue=False, show_progress="hidden")


def _note_left(image: Any, picture: Any, region: Any, note: str | None) -> str:
    """What an infotext asks for, without the files that have been chosen since."""
    chosen = {digest_of(upload) for upload in (image, picture, region) if upload is not None}
    return "".join(
        line[0] for line in re.finditer(r'<p [^>]*data-digest="(\w+)".*?</p>', note or "") if line[1] not in chosen
    )


def _visible_for(source_label: str) -> list[Any]:
    source = _source_value(source_label)
    return [gr.update(visible=seen) for seen in (source == "depth_map", source == "image", source != "depth_map")]


def _source_value(label: str) -> str:
    source = field_named("source")
    assert isinstance(source, Choice)
    return str(source.value_of(label))


def _estimator_note(services: PanelServices, name: str) -> str:
    return markup.estimator_note(services.estimators(), name)
