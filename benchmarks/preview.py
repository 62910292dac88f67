"""How soon the preview answers to a slider, and where the time goes.

``python benchmarks/preview.py`` prints milliseconds, the best and the median of 15 moves, against the 150 that were
promised at 512x512: the handler alone; then in headless Chromium, by the page's own clock, the request for the
preview, and all from the move of the slider until both pictures are drawn. An estimate has MiDaS's grid of 384x384 for
a picture of any size; a depth map of one's own comes in its full size, and is reduced to 512 once. The page is plain
gradio.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from skimage import data

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from lib_depth2img.depth.adjust import Adjustments  # noqa: E402
from lib_depth2img.depth.depth_map import DepthMap  # noqa: E402
from lib_depth2img.webui.ui.preview_map import PreviewMap, render  # noqa: E402

if TYPE_CHECKING:
    from tests.webui.browser import Page

BOUND = 150
BLURS = (0.0, 8.0, 12.0, 64.0)
"""12 is the widest that is blurred at full size, and so the slowest, in a map that is not reduced."""


def main() -> None:
    """Print all three."""
    print(f"The preview's answer to a slider in ms, of {BOUND}: the best of the moves, and the median.")
    for name, preview_map in _maps().items():
        for blur in BLURS:
            print(f"handler, {name}, blur {blur:g}: {_of(_handler(preview_map, blur))}")
    with tempfile.TemporaryDirectory() as folder:
        _through_the_page(Path(folder))


def _maps() -> dict[str, PreviewMap]:
    """Reduced once, when the map comes in; that is not part of a slider's move."""
    picture = Image.fromarray(data.astronaut()).convert("L")
    estimate = DepthMap(np.asarray(picture.resize((384, 384)), np.float32), unit=False)
    found = {f"estimate of {side}x{side}": PreviewMap.of(estimate, (side, side)) for side in (512, 2048)}
    for side in (512, 2048):
        own = np.asarray(picture.resize((side, side), Image.BICUBIC), np.float32) / 255
        found[f"map of {side}x{side}"] = PreviewMap.of(DepthMap(own, unit=True))
    return found


def _handler(preview_map: PreviewMap, blur: float) -> list[float]:
    def move(far: float) -> None:
        render(preview_map, Adjustments(far, 0.9, 1.3, blur, invert=True)).to_html()

    return _timed(move)


def _timed(move: Callable[[float], object]) -> list[float]:
    """Milliseconds of each of 15 moves, after one that does not count."""
    times = []
    for number in range(16):
        start = time.perf_counter()
        move(0.01 * number)
        times.append((time.perf_counter() - start) * 1000)
    return times[1:]


def _through_the_page(folder: Path) -> None:
    from tests.webui.browser import Page, chromium, run_panel_scripts
    from tests.webui.page import StubServices, served

    services = StubServices()
    picture = folder / "picture.png"
    Image.fromarray(data.astronaut()).save(picture)
    driver = chromium(folder / "chromium")
    try:
        run_panel_scripts(driver)
        with served(services) as url:
            page = Page(driver, url, services)
            page.open()
            page.upload("img2img_image", picture)
            page.until(lambda: page.all("#img2img_image img"))
            page.press("#depth2img_preview_button")
            page.until(lambda: page.all("#depth2img_preview .depth2img-numbers"))
            for blur in BLURS:
                _page_moves(page, blur)
    finally:
        driver.quit()


def _page_moves(page: Page, blur: float) -> None:
    if blur:
        page.answer("blur", blur)
    answers = [page.answer("far", 0.01 * (number + 1)) for number in range(16)][1:]
    requested, drawn = (_of([getattr(answer, name) for answer in answers]) for name in ("request", "drawn"))
    print(f"page, map of 512x512, blur {blur:g}: request {requested}, drawn {drawn}")


def _of(times: list[float]) -> str:
    return f"{min(times):.0f} ({statistics.median(times):.0f})"


if __name__ == "__main__":
    main()
