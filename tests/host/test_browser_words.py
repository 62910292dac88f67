"""The page in Chinese, in a real WebUI: nothing of ours is left in English, neither by the host's means nor by ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver import Chrome

from tests.host.conftest import Starter
from tests.host.panel_page import small_and_quick
from tests.host.server import WebUI
from tests.webui.browser import Page, chromium

_TEXTS = """
    const walker = document.createTreeWalker(document.querySelector(arguments[0]), NodeFilter.SHOW_TEXT);
    const found = [];
    const seen = (element) => !element.closest(".depth2img-hidden, .hidden, .hide, #depth2img_refresh");
    while (walker.nextNode())
        if (seen(walker.currentNode.parentElement)) found.push(walker.currentNode.textContent.trim());
    for (const element of document.querySelectorAll(`${arguments[0]} :is([title], [alt], [placeholder])`))
        for (const name of ["title", "alt", "placeholder"]) found.push(element.getAttribute(name) ?? "");
    return found;
"""

NOT_OURS = re.compile(
    r"Drop (File|Image) Here|Click to Upload|- or -|CreativeML Open RAIL.*|.*\.safetensors.*|Toggle .*|"
    r"Stable Diffusion 2 深度模型.*"
)
"""Of gradio, and names."""


@pytest.fixture(scope="module")
def chinese(start: Starter) -> WebUI:
    return start("chinese", "--no-half", settings={"localization": "zh_CN"})


@pytest.fixture
def page(chinese: WebUI, tmp_path: Path, photograph: Image.Image) -> Iterator[Page]:
    driver: Chrome = chromium(tmp_path / "chromium")
    driver.set_window_size(1600, 2200)
    shown = Page(driver, chinese.url, patience=120.0)
    try:
        shown.open(panel=False)
        driver.execute_script("switch_to_img2img()")
        shown.press("#depth2img_panel > .label-wrap")
        shown.until(lambda: shown.seen("#depth2img_source"))
        photograph.resize((128, 128)).save(tmp_path / "picture.png")
        shown.upload("img2img_image", tmp_path / "picture.png")
        shown.until(lambda: shown.all("#img2img_image img, #img2img_image canvas"))
        yield shown
        assert shown.complaints() == []
    finally:
        driver.quit()


def english(page: Page, selector: str) -> list[str]:
    texts: list[str] = page.driver.execute_script(_TEXTS, selector)
    return [text for text in texts if re.search(r"[A-Za-z]{3,} [A-Za-z]{2,}", text) and not NOT_OURS.fullmatch(text)]


def test_the_panel_and_the_editor_are_chinese(page: Page):
    page.until(lambda: "已加载深度模型" in page.text("#depth2img_status"))
    page.press("#depth2img_preview_button")
    page.until(lambda: "的像素位于" in page.text("#depth2img_preview .depth2img-numbers"))
    for box in ("mask", "control", "install"):
        page.press(f"#depth2img_{box} > .label-wrap")
    page.until(lambda: "涂抹比 0.50 更近的部分" in page.text("#depth2img_mask_shown"))
    page.until(lambda: "背景" in (page.one("#depth2img_far").get_attribute("title") or ""))
    page.slide("far", 0.5)
    page.until(lambda: "截断" in page.text("#depth2img_preview .depth2img-warning"))
    assert english(page, "#depth2img_panel") == []
    page.press("#depth2img_edit_button")
    page.until(lambda: page.seen("#depth2img_editor"))
    assert english(page, "#depth2img_editor") == []


def test_errors_are_chinese_in_the_page_and_english_in_the_api(page: Page, chinese: WebUI, photograph: Image.Image):
    page.slide("near", 0.2)
    page.slide("far", 0.6)
    page.press("#depth2img_preview_button")
    page.until(lambda: "近端为 0.2，远端为 0.6" in page.text("#depth2img_preview .depth2img-error"))
    small_and_quick(page)
    page.press("#img2img_generate")
    page.until(lambda: "近端为 0.2，远端为 0.6" in page.text("#html_log_img2img"))
    reply = chinese.img2img(photograph, depth2img={"far": 0.6, "near": 0.2})
    assert reply.status_code == 422
    assert "near: got 0.2, expected more than far" in reply.text


def test_extras_and_settings_are_chinese(page: Page):
    page.driver.execute_script("document.querySelector('#depth2img_extras .label-wrap').click()")
    assert english(page, "#depth2img_extras") == []
    for name in ("estimator", "precision", "device", "cache_megabytes", "keep_loaded", "maps_folder"):
        assert english(page, f"#setting_depth2img_{name}") == []
    assert "留空" in str(page.one("#setting_depth2img_maps_folder").get_attribute("textContent"))
