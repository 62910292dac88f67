"""``video`` once more, after some of what it reads was mended, replaced, added or taken away."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.cli import main
from lib_depth2img.commands.video_frames import Maker
from tests.interrupted import interrupted
from tests.pretend_ray import pretend
from tests.sequences.films import contents, frames_in, made, scene

LENGTH = 15
CUT = 11
"""Of the first shot eight frames go through the network together, and then three."""

PICTURES = ["--prompt", "a red ball", "--steps", "1", "--denoising-strength", "1"]


def picture(number: int) -> Image.Image:
    return Image.fromarray(scene(number, (64, 48), other=number >= CUT))


def other_picture(number: int) -> Image.Image:
    """As :func:`picture`, with something in it; still of the same shot."""
    array = np.asarray(picture(number)).copy()
    array[30:40, 40:60] = (250, 30, 240)
    return Image.fromarray(array)


@pytest.fixture
def frames(tmp_path) -> Path:
    return frames_in(tmp_path / "帧", LENGTH, cut_at=CUT, digits=2)


@pytest.fixture
def maps(tmp_path) -> Path:
    folder = tmp_path / "maps"
    folder.mkdir()
    for number in range(LENGTH):
        np.save(folder / f"f{number:02d}.npy", own(number))
    return folder


def own(number: int) -> np.ndarray:
    return np.linspace(1, 8 + number / 4, 64 * 48, dtype=np.float32).reshape(48, 64)


def video(film: Path, output: Path, *options: object) -> int:
    return main(["video", str(film), "-o", str(output), "--quiet", *map(str, options)])


def depth(film: Path, output: Path, *options: object) -> int:
    return video(film, output, "--depth-only", "--estimator", "small", *options)


def written(folder: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_ino for path in sorted(folder.iterdir()) if path.is_file()}


def made_again(folder: Path, do: Callable[[], object]) -> list[int]:
    """The numbers of the frames whose files ``do`` writes."""
    before = written(folder)
    do()
    return [int(name[1:]) for name, inode in written(folder).items() if before.get(name) != inode]


@pytest.mark.parametrize("options", [[], ["--range", "sequence"], ["--range", "picture", "--steady", 0]])
@pytest.mark.parametrize("at", [0, 5, 7, 8, 10, CUT, LENGTH - 1])
def test_a_frame_that_was_mended_comes_in_as_if_it_had_never_been_broken(frames, tmp_path, at, options):
    broken = frames / f"f{at:02d}.png"
    broken.write_bytes(b"broken")
    assert depth(frames, tmp_path / "skip", *options) == 2
    assert depth(frames, tmp_path / "stop", *options, "--broken", "stop") == 2
    picture(at).save(broken)
    for name in ("skip", "stop", "whole"):
        assert depth(frames, tmp_path / name, *options, *(("--broken", "stop") if name == "stop" else ())) == 0
    whole = contents(tmp_path / "whole")
    assert len(whole) == LENGTH
    assert contents(tmp_path / "skip") == whole
    assert contents(tmp_path / "stop") == whole


@pytest.mark.parametrize(("kind", "options"), [("maps", []), ("maps", ["--range", "sequence"]), ("pictures", [])])
def test_a_frame_that_was_replaced_is_no_longer_the_old_one(frames, tmp_path, capsys, kind, options):
    given = ["--depth-only", "--estimator", "small", *options] if kind == "maps" else [*PICTURES, *options]
    assert video(frames, tmp_path / "out", *given) == 0
    assert "Made again" not in capsys.readouterr().err
    other_picture(CUT + 1).save(frames / f"f{CUT + 1}.png")
    again = made_again(tmp_path / "out", lambda: video(frames, tmp_path / "out", *given))
    said = capsys.readouterr().err
    assert (
        f"Made again, since what they are made from has changed: {len(again)} frames, the first f{again[0]:02d}."
        in said
    )
    assert set(range(CUT, LENGTH)) <= set(again)
    if not options:
        assert again == list(range(CUT, LENGTH)), "only its shot"
    assert video(frames, tmp_path / "whole", *given) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not made_again(tmp_path / "out", lambda: video(frames, tmp_path / "out", *given)), "all is done"


def test_frames_that_came_or_went(frames, tmp_path, capsys):
    assert depth(frames, tmp_path / "out") == 0
    (frames / "f03.png").unlink()
    picture(12).save(frames / "f12b.png")
    assert depth(frames, tmp_path / "out") == 0
    assert f"{tmp_path / 'out'} holds files of frames that are gone, or left out now: f03." in capsys.readouterr().err
    assert depth(frames, tmp_path / "whole") == 0
    whole = contents(tmp_path / "whole")
    assert {name: data for name, data in contents(tmp_path / "out").items() if name != "f03.png"} == whole
    assert "f12b.png" in whole


def test_a_frame_that_is_painted_is_painted_again_only_where_its_depth_or_noise_changed(frames, tmp_path, monkeypatch):
    painted = []
    original = Maker.make

    def make(self, prompt, *arguments):
        painted.append(prompt)
        return original(self, prompt, *arguments)

    monkeypatch.setattr(Maker, "make", make)
    for noise in ("fixed", "flow"):
        folder = tmp_path / noise
        assert video(frames, folder, *PICTURES, "--noise", noise) == 0
        painted.clear()
        other_picture(LENGTH - 1).save(frames / f"f{LENGTH - 1}.png")
        assert video(frames, folder, *PICTURES, "--noise", noise) == 0
        assert 1 <= len(painted) <= LENGTH - CUT
        picture(LENGTH - 1).save(frames / f"f{LENGTH - 1}.png")


def test_a_change_that_was_taken_back_before_its_run_ended_leaves_nothing_behind(frames, tmp_path, monkeypatch):
    folder, changed = tmp_path / "out", frames / "f02.png"
    assert depth(frames, folder) == 0
    whole = contents(folder)
    kept = tmp_path / "kept.png"
    shutil.copy2(changed, kept)
    other_picture(2).save(changed)
    with interrupted(monkeypatch, 40):
        depth(frames, folder)
    assert contents(folder) != whole
    shutil.copy2(kept, changed)  # with the time it had
    assert depth(frames, folder) == 0
    assert contents(folder) == whole


def test_whoever_is_killed_between_a_file_and_its_note_makes_it_again(frames, tmp_path, monkeypatch):
    assert depth(frames, tmp_path / "whole") == 0
    for at in range(1, 60, 9):
        folder = tmp_path / f"out{at}"
        with interrupted(monkeypatch, at):
            depth(frames, folder)
        assert depth(frames, folder) == 0
        assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.parametrize("steady", [0, 0.9])
def test_a_map_that_was_replaced(frames, maps, tmp_path, steady):
    options = ("--depth-only", "--maps", maps, "--steady", steady)
    assert video(frames, tmp_path / "out", *options) == 0
    np.save(maps / "f02.npy", own(2) ** 2)
    again = made_again(tmp_path / "out", lambda: video(frames, tmp_path / "out", *options))
    assert again == list(range(CUT)), "its shot, whose range it is part of"
    assert video(frames, tmp_path / "whole", *options) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_map_within_a_range_by_hand_changes_its_own_frame_only(frames, maps, tmp_path):
    options = ("--depth-only", "--maps", maps, "--range", "0:20")
    assert video(frames, tmp_path / "out", *options) == 0
    np.save(maps / "f02.npy", own(2)[::-1])
    assert made_again(tmp_path / "out", lambda: video(frames, tmp_path / "out", *options)) == [2]


def test_a_map_that_was_mended(frames, maps, tmp_path):
    options = ("--depth-only", "--maps", maps, "--steady", 0.9)
    (maps / "f09.npy").write_bytes(b"\x93NUMPY broken")
    assert video(frames, tmp_path / "out", *options) == 2
    np.save(maps / "f09.npy", own(9))
    assert video(frames, tmp_path / "out", *options) == 0
    assert video(frames, tmp_path / "whole", *options) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_video_file_that_was_replaced(tmp_path):
    film = made(tmp_path / "in.mp4", [1001 * number for number in range(LENGTH)], cut_at=CUT)
    assert depth(film, tmp_path / "out") == 0
    made(film, [1001 * number for number in range(LENGTH)], cut_at=CUT - 3)
    assert depth(film, tmp_path / "out") == 0
    assert depth(film, tmp_path / "whole") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("given", [["--depth-only"], ["--depth-only", "--range", "sequence"], PICTURES])
def test_workers_find_it_out_too(frames, tmp_path, monkeypatch, given):
    pretend(monkeypatch)
    options = [*given, "--estimator", "small", "--ray"]
    assert video(frames, tmp_path / "out", *options) == 0
    other_picture(3).save(frames / "f03.png")
    again = made_again(tmp_path / "out", lambda: video(frames, tmp_path / "out", *options))
    assert 3 in again
    if "sequence" not in given:
        assert max(again) < CUT
    assert video(frames, tmp_path / "whole", *options[:-1]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
