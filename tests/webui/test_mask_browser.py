"""*Depth as a mask* and what the page alone can say, in a real browser on plain gradio."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.webui.browser import Page


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    path = tmp_path / "ramp.png"
    Image.fromarray(np.tile(np.linspace(0, 255, 200).astype(np.uint8), (100, 1))).convert("RGB").save(path)
    return path


def previewed(page: Page, picture: Path) -> None:
    page.open()
    page.upload("img2img_image", picture)
    page.until(lambda: page.all("#img2img_image img"))
    page.press("#depth2img_preview_button")
    page.until(lambda: page.all("#depth2img_preview .depth2img-numbers"))


def shown(page: Page) -> str:
    return page.text("#depth2img_mask_shown")


def test_sliders_say_and_show_what_is_painted(page: Page, ramp: Path):
    previewed(page, ramp)
    page.press("#depth2img_mask > .label-wrap")
    page.until(lambda: "Paints what is nearer than 0.50." in shown(page))
    page.slide("mask_high", 0.75)
    page.until(lambda: "Paints what lies between 0.50 and 0.75." in shown(page))
    page.slide("mask_low", 0.0)
    page.until(lambda: "Paints what is farther than 0.75." in shown(page))
    assert "That is 75% of the picture." in shown(page)
    page.press("#depth2img_invert input")
    page.until(lambda: mask_of(page.one("#depth2img_mask_shown img").get_attribute("src"))[50, 0] == 0)
    page.slide("mask_low", 0.9)
    page.until(lambda: "the first has to be the lower one" in shown(page))
    assert page.complaints() == []


def mask_of(address: str | None) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(str(address).split(",")[1]))))


def test_the_mask_and_the_picture_go_to_inpaint_upload(page: Page, ramp: Path):
    previewed(page, ramp)
    page.press("#depth2img_mask > .label-wrap")
    page.slide("mask_edge", 0)
    page.press("#depth2img_mask_send")
    page.until(lambda: page.all("#img_inpaint_mask img") and page.all("#img_inpaint_base img"))
    assert page.seen("#img_inpaint_mask")
    mask = mask_of(page.one("#depth2img_mask_sent img").get_attribute("src"))
    assert mask.shape == (100, 200)
    assert (mask[:, :99] == 0).all()
    assert (mask[:, 101:] == 255).all()
    assert page.complaints() == []


def test_an_empty_mask_is_not_sent(page: Page, ramp: Path):
    previewed(page, ramp)
    page.press("#depth2img_mask > .label-wrap")
    page.slide("far", 0.5)
    page.slide("mask_low", 0.01)
    page.slide("mask_high", 0.01)
    page.press("#depth2img_mask_send")
    page.until(lambda: "The mask is empty" in shown(page))
    assert not page.all("#img_inpaint_mask img")


def test_a_map_of_another_shape_than_the_picture_is_noticed(page: Page, ramp: Path, tmp_path: Path):
    Image.linear_gradient("L").save(tmp_path / "square.png")
    Image.linear_gradient("L").resize((400, 200)).save(tmp_path / "wide.png")
    page.open()
    page.upload("img2img_image", ramp)
    page.until(lambda: page.all("#img2img_image img"))
    page.choose("depth2img_source", "Depth map")
    page.until(lambda: page.seen("#depth2img_image"))
    page.upload("depth2img_image", tmp_path / "square.png")
    page.until(
        lambda: "The map (256x256) has another shape than the picture (200x100)" in page.text("#depth2img_shape")
    )
    page.press("#depth2img_image button[aria-label=Clear]")
    page.until(lambda: not page.seen("#depth2img_shape"))
    page.upload("depth2img_image", tmp_path / "wide.png")
    page.until(lambda: page.all("#depth2img_preview .depth2img-numbers"))
    page.choose("depth2img_source", "Init image")
    assert not page.seen("#depth2img_shape")


def test_a_size_that_the_model_was_not_made_for_is_said_with_a_depth_model_only(page: Page):
    page.open()
    assert not page.seen("#depth2img_size")
    for side, value in (("width", 768), ("height", 1024)):
        page.driver.execute_script(
            "const input = document.querySelector(`#img2img_${arguments[0]} input[type=number]`);"
            "input.value = arguments[1]; input.dispatchEvent(new Event('input', {bubbles: true}));"
            "input.dispatchEvent(new Event('change', {bubbles: true}));",
            side,
            value,
        )
    page.until(lambda: "yours will be 768x1024" in page.text("#depth2img_size"))
    page.services.is_depth_model = False
    page.driver.execute_script("callbacks.options.forEach((callback) => callback())")
    page.until(lambda: not page.seen("#depth2img_size"))


def test_accordions_open_by_keyboard_and_say_whether_they_are(page: Page):
    page.open()
    head = page.one("#depth2img_control > .label-wrap")
    page.until(lambda: head.get_attribute("aria-expanded") == "false")
    assert head.get_attribute("role") == "button"
    assert head.get_attribute("tabindex") == "0"
    head.send_keys(" ")
    page.until(lambda: page.seen("#depth2img_strength") and head.get_attribute("aria-expanded") == "true")
    head.send_keys("\ue007")
    page.until(lambda: not page.seen("#depth2img_strength"))
