"""The panel and its neighbours in a real WebUI, in headless Chromium: what a user clicks, and what comes of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from lib_depth2img.request.fields import FIELDS
from lib_depth2img.request.kinds import Picture
from lib_depth2img.webui.ui import markup
from tests.host.conftest import DEPTH, PLAIN, infotexts
from tests.host.panel_page import CHECKPOINTS, infotext_of, shown_in, small_and_quick, type_into, value_of
from tests.host.server import WebUI, decode, encode
from tests.webui.browser import Page


@pytest.fixture
def picture(tmp_path: Path, photograph: Image.Image) -> Path:
    path = tmp_path / "picture.png"
    photograph.resize((128, 128)).save(path)
    return path


def previewed(page: Page, picture: Path) -> None:
    """The img2img tab with the preview of a picture."""
    page.upload("img2img_image", picture)
    page.until(lambda: page.all("#img2img_image img, #img2img_image canvas"))
    page.press("#depth2img_preview_button")
    page.until(lambda: "Far" in page.text("#depth2img_preview .depth2img-numbers"))


def test_every_widget_has_a_place_of_its_own_in_the_hosts_defaults(page: Page, webui: WebUI):
    saved = json.loads((webui.data / "ui-config.json").read_text())
    ours = {key: value for key, value in saved.items() if key.startswith("customscript/depth2img.py/img2img/")}
    values = {key.split("/")[3]: value for key, value in ours.items() if key.endswith("/value")}
    shown = {entry.label for entry in FIELDS if not isinstance(entry, Picture)}
    assert shown <= set(values)
    assert not any("Preview depth" in key or "install" in key.lower() for key in saved if "epth" in key)


def test_the_preview_shows_the_init_image_and_the_sliders_move_it(page: Page, webui: WebUI, picture: Path):
    webui.post("/probe/reset")
    previewed(page, picture)
    answers = [page.answer("far", value) for value in (0.1, 0.2, 0.3, 0.25)]
    best = min(answers, key=lambda answer: answer.drawn)
    print(f"a slider is answered in {best}")
    assert best.drawn < 1000
    assert page.one("#depth2img_preview svg rect").get_attribute("width") == "25.00"
    assert webui.records()["unet_calls"] == 0


def test_the_estimate_can_be_downloaded_in_16_bits(page: Page, webui: WebUI, picture: Path):
    previewed(page, picture)
    page.press("#depth2img_invert input")
    page.press("#depth2img_download_button")
    link = page.until(lambda: page.one("#depth2img_download a[href]").get_attribute("href"))
    with Image.open(io.BytesIO(requests.get(str(link), timeout=60).content)) as image:
        saved = np.asarray(image).astype(int)
    with Image.open(picture) as image:
        reply = webui.post("/depth2img/depth", image=encode(image), estimator="checkpoint").json()
    assert saved.shape == (128, 128)
    assert len(np.unique(saved)) > 1000
    assert np.abs(65535 - saved - np.asarray(decode(reply["depth_map"])).astype(int)).max() <= 1


@pytest.mark.parametrize("tab", ["img2img", "Inpaint", "Inpaint upload"])
def test_a_generation_after_the_preview_of_a_transparent_picture_estimates_nothing_anew(
    page: Page, webui: WebUI, unseen: Image.Image, tmp_path: Path, tab: str
):
    """Over the host's background colour, which is not white: other pixels would be another picture to the cache."""
    webui.post("/sdapi/v1/options", img2img_background_color="#3060a0")
    unseen.putalpha(Image.linear_gradient("L").resize(unseen.size))
    unseen.save(tmp_path / "transparent.png")
    widget = {"img2img": "img2img_image", "Inpaint": "img2maskimg", "Inpaint upload": "img_inpaint_base"}[tab]
    page.tab("mode_img2img", tab)
    page.until(lambda: page.seen(f"#{widget}"))
    page.upload(widget, tmp_path / "transparent.png")
    page.until(lambda: page.all(f"#{widget} img, #{widget} canvas"))
    if tab == "Inpaint upload":
        page.upload("img_inpaint_mask", tmp_path / "transparent.png")
        page.until(lambda: page.all("#img_inpaint_mask img"))
    small_and_quick(page)
    webui.post("/probe/reset")
    try:
        page.press("#depth2img_preview_button")
        page.until(lambda: "Far" in page.text("#depth2img_preview .depth2img-numbers"))
        assert webui.records()["depth_inputs"] == 1
        page.press("#img2img_generate")
        page.until(lambda: shown_in(page, "img2img_gallery"))
        seen = webui.records()
        assert seen["unet_calls"] > 0
        assert seen["depth_inputs"] == 1
    finally:
        webui.post("/sdapi/v1/options", img2img_background_color="#ffffff")


def deep_edge(path: Path) -> Path:
    """A depth map of 16 bits, far on the left and near on the right, that 8 bits would make flat."""
    values = np.full((128, 128), 32768, np.uint16)
    values[:, 64:] += 120
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize(
    ("tab", "widgets"),
    [
        ("img2img", ["img2img_image"]),
        ("Sketch", ["img2img_sketch"]),
        pytest.param(
            "Inpaint",
            ["img2maskimg"],
            marks=pytest.mark.not_on("ReForge", "its Inpaint tab can fail without a stroke (gradio_extensons.py:120)"),
        ),
        ("Inpaint sketch", ["inpaint_sketch"]),
        ("Inpaint upload", ["img_inpaint_base", "img_inpaint_mask"]),
    ],
)
def test_a_map_of_ones_own_reaches_the_unet_from_every_tab_and_is_shown_last(
    page: Page, webui: WebUI, picture: Path, tmp_path: Path, tab: str, widgets: list[str]
):
    page.tab("mode_img2img", tab)
    for widget in widgets:
        page.until(lambda widget=widget: page.seen(f"#{widget}"))
        page.upload(widget, picture)
        page.until(lambda widget=widget: page.all(f"#{widget} img, #{widget} canvas"))
    page.choose("depth2img_source", "Depth map")
    page.until(lambda: page.seen("#depth2img_image"))
    page.upload("depth2img_image", deep_edge(tmp_path / "map.png"))
    page.until(lambda: page.all("#depth2img_preview .depth2img-preview"))
    small_and_quick(page)
    webui.post("/probe/reset")
    page.press("#img2img_generate")
    page.until(lambda: len(shown_in(page, "img2img_gallery")) == 2)
    concat = webui.records()["concat"]
    assert (concat[..., :7] == -1).all()
    assert (concat[..., 9:] == 1).all()
    page.until(lambda: "Depth2Img source: depth_map" in page.text("#html_info_img2img"))


def test_the_panel_is_in_inpaint_too_and_asks_about_only_masked(page: Page):
    page.tab("mode_img2img", "Inpaint")
    page.until(lambda: page.seen("#img2img_inpaint_full_res"))
    page.choose("img2img_inpaint_full_res", "Only masked")
    page.until(lambda: page.seen("#depth2img_only_masked"))
    page.choose("img2img_inpaint_full_res", "Whole picture")
    page.until(lambda: not page.seen("#depth2img_only_masked"))
    assert len(page.all("#depth2img_panel")) == 1


def test_every_axis_is_listed_once(page: Page):
    page.choose_from("script_list", "X/Y/Z plot")
    page.press("#script_img2img_xyz_plot_x_type input")
    listed = page.until(lambda: [item.text.strip("✓ ") for item in page.all("#script_img2img_xyz_plot_x_type ul li")])
    ours = [label for label in listed if "Depth2Img" in label]
    assert ours == [f"[Depth2Img] {entry.label}" for entry in FIELDS if entry.axis]
    page.one("#script_img2img_xyz_plot_x_type input").send_keys(Keys.ESCAPE)


def test_an_axis_makes_a_grid(page: Page, webui: WebUI, picture: Path):
    page.upload("img2img_image", picture)
    small_and_quick(page)
    page.choose_from("script_list", "X/Y/Z plot")
    page.choose_from("script_img2img_xyz_plot_x_type", "[Depth2Img] Far")
    type_into(page, "#script_img2img_xyz_plot_x_values textarea", "0, 0.5")
    grids = webui.data / "outputs" / "img2img-grids"
    before = set(grids.rglob("*.png"))  # of other tests in the same WebUI
    webui.post("/probe/reset")
    page.press("#img2img_generate")
    (grid,) = page.until(lambda: list(set(grids.rglob("*.png")) - before))
    page.until(lambda: len(shown_in(page, "img2img_gallery")) == 1)
    assert "X Type: [Depth2Img] Far" in infotext_of(grid)
    assert webui.records()["depth_inputs"] <= 1, "both cells are estimated together"


def test_what_a_generation_writes_is_pasted_and_another_infotext_resets_it(
    page: Page, webui: WebUI, photograph: Image.Image
):
    changed = {"far": 0.25, "near": 0.85, "gamma": 1.5, "blur": 2.5, "invert": True, "from_noise": True}
    fields = {**changed, "only_masked": "crop", "estimator": "dpt_hybrid", "save_depth_map": True, "range": (0.5, 20.0)}
    prompt = 'a house: red, (blue:1.2), "old"'
    (text,) = infotexts(webui.img2img(photograph, prompt=prompt, depth2img=fields).json())
    type_into(page, "#img2img_prompt textarea", f"{text}, Depth2Img image hash: 3fa9c1d2e4")
    page.press("#img2img_tools #paste")
    page.until(lambda: value_of(page, "far") == "0.25")
    assert panel_of(page) == panel_with(**fields)
    assert page.one("#img2img_prompt textarea").get_attribute("value") == prompt
    page.until(lambda: "sha256 begins with 3fa9c1d2e4" in page.text("#depth2img_note"))
    type_into(page, "#img2img_prompt textarea", "a house\nSteps: 3, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64")
    page.press("#img2img_tools #paste")
    page.until(lambda: value_of(page, "far") == "0")
    assert panel_of(page) == panel_with()
    page.until(lambda: not page.text("#depth2img_note"))


def panel_with(**changed: Any) -> dict[str, Any]:
    """What the panel is to show, by field: labels of choices, the rest as it is."""
    expected: dict[str, Any] = {}
    for entry in FIELDS:
        if entry.infotext:
            value = changed.get(entry.name, entry.panel_default)
            expected[entry.name] = entry.shown(value)
    return expected


def panel_of(page: Page) -> dict[str, Any]:
    """What the panel shows, by field."""
    shown: dict[str, Any] = {}
    for name, expected in panel_with().items():
        inputs = page.all(f"#depth2img_{name} input")
        if isinstance(expected, bool):
            shown[name] = inputs[0].is_selected()
        elif inputs[0].get_attribute("type") == "radio":
            shown[name] = next(each.get_attribute("value") for each in inputs if each.is_selected())
        else:
            value = str(inputs[0].get_attribute("value"))
            shown[name] = type(expected)(value) if isinstance(expected, (int, float)) else value
    return shown


def test_send_to_img2img_brings_the_fields_along(page: Page, picture: Path, tmp_path: Path):
    """From the PNG Info tab, as from every gallery: the button pastes the infotext and hands the picture over."""
    info = PngInfo()
    ours = "Depth2Img gamma: 1.5, Depth2Img append depth map: False, Depth2Img save depth map: True"
    info.add_text("parameters", f"a house\nSteps: 3, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 128x128, {ours}")
    with Image.open(picture) as image:
        image.save(tmp_path / "made.png", pnginfo=info)
    page.tab("tabs", "PNG Info")
    page.until(lambda: page.seen("#pnginfo_image"))
    page.upload("pnginfo_image", tmp_path / "made.png")
    page.until(lambda: "Depth2Img gamma" in page.text("#tab_pnginfo"))
    page.press("#tab_pnginfo #img2img_tab")
    page.until(lambda: page.seen("#img2img_prompt") and value_of(page, "gamma") == "1.5")
    page.until(lambda: not page.one("#depth2img_append_depth_map input").is_selected())
    assert page.one("#depth2img_save_depth_map input").is_selected()
    page.until(lambda: page.all("#img2img_image img"))
    page.press("#depth2img_preview_button")
    page.until(lambda: "Far" in page.text("#depth2img_preview .depth2img-numbers"))


OUTDATED = "#depth2img_preview .depth2img-outdated-note"


def test_a_preview_of_another_picture_says_that_it_is_one(page: Page, picture: Path):
    """Between the tabs the picture is copied by the host's own buttons, so that it changes without an upload."""
    previewed(page, picture)
    assert not page.seen(OUTDATED)
    page.tab("mode_img2img", "Inpaint")
    page.until(lambda: page.seen(OUTDATED))
    page.press("#depth2img_preview_button")
    page.until(lambda: "There is no init image in the open tab" in page.text("#depth2img_preview"))
    page.tab("mode_img2img", "img2img")
    page.press("#img2img_copy_to_img2img button:nth-of-type(3)")
    page.until(lambda: page.all("#img2maskimg canvas"))
    page.tab("mode_img2img", "Inpaint")
    page.press("#depth2img_preview_button")
    page.until(lambda: "Far" in page.text("#depth2img_preview .depth2img-numbers"))
    assert not page.seen(OUTDATED)


def test_a_preview_by_another_checkpoints_estimator_says_so(page: Page, picture: Path):
    previewed(page, picture)
    assert not page.seen(OUTDATED)
    page.choose_from(CHECKPOINTS, PLAIN)
    page.until(lambda: page.seen(OUTDATED))
    page.choose_from(CHECKPOINTS, DEPTH)
    page.until(lambda: not page.seen(OUTDATED))


class TestExtrasTab:
    def test_a_picture_becomes_its_depth_map_in_16_bits(self, page: Page, picture: Path, tmp_path: Path):
        pictures, out = tmp_path / "in", tmp_path / "out"
        pictures.mkdir()
        for name in ("a.png", "b.png"):
            with Image.open(picture) as image:
                image.rotate(180 if name == "b.png" else 0).save(pictures / name)
        page.tab("tabs", "Extras")
        page.press("#depth2img_extras > .label-wrap")
        page.until(lambda: page.seen("#depth2img_extras_estimator"))
        page.tab("mode_extras", "Batch from Directory")
        type_into(page, "#extras_batch_input_dir textarea", str(pictures))
        type_into(page, "#extras_batch_output_dir textarea", str(out))
        page.press("#extras_generate")
        page.until(lambda: out.is_dir() and len(list(out.glob("*.png"))) == 2)
        page.until(lambda: page.all("#extras_gallery .thumbnail-item"))
        for path in out.glob("*.png"):
            with Image.open(path) as saved:
                assert saved.mode.startswith("I")
                values = np.asarray(saved)
                assert saved.info["postprocessing"] == "Depth map: checkpoint"
            assert np.ptp(values) > 50_000
            assert len(np.unique(values)) > 256

    def test_several_pictures_each_become_their_map(self, page: Page, photograph: Image.Image, tmp_path: Path):
        for turned in (0, 90, 180):
            photograph.resize((96, 64)).rotate(turned).save(tmp_path / f"turned-{turned}.png")
        page.tab("tabs", "Extras")
        page.press("#depth2img_extras > .label-wrap")
        page.until(lambda: page.seen("#depth2img_extras_estimator"))
        page.tab("mode_extras", "Batch Process")
        page.until(lambda: page.seen("#extras_image_batch"))
        names = "\n".join(str(path) for path in sorted(tmp_path.glob("turned-*.png")))
        page.one("#extras_image_batch input[type=file]").send_keys(names)
        page.until(lambda: all(f"turned-{turned}" in page.text("#extras_image_batch") for turned in (0, 90, 180)))
        page.press("#extras_generate")
        page.until(lambda: len(shown_in(page, "extras_gallery")) == 3)

    def test_one_picture_beside_its_map_in_colour(self, page: Page, picture: Path):
        page.tab("tabs", "Extras")
        page.press("#depth2img_extras > .label-wrap")
        page.until(lambda: page.seen("#depth2img_extras_estimator"))
        page.choose("depth2img_extras_colour", "Turbo")
        page.choose("depth2img_extras_result", "The picture and the depth map")
        page.upload("extras_image", picture)
        page.until(lambda: page.all("#extras_image img"))
        page.press("#extras_generate")
        page.until(lambda: len(shown_in(page, "extras_gallery")) == 2)


def test_the_settings_page_is_there_and_is_kept(page: Page, webui: WebUI):
    page.tab("tabs", "Settings")
    page.until(lambda: page.seen("#settings"))
    section = [button for button in page.all("#settings > .tab-nav button") if button.text == "Depth2Img"]
    assert len(section) == 1
    section[0].click()
    page.until(lambda: page.seen("#setting_depth2img_estimator"))
    for name in ("precision", "device", "cache_megabytes", "keep_loaded", "maps_folder"):
        assert page.seen(f"#setting_depth2img_{name}")
    page.choose("setting_depth2img_device", "cpu")
    page.press("#settings_submit")
    # The API of Forge and reForge lists the options of the host only.
    page.until(lambda: '"depth2img_device": "cpu"' in (webui.data / "config.json").read_text(encoding="utf-8"))
    webui.post("/sdapi/v1/options", depth2img_device="model")


def test_another_checkpoint_is_noticed_without_a_reload(page: Page):
    page.tab("tabs", "txt2img")
    page.until(lambda: not page.one("#txt2img_generate").is_enabled())
    page.choose_from(CHECKPOINTS, PLAIN)
    page.until(lambda: page.one("#txt2img_generate").is_enabled())
    assert not page.all("#depth2img_txt2img_notice")
    page.choose_from(CHECKPOINTS, DEPTH)
    page.until(lambda: page.all("#depth2img_txt2img_notice"))


def test_the_page_selects_the_checkpoint_that_the_panel_names(page: Page):
    line = markup.done_line("It lies in the models folder.", select_checkpoint=PLAIN)
    script = "document.querySelector('#depth2img_install_state').innerHTML += arguments[0]"
    page.driver.execute_script(script, line)
    page.until(lambda: f"{PLAIN} is not a depth model" in page.text("#depth2img_status"))
    assert PLAIN in str(page.one(f"{CHECKPOINTS} input").get_attribute("value"))


def test_sending_to_img2img_brings_the_prompt(page: Page):
    page.tab("tabs", "txt2img")
    type_into(page, "#txt2img_prompt textarea", "a lighthouse, at night")
    page.press("#depth2img_txt2img_notice button")
    page.until(lambda: page.seen("#img2img_prompt"))
    assert page.driver.find_element(By.CSS_SELECTOR, "#img2img_prompt textarea").get_attribute("value") == (
        "a lighthouse, at night"
    )
