"""Masks by depth: what is white, how soft its edge is, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.depth.mask import depth_mask
from lib_depth2img.errors import RequestError

RAMP = DepthMap(np.tile(np.linspace(0.0, 1.0, 101, dtype=np.float32), (40, 1)), unit=True)


@pytest.mark.parametrize(("low", "high"), [(0.5, 1.0), (0.0, 0.25), (0.3, 0.6), (0.0, 1.0), (1.0, 1.0)])
def test_white_is_what_lies_between(low, high):
    mask = depth_mask(RAMP, low, high)
    inside = (RAMP.values >= np.float32(low)) & (RAMP.values <= np.float32(high))
    np.testing.assert_array_equal(mask, np.where(inside, 255, 0))
    assert mask.dtype == np.uint8


def test_a_map_in_other_units_is_cut_on_its_own_scale():
    metres = DepthMap(RAMP.values * 7 + 2, unit=False)
    np.testing.assert_array_equal(depth_mask(metres, 0.5, 1.0)[:, :50], 0)
    np.testing.assert_array_equal(depth_mask(metres, 0.5, 1.0)[:, 51:], 255)


def test_the_edge_is_as_soft_as_scipys_gaussian_and_the_border_stays_white():
    soft = depth_mask(RAMP, 0.5, 1.0, edge=4.0).astype(float)
    expected = ndimage.gaussian_filter(depth_mask(RAMP, 0.5, 1.0).astype(float), 4.0, mode="nearest", truncate=3.0)
    assert np.abs(soft - expected).max() < 3
    assert (soft[:, -1] == 255).all()


@pytest.mark.parametrize(
    ("low", "high", "edge", "message"),
    [
        (0.6, 0.4, 0.0, "low: got 0.6, expected at most high, which is 0.4."),
        (-0.1, 1.0, 0.0, "low is -0.1"),
        (0.0, float("nan"), 0.0, "high is nan"),
        (0.0, 1.0, 65.0, "edge is 65.0"),
    ],
)
def test_what_makes_no_mask_is_refused(low, high, edge, message):
    with pytest.raises(RequestError, match=message):
        depth_mask(RAMP, low, high, edge=edge)
