"""Strokes on a depth map: each tool changes what it should and nothing else, at any size, and bounds hold."""

from __future__ import annotations

import io
import json
import time

import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon2mask

from lib_depth2img.depth import edits
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.depth.edits import apply_strokes, edited, strokes_from_json, strokes_from_list
from lib_depth2img.depth.io.files import encode_png
from lib_depth2img.errors import RequestError

SHAPE = (60, 80)


@pytest.fixture
def values() -> np.ndarray:
    """(60, 80) float32 in [0, 1], far on the left and near on the right, no two columns alike."""
    return np.tile(np.linspace(0.0, 1.0, 80, dtype=np.float32), (60, 1))


def made(values: np.ndarray, *strokes: dict[str, object]) -> np.ndarray:
    return apply_strokes(values, strokes_from_list(list(strokes)))


def distance_to(points: list[tuple[float, float]]) -> np.ndarray:
    """From each pixel's centre to the nearest of the straight lines between points in pixels, one by one."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    found = np.full(SHAPE, np.inf)
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-9)
        t = (((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length).clip(0, 1)
        found = np.minimum(found, np.hypot(x - x0 - t * (x1 - x0), y - y0 - t * (y1 - y0)))
    return found


def shares(points: list[tuple[float, float]]) -> list[list[float]]:
    return [[(x + 0.5) / SHAPE[1], (y + 0.5) / SHAPE[0]] for x, y in points]


LINE = [(20.0, 15.0), (50.0, 15.0), (50.0, 40.0)]


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("nearer", lambda v: np.minimum(v + np.float32(0.2), 1)),
        ("away", lambda v: np.maximum(v - np.float32(0.2), 0)),
        ("set", lambda v: np.full_like(v, 0.2)),
    ],
)
def test_a_hard_brush_changes_what_lies_under_it_and_no_bit_beside_it(values, tool, expected):
    result = made(values, {"tool": tool, "points": shares(LINE), "size": 0.2, "softness": 0.0, "value": 0.2})
    distance = distance_to(LINE)
    under, beside = distance <= 8.0, distance > 8.0
    np.testing.assert_allclose(result[under], expected(values)[under], atol=1e-6)
    np.testing.assert_array_equal(result[beside], values[beside])
    assert result.dtype == np.float32


def test_a_soft_brush_fades_towards_its_edge(values):
    result = made(values, {"tool": "nearer", "points": shares([(40, 30)]), "size": 0.3, "softness": 1.0, "value": 0.3})
    added = (result - values)[30, 40:55]
    assert added[0] == pytest.approx(0.3, abs=1e-5)
    assert (np.diff(added) <= 1e-6).all()
    assert added[-1] == 0.0
    assert added[6] == pytest.approx(0.15, abs=0.02)


def test_smoothing_takes_a_step_away_and_keeps_what_is_level():
    step = np.zeros(SHAPE, np.float32)
    step[:, 40:] = 1.0
    result = made(step, {"tool": "smooth", "points": shares([(40, 30)]), "size": 0.4, "softness": 0.0})
    assert np.abs(np.diff(result[30, 36:44])).max() < 0.2
    np.testing.assert_array_equal(result[distance_to([(40, 30)]) > 16], step[distance_to([(40, 30)]) > 16])
    level = np.full(SHAPE, 0.3, np.float32)
    stroke = {"tool": "smooth", "points": shares([(40, 30)]), "size": 0.4}
    np.testing.assert_allclose(made(level, stroke), level, atol=1e-6)


def test_a_pen_that_presses_less_does_less(values):
    points = [[*place, pressure] for place, pressure in zip(shares(LINE[:2]), (0.5, 0.5), strict=True)]
    result = made(values, {"tool": "nearer", "points": points, "size": 0.2, "softness": 0.0, "value": 0.2})
    np.testing.assert_allclose((result - values)[15, 22:48], 0.1, atol=1e-6)


def test_a_stroke_that_crosses_itself_counts_once(values):
    there_and_back = shares([(20, 15), (50, 15), (20, 15)])
    result = made(values, {"tool": "nearer", "points": there_and_back, "size": 0.1, "softness": 0.0, "value": 0.1})
    np.testing.assert_allclose((result - values)[15, 22:48], 0.1, atol=1e-6)


def test_a_stroke_from_outside_reaches_in_and_one_that_stays_outside_does_nothing(values):
    near = made(values, {"tool": "set", "points": [[-0.05, 0.5]], "size": 0.2, "softness": 0.0, "value": 1.0})
    assert (near[30, :3] == 1.0).all()
    assert (near[30, 6:] == values[30, 6:]).all()
    far = made(values, {"tool": "set", "points": [[-0.5, -0.5]], "size": 0.2, "softness": 0.0, "value": 1.0})
    np.testing.assert_array_equal(far, values)


def test_a_polygon_is_filled_as_skimage_fills_it(values):
    corners = [(10.0, 10.0), (60.0, 12.0), (30.0, 50.0)]
    result = made(values, {"tool": "fill", "points": shares(corners), "value": 0.75})
    inside = polygon2mask(SHAPE, [(y, x) for x, y in corners])
    edge = distance_to([*corners, corners[0]]) < 1.0
    assert (result[inside & ~edge] == 0.75).all()
    np.testing.assert_array_equal(result[~inside & ~edge], values[~inside & ~edge])


def test_a_soft_polygon_fades_inwards(values):
    box = [[0.25, 0.0], [0.75, 0.0], [0.75, 1.0], [0.25, 1.0]]
    result = made(values, {"tool": "fill", "points": box, "value": 0.0, "softness": 1.0})
    np.testing.assert_array_equal(result[:, :19], values[:, :19])
    assert result[30, 40] == 0.0
    assert 0.0 < result[30, 22] < values[30, 22]
    assert result[0, 40] == 0.0, "the map's edge is no edge of what is filled up to it"


def test_flatten_brings_what_lies_beyond_up_to_the_place(values):
    result = made(values, {"tool": "flatten", "at": [0.5, 0.5]})
    here = values[30, 40]
    np.testing.assert_array_equal(result, np.maximum(values, here))


def test_cut_sends_what_lies_beyond_to_the_farthest(values):
    result = made(values, {"tool": "cut", "at": [0.5, 0.5]})
    here = values[30, 40]
    assert (result[values <= here] == 0.0).all()
    np.testing.assert_array_equal(result[values > here], values[values > here])


def test_a_gradient_is_straight_and_stays_behind_what_is_nearer(values):
    floor = {"tool": "gradient", "start": [0.5, 1.0], "end": [0.5, 0.0], "value": 0.8, "end_value": 0.2}
    slope = made(values, {**floor, "behind": False})
    assert np.ptp(slope, axis=1).max() < 1e-6
    np.testing.assert_allclose(
        slope[[0, 29, 59], 0], [0.2 + 0.6 * (0.5 / 60), 0.495, 0.8 - 0.6 * (0.5 / 60)], atol=0.006
    )
    np.testing.assert_array_equal(made(values, floor), np.maximum(values, slope))


def test_16_bits_stay_16_bits():
    deep = np.random.default_rng(0).integers(0, 65536, SHAPE).astype(np.uint16)
    stroke = {"tool": "set", "points": [[0.2, 0.5]], "size": 0.2, "softness": 0.0, "value": 0.123}
    saved = Image.open(io.BytesIO(encode_png(edited(DepthMap.from_array(deep), strokes_from_list([stroke])))))
    changed = np.asarray(saved).astype(int) != deep
    assert changed.any()
    assert (distance_to([(15.5, 29.5)])[changed] <= 9).all()
    assert (np.asarray(saved)[changed] == round(0.123 * 65535)).all()


def test_a_map_in_other_units_is_edited_on_its_own_scale():
    metres = DepthMap(np.linspace(3.0, 8.0, 4800, dtype=np.float32).reshape(SHAPE), unit=False)
    result = edited(metres, strokes_from_list([{"tool": "set", "points": [[0.5, 0.5]], "value": 1.0}]))
    assert result.unit
    assert result.values[0, 0] == 0.0
    assert edited(metres, ()) is metres


@pytest.mark.parametrize("tool", ["nearer", "away", "set", "smooth"])
def test_strokes_mean_the_same_on_a_larger_map(tool):
    small = np.tile(np.linspace(0.2, 0.8, 128, dtype=np.float32), (96, 1))
    large = np.tile(np.linspace(0.2, 0.8, 1024, dtype=np.float32), (768, 1))
    stroke = {"tool": tool, "points": [[0.3, 0.4], [0.6, 0.5]], "size": 0.2, "softness": 1.0, "value": 0.2}
    seen, meant = made(small, stroke), made(large, stroke)
    np.testing.assert_allclose(seen, meant.reshape(96, 8, 128, 8).mean(axis=(1, 3)), atol=0.04)


def test_the_strokes_that_are_left_give_the_bytes_of_before(values):
    strokes = [
        {"tool": "nearer", "points": shares(LINE), "value": 0.3},
        {"tool": "smooth", "points": shares(LINE[:2])},
        {"tool": "fill", "points": shares(LINE), "value": 0.5, "softness": 0.5},
    ]
    assert made(values, *strokes[:2]).tobytes() == made(values, *strokes[:2]).tobytes()
    assert made(values, *strokes).tobytes() != made(values, *strokes[:2]).tobytes()
    assert made(values).tobytes() == values.tobytes()


DOT = {"tool": "set", "points": [[0.5, 0.5]]}


@pytest.mark.parametrize(
    ("strokes", "message"),
    [
        ({"tool": "set"}, "strokes: got dict, expected a list"),
        ([DOT] * 501, "strokes: got 501, expected at most 500"),
        ([{"tool": "erase"}], "strokes[0]: got tool 'erase', expected one of nearer, away"),
        (["set"], "strokes[0]: got tool None"),
        ([{**DOT, "colour": 1}], "strokes[0]: got 'colour', which set has not"),
        ([{"tool": "set"}], "strokes[0]: set needs more than tool"),
        ([DOT, {**DOT, "value": 2}], "strokes[1]: value is 2; it has to be a number from 0 to 1"),
        ([{**DOT, "value": float("nan")}], "strokes[0]: value is nan"),
        ([{**DOT, "size": 0.6}], "strokes[0]: size is 0.6"),
        ([{**DOT, "points": [[0.5, 0.5]] * 2001}], "strokes[0]: points: got 2001, expected 1 to 2000"),
        ([{**DOT, "points": "all"}], "strokes[0]: points: got str"),
        ([{**DOT, "points": [[0.5]]}], "strokes[0]: points: got the point [0.5], expected [x, y]"),
        ([{**DOT, "points": [[0.5, 9e9]]}], "strokes[0]: y is 9000000000.0"),
        ([{**DOT, "points": [[0.5, 0.5, 2]]}], "strokes[0]: pressure is 2"),
        ([{"tool": "fill", "points": [[0, 0], [1, 1]]}], "strokes[0]: points: got 2, expected 3 to 2000"),
        ([{"tool": "gradient", "start": [0, 0], "end": [1, 1], "behind": 1}], "strokes[0]: behind is 1"),
    ],
)
def test_what_is_not_a_stroke_is_refused(strokes, message):
    with pytest.raises(RequestError) as refused:
        strokes_from_list(strokes)
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "x" * (edits.MAX_CHARACTERS + 1)])
def test_what_is_no_json_or_too_much_is_refused(text):
    with pytest.raises(RequestError, match=r"^strokes: got"):
        strokes_from_json(text)
    assert strokes_from_json(json.dumps([DOT])) == strokes_from_list([DOT])


def test_a_stroke_is_cheap_at_512():
    """2 to 10 ms on two cores; the bound is for a machine that is busy with other things."""
    noise = np.random.default_rng(0).random((512, 512), dtype=np.float32)
    points = [[0.2 + 0.6 * i / 300, 0.5 + 0.1 * np.sin(i / 20)] for i in range(300)]
    strokes = strokes_from_list([{"tool": tool, "points": points, "size": 0.2} for tool in ("nearer", "smooth")])
    start = time.perf_counter()
    apply_strokes(noise, strokes)
    print(f"two strokes in {1000 * (time.perf_counter() - start):.0f} ms")
    assert time.perf_counter() - start < 1.0
