"""``depth`` and ``img2img`` of folders: what goes on where it stopped, and workers of Ray that make the same files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_depth2img import DepthEstimator
from lib_depth2img.cli import main
from lib_depth2img.commands import generation
from lib_depth2img.sequences.spread import MOST_ATTEMPTS
from tests.interrupted import interrupted
from tests.pretend_ray import Died, pretend
from tests.sequences.films import scene

NOTES = {".depth2img-depth", ".depth2img-img2img"}


@pytest.fixture
def ray(monkeypatch) -> SimpleNamespace:
    return pretend(monkeypatch)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Twenty of two sizes, of which one is broken."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(20):
        size = (64, 48) if number % 3 else (48, 64)
        Image.fromarray(scene(number, size, other=number % 2 == 0)).save(folder / f"f{number:02d}.png")
    (folder / "f09.png").write_bytes(b"broken")
    return folder


@pytest.fixture
def few(pictures) -> Path:
    """Three of them."""
    for path in sorted(pictures.iterdir())[3:]:
        path.unlink()
    return pictures


def depth(*arguments: object) -> int:
    return main(["depth", *map(str, arguments), "--estimator", "small", "--quiet"])


def img2img(*arguments: object) -> int:
    return main(["img2img", *map(str, arguments), "--prompt", "a ball", "--steps", "1", "--quiet"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name not in NOTES}


class TestDepth:
    """By workers."""

    def test_the_maps_are_those_of_a_run_without_ray(self, pictures, tmp_path, ray, capsys):
        assert depth(pictures, "-o", tmp_path / "alone") == 2
        assert ray.asked == []
        said = capsys.readouterr()
        assert depth(pictures, "-o", tmp_path / "spread", "--ray") == 2
        assert ray.asked == ["local", "shutdown"]
        assert contents(tmp_path / "spread") == contents(tmp_path / "alone")
        assert len(contents(tmp_path / "spread")) == 19
        assert capsys.readouterr().err == said.err

    def test_equal_pictures_of_other_groups_change_nothing(self, pictures, tmp_path, ray):
        for number in (1, 8, 15):
            (pictures / f"f{number:02d}.png").write_bytes((pictures / "f19.png").read_bytes())
        for name, options in (("alone", []), ("spread", ["--ray"])):
            depth(pictures, "-o", tmp_path / name, *options, "--format", "npy")
        assert contents(tmp_path / "spread") == contents(tmp_path / "alone")

    def test_what_is_missing_is_made_and_nothing_else(self, pictures, tmp_path, ray, monkeypatch, capsys):
        depth(pictures, "-o", tmp_path / "maps", "--ray")
        before = contents(tmp_path / "maps")
        for name in ("f00.png", "f12.png"):
            (tmp_path / "maps" / name).unlink()
        times = {path: path.stat().st_mtime_ns for path in (tmp_path / "maps").glob("*.png")}
        groups, original = [], DepthEstimator.estimate
        monkeypatch.setattr(
            DepthEstimator,
            "estimate",
            lambda self, shown, detail: groups.append(len(shown)) or original(self, shown, detail),
        )
        assert depth(pictures, "-o", tmp_path / "maps", "--ray") == 2
        assert contents(tmp_path / "maps") == before
        assert {path: path.stat().st_mtime_ns for path in times} == times
        assert groups == [8, 7]  # whole ones, as in the first run; f16 to f19 are left alone
        assert "going on with" in capsys.readouterr().err

    def test_a_folder_that_is_done_asks_no_cluster(self, few, tmp_path, ray):
        assert depth(few, "-o", tmp_path / "maps", "--ray") == 0
        ray.asked.clear()
        assert depth(few, "-o", tmp_path / "maps", "--ray") == 0
        assert ray.asked == []

    def test_maps_of_other_options_are_not_gone_on_with(self, few, tmp_path, ray, capsys):
        depth(few, "-o", tmp_path / "maps", "--ray")
        assert depth(few, "-o", tmp_path / "maps", "--ray", "--invert") == 2
        assert "begun with another invert" in capsys.readouterr().err
        (tmp_path / "other").mkdir()
        for path in few.iterdir():
            path.rename(tmp_path / "other" / path.name)
        assert depth(tmp_path / "other", "-o", tmp_path / "maps", "--ray") == 2
        assert "begun with another folders" in capsys.readouterr().err

    def test_without_ray_maps_are_made_anew_as_ever(self, few, tmp_path, ray, capsys):
        depth(few, "-o", tmp_path / "maps", "--ray")
        assert depth(few, "-o", tmp_path / "maps", "--invert") == 0
        assert depth(few, "-o", tmp_path / "inverted", "--invert") == 0
        assert contents(tmp_path / "maps") == contents(tmp_path / "inverted")
        assert depth(few, "-o", tmp_path / "maps", "--ray") == 2  # they are no longer those of the first command
        assert "maps holds f00.png, f01.png, f02.png already, of a command that is not known" in capsys.readouterr().err

    def test_a_group_that_ends_its_worker_again_and_again_is_named(self, pictures, tmp_path, ray, monkeypatch, capsys):
        died, original = [], DepthEstimator.estimate

        def estimate(self: DepthEstimator, shown: Any, detail: Any) -> Any:
            if any(np.array_equal(np.asarray(each), poison) for each in shown):
                died.append(shown)
                raise Died
            return original(self, shown, detail)

        poison = np.asarray(Image.open(pictures / "f17.png").convert("RGB"))
        monkeypatch.setattr(DepthEstimator, "estimate", estimate)
        assert depth(pictures, "-o", tmp_path / "maps", "--ray") == 2
        assert len(died) == MOST_ATTEMPTS
        assert {f"f{number:02d}.png" for number in range(16) if number != 9} == contents(tmp_path / "maps").keys()
        said = capsys.readouterr().err
        for number in range(16, 20):
            assert f"f{number}.png: the group of 4 pictures that it is in has ended its worker 3 times" in said

    def test_what_ends_all_is_said_by_the_driver(self, few, tmp_path, ray, capsys):
        (tmp_path / "weights.pt").write_bytes(b"none")
        assert depth(few, "-o", tmp_path / "maps", "--ray", "--weights", tmp_path / "weights.pt") == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: weights.pt: Not a weights file")

    def test_one_picture_is_not_spread(self, few, tmp_path, ray, capsys):
        assert depth(few / "f00.png", "-o", tmp_path / "x.png", "--ray") == 2
        assert "--ray spreads a folder of pictures" in capsys.readouterr().err
        assert ray.asked == []

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--ray-cores", 0], "--ray-cores: got 0, expected 1 or more."),
            (["--ray-cores", 3], "No machine of the Ray cluster has 3 cores; use a smaller --ray-cores."),
            (["--device", "cuda"], "No machine of the Ray cluster has a GPU; use --device cpu."),
        ],
    )
    def test_workers_that_cannot_be_had_are_not_waited_for(self, few, tmp_path, ray, capsys, options, said):
        ray.machines = [{"CPU": 2.0}, {"CPU": 2.0}]
        assert depth(few, "-o", tmp_path / "maps", "--ray", *options) == 2
        assert said in capsys.readouterr().err


class TestImg2img:
    """Of a folder."""

    def test_each_is_made_as_it_would_be_alone(self, few, tmp_path, ray, capsys):
        assert img2img(few, "-o", tmp_path / "all", "--batch-size", 2) == 0
        assert capsys.readouterr().out == f"{tmp_path / 'all'}\n"
        for path in few.iterdir():
            assert img2img(path, "-o", tmp_path / "alone" / path.name, "--batch-size", 2) == 0
        assert len(contents(tmp_path / "all")) == 6
        assert contents(tmp_path / "all") == contents(tmp_path / "alone")
        assert img2img(few, "-o", tmp_path / "spread", "--batch-size", 2, "--ray") == 0
        assert ray.asked == ["local", "shutdown"]
        assert contents(tmp_path / "spread") == contents(tmp_path / "alone")

    @pytest.mark.parametrize("more", [[], ["--ray"]])
    def test_a_broken_one_is_named_and_the_next_run_makes_what_is_missing(self, few, tmp_path, ray, capsys, more):
        whole = (few / "f01.png").read_bytes()
        (few / "f01.png").write_bytes(b"broken")
        assert img2img(few, "-o", tmp_path / "out", *more) == 2
        assert f"error: {few / 'f01.png'}: " in capsys.readouterr().err
        times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
        assert sorted(path.name for path in times) == ["f00.png", "f02.png"]
        (few / "f01.png").write_bytes(whole)
        assert img2img(few, "-o", tmp_path / "out", *more) == 0
        assert {path: path.stat().st_mtime_ns for path in times} == times
        assert list(contents(tmp_path / "out")) == ["f00.png", "f01.png", "f02.png"]
        assert img2img(few, "-o", tmp_path / "out", *more, "--seed", 5) == 2
        assert "begun with another seed" in capsys.readouterr().err

    @pytest.mark.parametrize("more", [[], ["--ray"]])
    def test_what_was_replaced_is_made_again_and_nothing_else(self, few, tmp_path, ray, capsys, more):
        maps = tmp_path / "maps"
        maps.mkdir()
        for path in few.iterdir():
            np.save(maps / f"{path.stem}.npy", np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64))
        options = ["--depth-map", maps, *more]
        assert img2img(few, "-o", tmp_path / "out", *options) == 0
        times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
        Image.fromarray(scene(9, (64, 48))).save(few / "f00.png")
        np.save(maps / "f02.npy", np.linspace(1, 0, 48 * 64, dtype=np.float32).reshape(48, 64))
        capsys.readouterr()
        assert img2img(few, "-o", tmp_path / "out", *options) == 0
        assert "made again, since it, or its map, has changed: f00.png, f02.png" in capsys.readouterr().err
        again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
        assert [name for name in times if again[name] == times[name]] == ["f01.png"]
        assert img2img(few, "-o", tmp_path / "whole", *options) == 0
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")
        assert img2img(few, "-o", tmp_path / "out", *options) == 0
        assert "made again" not in capsys.readouterr().err

    def test_interrupted_behind_the_old_ones_it_does_not_keep_them(self, few, tmp_path, monkeypatch):
        assert img2img(few, "-o", tmp_path / "out") == 0
        for number, path in enumerate(sorted(few.iterdir())):
            Image.fromarray(scene(9 + number, (64, 48))).save(path)
        with interrupted(monkeypatch, 2):
            img2img(few, "-o", tmp_path / "out")
        assert img2img(few, "-o", tmp_path / "out") == 0
        assert img2img(few, "-o", tmp_path / "whole") == 0
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_where_a_share_does_not_answer_for_a_moment_nothing_is_taken_away(self, few, tmp_path, monkeypatch):
        assert img2img(few, "-o", tmp_path / "out") == 0
        whole = contents(tmp_path / "out")
        with monkeypatch.context() as patched:
            patched.setattr("lib_depth2img.commands.groups.stamp", lambda _: "")
            assert img2img(few, "-o", tmp_path / "out") == 0
        times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
        assert img2img(few, "-o", tmp_path / "out") == 0
        assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")} == times
        assert contents(tmp_path / "out") == whole

    def test_a_mask_that_was_painted_over_is_another_one(self, few, tmp_path, capsys):
        (few / "f00.png").unlink()
        Image.new("L", (64, 48), 255).save(tmp_path / "mask.png")
        assert img2img(few, "-o", tmp_path / "out", "--mask", tmp_path / "mask.png") == 0
        mask = Image.new("L", (64, 48))
        mask.paste(255, (0, 0, 32, 48))
        mask.save(tmp_path / "mask.png")
        assert img2img(few, "-o", tmp_path / "out", "--mask", tmp_path / "mask.png") == 2
        assert "holds what was begun with another mask." in capsys.readouterr().err

    @pytest.mark.parametrize("more", [[], ["--ray"]])
    def test_maps_of_a_folder_are_paired_by_name(self, few, tmp_path, ray, capsys, more):
        maps = tmp_path / "maps"
        maps.mkdir()
        for number, name in enumerate(("f00_depth", "f01")):
            np.save(maps / f"{name}.npy", np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64) ** (number + 1))
        options = ["--denoising-strength", 1, "--from-noise"]
        assert img2img(few, "-o", tmp_path / "out", "--depth-map", maps, *options, *more) == 0
        said = capsys.readouterr().err
        assert f"No depth map in {maps} for f02.png: estimated." in said
        assert "f00.png: The depth map is 64x48 and the picture 48x64, another shape: the map is stretched." in said
        for name, own in (("f00", maps / "f00_depth.npy"), ("f01", maps / "f01.npy"), ("f02", None)):
            own_map = [] if own is None else ["--depth-map", own]
            assert img2img(few / f"{name}.png", "-o", tmp_path / "one" / f"{name}.png", *own_map, *options) == 0
        assert contents(tmp_path / "out") == contents(tmp_path / "one")

    def test_a_clip_of_maps_is_paired_in_order(self, few, tmp_path, capsys):
        maps = tmp_path / "maps"
        maps.mkdir()
        clip = np.stack([np.linspace(0, 1, 48 * 64).reshape(48, 64) ** power for power in (1, 2, 3)]).astype(np.float32)
        np.save(maps / "clip.npy", clip)
        np.save(tmp_path / "second.npy", clip[1])
        assert img2img(few, "-o", tmp_path / "out", "--depth-map", maps) == 0
        assert "clip.npy holds 3 maps" in capsys.readouterr().err
        assert img2img(few, "-o", tmp_path / "named", "--depth-map", maps / "clip.npy") == 0
        assert contents(tmp_path / "named") == contents(tmp_path / "out")
        assert img2img(few / "f01.png", "-o", tmp_path / "one.png", "--depth-map", tmp_path / "second.npy") == 0
        assert (tmp_path / "out" / "f01.png").read_bytes() == (tmp_path / "one.png").read_bytes()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--contact-sheet"], "--contact-sheet shows one picture"),
            (["--seed", "-1"], "--seed -1 draws another one for each run"),
            (["--depth-map", "{map}"], "is no clip of maps"),
            (["--depth-map", "{empty}"], "holds no depth map of any picture"),
            (["--depth-map", "{maps}", "--range", "0:1"], "No depth map in {maps} for f01.png, f02.png, and --range"),
            (["--mask", "{maps}"], "maps"),
            (["--depth-region", "{empty}/none.png"], "none.png"),
            (["--far", "2"], "far is 2.0"),
            (["-o", "{pictures}"], "is the pictures' own folder"),
            (["-o", "{map}"], "3 pictures do not go into the one file"),
        ],
    )
    def test_what_cannot_be_is_one_line_before_the_model_is_loaded(
        self, few, tmp_path, monkeypatch, capsys, options, said
    ):
        monkeypatch.setattr(generation, "load", lambda *_: pytest.fail("the model was loaded"))
        maps, empty = tmp_path / "maps", tmp_path / "empty"
        maps.mkdir()
        empty.mkdir()
        np.save(maps / "f00.npy", np.eye(4))
        Image.new("L", (4, 4)).save(tmp_path / "map.png")
        places = {"map": tmp_path / "map.png", "empty": empty, "maps": maps, "pictures": few}
        assert img2img(few, "-o", tmp_path / "out", *(option.format(**places) for option in options)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said.format(**places) in line
        assert not (tmp_path / "out").exists()

    def test_a_mask_is_one_for_all_and_has_to_fit_each(self, few, tmp_path, capsys):
        mask = Image.new("L", (64, 48))
        mask.paste(255, (0, 0, 32, 48))
        mask.save(tmp_path / "mask.png")
        assert img2img(few, "-o", tmp_path / "out", "--mask", tmp_path / "mask.png") == 2  # f00 is upright
        assert "f00.png" in capsys.readouterr().err
        assert img2img(few / "f01.png", "-o", tmp_path / "one.png", "--mask", tmp_path / "mask.png") == 0
        assert list(contents(tmp_path / "out")) == ["f01.png", "f02.png"]
        assert (tmp_path / "out" / "f01.png").read_bytes() == (tmp_path / "one.png").read_bytes()

    @pytest.mark.parametrize("more", [[], ["--ray"]])
    def test_options_out_of_range_are_told_once(self, few, tmp_path, ray, capsys, more):
        assert img2img(few, "-o", tmp_path / "out", "--width", 65, *more) == 2
        said = capsys.readouterr().err
        assert said.count("error: ") == 1
        assert "width: got 65, expected a multiple of 64" in said

    def test_a_picture_that_ends_its_worker_again_and_again_is_named(self, few, tmp_path, ray, monkeypatch, capsys):
        original = generation.Generation.read

        def read(self: generation.Generation, path: Path, *arguments: Any) -> Any:
            if path.name == "f01.png":
                raise Died
            return original(self, path, *arguments)

        monkeypatch.setattr(generation.Generation, "read", read)
        assert img2img(few, "-o", tmp_path / "out", "--ray") == 2
        assert f"error: {few / 'f01.png'}: it has ended its worker 3 times" in capsys.readouterr().err
        assert list(contents(tmp_path / "out")) == ["f00.png", "f02.png"]
