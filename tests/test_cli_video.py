"""``video``: a film to depth maps or pictures, going on where it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from lib_depth2img import replacing as replacing_module
from lib_depth2img.cli import main
from lib_depth2img.sequences import film as film_module
from lib_depth2img.sequences import maps as maps_module
from tests.interrupted import Interrupted, interrupted
from tests.sequences.films import contents, frames_in, made, sound_of, times_of

TIMES = [0, 1001, 2002, 5005, 5505, 9009, 9109, 10010, 11011, 12012]
CUT = 6


@pytest.fixture
def film(tmp_path) -> Path:
    return made(tmp_path / "in.mp4", TIMES, cut_at=CUT, sound=True)


@pytest.fixture
def frames(tmp_path) -> Path:
    return frames_in(tmp_path / "frames", 6, cut_at=4)


def depth(*arguments: object) -> int:
    return main(["video", *map(str, arguments), "--depth-only", "--estimator", "small", "--quiet"])


def grey(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_a_film_becomes_a_folder_and_a_video_of_its_times_and_sound(film, tmp_path, capsys):
    folder, video = tmp_path / "maps", tmp_path / "maps.mp4"
    assert depth(film, "-o", folder, "-o", video) == 0
    assert capsys.readouterr().out.split() == [str(folder), str(video)]
    assert list(contents(folder)) == [f"{number:08d}.png" for number in range(len(TIMES))]
    assert grey(folder / "00000003.png").dtype == np.uint16
    assert times_of(video) == times_of(film)
    assert sound_of(video) == sound_of(film)
    with av.open(str(video)) as container:
        shown = next(container.decode(video=0)).to_ndarray()
    assert np.abs(shown / 1023 - grey(folder / "00000000.png") / 65535).max() < 0.02


def test_off_gives_the_maps_of_today(frames, tmp_path):
    assert depth(frames, "-o", tmp_path / "film", "--steady", 0, "--range", "picture") == 0
    assert main(["depth", str(frames), "-o", str(tmp_path / "alone"), "--estimator", "small", "--quiet"]) == 0
    assert contents(tmp_path / "film").keys() == contents(tmp_path / "alone").keys()
    for path in (tmp_path / "alone").iterdir():
        # In another group of pictures the network's last bits may differ.
        assert np.abs(grey(path).astype(int) - grey(tmp_path / "film" / path.name)).max() <= 1


def test_the_first_frame_after_a_cut_is_as_if_it_were_alone(frames, tmp_path):
    for steady in (0.9, 0):
        assert depth(frames, "-o", tmp_path / str(steady), "--steady", steady, "--range", "picture") == 0
    same = [
        np.array_equal(grey(tmp_path / "0.9" / f"f{number}.png"), grey(tmp_path / "0" / f"f{number}.png"))
        for number in range(6)
    ]
    assert same == [True, False, False, False, True, False]


@pytest.mark.parametrize(("asked", "shots"), [("shot", [range(4), range(4, 6)]), ("sequence", [range(6)])])
def test_one_range_for_all_frames_of_a_shot_or_of_the_film(frames, tmp_path, asked, shots):
    assert depth(frames, "-o", tmp_path / "maps", "--range", asked, "--format", "npy") == 0
    for shot in shots:
        values = [np.load(tmp_path / "maps" / f"f{number}.npy") for number in shot]
        assert min(each.min() for each in values) < 0.05
        assert max(each.max() for each in values) > 0.95


def test_a_range_by_hand(frames, tmp_path):
    for name, asked in (("one", "0:1"), ("two", "0:2")):
        assert depth(frames, "-o", tmp_path / name, "--range", asked, "--format", "npy") == 0
    one, two = (np.load(tmp_path / name / "f0.npy") for name in ("one", "two"))
    assert np.abs(one - (2 * two).clip(0, 1))[two < 0.4].max(initial=0) < 1e-3


@pytest.mark.parametrize("at", [1, 3, 8, 21, 23, 26, 35])
def test_interrupted_anywhere_it_goes_on_to_the_same_bytes(film, tmp_path, monkeypatch, at):
    assert depth(film, "-o", tmp_path / "whole") == 0
    with interrupted(monkeypatch, at):
        depth(film, "-o", tmp_path / "again")
    assert depth(film, "-o", tmp_path / "again") == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    assert not (tmp_path / "again" / ".depth2img" / "maps").exists()


def test_what_is_there_is_not_estimated_again(film, tmp_path, monkeypatch):
    folder = tmp_path / "maps"
    with monkeypatch.context() as patched:
        patched.setattr(maps_module.Maps, "extents", lambda *_args, **_named: (_ for _ in ()).throw(Interrupted))
        with pytest.raises(Interrupted):
            depth(film, "-o", folder)
    from lib_depth2img.estimators.estimator import DepthEstimator

    def never(*_: object) -> None:
        raise AssertionError("estimated")

    monkeypatch.setattr(DepthEstimator, "estimate", never)
    assert depth(film, "-o", folder) == 0
    assert depth(film, "-o", folder) == 0, "once more, when all is done"


def test_what_a_killed_process_left_half_written_goes(film, tmp_path):
    folder = tmp_path / "maps"
    (folder / ".depth2img").mkdir(parents=True)
    left = folder / replacing_module._beside("00000001.png")
    left.write_bytes(b"half")
    assert depth(film, "-o", folder) == 0
    assert not left.exists()


def test_the_work_of_other_options_is_not_gone_on_with(film, tmp_path, capsys):
    folder = tmp_path / "maps"
    assert depth(film, "-o", folder) == 0
    assert depth(film, "-o", folder, "--far", 0.2) == 2
    assert "holds what was begun with another far." in capsys.readouterr().err
    assert depth(made(tmp_path / "other.mp4", TIMES), "-o", folder) == 2
    assert "holds what was begun with another film." in capsys.readouterr().err


def test_a_broken_frame_is_left_out_or_ends_it(frames, tmp_path, capsys):
    (frames / "f2.png").write_bytes(b"broken")
    assert depth(frames, "-o", tmp_path / "maps") == 2
    assert "left out: " in (said := capsys.readouterr().err)
    assert "f2.png" in said
    assert list(contents(tmp_path / "maps")) == [f"f{number}.png" for number in (0, 1, 3, 4, 5)]
    assert depth(frames, "-o", tmp_path / "other", "--broken", "stop") == 2
    assert "f2.png" in capsys.readouterr().err
    assert not contents(tmp_path / "other")


def test_a_left_out_frame_leaves_its_time_to_the_one_before(frames, tmp_path):
    (frames / "f2.png").write_bytes(b"broken")
    assert depth(frames, "-o", tmp_path / "maps.mkv", "--fps", "25") == 2
    assert [round(time * 25) for time in times_of(tmp_path / "maps.mkv")] == [0, 1, 3, 4, 5]


def test_pictures_are_those_of_img2img(frames, tmp_path):
    options = ["--prompt", "a red ball", "--steps", "2", "--seed", "7", "--denoising-strength", "1"]
    folder = tmp_path / "made"
    assert (
        main(["video", str(frames), "-o", str(folder), *options, "--range", "picture", "--steady", "0", "--quiet"]) == 0
    )
    alone = tmp_path / "alone.png"
    assert main(["img2img", str(frames / "f1.png"), "-o", str(alone), *options]) == 0
    one, other = (np.asarray(Image.open(path)).astype(int) for path in (folder / "f1.png", alone))
    assert np.abs(one - other).max() <= 2  # depth went through the network in another group
    assert len(contents(folder)) == 6


def test_prompts_by_frames(frames, tmp_path):
    (tmp_path / "prompts.txt").write_text("# of the film\n0-3: a red ball\n\n4-: a blue cone\n", encoding="utf-8")
    options = ["--steps", "1", "--denoising-strength", "1", "--quiet", "--cfg-scale", "7"]
    assert (
        main(["video", str(frames), "-o", str(tmp_path / "a"), "--prompts", str(tmp_path / "prompts.txt"), *options])
        == 0
    )
    assert main(["video", str(frames), "-o", str(tmp_path / "b"), "--prompt", "a red ball", *options]) == 0
    one, other = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert [one[name] == other[name] for name in sorted(one)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "maps"], "Name a --prompt for the pictures, or --depth-only"),
        (["-o", "a.mp4", "-o", "b.mp4", "--depth-only"], "-o takes one video and one folder; got two of a kind."),
        (["-o", "full", "--depth-only"], "full holds other files"),
        (["-o", "maps", "--depth-only", "--range", "scene"], "range: got 'scene', expected two numbers"),
        (["-o", "maps", "--depth-only", "--steady", "1"], "steady is 1.0; it has to be a number from 0 to 0.98."),
        (["-o", "maps", "--depth-only", "--fps", "0"], "--fps: got 0, expected more than 0"),
        (["-o", "maps", "--prompt", "x", "--seed", "-1"], "--seed -1 draws another one for each run"),
        (["-o", "maps", "--prompts", "bad.txt"], "bad.txt, line 1: got 'a forest', expected frames and a prompt"),
        (["-o", "frames", "--depth-only"], "frames is also what is read"),
    ],
)
def test_what_cannot_be_is_one_sentence_before_any_work(frames, tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.png").write_bytes(b"")
    (tmp_path / "bad.txt").write_text("a forest", encoding="utf-8")
    assert main(["video", "frames", *options]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert said in err
    assert not (tmp_path / "maps").exists()


def test_a_frame_that_was_removed_is_made_again(film, tmp_path):
    folder = tmp_path / "maps"
    assert depth(film, "-o", folder) == 0
    whole = contents(folder)
    (folder / "00000004.png").unlink()
    assert depth(film, "-o", folder) == 0
    assert contents(folder) == whole


def test_all_is_noted_that_decides(film, tmp_path):
    assert depth(film, "-o", tmp_path / "maps") == 0
    noted = json.loads((tmp_path / "maps" / ".depth2img" / "job.json").read_text())
    assert noted["finished"] == len(TIMES)
    assert {"range", "steady", "estimator", "far", "clip", "film", "format"} <= noted["asked"].keys()
    assert film_module.TOGETHER == 8
