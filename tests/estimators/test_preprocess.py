"""What the comparison with Stability's code in ``test_parity.py`` leaves open."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from lib_depth2img.estimators.preprocess import MAX_AREA, network_input, network_size, picture_array, shrunk
from lib_depth2img.estimators.presets import PRESETS, get_preset

HYBRID = PRESETS["dpt_hybrid"]


@pytest.mark.parametrize(("name", "side"), [("dpt_large", 384), ("midas_v21", 384), ("midas_v21_small", 256)])
def test_a_square_is_brought_to_the_side_a_network_was_trained_with(name, side):
    assert PRESETS[name].side == side
    assert network_size((1000, 1000), PRESETS[name]) == (side, side)


def test_the_small_networks_side():
    assert get_preset("small").side == 128
    assert network_size((1000, 1000), get_preset("small")) == (128, 128)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((16000, 1000), (6144, 384)),  # exactly at the bound
        ((20000, 500), (6144, 384)),  # MiDaS would make it 15360 wide
        ((500, 20000), (384, 6144)),
        ((3000, 1), (384, 32)),  # and this 0 high
        ((40, 8), (384, 64)),
    ],
)
def test_strips_are_squeezed_to_the_bound_and_never_to_nothing(size, expected):
    assert network_size(size, HYBRID) == expected
    assert expected[0] * expected[1] <= MAX_AREA == 16 * 384 * 384


def test_the_input_is_float32_whatever_the_presets_numbers_are():
    x = network_input([np.zeros((5, 7, 3), np.uint8)] * 2, (64, 32), PRESETS["midas_v21"])
    assert x.shape == (2, 3, 32, 64)
    assert x.dtype == torch.float32


def test_what_is_no_larger_than_shown_to_the_network_is_not_resampled():
    picture = np.zeros((512, 512, 3), np.uint8)
    assert shrunk(picture, (384, 384)) is picture
    assert shrunk(np.zeros((513, 512, 3), np.uint8), (384, 384)).shape == (512, 512, 3)
    assert shrunk(np.zeros((512, 514, 3), np.uint8), (384, 384)).shape == (512, 512, 3)
    assert shrunk(np.zeros((300, 900, 3), np.uint8), (384, 384)).shape == (300, 512, 3)
    assert shrunk(np.zeros((600, 900, 3), np.uint8), (576, 384)).shape == (512, 768, 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_a_picture_of_any_mode_becomes_rgb(mode):
    picture = Image.new("RGB", (3, 2), (10, 200, 30)).convert(mode)
    array = picture_array(picture)
    assert array.shape == (2, 3, 3)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, np.asarray(picture.convert("RGB")))
    assert picture_array(array) is array
