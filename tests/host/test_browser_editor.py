"""The depth editor in a real WebUI: what is drawn is what reaches the UNet, in its page only, and after Reload UI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.host.conftest import channel, depth_map
from tests.host.panel_page import shown_in, small_and_quick
from tests.host.server import WebUI
from tests.webui.browser import Page
from tests.webui.editor_page import Editor, upload_map

SIDE = 128
Y, X = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
"""Places of the pixels' centres, as shares."""


def ramp() -> np.ndarray:
    """(128, 128) float64 in [0, 1]: nearer to the right, with a near block at the left; both ends are reached."""
    values = np.tile(np.linspace(0.0, 1.0, SIDE), (SIDE, 1))
    values[80:112, 8:40] = 0.9
    return values


def sixteen_bits(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(values * 65535).astype(np.uint16))


@pytest.fixture
def picture(tmp_path: Path, photograph: Image.Image) -> Path:
    path = tmp_path / "picture.png"
    photograph.resize((SIDE, SIDE)).save(path)
    return path


@pytest.fixture
def panel(page: Page, webui: WebUI, picture: Path, tmp_path: Path) -> Iterator[Page]:
    """The panel with a picture and a map of 16 bits; what the page keeps of the editor goes with it."""
    page.upload("img2img_image", picture)
    page.until(lambda: page.all("#img2img_image img, #img2img_image canvas"))
    sixteen_bits(ramp()).save(tmp_path / "map.png")
    upload_map(page, tmp_path / "map.png")
    small_and_quick(page)
    yield page
    forget(page, webui)


def forget(page: Page, webui: WebUI) -> None:
    """Empty what the browser's tab keeps, from another page: the panel's own would write it down again."""
    page.driver.get(f"{webui.url}/probe/state")
    page.driver.execute_script("sessionStorage.clear()")


def generated(page: Page, webui: WebUI) -> np.ndarray:
    """(16, 16): the depth channel of what the page generates."""
    webui.post("/probe/reset")
    before = shown_in(page, "img2img_gallery")
    page.press("#img2img_generate")
    page.until(lambda: shown_in(page, "img2img_gallery") - before and webui.records()["unet_calls"])
    return channel(webui)


def expected(webui: WebUI, values: np.ndarray, picture: Path) -> np.ndarray:
    """(16, 16): the depth channel of the same map sent through the API."""
    with Image.open(picture) as image:
        assert webui.img2img(image, depth2img=depth_map(sixteen_bits(values))).status_code == 200
    return channel(webui)


def soft(x: float, y: float) -> np.ndarray:
    """(128, 128): the weight of a brush of size 0.3 and softness 1; the depth channel would alias a hard edge."""
    share = (1.0 - np.hypot(X - x, Y - y) / 0.15).clip(0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def between(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return (left <= X) & (right >= X) & (top <= Y) & (bottom >= Y)


def brushed(x: float, y: float, goal: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: values + (goal(values) - values) * soft(x, y)


SOFT = {"size": 0.3, "softness": 1}
SQUARE = ((0.5, 0.125), (0.75, 0.125), (0.75, 0.375), (0.5, 0.375))


@pytest.mark.parametrize(
    ("tool", "settings", "places", "change"),
    [
        ("set", {**SOFT, "value": 0.9}, [(0.3, 0.3)], brushed(0.3, 0.3, lambda _: 0.9)),
        ("nearer", {**SOFT, "value": 0.3}, [(0.4, 0.3)], brushed(0.4, 0.3, lambda values: values + 0.3)),
        ("away", {**SOFT, "value": 0.3}, [(0.7, 0.6)], brushed(0.7, 0.6, lambda values: values - 0.3)),
        (
            "fill",
            {"softness": 0, "value": 0.5},
            SQUARE,
            lambda values: np.where(between(0.5, 0.125, 0.75, 0.375), 0.5, values),
        ),
        ("flatten", {}, [(0.25, 0.2)], lambda values: np.maximum(values, values[25, 32])),
        ("cut", {}, [(0.5, 0.2)], lambda values: np.where(values <= values[25, 64], 0.0, values)),
        ("gradient", {"value": 1, "end_value": 0}, [(0.5, 0.99), (0.5, 0.01)], lambda v: np.maximum(v, Y)),
    ],
)
def test_a_tool_changes_what_it_should_and_nothing_else(
    panel: Page,
    webui: WebUI,
    picture: Path,
    tool: str,
    settings: dict[str, float],
    places: list[tuple[float, float]],
    change: Callable[[np.ndarray], np.ndarray],
):
    editor = Editor(panel).open()
    editor.choose(tool, **settings)
    editor.drag(*places)
    editor.strokes(1)
    editor.apply()
    got = generated(panel, webui)
    after, before = expected(webui, change(ramp()), picture), expected(webui, ramp(), picture)
    difference = np.abs(got - after)

    assert difference.mean() < 0.01
    assert difference.max() < 0.05
    assert np.abs(after - before).max() > 0.3
    untouched = np.abs(after - before) < 1e-6
    if untouched.any():
        np.testing.assert_allclose(got[untouched], before[untouched], atol=0.02)


def test_smoothing_levels_what_is_under_it(panel: Page, webui: WebUI, picture: Path):
    editor = Editor(panel).open()
    editor.choose("smooth", size=0.5, softness=0)
    for _ in range(3):
        editor.drag((0.19, 0.75))
    editor.strokes(3)
    editor.apply()
    got, before = generated(panel, webui), expected(webui, ramp(), picture)
    assert got[12, 3] < before[12, 3] - 0.2
    np.testing.assert_allclose(got[:, 9:], before[:, 9:], atol=1e-3)


def test_undo_gives_the_bytes_back(panel: Page, webui: WebUI, picture: Path):
    editor = Editor(panel).open()
    untouched = editor.pixels()
    editor.choose("set", size=0.5, softness=0.5, value=1)
    editor.drag((0.3, 0.3), (0.7, 0.7))
    editor.strokes(1)
    assert editor.pixels() != untouched
    editor.press("undo")
    editor.strokes(0)
    assert editor.pixels() == untouched
    editor.apply()
    np.testing.assert_array_equal(generated(panel, webui), expected(webui, ramp(), picture))


def test_strokes_are_shown_at_once(page: Page, webui: WebUI, photograph: Image.Image, tmp_path: Path):
    """At 512x512."""
    photograph.convert("L").save(tmp_path / "large.png")
    upload_map(page, tmp_path / "large.png")
    editor = Editor(page).open()
    editor.choose("smooth", size=0.3)
    answers = []
    for index in range(8):
        editor.drag((0.2, 0.1 + 0.1 * index), (0.8, 0.1 + 0.1 * index))
        editor.strokes(index + 1)
        answers.append(int(editor.data("answered") or 10**6))
    print(f"a stroke is shown in {sorted(answers)} ms")
    assert min(answers) < 1000
    editor.apply()
    forget(page, webui)


def test_the_edited_map_is_in_the_infotext_by_its_digest(panel: Page, webui: WebUI):
    editor = Editor(panel).open()
    editor.choose("cut")
    editor.drag((0.5, 0.2))
    editor.strokes(1)
    editor.apply()
    sha256 = str(panel.one("#depth2img_edited [data-edited]").get_attribute("data-edited"))
    generated(panel, webui)
    panel.until(lambda: f"Depth2Img image hash: {sha256[:10]}" in panel.text("#html_info_img2img"))


def test_two_pages_do_not_disturb_one_another(panel: Page, webui: WebUI, picture: Path, tmp_path: Path):
    driver, first = panel.driver, panel.driver.current_window_handle
    editor = Editor(panel).open()
    editor.choose("set", size=0.3, softness=1, value=0.9)
    editor.drag((0.3, 0.3))
    editor.strokes(1)
    driver.switch_to.new_window("tab")
    second = driver.current_window_handle
    try:
        panel.open()
        upload_map(panel, tmp_path / "map.png")
        other = Editor(panel).open()
        other.choose("set", size=0.3, softness=0, value=0)
        other.drag((0.7, 0.6))
        other.strokes(1)
        other.apply()
        driver.switch_to.window(first)
        editor.settle()
        editor.apply()
        got = generated(panel, webui)
        after = expected(webui, brushed(0.3, 0.3, lambda _: 0.9)(ramp()), picture)
        assert np.abs(got - after).mean() < 0.02
    finally:
        driver.switch_to.window(second)
        driver.close()
        driver.switch_to.window(first)


def test_reload_ui_loses_nothing_that_was_applied(panel: Page, webui: WebUI, picture: Path):
    editor = Editor(panel).open()
    editor.choose("set", size=0.3, softness=1, value=0.9)
    editor.drag((0.3, 0.3))
    editor.strokes(1)
    editor.apply()
    before = generated(panel, webui)
    starts = webui.started()
    panel.driver.execute_script("arguments[0].click()", panel.one("#settings_restart_gradio"))
    panel.until(lambda: "Restarting UI" in webui.log.read_text(errors="replace"))
    panel.driver.get("about:blank")  # the host may wait for ever for the connections of a page that stays open
    webui.wait_until_up(starts + 1)
    panel.open()
    panel.until(lambda: panel.all("#depth2img_edited [data-edited]"))
    panel.upload("img2img_image", picture)
    panel.until(lambda: panel.all("#img2img_image img, #img2img_image canvas"))
    small_and_quick(panel)
    np.testing.assert_array_equal(generated(panel, webui), before)
    again = Editor(panel).open()
    again.strokes(1)
    again.press("undo")
    again.strokes(0)
    again.apply()
    np.testing.assert_array_equal(generated(panel, webui), expected(webui, ramp(), picture))


def test_depth_is_sent_as_a_mask_to_inpaint_upload(panel: Page, webui: WebUI, tmp_path: Path):
    panel.press("#depth2img_mask > .label-wrap")
    panel.until(lambda: panel.seen("#depth2img_mask_send"))
    panel.slide("mask_low", 0.5)
    panel.until(lambda: "nearer than 0.50" in panel.text("#depth2img_mask_shown"))
    panel.press("#depth2img_mask_send")
    panel.until(lambda: panel.all("#img_inpaint_mask img") and panel.all("#img_inpaint_base img"))
    panel.choose("img2img_mask_mode", "Inpaint masked")
    got = generated(panel, webui)
    np.testing.assert_array_equal(got.shape, (16, 16))
    panel.until(lambda: "Mask blur" in panel.text("#html_info_img2img"))
