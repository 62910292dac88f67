"""The img2img Batch tab of a real WebUI: folders and uploads, paired with depth maps or estimated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome

from tests.host.conftest import Starter, left_right
from tests.host.panel_page import infotext_of, small_and_quick, type_into
from tests.host.server import WebUI
from tests.webui.browser import Page


@dataclass
class Folders:
    pictures: Path
    maps: Path
    out: Path


@pytest.fixture
def folders(tmp_path: Path, unseen: Image.Image) -> Folders:
    """The pictures a and b, of which only a has a map."""
    found = Folders(tmp_path / "pictures", tmp_path / "maps", tmp_path / "out")
    for folder in vars(found).values():
        folder.mkdir()
    for name, turned in (("a", 0), ("b", 180)):
        unseen.rotate(turned).save(found.pictures / f"{name}.png")
    left_right((128, 128)).save(found.maps / "a_depth.png")
    return found


def open_batch(page: Page, folders: Folders, *, maps: bool = True, upload: bool = False) -> None:
    page.tab("mode_img2img", "Batch")
    page.until(lambda: page.seen("#img2img_batch_source, #img2img_batch_input_dir"))
    if upload:
        page.tab("img2img_batch_source", "Upload")
        names = sorted(folders.pictures.iterdir())
        page.one("#img2img_batch_upload input[type=file]").send_keys("\n".join(map(str, names)))
        # gradio 4 writes a file's name in two pieces.
        page.until(lambda: all(path.name in "".join(page.text("#img2img_batch_upload").split()) for path in names))
    else:
        if page.all("#img2img_batch_source"):  # reForge has nothing to choose from
            page.tab("img2img_batch_source", "From directory")
        type_into(page, "#img2img_batch_input_dir textarea", str(folders.pictures))
        type_into(page, "#img2img_batch_output_dir textarea", str(folders.out))
    small_and_quick(page)
    page.press("#depth2img_batch > .label-wrap")
    if maps:
        type_into(page, "#depth2img_batch_folder textarea", str(folders.maps))


UPLOAD = pytest.param(True, marks=pytest.mark.not_on("ReForge", "its Batch tab takes no uploads"))


@pytest.mark.parametrize("upload", [False, UPLOAD], ids=["folder", "upload"])
def test_pictures_meet_their_maps_and_the_rest_is_estimated_and_said_so(
    page: Page, webui: WebUI, folders: Folders, upload: bool
):
    out = webui.data / "outputs" / "img2img-images" if upload else folders.out
    before = set(out.rglob("*.png"))
    open_batch(page, folders, upload=upload)
    page.press("#img2img_generate")
    page.until(lambda: f"No depth map in {folders.maps} for b.png: estimated." in page.text("#img2img_results"))
    made = sorted(set(out.rglob("*.png")) - before, key=lambda path: path.name)
    first, second = map(infotext_of, made)
    assert "Depth2Img source: depth_map" in first
    assert "Depth2Img image hash: " in first
    assert "Depth2Img" not in second


def test_the_first_run_after_the_start_meets_its_maps(driver: Chrome, start: Starter, folders: Folders):
    """Before the host has loaded the checkpoint that is selected."""
    webui = start("fresh", "--no-half")
    page = Page(driver, webui.url, patience=120.0)
    page.open()
    open_batch(page, folders)
    page.press("#img2img_generate")
    page.until(lambda: "for b.png: estimated." in page.text("#img2img_results"))
    first, _second = sorted(folders.out.iterdir(), key=lambda path: path.name)
    assert "Depth2Img source: depth_map" in infotext_of(first)
    webui.stop()


def test_a_missing_map_is_refused_before_the_first_picture(page: Page, folders: Folders):
    open_batch(page, folders)
    page.choose("depth2img_batch_missing", "Refuse the batch")
    page.press("#img2img_generate")
    page.until(lambda: "No depth map in" in page.text("#html_log_img2img .error"))
    assert "for b.png" in page.text("#html_log_img2img .error")
    assert list(folders.out.iterdir()) == []


def test_a_repeated_batch_estimates_nothing_and_has_the_same_maps(page: Page, webui: WebUI, folders: Folders):
    open_batch(page, folders, maps=False)
    page.press("#depth2img_save_depth_map input")
    estimated, maps = [], []
    for prompt in ("a house", "a house", "a lighthouse, at night"):
        type_into(page, "#img2img_prompt textarea", prompt)
        before = set(folders.out.iterdir())
        webui.post("/probe/reset")
        page.press("#img2img_generate")
        made = page.until(lambda before=before: _finished(page, set(folders.out.iterdir()) - before))
        estimated.append(webui.records()["depth_inputs"])
        pictures = [path for path in made if not path.stem.endswith("-depth")]
        maps.append([np.asarray(Image.open(path.with_stem(f"{path.stem}-depth"))) for path in pictures])
        assert [infotext_of(path).splitlines()[0] for path in pictures] == [prompt, prompt]
    assert estimated == [2, 0, 0]
    assert (maps[0][0] != maps[0][1]).any(), "two pictures, two maps"
    assert all((again == first).all() for later in maps[1:] for again, first in zip(later, maps[0], strict=True))


def _finished(page: Page, made: set[Path]) -> list[Path]:
    """The files of two pictures and their maps in the order of their names, once Generate can be pressed again."""
    return sorted(made) if len(made) == 4 and not page.seen("#img2img_interrupt") else []
