"""``video --maps``: depth maps of the user's own for the frames of a film."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from lib_depth2img.cli import main
from lib_depth2img.estimators.estimator import DepthEstimator
from tests.interrupted import interrupted
from tests.sequences.films import contents, frames_in, made, scene

LENGTH = 6
CUT = 4
PICTURES = ["--prompt", "a red ball", "--steps", "1", "--denoising-strength", "1"]


@pytest.fixture(autouse=True)
def nothing_is_estimated(monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("estimated")

    monkeypatch.setattr(DepthEstimator, "estimate", never)


@pytest.fixture
def frames(tmp_path) -> Path:
    return frames_in(tmp_path / "镜头 一", LENGTH, cut_at=CUT)


def metres(number: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Distances from 2 m on, in each frame half a metre farther."""
    width, height = size
    found: np.ndarray = np.linspace(2, 8, width * height, dtype=np.float32).reshape(height, width) + number / 2
    return found


@pytest.fixture
def maps(tmp_path) -> Path:
    folder = tmp_path / "深度"
    folder.mkdir()
    for number in range(LENGTH):
        np.save(folder / f"f{number}_depth.npy", metres(number))
    return folder


def video(film: Path, output: Path, *options: object) -> int:
    return main(["video", str(film), "-o", str(output), "--quiet", *map(str, options)])


def depth(film: Path, output: Path, *options: object) -> int:
    return video(film, output, "--depth-only", "--format", "npy", *options)


def values(folder: Path) -> list[np.ndarray]:
    return [np.load(path) for path in sorted(folder.glob("*.npy"))]


def test_distances_in_a_range_of_metres_are_the_same_depth_in_every_frame(frames, maps, tmp_path):
    assert depth(frames, tmp_path / "out", "--maps", maps, "--distance", "--range", "1:20") == 0
    for number, found in enumerate(values(tmp_path / "out")):
        wanted = (1 / metres(number) - 1 / 20) / (1 / 1 - 1 / 20)
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_shot_has_one_range_and_nothing_is_carried_over(frames, maps, tmp_path):
    assert depth(frames, tmp_path / "out", "--maps", maps) == 0
    found = values(tmp_path / "out")
    for shot in (range(CUT), range(CUT, LENGTH)):
        lowest, highest = metres(shot[0]).min(), metres(shot[-1]).max()
        for number in shot:
            np.testing.assert_allclose(found[number], (metres(number) - lowest) / (highest - lowest), atol=1e-6)


def test_steadiness_is_off_unless_it_is_asked_for(frames, maps, tmp_path):
    options = ("--maps", maps, "--range", "0:20")
    for name, more in (("usual", ()), ("off", ("--steady", 0)), ("much", ("--steady", 0.9))):
        assert depth(frames, tmp_path / name, *options, *more) == 0
    usual, off, much = (contents(tmp_path / name) for name in ("usual", "off", "much"))
    assert usual == off
    assert [usual[name] == much[name] for name in usual] == [number in (0, CUT) for number in range(LENGTH)]


def test_the_numbers_of_a_picture_file_keep_their_scale(frames, tmp_path):
    """As img2img does with them: 16 bits are 0 to 1, and not stretched from picture to picture."""
    folder = tmp_path / "grey"
    folder.mkdir()
    for number in range(LENGTH):
        grey = np.full((48, 64), 20000 + 1000 * number, np.uint16)
        grey[:, 32:] = 40000
        cv2.imwrite(str(folder / f"f{number}.png"), grey)
    for steady in (0, 0.9):
        output = tmp_path / f"out{steady}"
        assert depth(frames, output, "--maps", folder, "--range", "picture", "--steady", steady) == 0
        np.testing.assert_allclose(values(output)[0][:, [0, -1]], [[20000 / 65535, 40000 / 65535]] * 48, atol=1e-6)


def test_pictures_are_those_of_img2img_with_the_map(frames, maps, tmp_path):
    given = [*PICTURES, "--distance", "--range", "1:20"]
    assert video(frames, tmp_path / "out", "--maps", maps, *given) == 0
    alone = tmp_path / "alone.png"
    words = ["img2img", frames / "f3.png", "-o", alone, "--depth-map", maps / "f3_depth.npy", *given]
    assert main(list(map(str, words))) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "f3.png")), np.asarray(Image.open(alone)))
    assert len(contents(tmp_path / "out")) == LENGTH


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_clip_is_paired_in_order(frames, maps, tmp_path, kind):
    stacked = np.stack([metres(number) for number in range(LENGTH)])
    clip = tmp_path / f"clip.{kind}"
    np.save(clip, stacked) if kind == "npy" else np.savez_compressed(clip, depth=stacked)
    assert depth(frames, tmp_path / "one", "--maps", clip) == 0
    assert depth(frames, tmp_path / "many", "--maps", maps) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_a_video_file_takes_a_clip_and_maps_counted_from_one(tmp_path, capsys):
    film = made(tmp_path / "in.mp4", [1001 * number for number in range(LENGTH)])
    np.save(tmp_path / "clip.npy", np.stack([metres(number) for number in range(LENGTH)]))
    (tmp_path / "maps").mkdir()
    for number in range(LENGTH):
        np.save(tmp_path / "maps" / f"depth_{number + 1:04d}.npy", metres(number))
    assert depth(film, tmp_path / "one", "--maps", tmp_path / "clip.npy") == 0
    assert depth(film, tmp_path / "many", "--maps", tmp_path / "maps") == 0
    assert "they were paired in their order" in capsys.readouterr().err
    assert len(contents(tmp_path / "one")) == LENGTH
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    assert video(film, tmp_path / "grey.mkv", "--maps", tmp_path / "clip.npy", "--depth-only", "--range", "0:20") == 0
    with av.open(str(tmp_path / "grey.mkv")) as container:
        shown = next(container.decode(video=0)).to_ndarray()
    np.testing.assert_allclose(shown / 1023, metres(0) / 20, atol=1 / 1023)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--maps", "lacking"], "No depth map in lacking for f1.png, f3.png."),
        (["--maps", "nowhere"], "There are no depth maps at nowhere; name a folder, or a clip: .npy or .npz."),
        (["--maps", "short.npy"], "short.npy holds 5 maps for 6 frames."),
        (["--maps", "flat.npy"], "flat.npy is no clip of maps, (T, H, W) in a .npy or .npz, for 6 frames."),
        (["--maps", "text.txt"], "text.txt is no clip of maps"),
        (["--maps", "深度", "--estimator", "small"], "--maps brings the maps"),
        (["--distance"], "--meaning says what the numbers of own maps mean; name the maps with --maps."),
        (["--maps", "深度", "--distance", "--range", "0:20"], "expected distances above 0"),
    ],
)
def test_what_cannot_be_is_one_sentence_before_any_work(frames, maps, tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    Path("lacking").mkdir()
    for number in (0, 2, 4, 5):
        np.save(Path("lacking", f"f{number}.npy"), metres(number))
    np.save("short.npy", np.ones((5, 6, 8), np.float32))
    np.save("flat.npy", np.ones((4, 4), np.float32))
    Path("text.txt").write_text("maps", encoding="utf-8")
    assert depth(frames, Path("out"), *options) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert said in err
    assert not Path("out").exists()


def test_a_map_that_cannot_be_read_is_a_broken_frame(frames, maps, tmp_path, capsys):
    (maps / "f2_depth.npy").write_bytes(b"\x93NUMPY broken")
    assert depth(frames, tmp_path / "out", "--maps", maps) == 2
    err = capsys.readouterr().err
    assert err.count("left out: ") == 1
    assert "f2_depth.npy" in err
    assert list(contents(tmp_path / "out")) == [f"f{number}.npy" for number in (0, 1, 3, 4, 5)]
    assert depth(frames, tmp_path / "other", "--maps", maps, "--broken", "stop") == 2
    assert "f2_depth.npy" in capsys.readouterr().err


def test_maps_of_another_size_cover_the_frame_and_of_another_shape_that_is_said(frames, tmp_path, capsys):
    (tmp_path / "maps").mkdir()
    for number in range(LENGTH):
        np.save(tmp_path / "maps" / f"f{number}.npy", metres(0, (32, 24) if number < 3 else (20, 40)))
    assert depth(frames, tmp_path / "out", "--maps", tmp_path / "maps") == 0
    said = "Maps of another shape than their frames are stretched: 3, the first f3: 20x40 for 64x48."
    assert said in capsys.readouterr().err
    assert {each.shape for each in values(tmp_path / "out")} == {(48, 64)}


def test_flat_maps_have_no_depth_and_no_harm(frames, tmp_path):
    (tmp_path / "maps").mkdir()
    for number in range(LENGTH):
        np.save(tmp_path / "maps" / f"f{number}.npy", np.full((48, 64), 3.0, np.float32))
    for steady in (0, 0.9):
        assert depth(frames, tmp_path / str(steady), "--maps", tmp_path / "maps", "--steady", steady) == 0
        assert not np.any(values(tmp_path / str(steady)))


def test_maps_outside_of_the_range_are_told(frames, maps, tmp_path, capsys):
    assert depth(frames, tmp_path / "out", "--maps", maps, "--range", "20:30") == 0
    assert "no depth in them: 6, the first of f0." in capsys.readouterr().err


def test_a_film_of_one_frame_takes_one_map(frames, maps, tmp_path):
    for path in sorted(frames.iterdir())[1:]:
        path.unlink()
    np.save(tmp_path / "one.npy", metres(0)[None])
    assert depth(frames, tmp_path / "a", "--maps", tmp_path / "one.npy") == 0
    assert depth(frames, tmp_path / "b", "--maps", maps) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_frames_of_several_sizes_have_each_their_map(frames, maps, tmp_path):
    Image.fromarray(scene(1, (96, 40))).save(frames / "f1.png")
    assert depth(frames, tmp_path / "out", "--maps", maps, "--range", "0:20", "--steady", 0.9) == 0
    assert [each.shape for each in values(tmp_path / "out")][:3] == [(48, 64), (40, 96), (48, 64)]


@pytest.mark.parametrize(("steady", "at"), [(0, 4), (0.9, 5), (0.9, 10), (0.9, 17)])
def test_interrupted_anywhere_it_goes_on_to_the_same_bytes(frames, maps, tmp_path, monkeypatch, steady, at):
    options = ("--maps", maps, "--steady", steady, "--noise", "flow", *PICTURES)
    assert video(frames, tmp_path / "whole", *options) == 0
    with interrupted(monkeypatch, at):
        video(frames, tmp_path / "again", *options)
    assert video(frames, tmp_path / "again", *options) == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


def test_other_maps_are_another_work(frames, maps, tmp_path, capsys):
    assert depth(frames, tmp_path / "out", "--maps", maps) == 0
    assert depth(frames, tmp_path / "out", "--maps", maps.rename(tmp_path / "other")) == 2
    assert "holds what was begun with another maps." in capsys.readouterr().err
