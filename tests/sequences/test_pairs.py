"""Which depth map goes with which picture."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from lib_depth2img.errors import RequestError
from lib_depth2img.sequences.pairs import Pairing, pair
from tests.sequences.folders import fill


def partner(folder: Path, picture: Path) -> Path | None:
    """The map of one picture alone."""
    return pair([picture], folder).maps[picture]


def paired(tmp_path: Path, pictures: list[str], maps: list[str]) -> dict[str, str]:
    """The names of those that found each other."""
    found = pairing(tmp_path, pictures, maps).maps
    return {
        picture.relative_to(tmp_path / "pictures").as_posix(): path.relative_to(tmp_path / "maps").as_posix()
        for picture, path in found.items()
        if path is not None
    }


def pairing(tmp_path: Path, pictures: list[str], maps: list[str]) -> Pairing:
    for folder, names in (("pictures", pictures), ("maps", maps)):
        for name in names:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    root = tmp_path / "pictures"
    return pair([root / name for name in pictures], tmp_path / "maps", root=root)


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
    assert partner(folder, tmp_path / picture) == folder / depth_map


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
    assert partner(fill(tmp_path / "maps", *maps), tmp_path / picture) is None


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
    assert partner(folder, tmp_path / ("a_1.png" if "1" in best else "a.png")) == folder / best


def test_in_the_pictures_own_folder_a_picture_is_no_map(tmp_path):
    folder = fill(tmp_path / "all", "a.png", "a_depth.png", "b.png", "b.jpg", "c.png", "c.npy", "x_1.png", "y_1.png")
    pictures = [path for path in folder.iterdir() if path.suffix != ".npy" and "depth" not in path.name]
    maps = pair(sorted(pictures), folder).maps
    assert maps[folder / "a.png"] == folder / "a_depth.png"
    assert maps[folder / "b.png"] is None
    assert maps[folder / "c.png"] == folder / "c.npy"
    assert maps[folder / "x_1.png"] is None


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RequestError, match="cannot be read: No such file"):
        pair([tmp_path / "a.png"], tmp_path / "no")


@pytest.mark.parametrize(
    ("pictures", "maps", "expected"),
    [
        (
            [f"img-{n:04}.png" for n in range(3)],
            ["img-0001-0000.png"],
            {"img-0001.png": "img-0001-0000.png"},
        ),
        (
            [f"take{n}.png" for n in (1, 2, 3)],
            ["take1_depth_v003.exr"],
            {"take1.png": "take1_depth_v003.exr"},
        ),
        (["img_5.png", "img_768.png"], ["img_5_1024x768.png"], {"img_5.png": "img_5_1024x768.png"}),
        (
            ["00000-1234567.png", "00001-1234567.png"],
            ["depth-00000-1234567.png"],
            {"00000-1234567.png": "depth-00000-1234567.png"},
        ),
        (["00001-1234567.png"], ["depth-00000-1234567.png"], {}),
        (["2024-06-01.png", "2024-07-01.png"], ["2024-06-01_d.png"], {"2024-06-01.png": "2024-06-01_d.png"}),
        (["2024-07-01.png"], ["2024-06-01_d.png"], {}),
        (["shot12_0007.png"], ["depth12_0007.exr"], {"shot12_0007.png": "depth12_0007.exr"}),
        (["shot12_0007.png"], ["depth13_0007.exr"], {}),
        (["a.png", "a_depth.png"], ["a_depth.png"], {"a_depth.png": "a_depth.png"}),
    ],
)
def test_a_number_that_counts_something_else_pairs_nothing(tmp_path, pictures, maps, expected):
    assert paired(tmp_path, pictures, maps) == expected


@pytest.mark.parametrize(
    "depth_map",
    [
        "name-dpt_beit_large_512.png",
        "name-dpt_beit_large_512.pfm",
        "name-midas_v21_small_256.png",
        "name-0000.png",
        "name_raw_depth_meter.npy",
        "name_pred.npy",
        "name_pred_depth.npy",
        "name_disp.npy",
        "name-disparity.pfm",
        "name_midas.png",
        "name_depth16.png",
        "name_depth_16bit.png",
        "name_depth_raw.npy",
        "name_depth_metric.exr",
        "name.jpg.png",
        "name_depth_16384x8192.png",
    ],
)
def test_what_programs_add_is_taken_off(tmp_path, depth_map):
    assert paired(tmp_path, ["name.jpg", "other.jpg"], [depth_map, "else.png"]) == {"name.jpg": depth_map}


def test_accents_are_the_same_however_they_are_written(tmp_path):
    composed, apart = (unicodedata.normalize(form, "Höhe.png") for form in ("NFC", "NFD"))
    assert composed != apart
    assert paired(tmp_path, [composed], [apart]) == {composed: apart}


@pytest.mark.parametrize("picture", ["0001.png", "frame0001.png", "render_0001.png"])
def test_the_layer_that_says_depth_is_the_map(tmp_path, picture):
    maps = ["Depth0001.exr", "Mist0001.png", "Normal0001.exr", "._Depth0001.exr", ".DS_Store"]
    assert paired(tmp_path, [picture], maps) == {picture: "Depth0001.exr"}


class TestFolders:
    def test_each_has_its_own(self, tmp_path):
        names = ["a/0001.png", "b/0001.png"]
        assert paired(tmp_path, names, names) == {name: name for name in names}

    def test_one_map_is_not_given_to_two_pictures_of_one_name(self, tmp_path):
        assert paired(tmp_path, ["a/0001.png", "b/0001.png"], ["0001.png"]) == {}

    def test_names_that_are_there_once_are_found_in_a_flat_folder(self, tmp_path):
        pictures = ["a/one.png", "b/two.png", "b/three.png"]
        assert paired(tmp_path, pictures, ["one_depth.png", "two.png"]) == {
            "a/one.png": "one_depth.png",
            "b/two.png": "two.png",
        }

    def test_beside_the_pictures_of_a_tree(self, tmp_path):
        for folder in ("a", "b"):
            fill(tmp_path / folder, "0001.png", "0001_depth.png")
        pictures = [tmp_path / folder / "0001.png" for folder in ("a", "b")]
        found = pair(pictures, tmp_path, root=tmp_path).maps
        assert found == {picture: picture.with_name("0001_depth.png") for picture in pictures}


PICTURES = [f"frame_{n:04}.png" for n in range(1, 6)]


class TestFramesCountedFromAnotherNumber:
    @pytest.mark.parametrize("name", ["depth_{:04}.png", "frame_{:04}.png", "frame_{:04}_depth.png"])
    def test_are_paired_in_their_order_and_it_is_said(self, tmp_path, name):
        maps = [name.format(n) for n in range(5)]
        assert paired(tmp_path, PICTURES, maps) == dict(zip(PICTURES, maps, strict=True))
        assert "paired in their order" in pairing(tmp_path, PICTURES, maps).remark

    def test_when_there_are_not_as_many_the_numbers_count(self, tmp_path):
        maps = [f"depth_{n:04}.png" for n in range(7)]
        assert paired(tmp_path, PICTURES, maps)["frame_0002.png"] == "depth_0002.png"
        assert pairing(tmp_path, PICTURES, maps).remark == ""

    def test_from_the_same_number_they_go_by_it(self, tmp_path):
        maps = [f"depth_{n:04}.png" for n in range(1, 6)]
        assert paired(tmp_path, PICTURES, maps)["frame_0002.png"] == "depth_0002.png"
        assert pairing(tmp_path, PICTURES, maps).remark == ""

    def test_with_a_gap_they_go_by_it(self, tmp_path):
        maps = [f"depth_{n:04}.png" for n in (0, 1, 2, 3, 5)]
        assert paired(tmp_path, PICTURES, maps)["frame_0002.png"] == "depth_0002.png"


class TestClips:
    """One file with the maps of many frames."""

    def clip(self, tmp_path: Path, count: int) -> Path:
        folder = fill(tmp_path / "maps")
        np.savez_compressed(folder / "vda_depths.npz", depths=np.zeros((count, 6, 8), np.float32))
        return folder

    def test_as_many_maps_as_pictures_are_paired_in_the_order_of_the_numbers(self, tmp_path):
        folder = self.clip(tmp_path, 12)
        pictures = [tmp_path / f"frame_{n}.png" for n in (1, 10, 11, 12, 2, 3, 4, 5, 6, 7, 8, 9)]
        found = pair(pictures, folder)
        assert set(found.maps.values()) == {folder / "vda_depths.npz"}
        assert {path.stem: number for path, number in found.frames.items()} == {
            f"frame_{n}": n - 1 for n in range(1, 13)
        }
        assert list(found.maps) == pictures
        assert "vda_depths.npz holds 12 maps, as many as there are pictures: they were paired in their" in found.remark

    def test_pictures_without_numbers_stay_in_their_order(self, tmp_path):
        pictures = [tmp_path / name for name in ("b.png", "a.png")]
        assert pair(pictures, self.clip(tmp_path, 2)).frames == {pictures[0]: 0, pictures[1]: 1}

    def test_another_count_pairs_nothing_and_is_said(self, tmp_path):
        pictures = [tmp_path / f"{n}.png" for n in range(3)]
        found = pair(pictures, self.clip(tmp_path, 5))
        assert set(found.maps.values()) == {None}
        assert found.frames == {}
        assert "vda_depths.npz holds 5 maps for 3 pictures, and was not paired" in found.remark

    def test_maps_with_the_pictures_names_go_before_a_clip(self, tmp_path):
        folder = fill(self.clip(tmp_path, 2), "a.png", "b.png")
        pictures = [tmp_path / name for name in ("a.png", "b.png")]
        found = pair(pictures, folder)
        assert found.maps == {picture: folder / picture.name for picture in pictures}
        assert (found.frames, found.remark) == ({}, "")

    def test_two_clips_are_not_chosen_from(self, tmp_path):
        folder = self.clip(tmp_path, 2)
        (folder / "other.npz").write_bytes((folder / "vda_depths.npz").read_bytes())
        assert pair([tmp_path / "a.png", tmp_path / "b.png"], folder).frames == {}
