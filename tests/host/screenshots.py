"""The README's pictures of the real panel, remade: ``make screenshots WEBUI_ROOT=/path/to/stable-diffusion-webui``.

``python -m tests.host.screenshots --root FORGE --to FOLDER`` takes those of another host.

A WebUI is started with the small checkpoint, driven in headless Chromium as a user would, and stopped again. What is
photographed is what it shows, and nothing is retouched.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome
from skimage import data

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from tests import small_checkpoint as small
from tests.host.server import ROOT, WebUI, webui_class
from tests.webui.browser import Page, chromium
from tests.webui.editor_page import Editor

FOLDER = ROOT / "docs" / "pictures"
MOST_BYTES = 300_000
MARGIN = 6

_RECTANGLE = "const edge = arguments[0].getBoundingClientRect(); return [edge.left, edge.top, edge.right, edge.bottom];"
_FADES = "*, *::before, *::after { transition: none !important; animation: none !important; }"


def main() -> None:
    """Take all pictures."""
    arguments = parsed("Remake the README's screenshots with a real WebUI.", SMALL_CHECKPOINT)
    arguments.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        driver = chromium(Path(folder) / "chromium")
        photograph = _photograph(Path(folder))
        try:
            with started_webui(Path(folder) / "english", arguments) as webui:
                page = opened_page(driver, webui, "light", 1280)
                _panel(page, photograph, arguments.to)
                _editor(page, arguments.to)
                _txt2img(page, arguments.to)
                _open(opened_page(driver, webui, "dark", 480), photograph)
                _take(arguments.to / "panel-dark.png", page, "#depth2img_panel")
            with started_webui(Path(folder) / "chinese", arguments, localization="zh_CN") as webui:
                page = opened_page(driver, webui, "light", 1280)
                _open(page, photograph)
                _take(arguments.to / "panel-zh.png", page, "#depth2img_panel")
        finally:
            driver.quit()


def parsed(description: str, checkpoint: Path) -> argparse.Namespace:
    """Which WebUI, which depth model, and where pictures go."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=Path, default=os.environ.get("WEBUI_ROOT"), help="default: $WEBUI_ROOT")
    parser.add_argument("--python", type=Path, default=os.environ.get("WEBUI_PYTHON"), help="default: that of its venv")
    parser.add_argument("--checkpoint", type=Path, default=checkpoint, help="default: the small one")
    parser.add_argument("--to", type=Path, default=FOLDER, help="default: docs/pictures")
    arguments = parser.parse_args()
    if not arguments.root or not (arguments.root / "launch.py").is_file():
        parser.error(f"WEBUI_ROOT has to name a stable-diffusion-webui folder; it is {str(arguments.root)!r}.")
    if not arguments.checkpoint.is_file():
        parser.error(f"There is no {arguments.checkpoint}; name a depth model with --checkpoint.")
    return arguments


def opened_page(driver: Chrome, webui: WebUI, theme: str, width: int) -> Page:
    """The page in a window of that width, which a real one cannot always be made as narrow as."""
    size = {"width": width, "height": 2600, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return Page(driver, f"{webui.url}/?__theme={theme}", patience=300.0)


@contextmanager
def started_webui(folder: Path, arguments: argparse.Namespace, **settings: str) -> Iterator[WebUI]:
    """A WebUI with this extension and that depth model, stopped at the end."""
    python = arguments.python or arguments.root / "venv" / "bin" / "python"
    data_folder = folder / "webui"
    data_folder.mkdir(parents=True)
    webui = webui_class(arguments.root)(data_folder, root=arguments.root, python=python)
    small.register_clip(folder.parent)  # where it stays for a second WebUI
    webui.bring_probe(folder.parent / f"{small.CLIP_ARCHITECTURE}.json")
    webui.add_checkpoint(arguments.checkpoint.resolve())
    webui.link_extension()
    webui.write_settings(sd_model_checkpoint=arguments.checkpoint.name, **settings)
    try:
        webui.start("--no-half")
        yield webui
    finally:
        webui.stop()


def _photograph(folder: Path) -> Path:
    path = folder / "coffee.png"
    Image.fromarray(data.coffee()[:, 100:500]).resize((256, 256), Image.Resampling.LANCZOS).save(path)
    return path


def _open(page: Page, photograph: Path) -> None:
    """The panel with the preview of a photograph. The tabs may be called anything."""
    page.open(panel=False)
    page.driver.execute_script(
        "document.head.appendChild(document.createElement('style')).textContent = arguments[0]", _FADES
    )
    page.driver.execute_script("switch_to_img2img()")
    page.press("#depth2img_panel > .label-wrap")
    page.until(lambda: page.seen("#depth2img_source"))
    page.upload("img2img_image", photograph)
    page.until(lambda: page.all("#img2img_image img, #img2img_image canvas"))
    page.press("#depth2img_preview_button")
    page.until(lambda: page.all("#depth2img_preview .depth2img-numbers"))
    page.slide("far", 0.3)
    page.slide("gamma", 1.5)
    page.until(lambda: page.one("#depth2img_preview svg rect").get_attribute("width") == "30.00")


def _panel(page: Page, photograph: Path, folder: Path) -> None:
    """The panel with its preview, the levels moved."""
    _open(page, photograph)
    _take(folder / "panel.png", page, "#depth2img_panel")
    _take(folder / "preview.png", page, "#depth2img_preview")


def _editor(page: Page, folder: Path) -> None:
    """The depth editor with a few strokes."""
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 820, "deviceScaleFactor": 1, "mobile": False}
    )
    editor = Editor(page).open()
    editor.choose("flatten")
    editor.drag((0.92, 0.3))
    editor.choose("set", size=0.14, softness=0.3, value=0.9)
    editor.drag((0.15, 0.12), (0.3, 0.2), (0.45, 0.12))
    editor.strokes(2)
    _take(folder / "editor.png", page, "#depth2img_editor")
    editor.press("leave")
    page.driver.switch_to.alert.accept()


def _txt2img(page: Page, folder: Path) -> None:
    """Generate is off and a line says why."""
    page.tab("tabs", "txt2img")
    page.until(lambda: page.seen("#depth2img_txt2img_notice"))
    _take(folder / "txt2img.png", page, "#txt2img_prompt", "#depth2img_txt2img_notice", "#txt2img_generate")


def _take(path: Path, page: Page, *selectors: str) -> None:
    """Photograph the smallest rectangle around the first elements of these selectors."""
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", page.one(selectors[0]))
    edges = [page.driver.execute_script(_RECTANGLE, page.one(selector)) for selector in selectors]
    left, top = (max(0, round(min(edge[i] for edge in edges)) - MARGIN) for i in (0, 1))
    right, bottom = (round(max(edge[i] for edge in edges)) + MARGIN for i in (2, 3))
    window = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
    shot = window.crop((left, top, min(right, window.width), min(bottom, window.height)))
    shot.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}.")
    print(f"{path}: {shot.width}x{shot.height}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
