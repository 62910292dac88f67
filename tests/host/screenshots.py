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
from skimage import data

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from tests import small_checkpoint as small
from tests.host.server import ROOT, WebUI, webui_class
from tests.webui.browser import Page, chromium

FOLDER = ROOT / "docs" / "pictures"
MOST_BYTES = 300_000
MARGIN = 6

_RECTANGLE = "const edge = arguments[0].getBoundingClientRect(); return [edge.left, edge.top, edge.right, edge.bottom];"
_FADES = "*, *::before, *::after { transition: none !important; animation: none !important; }"


def main() -> None:
    """Take all pictures."""
    arguments = _parsed()
    arguments.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, _webui(Path(folder), arguments) as webui:
        driver = chromium(Path(folder) / "chromium")
        try:
            driver.set_window_size(1280, 2400)
            page = Page(driver, f"{webui.url}/?__theme=light", patience=300.0)
            _panel(page, _photograph(Path(folder)), arguments.to)
            _txt2img(page, arguments.to)
        finally:
            driver.quit()


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Remake the README's screenshots with a real WebUI.")
    parser.add_argument("--root", type=Path, default=os.environ.get("WEBUI_ROOT"), help="default: $WEBUI_ROOT")
    parser.add_argument("--python", type=Path, default=os.environ.get("WEBUI_PYTHON"), help="default: that of its venv")
    parser.add_argument("--checkpoint", type=Path, default=SMALL_CHECKPOINT, help="default: the small one")
    parser.add_argument("--to", type=Path, default=FOLDER, help="default: docs/pictures")
    arguments = parser.parse_args()
    if not arguments.root or not (arguments.root / "launch.py").is_file():
        parser.error(f"WEBUI_ROOT has to name a stable-diffusion-webui folder; it is {str(arguments.root)!r}.")
    if not arguments.checkpoint.is_file():
        parser.error(f"There is no {arguments.checkpoint}; name a depth model with --checkpoint.")
    return arguments


@contextmanager
def _webui(folder: Path, arguments: argparse.Namespace) -> Iterator[WebUI]:
    python = arguments.python or arguments.root / "venv" / "bin" / "python"
    data_folder = folder / "webui"
    data_folder.mkdir()
    webui = webui_class(arguments.root)(data_folder, root=arguments.root, python=python)
    small.register_clip(folder)
    webui.bring_probe(folder / f"{small.CLIP_ARCHITECTURE}.json")
    webui.add_checkpoint(arguments.checkpoint.resolve())
    webui.link_extension()
    webui.write_settings(sd_model_checkpoint=arguments.checkpoint.name)
    try:
        webui.start("--no-half")
        yield webui
    finally:
        webui.stop()


def _photograph(folder: Path) -> Path:
    path = folder / "coffee.png"
    Image.fromarray(data.coffee()[:, 100:500]).resize((256, 256), Image.Resampling.LANCZOS).save(path)
    return path


def _panel(page: Page, photograph: Path, folder: Path) -> None:
    """The panel as it opens, and its preview with the levels moved."""
    page.open()
    page.driver.execute_script(
        "document.head.appendChild(document.createElement('style')).textContent = arguments[0]", _FADES
    )
    page.upload("img2img_image", photograph)
    page.until(lambda: page.all("#img2img_image img, #img2img_image canvas"))
    _take(folder / "panel.png", page, "#depth2img_panel")
    page.press("#depth2img_preview_button")
    page.until(lambda: "Far" in page.text("#depth2img_preview .depth2img-numbers"))
    page.slide("far", 0.3)
    page.slide("gamma", 1.5)
    page.until(lambda: page.one("#depth2img_preview svg rect").get_attribute("width") == "30.00")
    _take(folder / "preview.png", page, "#depth2img_preview")


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
