"""``video --noise flow``: pictures of noise that moves along with the film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from lib_depth2img.cli import main
from lib_depth2img.commands import video_frames
from lib_depth2img.sequences.noise import CarriedNoise
from tests.interrupted import interrupted
from tests.pretend_ray import pretend

CUT = 5
LENGTH = 7


def shown(number: int) -> Image.Image:
    """A photograph that goes half a latent cell to the left with each frame, and from ``CUT`` on another one."""
    photograph = data.astronaut() if number < CUT else data.coffee()
    left = 60 + 4 * number
    return Image.fromarray(photograph[100:292, left : left + 256])


@pytest.fixture
def frames(tmp_path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(LENGTH):
        shown(number).save(folder / f"f{number}.png")
    return folder


def painted(folder: Path, output: Path, *options: object) -> int:
    fixed = ["--prompt", "a red ball", "--steps", 1, "--width", 128, "--height", 128, "--quiet", *options]
    return main(["video", str(folder), "-o", str(output), *map(str, fixed)])


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


def test_it_begins_as_the_fixed_noise_and_goes_its_own_way(frames, tmp_path):
    for name in ("fixed", "flow"):
        assert painted(frames, tmp_path / name, "--noise", name, "--seed", 3) == 0
    assert painted(frames, tmp_path / "usual", "--seed", 3) == 0
    assert painted(frames, tmp_path / "next", "--seed", 4) == 0
    fixed, flow, usual, following = (contents(tmp_path / name) for name in ("fixed", "flow", "usual", "next"))
    assert fixed == usual
    assert [one == other for one, other in zip(flow, fixed, strict=True)] == [True, *[False] * (LENGTH - 1)]
    assert [one == other for one, other in zip(flow, following, strict=True)] == [
        number == CUT for number in range(LENGTH)
    ], "a shot begins with the noise of the seed plus its number"


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M"])
def test_of_a_picture_that_is_repeated_it_is_the_fixed_noise(tmp_path, sampler):
    (tmp_path / "frames").mkdir()
    for number in range(3):
        shown(0).save(tmp_path / "frames" / f"{number}.png")
    for name in ("fixed", "flow"):
        options = ("--noise", name, "--sampler", sampler, "--denoising-strength", 0.6)
        assert painted(tmp_path / "frames", tmp_path / name, *options) == 0
    assert contents(tmp_path / "flow") == contents(tmp_path / "fixed")


@pytest.mark.parametrize("at", [16, 17, 20])
def test_interrupted_anywhere_it_goes_on_to_the_same_bytes(frames, tmp_path, monkeypatch, at):
    (frames / "f2.png").write_bytes(b"broken")
    assert painted(frames, tmp_path / "whole", "--noise", "flow") == 2
    with interrupted(monkeypatch, at):
        painted(frames, tmp_path / "again", "--noise", "flow")
    assert 0 < len(contents(tmp_path / "again")) < LENGTH - 1
    assert painted(frames, tmp_path / "again", "--noise", "flow") == 2
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


def test_a_frame_that_was_removed_is_made_again_and_other_shots_are_not_looked_at(frames, tmp_path, monkeypatch):
    folder = tmp_path / "made"
    assert painted(frames, folder, "--noise", "flow") == 0
    whole = contents(folder)
    (folder / "f3.png").unlink()
    followed = []

    class Watched(CarriedNoise):
        def __init__(self, *arguments) -> None:
            followed.append("begins")
            super().__init__(*arguments)

        def follow(self, picture: np.ndarray) -> None:
            followed.append("follows")
            super().follow(picture)

    monkeypatch.setattr(video_frames, "CarriedNoise", Watched)
    assert painted(frames, folder, "--noise", "flow") == 0
    assert contents(folder) == whole
    assert followed == ["begins", *["follows"] * (CUT - 1)]


def test_over_machines_a_shot_stays_with_one_worker(frames, tmp_path, monkeypatch):
    pretend(monkeypatch)
    monkeypatch.setattr("lib_depth2img.commands.video_workers.TOGETHER", 2)
    (frames / "f1.png").write_bytes(b"broken")
    assert painted(frames, tmp_path / "alone", "--noise", "flow") == 2
    assert painted(frames, tmp_path / "spread", "--noise", "flow", "--ray") == 2
    assert contents(tmp_path / "spread") == contents(tmp_path / "alone")
    assert len(contents(tmp_path / "spread")) == LENGTH - 1
    (tmp_path / "spread" / "f3.png").unlink()
    assert painted(frames, tmp_path / "spread", "--noise", "flow", "--ray") == 2
    assert contents(tmp_path / "spread") == contents(tmp_path / "alone")
