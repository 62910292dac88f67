"""The panel in a real browser, on plain gradio: what is uploaded arrives as it was, what is moved is answered."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
from PIL import Image
from selenium.webdriver import ActionChains

from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.request.request import Depth2ImgRequest
from tests.webui.browser import Page

NUMBERS = "#depth2img_preview .depth2img-numbers"


def deep_map() -> np.ndarray:
    """(64, 96) uint16 whose low bytes matter."""
    y, x = np.mgrid[:64, :96]
    return (x * 650 + y * 7 + 3).astype(np.uint16)


@pytest.fixture
def map_file(tmp_path: Path) -> Path:
    path = tmp_path / "map.png"
    Image.fromarray(deep_map()).save(path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    y, x = np.mgrid[:512, :512]
    Image.fromarray(np.stack([x // 2, y // 2, 255 - x // 2], axis=2).astype(np.uint8)).save(path)
    return path


def generate(page: Page) -> Depth2ImgRequest:
    """Press Generate; what the script would get."""
    before = len(page.services.requests)
    page.press("#img2img_generate")
    page.until(lambda: len(page.services.requests) > before)
    return page.services.requests[-1]


def upload_map(page: Page, path: Path) -> None:
    page.choose("depth2img_source", "Depth map")
    page.until(lambda: page.seen("#depth2img_image"))
    page.upload("depth2img_image", path)


def shows(page: Page, text: str, selector: str = NUMBERS) -> bool:
    return page.until(lambda: text in page.text(selector))


def far_edge(page: Page) -> float:
    """Where the shown histogram is cut off, on the slider's scale."""
    return float(page.one("#depth2img_preview svg rect").get_attribute("width") or "nan") / 100


def test_an_untouched_panel_asks_for_the_defaults(page: Page):
    page.open()
    assert generate(page) == Depth2ImgRequest(append_depth_map=True)
    assert page.complaints() == []


def test_the_status_line_tells_the_checkpoint(page: Page):
    page.open()
    shows(page, "Depth model loaded: 512-depth-ema.safetensors", "#depth2img_status")


def test_the_estimators_note_is_as_of_now_and_not_of_when_the_panel_was_built(page: Page):
    page.services.estimator_note = "No depth model is loaded."
    page.open()
    shows(page, "No depth model is loaded.", "#depth2img_estimator_note")


def test_the_source_decides_which_rows_are_seen(page: Page):
    page.open()
    rows = ("#depth2img_image", "#depth2img_picture", "#depth2img_estimator")
    for label, seen in (
        ("Depth map", [True, False, False]),
        ("Another picture", [False, True, True]),
        ("Init image", [False, False, True]),
    ):
        page.choose("depth2img_source", label)
        page.until(lambda seen=seen: [page.seen(row) for row in rows] == seen)


def test_a_16_bit_map_arrives_with_all_its_bits_and_is_shown_at_once(page: Page, map_file: Path):
    page.open()
    upload_map(page, map_file)
    shows(page, "between 0.02 and 0.93")
    assert page.services.estimated == []
    content = generate(page).image.content
    assert isinstance(content, DepthMap)
    np.testing.assert_array_equal(np.rint(content.values * 65535).astype(np.uint16), deep_map())
    assert page.complaints() == []


def test_strength_steps_mode_and_region_are_folded_away_until_wanted(page: Page, tmp_path: Path):
    region = Image.new("L", (8, 4), 0)
    region.paste(255, (4, 0, 8, 4))
    region.save(tmp_path / "region.png")
    page.open()
    assert not page.seen("#depth2img_strength")
    page.press("#depth2img_control .label-wrap")
    page.until(lambda: page.seen("#depth2img_strength"))
    page.slide("strength", 0.5)
    page.slide("end", 0.8)
    page.choose("depth2img_mode", "Depth is more important")
    page.upload("depth2img_region", tmp_path / "region.png")
    page.press("#depth2img_outside_mask input")
    request = generate(page)
    assert (request.strength, request.start, request.end, request.mode) == (0.5, 0.0, 0.8, "depth")
    assert request.outside_mask
    np.testing.assert_array_equal(request.region.content.values[0], [0, 0, 0, 0, 1, 1, 1, 1])
    assert page.complaints() == []


@pytest.mark.parametrize("kind", ["npy", "tif", "exr", "pfm"])
def test_maps_of_bare_numbers_come_by_file(page: Page, tmp_path: Path, kind: str):
    values = np.linspace(-3.0, 40.0, 24 * 32, dtype=np.float32).reshape(24, 32)
    path = tmp_path / f"map.{kind}"
    if kind == "npy":
        np.save(path, values)
    elif kind == "tif":
        Image.fromarray(values).save(path)
    elif kind == "pfm":
        path.write_bytes(b"Pf\n32 24\n-1.0\n" + values[::-1].astype("<f4").tobytes())
    else:
        path = Path(__file__).parents[1] / "depth" / "exr" / "z_half_zip.exr"
    page.open()
    upload_map(page, path)
    shows(page, "Far")
    content = generate(page).image.content
    if kind != "exr":
        np.testing.assert_array_equal(content.values, values)
    assert not content.unit


def test_a_photo_put_in_as_a_depth_map_is_said_to_be_one(page: Page, photo: Path):
    page.open()
    upload_map(page, photo)
    shows(page, "colour", "#depth2img_preview .depth2img-error")


def test_a_flat_map_is_warned_of(page: Page, tmp_path: Path):
    Image.new("L", (32, 32), 90).save(tmp_path / "flat.png")
    page.open()
    upload_map(page, tmp_path / "flat.png")
    shows(page, "Flat", "#depth2img_preview .depth2img-warning")


def test_taking_the_map_away_takes_the_preview_away(page: Page, map_file: Path):
    page.open()
    upload_map(page, map_file)
    shows(page, "Far")
    page.choose("depth2img_source", "Init image")
    page.until(lambda: not page.all(NUMBERS))
    page.choose("depth2img_source", "Depth map")
    shows(page, "Far")
    page.press("#depth2img_image button[aria-label=Clear]")
    page.until(lambda: not page.all(NUMBERS))


def test_the_init_image_is_estimated_once_and_sliders_answer_without_it(page: Page, photo: Path):
    page.open()
    page.upload("img2img_image", photo)
    page.until(lambda: page.all("#img2img_image img"))
    page.press("#depth2img_preview_button")
    shows(page, "Far")
    answers = [page.answer("far", value) for value in (0.1, 0.2, 0.3, 0.4)]
    assert far_edge(page) == pytest.approx(0.4)
    assert page.services.estimated == ["checkpoint"]
    assert min(answer.drawn for answer in answers) < 1000
    assert page.complaints() == []


def test_the_preview_looks_at_the_tab_that_is_open(page: Page, photo: Path, tmp_path: Path):
    Image.new("RGB", (40, 20), "white").save(tmp_path / "wide.png")
    page.open()
    page.upload("img2img_image", photo)
    page.until(lambda: page.all("#img2img_image img"))
    page.tab("mode_img2img", "Inpaint")
    page.upload("img2maskimg", tmp_path / "wide.png")
    page.until(lambda: page.all("#img2maskimg img"))
    page.press("#depth2img_preview_button")
    shows(page, "Flat", "#depth2img_preview .depth2img-warning")
    assert "40 / 20" in (page.one("#depth2img_preview img").get_attribute("style") or "")


OUTDATED = "#depth2img_preview .depth2img-outdated-note"


def preview_of(page: Page, photo: Path) -> None:
    """Open the page and preview the depth of a photo in img2img."""
    page.open()
    page.upload("img2img_image", photo)
    page.until(lambda: page.all("#img2img_image img"))
    page.press("#depth2img_preview_button")
    shows(page, "Far")
    assert not page.seen(OUTDATED)


def test_a_preview_of_another_picture_says_that_it_is_one(page: Page, photo: Path, tmp_path: Path):
    """Another picture, another tab, no picture; back again it is right again, and so it is after pressing again."""
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "other.png")
    preview_of(page, photo)
    page.tab("mode_img2img", "Inpaint")
    page.until(lambda: page.seen(OUTDATED))
    page.tab("mode_img2img", "img2img")
    page.until(lambda: not page.seen(OUTDATED))
    page.press("#img2img_image button[aria-label=Clear]")
    page.until(lambda: page.seen(OUTDATED))
    page.upload("img2img_image", tmp_path / "other.png")
    page.until(lambda: page.all("#img2img_image img"))
    assert page.seen(OUTDATED)
    page.slide("far", 0.2)
    page.until(lambda: far_edge(page) == pytest.approx(0.2))
    page.until(lambda: page.seen(OUTDATED))
    page.press("#depth2img_preview_button")
    page.until(lambda: not page.seen(OUTDATED))
    assert page.services.estimated == ["checkpoint", "checkpoint"]
    page.choose("depth2img_source", "Another picture")
    page.tab("mode_img2img", "Inpaint")
    page.until(lambda: not page.seen(OUTDATED))
    assert page.complaints() == []


def checkpoint_loaded(page: Page, name: str | None, *, is_depth_model: bool) -> None:
    """Load another one, as the host does (javascript/ui.js:305-332), until the status line has it."""
    page.services.checkpoint, page.services.is_depth_model = name, is_depth_model
    page.driver.execute_script("callbacks.options.forEach((callback) => callback())")
    page.until(lambda: page.one("#depth2img_status [data-checkpoint]").get_attribute("data-checkpoint") == (name or ""))


def test_a_preview_by_another_checkpoints_estimator_says_so(page: Page, photo: Path):
    """Another depth model, an ordinary one, none; back again it is right again, and so it is after pressing again."""
    own = page.services.checkpoint
    preview_of(page, photo)
    for name, is_depth_model in (("other-depth.ckpt", True), ("sd15.safetensors", False), (None, False)):
        checkpoint_loaded(page, name, is_depth_model=is_depth_model)
        page.until(lambda: page.seen(OUTDATED))
        checkpoint_loaded(page, own, is_depth_model=True)
        page.until(lambda: not page.seen(OUTDATED))
    checkpoint_loaded(page, "other-depth.ckpt", is_depth_model=True)
    page.until(lambda: page.seen(OUTDATED))
    page.press("#depth2img_preview_button")
    page.until(lambda: not page.seen(OUTDATED))
    assert page.complaints() == []


def test_another_checkpoint_leaves_what_is_not_of_it(page: Page, photo: Path, map_file: Path):
    """The estimate of an estimator with weights of its own, and a depth map of one's own."""
    page.open()
    page.upload("img2img_image", photo)
    page.until(lambda: page.all("#img2img_image img"))
    page.choose_from("depth2img_estimator", "dpt_hybrid")
    shows(page, "Weights in the models folder", "#depth2img_estimator_note")
    page.press("#depth2img_preview_button")
    shows(page, "Far")
    checkpoint_loaded(page, "other-depth.ckpt", is_depth_model=True)
    time.sleep(0.5)  # the mark would be there by now
    assert not page.seen(OUTDATED)
    page.choose_from("depth2img_estimator", "checkpoint")
    upload_map(page, map_file)
    shows(page, "Far")
    checkpoint_loaded(page, "sd15.safetensors", is_depth_model=False)
    time.sleep(0.5)
    assert not page.seen(OUTDATED)
    assert page.complaints() == []


def test_another_picture_is_of_the_checkpoint_too(page: Page, photo: Path):
    page.open()
    page.choose("depth2img_source", "Another picture")
    page.until(lambda: page.seen("#depth2img_picture"))
    page.upload("depth2img_picture", photo)
    page.until(lambda: page.all("#depth2img_picture img"))
    page.press("#depth2img_preview_button")
    shows(page, "Far")
    assert not page.seen(OUTDATED)
    checkpoint_loaded(page, "other-depth.ckpt", is_depth_model=True)
    page.until(lambda: page.seen(OUTDATED))


def test_painting_a_mask_leaves_the_preview_as_it_is(page: Page, photo: Path):
    """The Inpaint tab's value is the picture and the mask; strokes change the second."""
    page.open()
    page.tab("mode_img2img", "Inpaint")
    page.upload("img2maskimg", photo)
    canvas = page.until(lambda: next((each for each in page.all("#img2maskimg canvas") if each.is_displayed()), None))
    page.press("#depth2img_preview_button")
    shows(page, "Far")
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(page.driver).move_to_element(canvas).click_and_hold().move_by_offset(20, 10).release().perform()
    time.sleep(1.0)  # what the stroke changes would be noticed by now
    assert not page.seen(OUTDATED)
    assert page.services.estimated == ["checkpoint"]


def test_without_an_init_image_the_preview_says_so(page: Page):
    page.open()
    page.press("#depth2img_preview_button")
    shows(page, "There is no init image in the open tab", "#depth2img_preview .depth2img-error")


def test_another_picture_is_estimated_with_the_chosen_estimator(page: Page, photo: Path):
    page.open()
    page.choose("depth2img_source", "Another picture")
    page.until(lambda: page.seen("#depth2img_picture"))
    page.upload("depth2img_picture", photo)
    page.until(lambda: page.all("#depth2img_picture img"))
    page.choose_from("depth2img_estimator", "dpt_large")
    shows(page, "are not here yet", "#depth2img_estimator_note")
    page.choose_from("depth2img_estimator", "dpt_hybrid")
    shows(page, "Weights in the models folder", "#depth2img_estimator_note")
    page.press("#depth2img_preview_button")
    shows(page, "Far")
    assert page.services.estimated == ["dpt_hybrid"]
    request = generate(page)
    assert (request.source, request.estimator) == ("image", "dpt_hybrid")
    np.testing.assert_array_equal(np.asarray(request.image.content), np.asarray(Image.open(photo)))


def test_after_quick_moves_the_last_one_is_what_is_shown(page: Page, map_file: Path):
    page.open()
    upload_map(page, map_file)
    shows(page, "Far")
    for step in range(40):
        page.slide("far", round(0.01 * step, 2))
    page.until(lambda: far_edge(page) == pytest.approx(0.39))
    time.sleep(0.5)  # an answer that was overtaken would come now
    page.until(lambda: far_edge(page) == pytest.approx(0.39))


def test_far_above_near_is_refused_and_can_be_taken_back(page: Page, map_file: Path):
    page.open()
    upload_map(page, map_file)
    shows(page, "Far")
    page.slide("near", 0.3)
    page.slide("far", 0.6)
    shows(page, "far is 0.6 and near is 0.3", "#depth2img_preview .depth2img-error")
    page.slide("far", 0.1)
    shows(page, "Far")


def test_the_download_is_the_adjusted_map_in_16_bits(page: Page, map_file: Path):
    page.open()
    upload_map(page, map_file)
    shows(page, "Far")
    page.press("#depth2img_invert input")
    page.press("#depth2img_download_button")
    link = page.until(lambda: page.one("#depth2img_download a[href]").get_attribute("href"))
    data = requests.get(str(link), timeout=30).content
    saved = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert saved.dtype == np.uint16
    np.testing.assert_allclose(saved.astype(int), 65535 - deep_map().astype(int), atol=1)


def test_installing_shows_the_licence_progress_and_the_end(page: Page):
    page.open()
    page.press("#depth2img_install > .label-wrap")
    shows(page, "Licence: CreativeML Open RAIL++-M", "#depth2img_licence")
    page.services.install_seconds = 2.0
    page.press("#depth2img_install_button")
    shows(page, "12.5 MB/s", "#depth2img_install_state")
    assert "of 5.00 GB" in page.text("#depth2img_install_state")
    shows(page, "ckpt is installed", "#depth2img_install_state .depth2img-done")


def test_what_was_installed_is_in_the_list_of_checkpoints(page: Page):
    """The host's own button fills the list again; it is pressed once."""
    page.open()
    page.driver.execute_script(
        "const button = document.body.appendChild(document.createElement('button'));"
        "button.id = 'refresh_sd_model_checkpoint';"
        "button.onclick = () => { document.body.dataset.filled = (document.body.dataset.filled || '') + 'x'; };"
    )
    page.services.install_seconds = 0.1
    page.press("#depth2img_install > .label-wrap")
    page.press("#depth2img_install_button")
    page.until(lambda: page.one("body").get_attribute("data-filled"))
    page.choose("depth2img_source", "Depth map")  # has the script look at the page again
    page.until(lambda: page.seen("#depth2img_image"))
    assert page.one("body").get_attribute("data-filled") == "x"


def test_an_installation_can_be_cancelled_and_started_again(page: Page):
    page.open()
    page.press("#depth2img_install > .label-wrap")
    page.services.install_seconds = 60.0
    page.press("#depth2img_install_button")
    page.until(lambda: page.one("#depth2img_install_cancel").is_enabled() and page.seen("#depth2img_install progress"))
    page.press("#depth2img_install_cancel")
    shows(page, "was cancelled", "#depth2img_install_state .depth2img-error")
    page.services.install_seconds = 0.1
    page.until(lambda: page.one("#depth2img_install_button").is_enabled())
    page.press("#depth2img_install_button")
    shows(page, "ckpt is installed", "#depth2img_install_state .depth2img-done")


def test_the_trial_checkpoint_is_selected_by_the_hosts_own_means(page: Page):
    page.open()
    page.press("#depth2img_install > .label-wrap")
    page.press("#depth2img_trial_button")
    selected = page.until(lambda: page.driver.execute_script("return document.body.dataset.selected"))
    assert selected == "depth2img-trial.safetensors [0123456789]"
    shows(page, "is being selected", "#depth2img_install_state .depth2img-done")
