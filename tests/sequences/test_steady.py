"""Steady estimates: on small films whose depth is known."""

from __future__ import annotations

import itertools
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.errors import RequestError
from lib_depth2img.sequences.cuts import Cuts, is_cut
from lib_depth2img.sequences.flow import motion
from lib_depth2img.sequences.steady import Steady, fitted_line

ROOM = cv2.resize(data.coffee(), (96, 64), interpolation=cv2.INTER_AREA)
OTHER = cv2.resize(data.astronaut(), (96, 64), interpolation=cv2.INTER_AREA)
DEPTH = np.linspace(1, 9, 96 * 64, dtype=np.float32).reshape(64, 96)


def picture(array: np.ndarray) -> Image.Image:
    return Image.fromarray(array)


def trembling(seed: int) -> DepthMap:
    """An estimate of ``DEPTH`` with a scale and shift of its own, and a little noise."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.2, DEPTH.shape)
    return DepthMap.from_array((rng.uniform(0.8, 1.25) * (DEPTH + noise) + rng.uniform(-1, 1)).astype(np.float32))


def test_what_stands_still_becomes_steady():
    estimates = [trembling(seed) for seed in range(12)]
    steady = Steady(0.9)
    maps = [steady.following(picture(ROOM), each).values for each in estimates]
    before = np.mean([np.abs(a.values - b.values).mean() for a, b in itertools.pairwise(estimates)])
    after = np.mean([np.abs(a - b).mean() for a, b in itertools.pairwise(maps)])
    assert after < 0.06 * before
    assert np.corrcoef(maps[-1].ravel(), DEPTH.ravel())[0, 1] > 0.999


def test_off_leaves_every_estimate_as_it_is():
    steady = Steady(0.0)
    for seed in range(3):
        estimate = trembling(seed)
        assert steady.following(picture(ROOM), estimate) is estimate


def test_nothing_is_carried_over_a_cut():
    steady = Steady(0.9)
    for seed in range(3):
        steady.following(picture(ROOM), trembling(seed))
    first = trembling(7)
    assert steady.following(picture(OTHER), first) is first


def test_what_moves_takes_its_depth_along():
    """A near square over a far ground goes to the right: no trail is left behind it, and its own depth follows."""
    rng = np.random.default_rng(0)
    ground, square = rng.integers(0, 90, (64, 96, 3)), rng.integers(150, 255, (24, 24, 3))
    steady = Steady(0.9)
    for step in range(8):
        shown, depth = ground.astype(np.uint8), np.ones((64, 96), np.float32)
        shown[20:44, 10 + 3 * step : 34 + 3 * step] = square
        depth[20:44, 10 + 3 * step : 34 + 3 * step] = 5.0
        found = steady.following(picture(shown), DepthMap.from_array(depth)).values
    assert np.abs(found - depth).mean() < 0.05
    assert np.abs(found[22:42, 10:29] - 1.0).max() < 0.2, "a trail"


def test_scale_and_shift_do_not_run_away():
    """Each estimate only trembles; hundreds of fits behind each other keep the range."""
    rng = np.random.default_rng(0)
    small = cv2.resize(ROOM, (32, 32))
    depth = np.linspace(1, 9, 32 * 32, dtype=np.float32).reshape(32, 32)
    steady = Steady(0.9)
    for _ in range(300):
        noisy = (depth + rng.normal(0, 0.6, depth.shape)).astype(np.float32)
        found = steady.following(picture(small), DepthMap.from_array(noisy))
    assert abs(float(np.std(found.values)) / float(np.std(depth)) - 1) < 0.05
    assert abs(float(np.mean(found.values)) - float(np.mean(depth))) < 0.2


def test_to_go_on_behind_a_frame_is_to_have_seen_it():
    whole = Steady(0.9)
    maps = [whole.following(picture(ROOM), trembling(seed)) for seed in range(5)]
    again = Steady(0.9)
    again.resumed(picture(ROOM), maps[2])
    for seed in (3, 4):
        np.testing.assert_array_equal(again.following(picture(ROOM), trembling(seed)).values, maps[seed].values)


def test_memory_does_not_grow_with_the_length():
    steady, peaks = Steady(0.9), []
    for _ in range(3):
        tracemalloc.start()
        for seed in range(20):
            steady.following(picture(ROOM), trembling(seed))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.05 * peaks[1]


@pytest.mark.parametrize("strength", [-0.1, 1.0, float("nan"), "high", True])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(RequestError, match=r"steady is .*; it has to be a number from 0 to 0.98"):
        Steady(strength)


def test_the_line_passes_by_what_lies_off():
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 10, 2000)
    y = 1.7 * x - 3 + rng.normal(0, 0.05, x.shape)
    y[:400] = rng.uniform(20, 60, 400)
    scale, shift = fitted_line(x, y)
    assert abs(scale - 1.7) < 0.02
    assert abs(shift + 3) < 0.1
    assert fitted_line(np.full(9, 2.0), np.full(9, 5.0)) == (1.0, 3.0)


def test_flow_is_the_shift_that_was_made():
    moved = np.roll(OTHER, 4, axis=1)
    found = motion(OTHER, moved, (96, 64))
    inner = (slice(12, -12), slice(16, -16))
    trusted = found.trust[inner] > 0.5
    assert trusted.mean() > 0.7
    assert abs(np.median(found.back[inner][..., 0][trusted]) + 4) < 0.3
    assert not found.at_rest[inner].mean() > 0.2
    assert motion(OTHER, OTHER, (96, 64)).at_rest.mean() > 0.99


def test_flow_does_not_depend_on_threads():
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 3):
            cv2.setNumThreads(threads)
            found.append(motion(OTHER, np.roll(OTHER, 2, axis=0), (96, 64)))
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(found[0].back, found[1].back)


def test_a_cut_is_told_from_light_and_motion():
    darker = (OTHER * 0.6).astype(np.uint8)
    assert is_cut(picture(ROOM), picture(OTHER))
    assert not is_cut(picture(OTHER), picture(darker))
    assert not is_cut(picture(OTHER), picture(np.roll(OTHER, 3, axis=1)))
    cuts = Cuts()
    assert [cuts.begins(picture(each)) for each in (ROOM, ROOM, OTHER, OTHER, OTHER[:32])] == [
        True,
        False,
        True,
        False,
        True,
    ]
