"""Tiles: where they lie, that they leave no seam, and what they are good for, on rendered scenes with exact depth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from lib_depth2img import DepthEstimator
from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from lib_depth2img.errors import EstimatorError
from lib_depth2img.estimators.cache import DepthCache
from lib_depth2img.estimators.detail import Detail
from lib_depth2img.estimators.network import BorrowedNetwork
from lib_depth2img.estimators.tiles import OVERLAP, fitted, merged, tiles_of
from training.data import draw_sample
from training.render import render
from training.scenes import nearness

SIDE = 2048


@pytest.mark.parametrize("size", [(2048, 2048), (1500, 700), (300, 600), (37, 4000), (10000, 1), (8, 8)])
@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_tiles_cover_the_picture_and_overlap(size, count):
    seen = np.zeros(size[::-1], int)
    tiles = tiles_of(size, count)
    for tile in tiles:
        assert 0 <= tile.x1 < tile.x2 <= size[0]
        assert 0 <= tile.y1 < tile.y2 <= size[1]
        seen[tile.y1 : tile.y2, tile.x1 : tile.x2] += 1
    assert seen.min() >= 1
    assert len(tiles) <= 32 * count
    along = {(tile.x1, tile.x2) if size[0] <= size[1] else (tile.y1, tile.y2) for tile in tiles}
    if min(size) >= 300:
        assert len(along) == count
        for (_, end), (begin, other_end) in pairwise(sorted(along)):
            assert end - begin >= 0.9 * OVERLAP * (other_end - begin)


def test_a_tile_in_any_scale_and_shift_is_brought_to_the_wholes():
    rng = np.random.default_rng(0)
    whole = cv2.GaussianBlur(rng.random((96, 96)).astype(np.float32), (0, 0), 6) * 40
    for scale, shift in ((3.0, -7.0), (0.01, 100.0)):
        np.testing.assert_allclose(
            fitted(whole * scale + shift, whole, blur=1.0), whole, rtol=0, atol=0.02 * np.ptp(whole)
        )
    assert np.array_equal(fitted(-whole, whole, blur=1.0), whole), "a tile that contradicts the whole is not taken"
    assert np.array_equal(fitted(np.full_like(whole, 5.0), whole, blur=1.0), whole), "nor one that is flat"


def test_tiles_that_say_what_the_whole_says_change_nothing():
    rows, cols = np.mgrid[0:400, 0:600].astype(np.float32)
    whole = np.sin(rows / 50) + cols / 100 + 3
    tiles = tiles_of((600, 400), 3)
    fine = [2 * whole[tile.y1 : tile.y2, tile.x1 : tile.x2] + 1 for tile in tiles]
    got = merged(whole, tiles, fine, (600, 400))
    assert got.shape == (400, 600)
    assert np.abs(got - whole).max() <= 0.01 * np.ptp(whole)


def test_there_is_no_seam():
    """Tiles in scales of their own, with grain of their own: across a tile's border no larger steps than beside it."""
    rng = np.random.default_rng(1)
    rows, cols = np.mgrid[0:600, 0:600].astype(np.float32)
    picture = np.sin(rows / 40) * np.cos(cols / 30) + rows / 300
    whole = cv2.resize(picture, (100, 100), interpolation=cv2.INTER_AREA)
    tiles = tiles_of((600, 600), 3)
    fine = [
        rng.uniform(0.5, 2) * picture[tile.y1 : tile.y2, tile.x1 : tile.x2]
        + rng.uniform(-1, 1) * (1 + 0.1 * cols[: tile.y2 - tile.y1, : tile.x2 - tile.x1] / 600)
        for tile in tiles
    ]
    got = merged(whole, tiles, fine, (600, 600))
    steps = np.abs(np.diff(got, axis=1)).max(axis=0)
    borders = {x for tile in tiles for x in (tile.x1, tile.x2)} - {0, 600}
    assert borders
    for border in borders:
        beside = np.r_[steps[border - 30 : border - 5], steps[border + 5 : border + 30]]
        assert steps[border - 2 : border + 2].max() <= 1.1 * beside.max()


@pytest.fixture(scope="module")
def small() -> DepthEstimator:
    return DepthEstimator("small", weights=SMALL_CHECKPOINT)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    """(SIDE, SIDE, 3) uint8, and (SIDE, SIDE) exact nearness, near = 1: a landscape with a sky, and clutter."""
    found = []
    for number in (0, 1):
        scene, looks = draw_sample(77, number, SIDE, 1)
        found.append((render(scene, looks[0]), nearness(scene.buffer.distance)))
    return found


def boundary_f1(nearness: np.ndarray, exact: np.ndarray) -> float:
    """As ml-depth-pro has it (eval/boundary_metrics.py, SI_boundary_F1): edges lie between neighbours whose
    nearness differs by a factor, and count where both have them; ten factors from 1.05 to 1.25, weighted by the factor.
    """
    factors = np.linspace(1.05, 1.25, 10)
    scores = [_f1(list(_edges(nearness, factor)), list(_edges(exact, factor))) for factor in factors]
    return float(np.average(scores, weights=factors))


def _edges(nearness: np.ndarray, factor: float) -> Iterator[np.ndarray]:
    for one, other in ((nearness[:, 1:], nearness[:, :-1]), (nearness[1:], nearness[:-1])):
        yield one / other > factor
        yield other / one > factor


def _f1(found: list[np.ndarray], exact: list[np.ndarray]) -> float:
    both = [np.count_nonzero(one & other) for one, other in zip(found, exact, strict=True)]
    recall = np.mean([count / max(np.count_nonzero(edges), 1) for count, edges in zip(both, exact, strict=True)])
    precision = np.mean([count / max(np.count_nonzero(edges), 1) for count, edges in zip(both, found, strict=True)])
    return 0.0 if recall + precision == 0 else float(2 * recall * precision / (recall + precision))


def _measured(values: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """Boundary F1 and rank correlation; for the former the map is brought to the exact one's scale and shift."""
    size = exact.shape[::-1]
    values = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
    scale, shift = np.polyfit(values.ravel(), exact.ravel(), 1)
    return (
        boundary_f1(np.maximum(scale * values + shift, 0.01), np.maximum(exact, 0.01)),
        float(spearmanr(values.ravel(), exact.ravel())[0]),
    )


def test_tiles_find_more_edges_and_lose_no_order(small, scenes):
    scores = []
    for picture, exact in scenes:
        (whole,) = small.estimate([picture])
        (tiled,) = small.estimate([picture], Detail(tiles=4))
        size = tiled.size
        seen = cv2.resize(exact, size, interpolation=cv2.INTER_NEAREST)
        scores.append((_measured(whole.values, seen), _measured(tiled.values, seen)))
    (f1_whole, order_whole), (f1_tiled, order_tiled) = np.mean(scores, axis=0)
    assert f1_tiled >= 1.3 * f1_whole, scores
    assert order_tiled >= order_whole, scores


def test_a_sky_stays_a_sky(small, scenes):
    picture, exact = scenes[0]
    sky = cv2.resize(exact, (128, 128), interpolation=cv2.INTER_NEAREST) == 0
    (whole,) = small.estimate([picture])
    assert np.median(whole.values[sky]) == 0
    (tiled,) = small.estimate([picture], Detail(tiles=3))
    assert np.median(cv2.resize(tiled.values, (128, 128), interpolation=cv2.INTER_NEAREST)[sky]) == 0


class Seen(nn.Module):
    """Keeps the sizes it is shown; nearness is brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes += [tuple(x.shape[2:])] * len(x)
        return x.mean(1) + 2


def looking(preset: str = "dpt_hybrid") -> tuple[Seen, DepthEstimator]:
    seen = Seen()
    network = BorrowedNetwork(lambda: nullcontext(seen), key="seen")
    return seen, DepthEstimator(preset, weights=network, cache=DepthCache())


@pytest.mark.parametrize(
    ("preset", "resolution", "expected"),
    [
        ("dpt_hybrid", 0, (384, 576)),
        ("dpt_hybrid", 512, (352, 512)),
        ("midas_v21", 640, (416, 640)),
        ("depth_anything_v2_small", 280, (280, 420)),
        ("dpt_swin2_large_384", 512, (512, 512)),
        ("small", 2048, (1376, 2048)),
    ],
)
def test_resolution_is_the_size_that_the_network_sees(preset, resolution, expected, photograph):
    picture = cv2.resize(photograph, (600, 400))
    seen, estimator = looking(preset)
    estimator.estimate([picture], Detail(resolution=resolution))
    assert seen.sizes == [expected]


def test_each_tile_is_seen_at_the_networks_size_and_maps_are_kept_apart(photograph):
    picture = cv2.resize(photograph, (2000, 1000))
    seen, estimator = looking()
    (whole,) = estimator.estimate([picture])
    (tiled,) = estimator.estimate([picture], Detail(tiles=2))
    (finer,) = estimator.estimate([picture], Detail(resolution=768, tiles=2))
    assert seen.sizes == [(384, 768), (384, 768), *[(384, 384)] * 10, (768, 1536), *[(768, 768)] * 10]
    count = len(seen.sizes)
    assert tiled.size > whole.size
    assert finer.size > tiled.size
    assert estimator.estimate([picture], Detail(tiles=2))[0] is tiled
    assert estimator.estimate([picture], Detail(resolution=384))[0] is whole, "that is the preset's own"
    assert len(seen.sizes) == count


@pytest.mark.parametrize("wrong", [{"resolution": 63}, {"resolution": 2049}, {"tiles": 0}, {"tiles": 9}])
def test_out_of_range_is_refused(wrong):
    with pytest.raises(EstimatorError, match=str(next(iter(wrong.values())))):
        Detail(**wrong)
