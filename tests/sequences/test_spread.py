"""Frames over a cluster, on a stand-in of Ray that has one process and runs what it is given at once."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.cli import main
from lib_depth2img.errors import RequestError
from lib_depth2img.sequences import spread as spread_module
from lib_depth2img.sequences.maps import Maps
from lib_depth2img.sequences.spread import MOST_ATTEMPTS, Attempts, connected
from lib_depth2img.sequences.work import Work
from tests.pretend_ray import Died, pretend
from tests.sequences.films import scene


@pytest.fixture
def ray(monkeypatch) -> SimpleNamespace:
    return pretend(monkeypatch)


@pytest.fixture
def frames(tmp_path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(20):
        Image.fromarray(scene(number, (48, 32), other=5 <= number < 16)).save(folder / f"f{number:02d}.png")
    (folder / "f00.png").write_bytes(b"broken")
    (folder / "f16.png").write_bytes(b"broken")  # where a shot would begin
    return folder


def depth(*arguments: object) -> int:
    return main(["video", *map(str, arguments), "--depth-only", "--estimator", "small", "--quiet"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


@pytest.mark.parametrize("options", [["--range", "shot"], ["--range", "sequence", "--clip", "0.02"]])
def test_the_frames_are_those_of_a_run_without_it(frames, tmp_path, ray, monkeypatch, capsys, options):
    monkeypatch.setattr("lib_depth2img.commands.video_workers.SCANNED", 6)
    monkeypatch.setattr("lib_depth2img.commands.video_workers.TOGETHER", 3)
    assert depth(frames, "-o", tmp_path / "alone", *options) == 2
    assert ray.asked == []
    said = capsys.readouterr().err
    assert depth(frames, "-o", tmp_path / "spread", *options, "--ray") == 2
    assert ray.asked == ["local", "shutdown"]
    assert contents(tmp_path / "spread") == contents(tmp_path / "alone")
    assert len(contents(tmp_path / "spread")) == 18
    assert sorted(capsys.readouterr().err.splitlines()) == sorted(said.splitlines())


def test_own_maps_are_paired_here_and_read_by_the_workers(frames, tmp_path, ray, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("maps").mkdir()
    for number in range(20):
        np.save(Path("maps", f"f{number:02d}.npy"), np.linspace(1, number + 2, 48 * 32).reshape(32, 48))
    words = ["--maps", "maps", "--distance", "--depth-only", "--quiet"]
    for name, more in (("alone", []), ("spread", ["--ray"])):
        assert main(["video", str(frames), "-o", name, *words, *more]) == 2
    assert ray.asked == ["local", "shutdown"]
    assert contents(tmp_path / "spread") == contents(tmp_path / "alone")
    assert len(contents(tmp_path / "spread")) == 18


def test_pictures_too(frames, tmp_path, ray):
    for path in sorted(frames.iterdir())[4:]:
        path.unlink()
    options = ["--prompt", "a ball", "--steps", "1", "--quiet"]
    for name, more in (("alone", []), ("spread", ["--ray"])):
        assert main(["video", str(frames), "-o", str(tmp_path / name), *options, *more]) == 2
    assert contents(tmp_path / "spread") == contents(tmp_path / "alone")


def test_a_row_that_ends_its_worker_again_and_again_is_reported(frames, tmp_path, ray, monkeypatch, capsys):
    original, died = Maps.make, []

    def make(self: Maps, film: Any, *arguments: Any, **named: Any) -> Any:
        if film.pictures[0].name == "f05.png":
            died.append(film)
            raise Died
        return original(self, film, *arguments, **named)

    monkeypatch.setattr(Maps, "make", make)
    assert depth(frames, "-o", tmp_path / "maps", "--ray") == 2
    assert len(died) == MOST_ATTEMPTS
    said = capsys.readouterr().err
    assert "shot-1 (f05.png to f16.png) has ended its worker 3 times and was left out" in said
    assert not {f"f{number:02d}.png" for number in range(5, 16)} & contents(tmp_path / "maps").keys()
    assert {f"f{number:02d}.png" for number in (1, 4, 17, 19)} <= contents(tmp_path / "maps").keys()


def test_a_row_that_is_through_is_not_counted(tmp_path):
    attempts = Attempts(tmp_path / "attempts")
    for _ in range(2 * MOST_ATTEMPTS):
        attempts.begin("a")
        attempts.end("a")


def test_without_ray_one_sentence_says_how_to_get_it(frames, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert depth(frames, "-o", tmp_path / "maps", "--ray") == 2
    assert capsys.readouterr().err.startswith("error: Spreading needs Ray: pip install")


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nowhere.invalid:6379", "here", "a:b:c"])
def test_where_nothing_listens_one_sentence_says_so_at_once(ray, address):
    began = time.monotonic()
    with pytest.raises(RequestError, match=f"^No Ray cluster answers at {address} "):
        connected(address, 1)
    assert time.monotonic() - began < 15
    assert ray.asked == []


def test_what_listens_and_is_no_ray_is_not_waited_for(ray, monkeypatch):
    monkeypatch.setattr(spread_module, "PATIENCE", 0.2)
    ray.hangs = True
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RequestError, match=rf"answers at {address} \(not within 0.2 s\)"):
            connected(address, 1)


def test_a_video_file_is_to_be_split_first(tmp_path, ray, capsys):
    from tests.sequences.films import made

    assert depth(made(tmp_path / "in.mp4", [0, 1001]), "-o", tmp_path / "maps", "--ray") == 2
    assert "--ray takes a folder of frames" in capsys.readouterr().err


def test_a_command_that_was_ended_three_times_goes_on_all_the_same(tmp_path):
    """kill -9 of the whole says nothing about the row that was at work; only what ends its worker in one run counts."""
    for _ in range(MOST_ATTEMPTS + 1):
        work = Work(tmp_path / "work", {"film": "a"})
        Attempts(work.attempts).begin("shot-0")
    for _ in range(MOST_ATTEMPTS - 1):
        Attempts(work.attempts).begin("shot-0")
    with pytest.raises(RequestError, match="shot-0 has ended its worker 3 times"):
        Attempts(work.attempts).begin("shot-0")
    work.finish(1, keep_note=True)
    assert sorted(path.name for path in work.folder.iterdir()) == ["job.json"]
