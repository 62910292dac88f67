"""Maps beside photos that EXIF turns."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lib_depth2img import DepthMap, read_picture
from lib_depth2img.depth.io.files import read_orientation
from lib_depth2img.depth.upright import upright_with
from lib_depth2img.errors import PictureError

SENSOR = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
MAP = DepthMap.from_array(SENSOR)


def photo(orientation: int, kind: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(SENSOR).save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_map_of_the_stored_photo_is_turned_as_the_photo_is(orientation: int) -> None:
    picture = read_picture(photo(orientation))
    assert read_orientation(photo(orientation)) == orientation
    upright = upright_with(MAP, picture.size, orientation)
    np.testing.assert_array_equal(upright.depth_map.values, np.asarray(picture.convert("L")) / np.float32(255))
    assert upright.remark == f"The depth map was turned as its photo is (EXIF orientation {orientation})."


@pytest.mark.parametrize("orientation", [1, 3])
def test_a_map_that_lies_across_a_picture_that_nobody_turned_is_told(orientation: int) -> None:
    upright = upright_with(MAP, (400, 600), orientation)
    assert upright.depth_map is MAP
    assert upright.remark is not None
    assert "60x40 lies across the picture of 400x600" in upright.remark


@pytest.mark.parametrize("picture_size", [(60, 40), (4000, 2700), (50, 50), (10, 200)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_map_that_fits_or_fits_neither_way_is_left_alone(picture_size: tuple[int, int], orientation: int) -> None:
    assert upright_with(MAP, picture_size, orientation) == (MAP, None)


def test_networks_want_multiples_of_14() -> None:
    depth_map = DepthMap.from_array(np.ones((392, 518)))
    assert upright_with(depth_map, (3000, 4000), 8).depth_map.size == (392, 518)
    assert upright_with(depth_map, (4000, 3000), 8) == (depth_map, None)


def test_the_orientation_of_files() -> None:
    plain = io.BytesIO()
    Image.fromarray(SENSOR).save(plain, "PNG")
    assert read_orientation(plain.getvalue()) == 1
    assert read_orientation(photo(6, "JPEG")) == 6
    with pytest.raises(PictureError, match=r"the given data: .*text"):
        read_orientation(b"no picture at all")
