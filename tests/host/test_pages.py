"""A real WebUI in headless Chromium, and what reloading, disabling and removing the extension leaves behind."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.host.conftest import DEPTH, PLAIN, Starter
from tests.host.server import Forge, WebUI

PATIENCE = 90.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1600,2400"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    os.environ["SE_OFFLINE"], os.environ["SE_AVOID_STATS"] = "true", "true"
    with Chrome(options=options, service=Service(shutil.which("chromedriver"))) as chrome:
        yield chrome


class Page:
    """The WebUI's page, in the words of its elements' ids."""

    def __init__(self, browser: Chrome, webui: WebUI) -> None:
        self.browser = browser
        browser.get(f"{webui.url}/?__theme=light")
        self.wait(lambda: self.find("#tab_img2img"))
        self.wait(lambda: self.find("#img2img_generate"))

    def find(self, selector: str) -> WebElement | None:
        found = self.browser.find_elements(By.CSS_SELECTOR, selector)
        return found[0] if found else None

    def element(self, selector: str) -> WebElement:
        found: WebElement = self.wait(lambda: self.find(selector))
        return found

    def wait(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if result := condition():
                return result
            time.sleep(0.2)
        raise AssertionError("the page did not get there in time")

    def click(self, selector: str) -> None:
        self.browser.execute_script("arguments[0].click()", self.element(selector))

    def open_tab(self, name: str) -> None:
        for button in self.browser.find_elements(By.CSS_SELECTOR, "#tabs > .tab-nav > button"):
            if button.text.strip().casefold() == name.casefold():
                button.click()

    def set_number(self, selector: str, value: float) -> None:
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
        self.browser.execute_script(script, self.element(f"{selector} input[type=number]"), value)

    def errors(self) -> list[str]:
        """What the console holds against this extension, and every exception, whoever's."""
        severe = [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
        return [message for message in severe if "favicon" not in message and "Failed to load resource" not in message]


@pytest.fixture
def page(browser: Chrome, webui: WebUI) -> Page:
    browser.get_log("browser")
    return Page(browser, webui)


def upload(page: Page, picture: Image.Image, folder: Path) -> None:
    path = folder / "picture.png"
    picture.save(path)
    page.element("#img2img_image input[type=file]").send_keys(str(path))
    page.wait(lambda: page.find("#img2img_image img, #img2img_image canvas"))


def test_img2img_in_the_tab(page: Page, webui: WebUI, photograph: Image.Image, tmp_path: Path) -> None:
    webui.post("/probe/reset")
    page.open_tab("img2img")
    upload(page, photograph, tmp_path)
    for selector, value in (("#img2img_steps", 2), ("#img2img_width", 128), ("#img2img_height", 128)):
        page.set_number(selector, value)
    page.click("#img2img_generate")
    page.wait(lambda: len(page.browser.find_elements(By.CSS_SELECTOR, "#img2img_gallery .grid-container button")) == 2)
    assert webui.records()["concat"].shape == (2, 1, 16, 16)
    assert page.errors() == []


def test_the_panel_says_what_is_loaded(page: Page, webui: WebUI) -> None:
    assert len(page.browser.find_elements(By.CSS_SELECTOR, "#depth2img_panel")) == 1
    page.wait(lambda: DEPTH in page.element("#depth2img_status").get_attribute("textContent"))


def test_gradio_writes_nothing_beside_our_components(page: Page, webui: WebUI) -> None:
    """gradio 4 describes a component in a ``.pyi`` file beside it, once the page is made."""
    assert page.find("#depth2img_panel")
    installed = webui.data / "extensions" / "depth2img" / "lib_depth2img"
    assert list(installed.rglob("*.py"))
    assert list(installed.rglob("*.pyi")) == []


def test_txt2img_says_why_not(page: Page) -> None:
    page.open_tab("txt2img")
    page.wait(lambda: page.element("#txt2img_generate").get_attribute("disabled"))
    # Whoever gets past the button all the same gets the sentence where the host shows errors.
    page.browser.execute_script("arguments[0].disabled = false", page.element("#txt2img_generate"))
    page.click("#txt2img_generate")
    error = page.wait(lambda: page.find("#html_log_txt2img .error"))
    assert "is a depth model" in error.get_attribute("textContent")
    assert page.errors() == []


def test_txt2img_is_free_again_with_another_model(browser: Chrome, webui: WebUI) -> None:
    webui.select(PLAIN)
    page = Page(browser, webui)
    page.open_tab("txt2img")
    page.wait(lambda: not page.element("#txt2img_generate").get_attribute("disabled"))


@pytest.fixture(scope="module")
def own(start: Starter) -> WebUI:
    return start("lifecycle", "--no-half")


class TestLifeCycle:
    def reload(self, browser: Chrome, webui: WebUI) -> dict[str, Any]:
        """What the button Reload UI does (ui_settings.py), and wait for what comes after it.

        Not by the button: with a page open, the bare host too may wait for ever for its connections to end.
        """
        browser.get("about:blank")
        starts = webui.started()
        webui.post("/probe/reload")
        webui.wait_until_up(starts + 1)
        return webui.state()

    def test_reloading_three_times_changes_nothing(self, browser: Chrome, own: WebUI, photograph: Image.Image) -> None:
        first = compared(own.state())
        assert first["titles"].count("Depth2Img") == 1
        for _ in range(3):
            assert compared(self.reload(browser, own)) == first
            assert own.img2img(photograph).status_code == 200
            assert own.records()["vae_encodes"] == 1
        page = Page(browser, own)
        assert len(page.browser.find_elements(By.CSS_SELECTOR, "#depth2img_panel")) == 1
        assert page.errors() == []

    def test_disabled_and_enabled_and_removed(
        self, browser: Chrome, own: WebUI, bare: WebUI, photograph: Image.Image
    ) -> None:
        without = compared(bare.state())
        with_it = compared(own.state())
        own.post("/sdapi/v1/options", disabled_extensions=["depth2img"])
        assert compared(self.reload(browser, own)) == without
        own.post("/sdapi/v1/options", disabled_extensions=[])
        assert compared(self.reload(browser, own)) == with_it
        assert own.post("/sdapi/v1/txt2img", prompt="a", steps=1).status_code == 422
        own.remove_extension()
        assert compared(self.reload(browser, own)) == without
        if isinstance(own, Forge):  # nine channels to a UNet of five
            assert own.img2img(photograph).status_code == 500
        else:
            assert own.img2img(photograph).status_code == 200
            assert own.records()["vae_encodes"] == 2
        assert own.post("/sdapi/v1/txt2img", prompt="a", steps=1).status_code == 500


def compared(state: dict[str, Any]) -> dict[str, Any]:
    """What must not change: all but what is a measurement or belongs to the checkpoint in memory."""
    volatile = ("rss", "models", "depth_class", "depth_dtypes", "depth_networks", "generation")
    return {name: value for name, value in state.items() if name not in volatile}
