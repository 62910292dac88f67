"""A page on plain gradio with the panel in it and, around it, the ids of the host that the panel's script looks for."""

from __future__ import annotations

import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.errors import InstallCancelled
from lib_depth2img.estimators.detail import AS_TRAINED, Detail
from lib_depth2img.progress import Progress
from lib_depth2img.request.panel import PANEL_ORDER, script_values
from lib_depth2img.request.request import Depth2ImgRequest
from lib_depth2img.webui.ui import editor_route
from lib_depth2img.webui.ui.panel import Panel, build_panel
from lib_depth2img.webui.ui.services import Download, EstimatorStatus, ModelStatus
from tests.webui.browser import ROOT

_PICTURES = {
    "img2img": ("img2img_image", "editor"),
    "Sketch": ("img2img_sketch", "color-sketch"),
    "Inpaint": ("img2maskimg", "sketch"),
    "Inpaint sketch": ("inpaint_sketch", "color-sketch"),
    "Inpaint upload": ("img_inpaint_base", None),
}
"""The host's picture widgets by tab: element id and tool (modules/ui.py:540-563)."""

BACKGROUND = "#336699"
"""What the stub lays under what is transparent."""


@dataclass
class StubServices:
    """Answers at once; counts what it is asked. A picture's depth is its brightness."""

    checkpoint: str | None = "512-depth-ema.safetensors"
    is_depth_model: bool = True
    estimated: list[str] = field(default_factory=list)
    requests: list[Depth2ImgRequest] = field(default_factory=list)
    install_seconds: float = 0.5
    estimator_note: str = "Inside the loaded depth model; nothing to download."

    def model(self) -> ModelStatus:
        return ModelStatus(self.checkpoint, self.is_depth_model)

    def estimators(self) -> Sequence[EstimatorStatus]:
        return (
            EstimatorStatus("checkpoint", ready=True, note=self.estimator_note),
            EstimatorStatus("dpt_hybrid", ready=True, note="Weights in the models folder."),
            EstimatorStatus(
                "dpt_large", ready=False, note="Its weights (1.38 GB, MIT) are not here yet; install them below."
            ),
        )

    def default_estimator(self) -> str:
        return "checkpoint"

    def init_picture(self, picture: Image.Image) -> Image.Image:
        """As the host does, over another colour than white (modules/images.py:841, img2img_background_color)."""
        background = Image.new("RGBA", picture.size, BACKGROUND)
        background.paste(picture, mask=picture if picture.mode == "RGBA" else None)
        return background.convert("RGB")

    def estimate(self, picture: Image.Image, estimator: str, detail: Detail = AS_TRAINED) -> DepthMap:
        self.estimated.append(estimator)
        return DepthMap.from_array(np.asarray(picture.convert("L")).astype(np.float32))

    def downloads(self) -> Sequence[Download]:
        licence, url = "CreativeML Open RAIL++-M", "http://127.0.0.1/licence"
        return (
            Download("ckpt", "Stable Diffusion 2 depth model", 5_707_592_867, licence, url, installed=False),
            Download("dpt_large", "Estimator dpt_large", 1_376_378_527, "MIT", url, installed=True),
        )

    def install(self, name: str, *, progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> str:
        steps = 20
        for step in range(steps + 1):
            if cancelled():
                raise InstallCancelled(f"The installation of {name} was cancelled.")
            progress(
                Progress("downloading", name, step * 250_000_000, steps * 250_000_000, 12.5e6, float(steps - step))
            )
            time.sleep(self.install_seconds / steps)
        return f"{name} is installed. Choose it as the checkpoint."

    def add_trial_checkpoint(self) -> str:
        return "depth2img-trial.safetensors [0123456789]"


def _get_config(self: gr.blocks.Block) -> dict[str, Any]:
    """Hints go to the page as in the host (modules/gradio_extensons.py:37-44)."""
    tooltip = getattr(self, "webui_tooltip", None)
    return _BARE_CONFIG(self) | ({"webui_tooltip": tooltip} if tooltip else {})


_BARE_CONFIG = gr.blocks.Block.get_config
gr.blocks.Block.get_config = _get_config


def build_page(services: StubServices) -> tuple[gr.Blocks, Panel]:
    """The page; "Generate" of img2img reads the panel into ``services.requests``."""
    theme = gr.themes.Default(font=["sans-serif"], font_mono=["monospace"])  # none from the web
    style = (ROOT / "style.css").read_text()
    with gr.Blocks(title="Depth2Img", css=style, theme=theme, analytics_enabled=False) as page:
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("txt2img", elem_id="tab_txt2img"):
                gr.Textbox(label="Prompt", elem_id="txt2img_prompt")
                gr.Textbox(label="Negative prompt", elem_id="txt2img_neg_prompt")
                with gr.Column(elem_id="txt2img_actions_column"), gr.Row(elem_id="txt2img_generate_box"):
                    gr.Button("Generate", elem_id="txt2img_generate", variant="primary")
            with gr.Tab("img2img", elem_id="tab_img2img"):
                panel, generate, answer = _img2img(services)

        def read(*values: object) -> str:
            try:
                services.requests.append(Depth2ImgRequest.from_mapping(script_values(values)))
            except Exception as error:  # noqa: BLE001 - shown, so that a test can say what it was
                return f"{type(error).__name__}: {error}"
            return f"read {len(services.requests)}"

        generate.click(read, panel.inputs, [answer])
    return page, panel


@contextmanager
def served(services: StubServices) -> Iterator[str]:
    """The page's address while it is served."""
    blocks, _panel = build_page(services)
    blocks.queue(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app, url, _share = blocks.launch(
            server_name="127.0.0.1",
            server_port=_free_port(),
            prevent_thread_lock=True,
            show_api=False,
            quiet=True,
            inbrowser=False,
        )

    editor_route.add_route(blocks, app)

    async def close_client() -> None:
        await blocks._queue.queue_client.aclose()  # gradio leaves it open

    app.router.on_shutdown.append(close_client)
    try:
        yield url
    finally:
        blocks.close(verbose=False)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _img2img(services: StubServices) -> tuple[Panel, gr.Button, gr.Textbox]:
    gr.Textbox(label="Prompt for img2img", elem_id="img2img_prompt")
    gr.Textbox(label="Negative prompt for img2img", elem_id="img2img_neg_prompt")
    generate = gr.Button("Generate", elem_id="img2img_generate", variant="primary")
    answer = gr.Textbox(label="Answer", elem_id="answer")
    pictures = []
    with gr.Tabs(elem_id="mode_img2img"):
        for name, (elem_id, tool) in _PICTURES.items():
            with gr.Tab(name):
                pictures.append(gr.Image(type="pil", image_mode="RGBA", elem_id=elem_id, height=240, tool=tool))
                if elem_id == "img_inpaint_base":
                    gr.Image(type="pil", image_mode="RGBA", elem_id="img_inpaint_mask", height=240)
        with gr.Tab("Batch"):
            gr.Textbox(label="Input directory")
    for side in ("width", "height"):
        gr.Slider(64, 2048, value=512, step=8, label=side.capitalize(), elem_id=f"img2img_{side}")
    areas = ["Whole picture", "Only masked"]
    gr.Radio(areas, value=areas[0], label="Inpaint area", elem_id="img2img_inpaint_full_res", interactive=True)
    return build_panel(services, init_images=pictures), generate, answer


assert len(PANEL_ORDER) == 25
