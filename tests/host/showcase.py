"""What the extensions index shows, made with the small model: ``make showcase WEBUI_ROOT=…``.

The page of a real WebUI is driven through denoising strengths from 0.4 to 1.0, with depth and without it. Of this come
an animation and a picture of 1280x640. Sliders and pictures in them are photographs of the page; nothing is retouched.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import requests
from PIL import Image, ImageDraw, ImageFont

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from tests.host.panel_page import shown_in, type_into
from tests.host.screenshots import opened_page, parsed, started_webui
from tests.host.server import ROOT
from tests.webui.browser import Page, chromium

STRENGTHS = (0.4, 0.6, 0.8, 1.0)
ASSET = ROOT / "lib_depth2img" / "assets" / "demo-photograph.jpg"
PROMPT = "green wooden solids on a yellow table, golden light"  # as the command demo has it
SIDE, STEPS, CFG, SEED = 256, 20, 3, 1
ANIMATION, INDEX = "strengths.webp", "index.jpg"
MOST_BYTES = 3_000_000
PAPER, INK, QUIET = "#0b0f19", "#f3f4f6", "#9ca3af"  # of the host's dark theme


class Result(NamedTuple):
    """One generation: its strengths, the two sliders as the page shows them, and the picture."""

    denoising: float
    depth: bool
    sliders: tuple[Image.Image, Image.Image]
    picture: Image.Image


def main() -> None:
    """Generate, and write both."""
    arguments = parsed("Make what the extensions index shows with a real WebUI.", SMALL_CHECKPOINT)
    arguments.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        driver = chromium(Path(folder) / "chromium")
        try:
            with started_webui(Path(folder) / "webui", arguments) as webui:
                page = opened_page(driver, webui, "dark", 900)
                results = list(_results(page))
        finally:
            driver.quit()
    with Image.open(ASSET) as photograph:
        original = photograph.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    _write_animation(arguments.to / ANIMATION, original, results)
    _write_index(arguments.to / INDEX, original, results)


def _results(page: Page) -> Iterator[Result]:
    page.open()
    page.upload("img2img_image", ASSET)
    page.until(lambda: page.all("#img2img_image img, #img2img_image canvas"))
    type_into(page, "#img2img_prompt textarea", PROMPT)
    for name, value in (("steps", STEPS), ("width", SIDE), ("height", SIDE), ("cfg_scale", CFG)):
        _number(page, f"#img2img_{name} input[type=number]", value)
    _number(page, "#img2img_seed input", SEED)
    if page.one("#depth2img_append_depth_map input").is_selected():
        page.press("#depth2img_append_depth_map input")
    page.press("#depth2img_control > .label-wrap")
    page.until(lambda: page.seen("#depth2img_strength"))
    for depth in (True, False):
        page.slide("strength", 1.0 if depth else 0.0)
        for denoising in STRENGTHS:
            _number(page, "#img2img_denoising_strength input[type=number]", denoising)
            time.sleep(0.5)  # the sliders follow the numbers
            sliders = (_seen(page, "#img2img_denoising_strength"), _seen(page, "#depth2img_strength"))
            yield Result(denoising, depth, sliders, _generated(page))


def _number(page: Page, selector: str, value: float) -> None:
    page.driver.execute_script(
        "arguments[0].value = arguments[1];"
        "arguments[0].dispatchEvent(new Event('input', {bubbles: true}));"
        "arguments[0].dispatchEvent(new Event('blur'));",
        page.one(selector),
        value,
    )


def _generated(page: Page) -> Image.Image:
    before = shown_in(page, "img2img_gallery")
    page.press("#img2img_generate")
    (address,) = page.until(lambda: shown_in(page, "img2img_gallery") - before)
    return Image.open(io.BytesIO(requests.get(address, timeout=60).content)).convert("RGB")


def _seen(page: Page, selector: str) -> Image.Image:
    return Image.open(io.BytesIO(page.one(selector).screenshot_as_png)).convert("RGB")


def _font(size: int) -> ImageFont.FreeTypeFont:
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _write_animation(path: Path, original: Image.Image, results: list[Result]) -> None:
    """With depth and without it side by side, through the strengths and back."""
    pairs = list(zip(results[: len(STRENGTHS)], results[len(STRENGTHS) :], strict=True))
    frames = [_frame(original, *pair) for pair in pairs]
    path.unlink(missing_ok=True)
    back = frames[-2:0:-1]
    frames[0].save(path, save_all=True, append_images=[*frames[1:], *back], duration=1200, loop=0, quality=80)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}.")
    print(f"{path}: {len(frames)} frames of {frames[0].width}x{frames[0].height}, {path.stat().st_size:,} bytes")


def _frame(original: Image.Image, deep: Result, flat: Result) -> Image.Image:
    frame = Image.new("RGB", (960, 440), PAPER)
    draw = ImageDraw.Draw(frame)
    left = 16
    for title, picture, slider in (
        ("Init image", original, deep.sliders[0]),
        ("with depth", deep.picture, deep.sliders[1]),
        ("without", flat.picture, flat.sliders[1]),
    ):
        draw.text((left, 12), title, INK, _font(20))
        frame.paste(picture.resize((296, 296), Image.Resampling.LANCZOS), (left, 46))
        size = 296, round(296 * slider.height / slider.width)
        frame.paste(slider.resize(size, Image.Resampling.LANCZOS), (left, 356))
        left += 316
    return frame


def _write_index(path: Path, original: Image.Image, results: list[Result]) -> None:
    """1280x640: two rows, without depth and with it, and the strengths above."""
    sheet = Image.new("RGB", (1280, 640), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((40, 28), "Depth2Img", INK, _font(44))
    draw.text(
        (40, 88),
        "Stable Diffusion 2's depth model in the WebUI; these were made with the packaged model of 30 MB",
        QUIET,
        _font(22),
    )
    side, top = 216, 164
    sheet.paste(original.resize((side, side), Image.Resampling.LANCZOS), (40, top + 120))
    draw.text((40, top + 88), "init image", QUIET, _font(18))
    for column, denoising in enumerate(STRENGTHS):
        x = 352 + column * 228
        draw.text((x, top - 32), f"denoising {denoising:g}", QUIET, _font(18))
        for row, depth in enumerate((False, True)):
            (result,) = (each for each in results if each.denoising == denoising and each.depth == depth)
            picture = result.picture.resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(picture, (x, top + row * 228))
    for row, text in enumerate(("without", "with depth")):
        label = Image.new("RGB", (side, 24), PAPER)
        ImageDraw.Draw(label).text((0, 0), text, QUIET, _font(18))
        sheet.paste(label.rotate(90, expand=True), (316, top + row * 228))
    sheet.save(path, quality=90)
    print(f"{path}: {sheet.width}x{sheet.height}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
