"""Which depth map goes with which picture, and how the Batch tab learns which picture it is at."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.errors import RequestError
from lib_depth2img.request.fields import FIELDS, PANEL_ORDER, Choice
from lib_depth2img.request.request import Depth2ImgRequest
from lib_depth2img.webui.hooks import batch
from lib_depth2img.webui.hooks.batch import MISSING, BatchOptions, BatchRun, MapFolder, current_run


def panel_values(**changes: object) -> list[object]:
    shown = {
        entry.name: entry.label_of(entry.default) if isinstance(entry, Choice) else entry.default for entry in FIELDS
    }
    values = {**shown, "picture": None, "batch_folder": "", "batch_missing": MISSING[0], **changes}
    return [values[name] for name in (*PANEL_ORDER, *batch.BATCH_ORDER)]


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def write_map(path: Path, level: int) -> None:
    Image.fromarray(np.full((4, 4), level, np.uint16)).save(path)


# --- pairing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "depth_map"),
    [
        ("a.png", "a.png"),
        ("a.jpg", "a.png"),
        ("a.png", "a_depth.png"),
        ("a.png", "a-depth.tif"),
        ("a.png", "a.depth.exr"),
        ("a.png", "a depth.png"),
        ("a.png", "a_depthmap.pfm"),
        ("a.png", "a_depth_map.npz"),
        ("a.png", "depth_a.png"),
        ("a.png", "a.npy"),
        ("A.PNG", "a_DEPTH.Png"),
        ("straße.png", "STRASSE_depth.png"),
        ("frame_0007.png", "frame_0007_depth.png"),
        ("frame_0007.png", "depth_0007.png"),
        ("frame_0007.png", "7.npy"),
        ("shot.0007.png", "map0007.exr"),
        ("depth_charge.png", "depth_charge.png"),
    ],
)
def test_a_picture_finds_its_map(tmp_path, picture, depth_map):
    folder = fill(tmp_path / "maps", depth_map, "other.png", "notes.txt", "zebra_0123.png")
    assert MapFolder(folder).partner(tmp_path / picture) == folder / depth_map


@pytest.mark.parametrize(
    ("picture", "maps"),
    [
        ("a.png", []),
        ("a.png", ["ab.png", "b_depth.png", "a.txt"]),
        ("a_2.png", ["b_2.png", "c_2.png"]),
        ("a.png", ["1.png"]),
        ("in_depth.png", ["in.png"]),
    ],
)
def test_a_picture_without_its_map_finds_none(tmp_path, picture, maps):
    assert MapFolder(fill(tmp_path / "maps", *maps)).partner(tmp_path / picture) is None


@pytest.mark.parametrize(
    ("maps", "best"),
    [
        (["a_depth.npy", "a.png"], "a.png"),
        (["a.png", "a.npy", "a.jpg"], "a.npy"),
        (["a_depth.png", "a_depth.exr", "depth_a.tif"], "a_depth.exr"),
        (["b_1.png", "a_1.png"], "a_1.png"),
    ],
)
def test_of_several_maps_the_nearest_name_counts_then_the_deepest_kind(tmp_path, maps, best):
    folder = fill(tmp_path / "maps", *maps)
    assert MapFolder(folder).partner(tmp_path / ("a_1.png" if "1" in best else "a.png")) == folder / best


def test_in_the_pictures_own_folder_a_picture_is_no_map(tmp_path):
    folder = fill(tmp_path / "all", "a.png", "a_depth.png", "b.png", "b.jpg", "c.png", "c.npy", "x_1.png", "y_1.png")
    maps = MapFolder(folder)
    assert maps.partner(folder / "a.png") == folder / "a_depth.png"
    assert maps.partner(folder / "b.png") is None
    assert maps.partner(folder / "c.png") == folder / "c.npy"
    assert maps.partner(folder / "x_1.png") is None


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RequestError, match="cannot be read: No such file"):
        MapFolder(tmp_path / "no")


# --- one run ---------------------------------------------------------------------------------------------------------


def test_options_come_from_the_panel():
    assert BatchOptions.from_panel(panel_values()) == BatchOptions()
    assert BatchOptions.from_panel(panel_values(batch_folder="  ")) == BatchOptions()
    assert BatchOptions.from_panel(panel_values(batch_folder=' "/maps" ')) == BatchOptions(Path("/maps"))
    options = BatchOptions.from_panel(panel_values(batch_folder="/maps", batch_missing=MISSING[1]))
    assert options == BatchOptions(Path("/maps"), refuse_missing=True)


@pytest.mark.parametrize("values", [[], [True], panel_values(enabled=False, batch_folder="/maps"), [{"far": 0.1}]])
def test_without_a_panel_that_is_on_nothing_is_paired(values):
    assert BatchOptions.from_panel(values).folder is None


def test_the_request_has_the_current_pictures_map(tmp_path):
    folder = fill(tmp_path / "maps")
    for level, name in ((1000, "a.png"), (60000, "b_depth.png")):
        write_map(folder / name, level)
    run = BatchRun(BatchOptions(folder), [tmp_path / "a.png", str(tmp_path / "b.png"), tmp_path / "c.png"])
    values = panel_values(far=0.1, source="Another picture", picture=Image.new("RGB", (2, 2)))
    found = []
    for name in "abc":
        run.reading(str(tmp_path / f"{name}.png"))
        request = run.request(values)
        assert request.far == 0.1
        level = request.image and round(float(request.image.content.values.max()) * 65535)
        found.append((request.source, level, run.remark is not None))
        run.request(values)  # once more, as X/Y/Z does
    assert found == [("depth_map", 1000, False), ("depth_map", 60000, False), ("init_image", None, True)]
    assert run.remark == f"No depth map in {folder} for c.png: estimated."


def test_only_the_batchs_own_pictures_move_it_on(tmp_path):
    run = BatchRun(BatchOptions(fill(tmp_path / "maps")), [tmp_path / "a.png"])
    run.reading(tmp_path / "mask.png")
    run.reading(io.BytesIO(b""))
    assert run.current is None
    assert run.remark is None
    run.reading(str(tmp_path / "a.png"))
    run.reading(str(tmp_path / "mask.png"))
    assert run.current == tmp_path / "a.png"


def test_refusing_says_so_before_the_first_picture(tmp_path):
    folder = fill(tmp_path / "maps", "p0.png")
    pictures = [tmp_path / f"p{index}.png" for index in range(9)]
    with pytest.raises(RequestError, match=r"No depth map in .*maps for p1\.png, .*p5\.png and 3 more\."):
        BatchRun(BatchOptions(folder, refuse_missing=True), pictures)
    BatchRun(BatchOptions(folder, refuse_missing=True), pictures[:1])


def test_a_map_that_is_no_map_is_refused_with_its_name(tmp_path):
    folder = fill(tmp_path / "maps", "a.png")
    run = BatchRun(BatchOptions(folder), [tmp_path / "a.png"])
    run.reading(tmp_path / "a.png")
    with pytest.raises(RequestError, match=r"^image: "):
        run.request(panel_values())
    (folder / "a.png").unlink()
    with pytest.raises(RequestError, match=r"a\.png cannot be read: No such file"):
        run.request(panel_values())


# --- the host's process_batch ----------------------------------------------------------------------------------------


class HostImages(types.ModuleType):
    """modules/images.py:read: opens and drops the name."""

    def read(self, file: object) -> str:
        return f"picture {Path(str(file)).name}"

    def other(self) -> str:
        return "untouched"


@pytest.fixture
def webui(monkeypatch, tmp_path):
    """modules/img2img.py:18-160 and the little of modules.* that it and the wrapper stand on."""
    seen: list[tuple[str | None, Depth2ImgRequest | None]] = []
    img2img = types.ModuleType("modules.img2img")
    img2img.images = HostImages("modules.images")

    def process_batch(p, source, output_dir="", inpaint_mask_dir="", args=(), **_settings):
        files = walk_files(source) if isinstance(source, str) else [str(Path(file.name)) for file in source]
        for file in list(files):
            img2img.images.read(file)
            img2img.images.read(str(tmp_path / "mask.png"))
            run = current_run(p)
            seen.append((run and run.current and run.current.name, run and run.request(p.script_args[1:])))
            if "boom" in file:
                raise ValueError("boom")
        return SimpleNamespace(comments="of the first picture\n") if seen else None

    def walk_files(folder, allowed_extensions=batch.PICTURES):
        return (str(path) for path in sorted(Path(folder).iterdir()) if path.suffix in allowed_extensions)

    img2img.process_batch = process_batch
    host = batch.host
    state = SimpleNamespace(depth=True, flags=SimpleNamespace(hide_ui_dir_config=False))
    monkeypatch.setattr(host, "patch", lambda owner, name, make: setattr(owner, name, make(getattr(owner, name))))
    monkeypatch.setattr(host, "loaded_model", lambda: "model")
    monkeypatch.setattr(host, "is_depth_model", lambda _model: state.depth)
    monkeypatch.setattr(host, "command_line", lambda: state.flags)
    package = types.ModuleType("modules")
    package.img2img, package.util = img2img, SimpleNamespace(walk_files=walk_files)
    monkeypatch.setitem(sys.modules, "modules", package)
    batch.hook(lambda p: p.script_args[1:])
    return SimpleNamespace(img2img=img2img, seen=seen, state=state)


def processing(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(script_args=(0, *panel_values(**changes)), override_settings={})


@pytest.fixture
def folders(tmp_path):
    pictures, maps = fill(tmp_path / "pictures", "a.png", "b.png"), fill(tmp_path / "maps")
    write_map(maps / "a.png", 1000)
    return pictures, maps


def test_every_picture_of_the_batch_meets_its_map(webui, folders):
    pictures, maps = folders
    p = processing(batch_folder=str(maps))
    processed = webui.img2img.process_batch(p, str(pictures), "out", "", ())
    assert processed.comments == f"of the first picture\nNo depth map in {maps} for b.png: estimated.\n"
    assert [(name, request.source) for name, request in webui.seen] == [("a.png", "depth_map"), ("b.png", "init_image")]


def test_an_empty_batch_has_nothing_to_say(webui, folders):
    empty = fill(folders[0].parent / "empty")
    assert webui.img2img.process_batch(processing(batch_folder=str(folders[1])), str(empty)) is None


def test_uploaded_pictures_are_paired_too(webui, folders):
    pictures, maps = folders
    uploads = [SimpleNamespace(name=str(pictures / name)) for name in ("b.png", "a.png")]
    webui.img2img.process_batch(processing(batch_folder=str(maps)), uploads)
    assert [(name, request.source) for name, request in webui.seen] == [("b.png", "init_image"), ("a.png", "depth_map")]


def test_the_hosts_images_are_watched_only_during_the_batch(webui, folders):
    pictures, maps = folders
    images = webui.img2img.images
    fill(pictures, "boom.png")
    with pytest.raises(ValueError, match="boom"):
        webui.img2img.process_batch(processing(batch_folder=str(maps)), str(pictures))
    assert webui.img2img.images is images
    watched = batch._WatchedImages(images, SimpleNamespace(reading=lambda file: None))
    assert watched.other() == "untouched"


@pytest.mark.parametrize("changes", [{}, {"enabled": False, "batch_folder": "/nowhere"}])
def test_without_a_folder_the_batch_is_the_hosts_own(webui, folders, changes):
    webui.img2img.process_batch(processing(**changes), str(folders[0]))
    assert webui.seen == [(None, None), (None, None)]


def test_the_batch_of_another_model_is_left_alone(webui, folders):
    webui.state.depth = False
    values = {"batch_folder": "/nowhere", "batch_missing": MISSING[1]}
    webui.img2img.process_batch(processing(**values), str(folders[0]))
    assert webui.seen == [(None, None), (None, None)]


def test_a_depth_model_that_comes_by_an_override_is_paired(webui, folders):
    webui.state.depth = False
    p = processing(batch_folder=str(folders[1]))
    p.override_settings["sd_model_checkpoint"] = "depth"
    webui.img2img.process_batch(p, str(folders[0]))
    assert webui.seen[0][1].source == "depth_map"


def test_missing_maps_are_refused_before_any_work(webui, folders):
    values = {"batch_folder": str(folders[1]), "batch_missing": MISSING[1]}
    with pytest.raises(RequestError, match=r"for b\.png\."):
        webui.img2img.process_batch(processing(**values), str(folders[0]))
    assert webui.seen == []


def test_no_folder_is_opened_where_the_host_opens_none(webui, folders):
    webui.state.flags.hide_ui_dir_config = True
    with pytest.raises(RequestError, match="--hide-ui-dir-config"):
        webui.img2img.process_batch(processing(batch_folder=str(folders[1])), str(folders[0]))
    assert webui.seen == []


def test_the_wrapper_keeps_the_hosts_name(webui):
    assert webui.img2img.process_batch.__name__ == "process_batch"
