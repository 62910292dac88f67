"""The box "Get a depth model" in a real WebUI: a download from a local server, and the small checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome, Keys

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from lib_depth2img.weights.catalog import FILES, HubSource
from tests.host.conftest import PLAIN, Starter
from tests.host.panel_page import CHECKPOINTS, shown_in, small_and_quick
from tests.host.server import WebUI
from tests.webui.browser import Page
from tests.weights.hub import Hub, Served

PAIR = next(file for file in FILES if file.variant)
STATE = "#depth2img_install_state"
BODY = np.random.default_rng(7).bytes(24 << 20)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """It sends 24 MB in about eight seconds, long enough to look at and to cancel."""
    server = Hub()
    source = next(source for source in PAIR.sources if isinstance(source, HubSource))
    server.serve(source.repository, source.filename, Served(BODY, chunk_pause=0.02))
    yield server
    server.close()


@pytest.fixture(scope="module")
def own(start: Starter, hub: Hub) -> WebUI:
    facts = {"nbytes": len(BODY), "about_bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
    return start(
        "install",
        "--no-half",
        swap={"catalog": {PAIR.name: facts}},
        environment={"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"},
        settings={"sd_checkpoint_cache": 0},
    )


@pytest.fixture
def page(driver: Chrome, own: WebUI) -> Iterator[Page]:
    shown = Page(driver, own.url, patience=180.0)
    shown.open()
    shown.press("#depth2img_install > .label-wrap")
    shown.until(lambda: shown.seen("#depth2img_install_button"))
    yield shown
    assert shown.complaints() == []


def is_listed(page: Page, checkpoint: str) -> None:
    page.press(f"{CHECKPOINTS} input")
    page.until(lambda: checkpoint in page.text(f"{CHECKPOINTS} ul"))
    page.one(f"{CHECKPOINTS} input").send_keys(Keys.ESCAPE)


def test_a_download_is_watched_cancelled_and_gone_on_with(page: Page, own: WebUI, hub: Hub):
    folder = own.data / "models" / "Stable-diffusion"
    assert "RAIL++-M" in page.text("#depth2img_licence")
    assert own.get("/depth2img/status").json()["pair_installed"] is False

    page.press("#depth2img_install_button")
    page.until(lambda: page.seen(f"{STATE} progress") and "MB of 25 MB" in page.text(STATE))
    seen = page.until(lambda: float(page.one(f"{STATE} progress").get_attribute("value") or 0))
    assert 0 < seen < 1
    page.until(lambda: page.one("#depth2img_install_cancel").is_enabled())
    page.press("#depth2img_install_cancel")
    page.until(lambda: page.all(f"{STATE} .depth2img-error"))
    (part,) = folder.glob(f"{PAIR.name}*.part")
    kept = part.stat().st_size
    assert 0 < kept < len(BODY)
    assert not (folder / PAIR.name).exists()

    page.until(lambda: page.one("#depth2img_install_button").is_enabled())
    page.press("#depth2img_install_button")
    page.until(lambda: page.all(f"{STATE} .depth2img-done"))
    assert (folder / PAIR.name).read_bytes() == BODY
    assert (folder / PAIR.name).with_suffix(".yaml").is_file()
    assert not list(folder.glob("*.part"))
    assert f"bytes={kept}-" in hub.ranges()
    assert own.get("/depth2img/status").json()["pair_installed"] is True
    listed = [entry["model_name"] for entry in own.get("/sdapi/v1/sd-models").json()]
    assert Path(PAIR.name).stem in listed
    is_listed(page, PAIR.name)


def test_the_small_checkpoint_is_copied_selected_and_used(
    page: Page, own: WebUI, photograph: Image.Image, tmp_path: Path
):
    own.select(PLAIN)
    photograph.resize((256, 256)).save(tmp_path / "picture.png")
    page.press("#depth2img_trial_button")
    page.until(lambda: f"Depth model loaded: {SMALL_CHECKPOINT.name}" in page.text("#depth2img_status"))
    page.until(lambda: SMALL_CHECKPOINT.name in str(page.one(f"{CHECKPOINTS} input").get_attribute("value")))
    is_listed(page, SMALL_CHECKPOINT.name)
    copied = own.data / "models" / "Stable-diffusion" / SMALL_CHECKPOINT.name
    assert copied.read_bytes() == SMALL_CHECKPOINT.read_bytes()
    assert copied.with_suffix(".yaml").read_bytes() == SMALL_CHECKPOINT.with_suffix(".yaml").read_bytes()

    page.upload("img2img_image", tmp_path / "picture.png")
    page.until(lambda: page.all("#img2img_image img, #img2img_image canvas"))
    small_and_quick(page)
    page.press("#img2img_generate")
    page.until(lambda: len(shown_in(page, "img2img_gallery")) == 2)  # the picture and its depth map
    assert own.get("/sdapi/v1/options").json()["sd_model_checkpoint"].startswith(SMALL_CHECKPOINT.name)

    assert own.img2img(photograph).status_code == 200
    assert own.records()["concat"].std() > 0.1
