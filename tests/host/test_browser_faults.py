"""What goes wrong in a real WebUI's page, and is said there: empty boxes, broken files, holes, estimators not here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.host.conftest import left_right
from tests.host.panel_page import infotext_of, shown_in, small_and_quick, type_into
from tests.host.server import WebUI, decode, encode
from tests.webui.browser import Page

ERROR = "#html_log_img2img .error"


@pytest.fixture
def picture(page: Page, tmp_path: Path, photograph: Image.Image) -> Path:
    """In the img2img tab, with two steps at 128x128."""
    path = tmp_path / "picture.png"
    photograph.resize((128, 128)).save(path)
    page.upload("img2img_image", path)
    page.until(lambda: page.all("#img2img_image img, #img2img_image canvas"))
    small_and_quick(page)
    return path


def refused(page: Page, webui: WebUI, *words: str) -> None:
    """Generate is answered on the page, before anything is sampled."""
    webui.post("/probe/reset")
    page.press("#img2img_generate")
    page.until(lambda: all(word in page.text(ERROR) for word in words))
    assert webui.records()["unet_calls"] == 0


@pytest.mark.usefixtures("picture")
def test_each_source_has_its_own_upload_and_an_empty_one_is_said(page: Page, webui: WebUI, tmp_path: Path):
    left_right((128, 128)).save(tmp_path / "map.png")
    page.choose("depth2img_source", "Depth map")
    page.until(lambda: page.seen("#depth2img_image"))
    page.upload("depth2img_image", tmp_path / "map.png")
    page.until(lambda: page.all("#depth2img_preview .depth2img-preview"))
    page.choose("depth2img_source", "Another picture")
    page.until(lambda: page.seen("#depth2img_picture") and not page.seen("#depth2img_image"))
    refused(page, webui, "Another picture: choose one in the Depth2Img panel")
    page.press("#depth2img_preview_button")
    page.until(lambda: "choose" in page.text("#depth2img_preview .depth2img-error"))


@pytest.mark.usefixtures("picture")
def test_the_holes_of_a_depth_camera_are_counted_and_the_farthest(page: Page, webui: WebUI, tmp_path: Path):
    """Millimetres of 16 bits with 0 where the camera saw nothing, in the far half and in the near one."""
    values = np.full((128, 128), 900, np.uint16)
    values[:, 64:] = 3000
    values[:, 16:32] = 0
    Image.fromarray(values).save(tmp_path / "camera.png")
    page.choose("depth2img_source", "Depth map")
    page.until(lambda: page.seen("#depth2img_meaning"))
    page.choose("depth2img_meaning", "far away")
    page.upload("depth2img_image", tmp_path / "camera.png")
    page.until(lambda: "Holes: 12.5%" in page.text("#depth2img_preview"))
    webui.post("/probe/reset")
    page.press("#img2img_generate")
    page.until(lambda: shown_in(page, "img2img_gallery"))
    concat = webui.records()["concat"][0, 0]
    assert (concat[:, [0, 1, 4, 5, 6, 7]] == 1).all(), "at 900 mm"
    assert (concat[:, [2, 3, *range(8, 16)]] == -1).all(), "at 3000 mm, and where nothing was measured"


@pytest.mark.usefixtures("picture")
def test_a_pasted_map_that_is_not_there_is_asked_for_in_the_panels_words(page: Page, webui: WebUI):
    text = "a house\nSteps: 2, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 128x128, Denoising strength: 1, "
    type_into(page, "#img2img_prompt textarea", f"{text}Depth2Img source: depth_map, Depth2Img image hash: 3fa9c1d2e4")
    page.press("#img2img_tools #paste")
    page.until(lambda: "sha256 begins with 3fa9c1d2e4" in page.text("#depth2img_note"))
    refused(page, webui, "Depth map: choose one in the Depth2Img panel")
    assert "image:" not in page.text(ERROR)


@pytest.mark.usefixtures("picture")
def test_a_plot_over_an_estimator_that_is_not_here_says_so(page: Page, webui: WebUI):
    page.choose_from("script_list", "X/Y/Z plot")
    page.choose_from("script_img2img_xyz_plot_x_type", "[Depth2Img] Estimator")
    page.press("#script_img2img_xyz_plot_csv_mode input")
    type_into(page, "#script_img2img_xyz_plot_x_values textarea", "checkpoint, dpt_large")
    refused(page, webui, "weights of dpt_large are not installed")


def batch(page: Page, pictures: Path, maps: Path, out: Path) -> None:
    page.tab("mode_img2img", "Batch")
    page.until(lambda: page.seen("#img2img_batch_source, #img2img_batch_input_dir"))
    if page.all("#img2img_batch_source"):
        page.tab("img2img_batch_source", "From directory")
    type_into(page, "#img2img_batch_input_dir textarea", str(pictures))
    type_into(page, "#img2img_batch_output_dir textarea", str(out))
    small_and_quick(page)
    page.press("#depth2img_batch > .label-wrap")
    type_into(page, "#depth2img_batch_folder textarea", str(maps))


@pytest.fixture
def folders(tmp_path: Path, photograph: Image.Image) -> tuple[Path, Path, Path]:
    """Pictures a/0001, b/0001 and c/0001, each with its own map in the same tree; an empty folder for the results."""
    pictures, maps, out = tmp_path / "pictures", tmp_path / "maps", tmp_path / "out"
    out.mkdir()
    for shot, flip in (("a", False), ("b", True), ("c", False)):
        for folder, picture in ((pictures, photograph.resize((128, 128))), (maps, left_right((128, 128)))):
            (folder / shot).mkdir(parents=True)
            (picture.rotate(180) if flip else picture).save(folder / shot / "0001.png")
    return pictures, maps, out


def damage(file: Path, how: str) -> None:
    if how == "empty":
        file.write_bytes(b"")
    else:
        colours = np.zeros((128, 128, 3), np.uint8)
        colours[:64, :, 0], colours[64:, :, 2] = 255, 255
        Image.fromarray(colours).save(file)


@pytest.mark.parametrize(
    ("folder", "how", "words"),
    [
        (0, "empty", "b/0001.png: passed over"),
        (1, "empty", "b/0001.png: estimated instead"),
        (1, "coloured", "b/0001.png: estimated instead"),
    ],
    ids=["picture of no bytes", "map of no bytes", "coloured map"],
)
@pytest.mark.parametrize("refuse", [False, True], ids=["go on", "refuse"])
def test_a_file_of_a_batch_that_cannot_be_used_is_named_on_the_page(
    page: Page, folders: tuple[Path, Path, Path], folder: int, how: str, words: str, refuse: bool
):
    out = folders[2]
    damage(folders[folder] / "b" / "0001.png", how)
    batch(page, *folders)
    if refuse:
        page.choose("depth2img_batch_missing", "Refuse the batch")
        page.press("#img2img_generate")
        page.until(lambda: "b/0001.png: " in page.text(ERROR))
        assert list(out.rglob("*.png")) == [], "before the first picture"
        return
    page.press("#img2img_generate")
    page.until(lambda: words in page.text("#img2img_results"))
    made = sorted(out.rglob("*.png"))
    used = ["Depth2Img source: depth_map" in infotext_of(path) for path in made]
    assert used.count(True) == 2, "the others are done with their maps"
    assert len(made) == (2 if folder == 0 else 3)


def test_a_map_whose_name_is_too_long_is_told_to_a_client(webui: WebUI, photograph: Image.Image):
    """The host cuts a picture's name to what its file system takes; ours has to fit beside it, or be missed aloud."""
    settings = {"samples_filename_pattern": "x" * 237, "samples_save": True, "save_to_dirs": False}
    before = set(webui.data.rglob("*-depth.png"))
    reply = webui.img2img(
        photograph.resize((128, 128)),
        depth2img={"save_depth_map": True},
        override_settings=settings,
        save_images=True,
    )
    assert reply.status_code == 200
    saved = set(webui.data.rglob("*-depth.png")) - before
    assert saved or "could not be saved" in reply.json()["info"]


def test_the_map_under_crop_covers_the_whole_picture(webui: WebUI, photograph: Image.Image):
    """It can be handed in again as it came."""
    mask = Image.new("L", (256, 256))
    mask.paste(255, (160, 160, 224, 224))
    reply = webui.img2img(
        photograph.resize((256, 256)),
        mask=encode(mask),
        inpaint_full_res=True,
        inpaint_full_res_padding=8,
        depth2img={"only_masked": "crop", "append_depth_map": True},
    )
    appended = np.asarray(decode(reply.json()["images"][-1]))
    assert appended.shape == (256, 256)
    assert not appended[:128, :128].any()
    assert appended[160:224, 160:224].any()
