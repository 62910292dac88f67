"""The sliders and the colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lib_depth2img import Adjustments, DepthMap
from lib_depth2img.depth.adjust import RANGES
from lib_depth2img.depth.colormap import COLORMAPS, colorize
from lib_depth2img.errors import RequestError

RAMP = DepthMap.from_array(np.tile(np.arange(0, 256, 5, dtype=np.uint8), (20, 1)))
ESTIMATE = DepthMap.from_array(np.random.default_rng(0).normal(1000, 300, (40, 52)).astype(np.float32))


def test_nothing_to_adjust_gives_the_very_map() -> None:
    assert ESTIMATE.adjusted(Adjustments()) is ESTIMATE
    assert Adjustments().is_identity
    assert not Adjustments(invert=True).is_identity


def test_levels() -> None:
    values = RAMP.adjusted(Adjustments(far=0.2, near=0.6)).values
    expected = np.clip((RAMP.values.astype(float) - 0.2) / 0.4, 0, 1)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert (values[RAMP.values <= 0.2] == 0).all()
    assert (values[RAMP.values >= np.float32(0.6)] == 1).all()


def test_gamma_above_one_brings_the_middle_nearer() -> None:
    values = RAMP.adjusted(Adjustments(gamma=2.0)).values
    np.testing.assert_allclose(values, np.sqrt(RAMP.values), atol=1e-6)


def test_invert_comes_before_the_levels() -> None:
    inverted = RAMP.adjusted(Adjustments(invert=True))
    np.testing.assert_allclose(inverted.values, 1 - RAMP.values, atol=1e-7)
    both = RAMP.adjusted(Adjustments(invert=True, far=0.5))
    np.testing.assert_allclose(both.values, inverted.adjusted(Adjustments(far=0.5)).values, atol=1e-6)


def test_blur_is_a_gaussian_of_that_sigma() -> None:
    spot = np.zeros((101, 101), np.float32)
    spot[50, 50] = 1.0
    blurred = DepthMap(spot, unit=True).adjusted(Adjustments(blur=4.0)).values.astype(float)
    x = np.arange(101) - 50
    assert blurred.sum() == pytest.approx(1.0, abs=1e-5)
    assert np.sqrt((blurred.sum(0) * x**2).sum()) == pytest.approx(4.0, abs=0.1)


def test_blur_comes_last() -> None:
    together = RAMP.adjusted(Adjustments(far=0.3, near=0.35, blur=3.0))
    after = RAMP.adjusted(Adjustments(far=0.3, near=0.35)).adjusted(Adjustments(blur=3.0))
    np.testing.assert_allclose(together.values, after.values, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 7.0, 64.0])
@pytest.mark.parametrize("level", [0.1, 1 / 3, 1.0])
def test_blur_keeps_a_flat_map_flat(sigma: float, level: float) -> None:
    flat = DepthMap(np.full((33, 70), level, np.float32), unit=True).adjusted(Adjustments(blur=sigma))
    assert flat.is_flat
    assert flat.extent[0] == np.float32(level)


def test_an_estimate_is_adjusted_on_its_own_scale() -> None:
    adjusted = ESTIMATE.adjusted(Adjustments(far=0.25))
    assert adjusted.unit
    assert adjusted.extent == (0.0, 1.0)
    np.testing.assert_allclose(adjusted.values, np.clip((ESTIMATE.scaled().values - 0.25) / 0.75, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("far", -0.1), ("far", 1.5), ("near", 2), ("gamma", 0), ("gamma", 11), ("blur", -1), ("blur", 65),
        ("far", float("nan")), ("near", "1"), ("blur", None), ("gamma", True), ("invert", 1), ("invert", "yes"),
    ],
)  # fmt: skip
def test_out_of_range_names_field_and_value(field: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        Adjustments(**{field: value})  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith(field)
    assert repr(value) in text
    if field in RANGES:
        assert f"{RANGES[field].maximum:g}" in text


@pytest.mark.parametrize(("far", "near"), [(0.5, 0.5), (0.6, 0.4), (1.0, 1.0)])
def test_far_has_to_be_below_near(far: float, near: float) -> None:
    with pytest.raises(RequestError, match=r"far.*below near"):
        Adjustments(far=far, near=near)


def test_whole_and_numpy_numbers_are_numbers() -> None:
    assert Adjustments(far=0, near=1, gamma=np.float32(1), blur=np.int64(0)) == Adjustments()  # type: ignore[arg-type]


def test_ranges_hold_the_defaults() -> None:
    for name, allowed in RANGES.items():
        assert allowed.minimum <= getattr(Adjustments(), name) <= allowed.maximum


@pytest.mark.parametrize("name", COLORMAPS)
def test_colours(name: str) -> None:
    picture = colorize(ESTIMATE, name)
    assert picture.dtype == np.uint8
    assert picture.shape == (40, 52, 3)
    grey = np.rint(ESTIMATE.scaled().values * 255).astype(np.uint8)
    if name == "grey":
        expected = np.dstack([grey] * 3)
    else:
        expected = cv2.applyColorMap(grey, getattr(cv2, f"COLORMAP_{name.upper()}"))[..., ::-1]
    np.testing.assert_array_equal(picture, expected)


def test_inferno_is_red_rather_than_blue_in_the_middle() -> None:
    red, _, blue = colorize(DepthMap.from_array(np.full((1, 1), 160, np.uint8)), "inferno")[0, 0]
    assert red > blue


def test_an_unknown_colour_map_is_refused() -> None:
    with pytest.raises(RequestError, match=r"rainbow.*inferno"):
        colorize(RAMP, "rainbow")


def test_values_beyond_the_unit_scale_are_drawn_as_its_ends() -> None:
    beyond = DepthMap(np.array([[-0.5, 1.5]], np.float32), unit=True)
    assert colorize(beyond, "grey")[0, :, 0].tolist() == [0, 255]


def test_a_number_too_large_for_a_float_is_refused_as_any_other() -> None:
    with pytest.raises(RequestError, match="has to be a number from 0 to 1"):
        Adjustments(far=10**400)


def test_clip_stretches_without_the_extremes() -> None:
    values = np.linspace(1.0, 2.0, 100, dtype=np.float32).reshape(10, 10)
    values[0, 0], values[9, 9] = -1e9, 1e9
    adjusted = DepthMap(values, unit=False).adjusted(Adjustments(clip=0.02)).values
    inside = np.sort(values.ravel())[2:-2]
    assert adjusted.min() == 0.0
    assert adjusted.max() == 1.0
    expected = (inside - inside[0]) / (inside[-1] - inside[0])
    np.testing.assert_allclose(np.sort(adjusted.ravel())[2:-2], expected, atol=1e-5)


def test_clip_of_a_map_with_few_levels_may_leave_it_flat() -> None:
    values = np.zeros((10, 10), np.float32)
    values[0, 0] = 1.0
    assert DepthMap(values, unit=True).adjusted(Adjustments(clip=0.02)).is_flat


def test_clip_comes_before_the_other_adjustments() -> None:
    values = np.linspace(0.0, 1.0, 1000, dtype=np.float32).reshape(20, 50)
    clipped = DepthMap(values, unit=True).adjusted(Adjustments(clip=0.1))
    both = DepthMap(values, unit=True).adjusted(Adjustments(clip=0.1, far=0.2, gamma=2.0, invert=True))
    again = clipped.adjusted(Adjustments(far=0.2, gamma=2.0, invert=True))
    np.testing.assert_allclose(both.values, again.values, atol=1e-6)
