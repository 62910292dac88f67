"""``python -m lib_depth2img depth``, as typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from lib_depth2img import DepthEstimator, read_depth_map
from lib_depth2img.cli import main
from lib_depth2img.estimators.presets import PRESETS

ROOT = Path(__file__).parents[1]
SMALL = "midas_v21_small"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights; the last bias is high enough for the nearness not to be cut at zero."""
    torch.manual_seed(0)
    network = PRESETS[SMALL].build()
    with torch.no_grad():
        network.scratch.output_conv[4].bias.fill_(10.0)
    path = tmp_path_factory.mktemp("weights") / "midas_v21_small-70d6b9c8.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / "a.png", folder / "b.jpg", folder / "c.png"]
    Image.fromarray(data.astronaut()[:192, :256]).save(paths[0])
    Image.fromarray(data.coffee()[:200, :100]).save(paths[1])
    Image.fromarray(data.astronaut()[:192, 100:356]).save(paths[2])
    return paths


@pytest.fixture
def run(weights):
    """Type ``depth ARGUMENTS`` with the random weights; gives the exit code."""
    return lambda *arguments: main(["depth", "--estimator", SMALL, "--weights", str(weights), *map(str, arguments)])


def test_npy_is_the_nearness_exactly_as_estimated(run, pictures, weights, tmp_path):
    assert run(pictures[0], "-o", tmp_path / "x.npy") == 0
    got = np.load(tmp_path / "x.npy")
    assert got.shape == (192, 256)
    assert got.dtype == np.float32
    (estimate,) = DepthEstimator(SMALL, weights=weights).estimate([Image.open(pictures[0])])
    np.testing.assert_array_equal(got, estimate.resized((256, 192)).values)
    assert got.std() > 0


def test_png_is_16_bit_at_the_pictures_size_and_spans_the_range(run, pictures, tmp_path, capsys):
    assert run(pictures[1], "-o", tmp_path / "x.png") == 0
    assert "1/1" in capsys.readouterr().err
    got = cv2.imread(str(tmp_path / "x.png"), cv2.IMREAD_UNCHANGED)
    assert got.shape == (200, 100)
    assert got.dtype == np.uint16
    assert got.min() == 0
    assert got.max() == 65535


def test_bits_colour_and_adjustments(run, pictures, tmp_path):
    assert run(pictures[0], "-o", tmp_path / "8.png", "--bits", 8) == 0
    assert cv2.imread(str(tmp_path / "8.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint8
    assert run(pictures[0], "-o", tmp_path / "16.png", "--bits", 16) == 0
    assert cv2.imread(str(tmp_path / "16.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    assert run(pictures[0], "-o", tmp_path / "c.png", "--colormap", "inferno") == 0
    assert cv2.imread(str(tmp_path / "c.png"), cv2.IMREAD_UNCHANGED).shape == (192, 256, 3)
    assert run(pictures[0], "-o", tmp_path / "plain.png") == 0
    assert run(pictures[0], "-o", tmp_path / "inverted.png", "--invert") == 0
    plain, inverted = (
        cv2.imread(str(tmp_path / f"{name}.png"), cv2.IMREAD_UNCHANGED).astype(int) for name in ("plain", "inverted")
    )
    assert np.corrcoef(plain.ravel(), inverted.ravel())[0, 1] < -0.999
    assert run(pictures[0], "-o", tmp_path / "levels.png", "--far", 0.4, "--near", 0.6) == 0
    levels = cv2.imread(str(tmp_path / "levels.png"), cv2.IMREAD_UNCHANGED)
    assert (levels == 0).mean() > (plain == 0).mean()


def test_several_and_a_folder_go_to_a_folder_with_a_progress_bar(run, pictures, tmp_path, capsys):
    assert run(*pictures, "-o", tmp_path / "maps") == 0
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["a.png", "b.png", "c.png"]
    said = capsys.readouterr()
    assert "3/3" in said.err
    assert said.out == f"{tmp_path / 'maps'}\n"
    (pictures[0].parent / "notes.txt").write_text("not a picture")
    assert run(pictures[0].parent, "-o", tmp_path / "again", "--quiet") == 0
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["a.png", "b.png", "c.png"]
    assert capsys.readouterr().err.count("3/3") == 0
    for name in ("a", "b", "c"):
        assert (tmp_path / "maps" / f"{name}.png").read_bytes() == (tmp_path / "again" / f"{name}.png").read_bytes()


def test_one_bad_picture_does_not_lose_the_others(run, pictures, tmp_path, capsys):
    pictures[1].write_bytes(b"\xff\xd8\xff\xe0 cut off")
    assert run(pictures[0].parent, "-o", tmp_path / "maps", "--quiet") == 2
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["a.png", "c.png"]
    assert "b.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{a}", "-o", "{out}/x.png", "--far", "2"], "far is 2.0; it has to be a number from 0 to 1"),
        (["{a}", "-o", "{out}/x.png", "--far", "0.9", "--near", "0.1"], "far has to be below near"),
        (["{a}", "-o", "{out}/x.gif"], "x.gif ends in '.gif'; a depth map is saved as one of .png"),
        (["{out}/none.png", "-o", "{out}/x.png"], "none.png"),
        (["{out}", "-o", "{other}/maps"], "holds no pictures"),
        (["{a}", "-o", "{a}"], "a.png is also what is read"),
        (["{other}/link.png", "-o", "{a}"], "a.png is also what is read"),
        (["{a}", "-o", "{out}/x.npy", "--colormap", "turbo"], "x.npy cannot be saved in colour"),
        (["{a}", "{a2}", "-o", "{out}/x.png"], "2 pictures do not go into the one file"),
        (["{a}", "{other}/a.png", "-o", "{out}/maps"], "Several pictures are called a.png.png; their depth maps would"),
        (["{a}", "-o", "{out}/x.png", "--device", "cuda:99"], "use cpu"),
        (["{a}", "-o", "{out}/x.png", "--precision", "float16"], "float16 does not run on a CPU"),
        (["{a}", "-o", "{out}/x.png", "--weights", "{a}"], "a.png: Not a weights file"),
        (["{a}", "-o", "{out}/x.png", "--weights", "{out}/none.pt"], "There are no weights of midas_v21_small at"),
        (["{a}", "-o", "{out}/x.png", "--estimator", "dpt_hybrid"], "does not fit dpt_hybrid"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, run, pictures, tmp_path, capsys):
    out, other = tmp_path / "out", tmp_path / "other"
    out.mkdir()
    other.mkdir()
    Image.open(pictures[0]).convert("RGB").save(other / "a.jpg")
    Image.open(pictures[0]).save(other / "a.png")
    (other / "link.png").symlink_to(pictures[0])
    before = pictures[0].read_bytes()
    places = {"a": pictures[0], "a2": pictures[2], "out": out, "other": other, "pictures": pictures[0].parent}
    assert run(*(argument.format(**places) for argument in arguments)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
    assert list(out.iterdir()) == []
    assert pictures[0].read_bytes() == before


class TestFolders:
    """Of other programs, and of runs before."""

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    def test_companions_and_folders_are_left_alone(self, run, pictures, tmp_path, capsys):
        folder = pictures[0].parent
        for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "a.png.part"):
            (folder / name).write_bytes(b"\0\5\x16\7")
        (folder / "exports.png").mkdir()
        assert run(folder, "-o", tmp_path / "maps", "--quiet") == 0
        assert self.names(tmp_path / "maps") == ["a.png", "b.png", "c.png"]
        assert capsys.readouterr().err == ""

    def test_what_is_passed_over_is_said(self, run, pictures, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        folder = pictures[0].parent
        (folder / "phone.heic").write_bytes(b"")
        for number in range(7):
            (folder / f"clip{number}.mp4").write_bytes(b"")
        assert run(folder, "-o", tmp_path / "maps", "--quiet") == 0
        said = capsys.readouterr().err
        assert "phone.heic. Pillow opens no HEIC here; convert it to JPEG or PNG.\n" in said
        assert "as no pictures: clip0.mp4, clip1.mp4, clip2.mp4, clip3.mp4, clip4.mp4 and 2 more.\n" in said

    @pytest.mark.parametrize("suffix", ["jfif", "pgm", "pnm", "tga", "gif", "bmp", "webp", "TIF"])
    def test_every_picture_that_pillow_opens_is_one(self, run, tmp_path, suffix):
        folder = tmp_path / "folder"
        folder.mkdir()
        kind = {"jfif": "JPEG", "pnm": "PPM", "pgm": "PPM", "TIF": "TIFF"}.get(suffix)
        Image.fromarray(data.camera()[:64, :64]).save(folder / f"x.{suffix}", kind)
        assert run(folder, "-o", tmp_path / "maps", "--quiet") == 0
        assert self.names(tmp_path / "maps") == ["x.png"]

    def test_a_second_run_finds_its_own_maps_beside_the_pictures(self, run, pictures, capsys):
        folder = pictures[0].parent
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert run(folder, "-o", folder, "--quiet") == 0
        maps = ["a_depth.png", "b_depth.png", "c_depth.png"]
        assert self.names(folder) == sorted([*before, *maps])
        assert run(folder, "-o", folder, "--quiet") == 0
        assert self.names(folder) == sorted([*before, *maps])
        assert {name: (folder / name).read_bytes() for name in before} == before
        assert f"Left alone, as maps of the pictures beside them: {', '.join(maps)}.\n" in capsys.readouterr().err

    def test_pictures_that_differ_in_suffix_only_keep_it(self, run, pictures, tmp_path):
        Image.open(pictures[0]).convert("RGB").save(pictures[0].with_suffix(".jpg"))
        assert run(pictures[0].parent, "-o", tmp_path / "maps", "--quiet") == 0
        assert self.names(tmp_path / "maps") == ["a.jpg.png", "a.png.png", "b.png", "c.png"]

    def test_also_those_are_left_alone_by_the_next_run(self, run, pictures, capsys):
        folder = pictures[0].parent
        Image.open(pictures[0]).convert("RGB").save(pictures[0].with_suffix(".jpg"))
        (folder / "c_depth.npy").write_bytes(b"")
        assert run(folder, "-o", folder, "--quiet") == 0
        before = self.names(folder)
        assert {"a.jpg_depth.png", "a.png_depth.png"} < set(before)
        capsys.readouterr()
        assert run(folder, "-o", folder, "--quiet") == 0
        assert self.names(folder) == before
        own = "a.jpg_depth.png, a.png_depth.png, b_depth.png, c_depth.npy, c_depth.png"
        assert capsys.readouterr().err == f"Left alone, as maps of the pictures beside them: {own}.\n"

    def test_a_folder_may_have_a_dot_in_its_name_and_none_above_it(self, run, pictures, tmp_path):
        assert run(pictures[0], "-o", tmp_path / "new" / "shot.v002", "--quiet") == 0
        assert self.names(tmp_path / "new" / "shot.v002") == ["a.png"]
        assert run(pictures[0], "-o", tmp_path / "other" / "x.png", "--quiet") == 0
        assert self.names(tmp_path / "other") == ["x.png"]

    def test_a_folder_that_cannot_be_made_is_told_before_the_estimate(
        self, run, pictures, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.setattr(DepthEstimator, "estimate", lambda *_: pytest.fail("the network ran"))
        (tmp_path / "file").write_text("")
        assert run(pictures[0], "-o", tmp_path / "file" / "x.png") == 2
        assert "cannot be made: " in capsys.readouterr().err

    def test_wildcards_that_the_shell_left_are_expanded(self, run, pictures, tmp_path):
        assert run(pictures[0].parent / "*.png", "-o", tmp_path / "maps", "--quiet") == 0
        assert self.names(tmp_path / "maps") == ["a.png", "c.png"]
        weird = pictures[0].with_name("a[1].png")
        pictures[0].rename(weird)
        assert run(weird, "-o", tmp_path / "one", "--quiet") == 0
        assert self.names(tmp_path / "one") == ["a[1].png"]

    def test_names_of_the_full_length(self, run, pictures, tmp_path):
        long = pictures[0].with_name("图" * 83 + ".jpg")  # 253 bytes, and 253 with .png
        Image.open(pictures[0]).convert("RGB").save(long)
        assert run(long, "-o", tmp_path / "maps", "--quiet") == 0
        assert self.names(tmp_path / "maps") == [f"{long.stem}.png"]

    def test_a_name_that_gets_too_long_is_told_before_the_estimate(self, run, pictures, monkeypatch, capsys):
        monkeypatch.setattr(DepthEstimator, "estimate", lambda *_: pytest.fail("the network ran"))
        long = pictures[0].rename(pictures[0].with_name("n" * 251 + ".png"))
        assert run(long.parent, "-o", long.parent, "--quiet") == 2
        assert run(long, "-o", long.with_name("n" * 300 + ".png"), "--quiet") == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 2
        assert "n_depth.png cannot be written: " in said[0]
        assert all("give the picture a shorter name." in line for line in said)

    @pytest.mark.parametrize("kind", ["png", "npy", "tif", "exr", "pfm"])
    def test_the_format_of_maps_in_a_folder(self, run, pictures, tmp_path, kind):
        assert run(*pictures[:2], "-o", tmp_path / "maps", "--format", kind, "--quiet") == 0
        assert self.names(tmp_path / "maps") == [f"a.{kind}", f"b.{kind}"]
        assert read_depth_map(tmp_path / "maps" / f"a.{kind}").size == (256, 192)

    def test_an_error_names_its_picture_once(self, run, pictures, tmp_path, capsys):
        pictures[1].write_bytes(b"")
        assert run(pictures[0].parent, "-o", tmp_path / "maps", "--quiet") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.count("b.jpg") == 1


def test_the_estimator_that_comes_along_needs_no_weights(pictures, tmp_path):
    assert main(["depth", str(pictures[0]), "-o", str(tmp_path / "x.npy"), "--estimator", "small", "--quiet"]) == 0
    assert np.load(tmp_path / "x.npy").std() > 0


def test_a_name_that_no_file_is_saved_by_is_refused_before_the_estimate(run, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(DepthEstimator, "estimate", lambda *_: pytest.fail("the network ran"))
    assert run(pictures[0], "-o", tmp_path / "x.gif") == 2
    assert run(*pictures[:2], "-o", tmp_path / "maps", "--weights", tmp_path / "none.pt") == 2


def test_as_a_program(pictures, weights, tmp_path):
    command = [sys.executable, "-m", "lib_depth2img", "depth", str(pictures[0]), "-o", str(tmp_path / "x.png")]
    done = subprocess.run(
        [*command, "--estimator", SMALL, "--weights", str(weights)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'x.png'}\n")
    assert (tmp_path / "x.png").stat().st_size > 0
    done = subprocess.run([*command, "--weights", "none.pt"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "install --estimator dpt_hybrid --to" in done.stderr


def test_a_range_is_one_for_all_pictures(run, pictures, weights, tmp_path):
    assert run(*pictures, "-o", tmp_path / "maps", "--range", "5:15") == 0
    estimator = DepthEstimator(SMALL, weights=weights)
    for picture in (pictures[0], pictures[2]):
        got = cv2.imread(str(tmp_path / "maps" / picture.name), cv2.IMREAD_UNCHANGED)
        values = estimator.estimate([Image.open(picture)])[0].within((5.0, 15.0)).resized((256, 192)).values
        np.testing.assert_allclose(got, values * 65535, atol=1)


def test_a_range_that_is_none_is_one_line(run, pictures, tmp_path, capsys):
    assert run(pictures[0], "-o", tmp_path / "x.png", "--range", "15:5") == 2
    assert run(pictures[0], "-o", tmp_path / "x.png", "--range", "5:15", "--clip", "0.1") == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("error: range: got '(15.0, 5.0)', expected two numbers")
    assert said[1].startswith("error: --range says what the map is scaled by, and --clip too.")
