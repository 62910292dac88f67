"""Which depth map goes with which picture."""

from __future__ import annotations

import pytest

from lib_depth2img.errors import RequestError
from lib_depth2img.sequences.pairs import MapFolder
from tests.sequences.folders import fill


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
