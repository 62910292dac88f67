"""How the Batch tab learns which picture it is at, and which map goes with it."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.errors import RequestError
from lib_depth2img.estimators.detail import AS_TRAINED, Detail
from lib_depth2img.request.fields import FIELDS
from lib_depth2img.request.kinds import Choice
from lib_depth2img.request.panel import BATCH_ORDER, BATCH_RANGES, MISSING, PANEL_ORDER, BatchOptions, script_values
from lib_depth2img.request.request import Depth2ImgRequest
from lib_depth2img.webui.hooks import batch, sequence
from lib_depth2img.webui.hooks.batch import BatchRun, picture_values
from lib_depth2img.webui.hosts import Selected
from lib_depth2img.webui.hosts.a1111 import _WatchedImages
from tests.sequences.folders import fill


def panel_values(**changes: object) -> list[object]:
    shown = {
        entry.name: entry.label_of(entry.default) if isinstance(entry, Choice) else entry.default for entry in FIELDS
    }
    values = {**shown, "picture": None, "batch_folder": "", "batch_missing": MISSING[0]}
    values |= {"batch_range": BATCH_RANGES[0], "batch_steady": 0.0, **changes}
    return [values[name] for name in (*PANEL_ORDER, *BATCH_ORDER)]


def request_of(values: list[object], run: BatchRun) -> Depth2ImgRequest:
    """As the script puts them together."""
    return Depth2ImgRequest.from_mapping(script_values(values) | run.values())


def write_map(path: Path, level: int) -> None:
    Image.fromarray(np.full((4, 4), level, np.uint16)).save(path)


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
        request = request_of(values, run)
        assert request.far == 0.1
        level = request.image and round(float(request.image.content.values.max()) * 65535)
        found.append((request.source, level, run.remark is not None))
        request_of(values, run)  # once more, as X/Y/Z does
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
    write_map(folder / "p0.png", 7)
    write_map(pictures[0], 7)
    BatchRun(BatchOptions(folder, refuse_missing=True), pictures[:1])


class TestAClip:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        folder = fill(tmp_path / "maps")
        clip = np.full((3, 4, 6), np.arange(3)[:, None, None], np.float32)
        clip[:, 0, 0] += 10
        clip[1, 0] = np.nan
        clip[2] = np.nan
        np.savez_compressed(folder / "clip.npz", depths=clip)
        return folder

    def test_gives_each_picture_its_map(self, tmp_path, folder):
        pictures = [tmp_path / f"{n}.png" for n in range(3)]
        run = BatchRun(BatchOptions(folder), pictures)
        assert "clip.npz holds 3 maps, as many as there are pictures" in run.announcement
        for number, picture in enumerate(pictures[:2]):
            run.reading(picture)
            assert run.values()["image"].content.values[3, 3] == number
        assert run.values("distance")["image"].content.values[3, 3] == 1.0
        run.reading(pictures[2])
        assert run.values()["source"] == "init_image"
        assert "clip.npz[2]: estimated instead (There is not one measurement in the map" in run.remark

    def test_is_refused_by_the_number_of_its_broken_map(self, tmp_path, folder):
        pictures = [tmp_path / f"{n}.png" for n in range(3)]
        for picture in pictures:
            write_map(picture, 500)
        with pytest.raises(RequestError, match=r"^clip\.npz\[2\]: There is not one measurement"):
            BatchRun(BatchOptions(folder, refuse_missing=True), pictures)


class TestFilesThatCannotBeRead:
    @pytest.fixture
    def pictures(self, tmp_path) -> list[Path]:
        """Two of one name, in two folders."""
        found = [fill(tmp_path / folder) / "0001.png" for folder in ("shot-a", "shot-b")]
        for path in found:
            write_map(path, 500)
        return found

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        folder = fill(tmp_path / "maps")
        for shot in ("shot-a", "shot-b"):
            write_map(fill(folder / shot) / "0001.png", 1000)
        return folder

    @pytest.mark.parametrize(
        ("broken", "content", "said"),
        [
            ("shot-b/0001.png", b"", r"^shot-b/0001\.png: The file is empty"),
            ("shot-b/0001.png", b"<html>", r"^shot-b/0001\.png: .*text"),
            ("maps/shot-b/0001.png", b"", r"^shot-b/0001\.png: The file is empty"),
        ],
        ids=["empty picture", "web page", "empty map"],
    )
    def test_are_refused_by_name_before_the_first_picture(self, tmp_path, pictures, folder, broken, content, said):
        (tmp_path / broken).write_bytes(content)
        with pytest.raises(RequestError, match=said) as refused:
            BatchRun(BatchOptions(folder, refuse_missing=True), pictures, root=tmp_path)
        assert str(tmp_path) not in str(refused.value)
        assert "Mend or remove it, or choose “Estimate it”." in str(refused.value)

    def test_uploads_are_called_by_their_names(self, tmp_path, pictures):
        run = BatchRun(BatchOptions(fill(tmp_path / "none")), pictures)
        run.reading(pictures[0])
        run.values()
        assert run.remark == f"No depth map in {tmp_path / 'none'} for 0001.png: estimated."

    def test_a_map_is_estimated_instead_and_named(self, tmp_path, pictures, folder):
        coloured = np.zeros((4, 4, 3), np.uint8)
        coloured[..., 0] = 200
        Image.fromarray(coloured).save(folder / "shot-a" / "0001.png")
        run = BatchRun(BatchOptions(folder), pictures, root=tmp_path)
        run.reading(pictures[0])
        assert request_of(panel_values(), run).source == "init_image"
        assert "shot-a/0001.png: estimated instead (This is a coloured picture, not a depth map." in run.remark

    def test_a_picture_is_passed_over_and_named(self, tmp_path, pictures, folder):
        run = BatchRun(BatchOptions(folder), pictures, root=tmp_path)
        run.unreadable(pictures[1], UnidentifiedImageError("cannot identify image file '/srv/x.png'"))
        assert run.remark == "shot-b/0001.png: passed over (it is no picture, or a broken one)."


# --- the host's process_batch ----------------------------------------------------------------------------------------


class HostImages(types.ModuleType):
    """modules/images.py:read: opens, and drops the name."""

    def read(self, file: object) -> Image.Image:
        if "broken" in str(file):
            raise UnidentifiedImageError(file)
        picture = Image.new("RGB", (4, 4))
        if "cut" in str(file):
            picture.load = lambda: int("x")  # as Pillow does where a file ends too early, with errors of many kinds
        return picture

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
            try:
                img2img.images.read(file)
            except UnidentifiedImageError:
                continue
            img2img.images.read(str(tmp_path / "mask.png"))
            run = getattr(p, batch._RUN, None)
            request = run and Depth2ImgRequest.from_mapping(script_values(p.script_args[1:]) | picture_values(p))
            seen.append((run and run.current and run.current.name, request))
            if "boom" in file:
                raise ValueError("boom")
        return SimpleNamespace(comments="of the first picture\n") if seen else None

    def walk_files(folder, allowed_extensions=batch.PICTURES):
        return (str(path) for path in sorted(Path(folder).iterdir()) if path.suffix in allowed_extensions)

    img2img.process_batch = process_batch
    host = batch.host
    state = SimpleNamespace(depth=True, flags=SimpleNamespace(hide_ui_dir_config=False))
    monkeypatch.setattr(host, "replace", lambda _, make: setattr(img2img, "process_batch", make(process_batch)))
    monkeypatch.setattr(host, "selected", lambda: Selected("model", state.depth))
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
    watched = _WatchedImages(images, lambda _file: None, lambda _file, _error: None)
    assert watched.other() == "untouched"


def test_what_cannot_be_read_is_passed_over_and_named_on_the_page(webui, folders):
    pictures, maps = folders
    fill(pictures, "broken.png", "cut.png")
    processed = webui.img2img.process_batch(processing(batch_folder=str(maps)), str(pictures))
    assert [name for name, _ in webui.seen] == ["a.png", "b.png"]
    assert "broken.png: passed over (it is no picture, or a broken one)." in processed.comments
    assert "cut.png: passed over (" in processed.comments


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


# --- the pictures as a sequence --------------------------------------------------------------------------------------


def scene(seed: int) -> np.ndarray:
    return np.kron(np.random.default_rng(seed).integers(0, 255, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


class Estimates:
    """An estimator whose scale is another one for each picture, by the brightness of its first pixel."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.details: set[Detail] = set()

    def estimate(self, pictures: list[Image.Image], name: str, detail: Detail = AS_TRAINED) -> list[DepthMap]:
        self.asked.append(name)
        self.details.add(detail)
        ramp = np.linspace(1, 2, 64 * 64, dtype=np.float32).reshape(64, 64)
        return [DepthMap.from_array(ramp * (1 + np.asarray(each)[0, 0, 0] / 255)) for each in pictures]


@pytest.fixture
def estimates(monkeypatch):
    made = Estimates()
    monkeypatch.setattr(sequence, "ESTIMATORS", made)
    return made


@pytest.fixture
def sequence_of_pictures(tmp_path):
    """Five frames of one scene, of which only the first pixel changes, then two of another one."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(7):
        array = scene(number > 4)
        array[0, 0] = 20 * number
        Image.fromarray(array).save(folder / f"{number}.png")
    return folder


def test_options_say_range_and_steadiness():
    options = BatchOptions.from_panel(panel_values(batch_range=BATCH_RANGES[1], batch_steady=0.9))
    assert options == BatchOptions(one_range=True, steady=0.9)
    assert not options.asks_nothing
    assert BatchOptions.from_panel(panel_values()).asks_nothing
    off = panel_values(enabled=False, batch_range=BATCH_RANGES[1], batch_steady=0.9)
    assert BatchOptions.from_panel(off).asks_nothing


def test_one_range_for_all_maps_of_the_folder(webui, folders):
    pictures, maps = folders
    write_map(maps / "b.png", 60000)
    webui.img2img.process_batch(processing(batch_folder=str(maps), batch_range=BATCH_RANGES[1]), str(pictures))
    assert [request.range for _, request in webui.seen] == [pytest.approx((1000 / 65535, 60000 / 65535))] * 2


def test_one_range_of_distances_is_in_their_unit(webui, folders):
    pictures, maps = folders
    for name, metres in (("a", 2.0), ("b", 8.0)):
        (maps / f"{name}.png").unlink(missing_ok=True)
        np.save(maps / f"{name}.npy", np.full((4, 4), metres, np.float32))
    p = processing(batch_folder=str(maps), batch_range=BATCH_RANGES[1], meaning="far away")
    webui.img2img.process_batch(p, str(pictures))
    assert [request.range for _, request in webui.seen] == [pytest.approx((2.0, 8.0))] * 2


def test_one_range_for_all_estimates_of_the_chosen_estimator(webui, sequence_of_pictures, estimates):
    p = processing(batch_range=BATCH_RANGES[1], estimator="midas_v21", clip=0.0, resolution=512, tiles=2)
    webui.img2img.process_batch(p, str(sequence_of_pictures))
    assert estimates.asked == ["midas_v21"] * 7
    assert estimates.details == {Detail(resolution=512, tiles=2)}
    assert [request.range for _, request in webui.seen] == [pytest.approx((1.0, 2 * (1 + 120 / 255)))] * 7
    assert {request.source for _, request in webui.seen} == {"init_image"}


def test_the_range_is_without_the_extremes_that_clip_leaves_out(webui, sequence_of_pictures, estimates):
    webui.img2img.process_batch(processing(batch_range=BATCH_RANGES[1], clip=0.1), str(sequence_of_pictures))
    (request,) = {request.range: request for _, request in webui.seen}.values()
    assert request.range == (pytest.approx(1.1, abs=0.01), pytest.approx(1.9 * (1 + 120 / 255), abs=0.01))
    assert request.clip == 0.0


def test_steadiness_goes_in_the_order_of_the_pictures_and_not_over_a_cut(sequence_of_pictures, estimates):
    asked = sequence.BatchSequence(BatchOptions(steady=0.9), Depth2ImgRequest())
    paths = sorted(sequence_of_pictures.iterdir())
    pictures = [Image.open(path).convert("RGB") for path in paths]
    own = estimates.estimate(pictures, "checkpoint")
    steady = [asked.steadied(*each) for each in zip(paths, pictures, own, strict=True)]
    assert steady[0] is own[0]
    assert steady[5] is own[5], "behind the cut"
    assert np.abs(steady[4].values - own[0].values).max() < 0.15 * np.abs(own[4].values - own[0].values).max()
    assert asked.steadied(paths[6], pictures[6], own[6]) is steady[6], "asked once more, as X/Y/Z does"
    assert asked.described == {"Depth2Img steady": "0.9"}


def test_without_steadiness_estimates_are_left_alone(sequence_of_pictures, estimates):
    asked = sequence.BatchSequence(BatchOptions(), Depth2ImgRequest())
    (own,) = estimates.estimate([Image.fromarray(scene(0))], "checkpoint")
    assert asked.steadied(Path("a.png"), Image.fromarray(scene(0)), own) is own
    assert asked.described == {}


def test_a_picture_that_cannot_be_read_has_no_part_in_the_range(webui, sequence_of_pictures, estimates):
    fill(sequence_of_pictures, "broken.png")
    processed = webui.img2img.process_batch(processing(batch_range=BATCH_RANGES[1]), str(sequence_of_pictures))
    assert len(estimates.asked) == 7
    assert "broken.png: passed over" in processed.comments
