"""Twelve frames in the Batch tab of a real WebUI: one range for all of them, and steady estimates."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.host.panel_page import infotext_of
from tests.host.test_browser_batch import Folders, open_batch
from tests.webui.browser import Page

FRAMES = 12


@pytest.fixture
def film(tmp_path: Path, unseen: Image.Image) -> Folders:
    """A picture that stands still with a little grain, and a bright square that goes over it; maps of it for each."""
    found = Folders(tmp_path / "pictures", tmp_path / "maps", tmp_path / "out")
    for folder in vars(found).values():
        folder.mkdir()
    rng = np.random.default_rng(0)
    still = np.asarray(unseen.convert("RGB").resize((128, 128)), np.float32)
    for number in range(FRAMES):
        shown = (still + rng.normal(0, 5, still.shape)).clip(0, 255).astype(np.uint8)
        depth = np.linspace(9000, 30000, 128 * 128).reshape(128, 128).astype(np.uint16)
        shown[90:120, 6 * number : 6 * number + 24] = (250, 240, 60)
        depth[90:120, 6 * number : 6 * number + 24] = 31000 + 2500 * number
        Image.fromarray(shown).save(found.pictures / f"{number:04d}.png")
        Image.fromarray(depth).save(found.maps / f"{number:04d}.png")
    return found


def made(page: Page, film: Folders, count: int) -> list[Path]:
    """The files of a batch that is through, in the order of their names."""
    page.press("#img2img_generate")
    page.until(lambda: len(list(film.out.iterdir())) == count and not page.seen("#img2img_interrupt"))
    return sorted(film.out.iterdir())


def values(infotexts: list[str], key: str) -> list[str]:
    return [found[1] if (found := re.search(rf"{key}: ([^,\n]*)", text)) else "" for text in infotexts]


def set_steadiness(page: Page, value: float) -> None:
    field = page.one("#depth2img_batch_steady input[type=number]")
    page.driver.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}));"
        "arguments[0].dispatchEvent(new Event('blur'));",
        field,
        value,
    )


def test_estimates_of_one_range_stand_still_where_nothing_moves(page: Page, film: Folders):
    page.patience = 240.0
    changes = []
    for one_range, steady in ((False, 0.0), (True, 0.9)):
        open_batch(page, film, maps=False)
        page.press("#depth2img_save_depth_map input")
        if one_range:
            page.choose("depth2img_batch_range", "One for all pictures")
            set_steadiness(page, steady)
        files = made(page, film, 2 * FRAMES)
        infotexts = [infotext_of(path) for path in files if not path.stem.endswith("-depth")]
        maps = [np.asarray(Image.open(path), np.float32) for path in files if path.stem.endswith("-depth")]
        changes.append(np.mean([np.abs(one - other)[:60].mean() for one, other in itertools.pairwise(maps)]))
        assert len(set(values(infotexts, "Depth2Img range"))) == 1
        assert set(values(infotexts, "Depth2Img steady")) == ({"0.9"} if one_range else {""})
        assert bool(values(infotexts, "Depth2Img range")[0]) == one_range
        for path in files:
            path.unlink()
        page.open()
    assert changes[1] < 0.3 * changes[0]


def test_maps_of_one_range_are_told_by_their_digests(page: Page, film: Folders):
    page.patience = 240.0
    open_batch(page, film)
    page.choose("depth2img_batch_range", "One for all pictures")
    infotexts = [infotext_of(path) for path in made(page, film, FRAMES)]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest()[:10] for path in sorted(film.maps.iterdir())]
    assert values(infotexts, "Depth2Img image hash") == digests
    low, high = 9000 / 65535, (31000 + 2500 * (FRAMES - 1)) / 65535
    (one,) = set(values(infotexts, "Depth2Img range"))
    assert [float(bound) for bound in one.split(" to ")] == pytest.approx([low, high], rel=1e-6)
