"""The one formula, against the host's and the training code's."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_depth2img import Adjustments, DepthMap, conditioning, place
from lib_depth2img.errors import RequestError


def at_latent_size(depth: np.ndarray, canvas: tuple[int, int]) -> torch.Tensor:
    size = (canvas[1] // 8, canvas[0] // 8)
    return torch.nn.functional.interpolate(
        torch.from_numpy(depth)[None, None], size=size, mode="bicubic", align_corners=False
    )


def as_the_host_does(depth: np.ndarray, canvas: tuple[int, int]) -> torch.Tensor:
    resized = at_latent_size(depth, canvas)
    lowest, highest = torch.aminmax(resized)
    return 2.0 * (resized - lowest) / (highest - lowest) - 1.0


def as_the_training_code_does(depth: np.ndarray, canvas: tuple[int, int]) -> torch.Tensor:
    resized = at_latent_size(depth, canvas)
    lowest, highest = torch.amin(resized, dim=[1, 2, 3], keepdim=True), torch.amax(resized, dim=[1, 2, 3], keepdim=True)
    return 2.0 * (resized - lowest) / (highest - lowest + 0.001) - 1.0


def smooth(seed: int, height: int, width: int) -> np.ndarray:
    """Something like an estimate: smooth shapes, values in the thousands."""
    coarse = torch.from_numpy(np.random.default_rng(seed).random((1, 1, 7, 9))).float()
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return (fine[0, 0].numpy() * 3000 + 200).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 50),
    canvas=st.tuples(st.integers(2, 128), st.integers(2, 128)).map(lambda cells: (cells[0] * 8, cells[1] * 8)),
    grid=st.sampled_from([(384, 384), (384, 672), (512, 384), (64, 48), (256, 256)]),
)
def test_equal_to_the_host(seed: int, canvas: tuple[int, int], grid: tuple[int, int]) -> None:
    depth = smooth(seed, *grid)
    ours = conditioning(DepthMap.from_array(depth), place((640, 480), canvas))
    assert ours.shape == (1, 1, canvas[1] // 8, canvas[0] // 8)
    assert ours.dtype == torch.float32
    assert (ours - as_the_host_does(depth, canvas)).abs().max() <= 1e-4
    assert (ours - as_the_training_code_does(depth, canvas)).abs().max() <= 1e-4
    assert ours.min() == -1
    assert ours.max() == 1


@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3, 1234.567, -7.7])
@pytest.mark.parametrize("grid", [(64, 64), (384, 384), (333, 517), (1500, 1100)])
def test_flat_depth_is_minus_one_as_in_training(level: float, grid: tuple[int, int]) -> None:
    flat = np.full(grid, level, np.float32)
    for mode in (0, 1, 2, 3):
        ours = conditioning(DepthMap.from_array(flat), place((520, 333), (512, 640), resize_mode=mode))
        assert (ours == -1).all()
    training = as_the_training_code_does(np.zeros(grid, np.float32), (512, 640))
    assert (training == -1).all()


def test_a_flat_part_of_a_map_is_flat_too() -> None:
    depth = smooth(3, 512, 512)
    depth[100:400, 100:400] = 1234.567
    ours = conditioning(DepthMap.from_array(depth), place((512, 512), (512, 512), crop=(150, 150, 350, 350)))
    assert (ours == -1).all()


def test_each_picture_is_scaled_by_itself() -> None:
    first, second = DepthMap.from_array(smooth(0, 64, 64)), DepthMap.from_array(smooth(1, 64, 64) * 100 + 5)
    placement = place((64, 64), (128, 64))
    both = conditioning([first, second], placement)
    assert both.shape == (2, 1, 8, 16)
    torch.testing.assert_close(both[:1], conditioning(first, placement), rtol=0, atol=0)
    torch.testing.assert_close(both[1:], conditioning(second, placement), rtol=0, atol=0)


def test_scale_and_offset_do_not_matter() -> None:
    depth = smooth(0, 64, 64)
    placement = place((64, 64), (64, 64))
    plain = conditioning(DepthMap.from_array(depth), placement)
    for other in (depth * 1e-3, depth - 5000, depth * 1e20, depth * 1e-20):
        torch.testing.assert_close(conditioning(DepthMap.from_array(other), placement), plain, rtol=0, atol=2e-4)


def test_one_map_serves_the_batch_with_memory_of_its_own() -> None:
    batch = conditioning(DepthMap.from_array(smooth(0, 64, 64)), place((64, 64), (64, 64)), batch_size=3)
    assert batch.shape == (3, 1, 8, 8)
    batch[0] = 0.0
    assert (batch[1] == batch[2]).all()
    assert not (batch[1] == 0.0).all()


def test_one_map_with_several_placements() -> None:
    depth_map = DepthMap.from_array(smooth(0, 64, 64))
    left, right = place((64, 64), (64, 64), crop=(0, 0, 32, 32)), place((64, 64), (64, 64), crop=(32, 0, 64, 32))
    both = conditioning(depth_map, [left, right])
    assert both.shape == (2, 1, 8, 8)
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize("canvas", [(510, 512), (512, 4), (100, 100)])
def test_a_canvas_of_no_whole_cells_is_refused(canvas: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match="multiples of 8"):
        conditioning(DepthMap.from_array(smooth(0, 8, 8)), place((64, 64), canvas))


@pytest.mark.parametrize(
    ("maps", "places", "batch_size"), [(0, 1, None), (1, 0, None), (2, 3, None), (2, 2, 4), (2, 1, 1), (1, 1, 0)]
)
def test_numbers_that_do_not_fit_are_refused(maps: int, places: int, batch_size: int | None) -> None:
    depth_map, placement = DepthMap.from_array(smooth(0, 8, 8)), place((64, 64), (64, 64))
    with pytest.raises(RequestError):
        conditioning([depth_map] * maps, [placement] * places, batch_size=batch_size)


def test_canvases_that_differ_are_refused() -> None:
    depth_map = DepthMap.from_array(smooth(0, 8, 8))
    with pytest.raises(RequestError, match="canvases of one batch differ"):
        conditioning(depth_map, [place((64, 64), (64, 64)), place((64, 64), (64, 72))])


def test_several_threads_get_the_same() -> None:
    depth_map = DepthMap.from_array(smooth(0, 700, 900))
    placement = place((900, 700), (512, 512), resize_mode=2)
    expected = conditioning(depth_map, placement)
    results: list[torch.Tensor] = []
    threads = [threading.Thread(target=lambda: results.append(conditioning(depth_map, placement))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(torch.equal(result, expected) for result in results)


# --- one range for a sequence ----------------------------------------------------------------------------------------


def metres(near: float) -> DepthMap:
    """A still room from 2 to 20 m, as a float map of distances, with something that stands ``near`` in one corner."""
    distance = np.linspace(20, 2, 64 * 96, dtype=np.float32).reshape(64, 96)
    distance[:8, :8] = near
    return DepthMap.from_array(distance, meaning="distance")


def test_with_one_range_what_stands_still_is_the_same_in_every_frame():
    placement = place((96, 64), (384, 256))
    frames = [metres(near) for near in (20.0, 1.0, 0.3)]
    own = [conditioning(frame, placement) for frame in frames]
    one = [conditioning(frame, placement, extent=(1 / 20, 1 / 0.25)) for frame in frames]
    still = slice(8, None)  # cells that no sample of the corner reaches
    assert not torch.equal(own[0][..., still], own[1][..., still])
    assert torch.equal(one[0][..., still], one[1][..., still])
    assert torch.equal(one[0][..., still], one[2][..., still])
    assert one[0][..., 0, 0] < one[1][..., 0, 0] < one[2][..., 0, 0]


def test_the_range_of_the_picture_is_the_default():
    depth = DepthMap.from_array(smooth(3, 24, 40))
    placement = place((40, 24), (320, 192))  # a cell for each sample, so that nothing overshoots
    assert torch.equal(conditioning(depth, placement), conditioning(depth, placement, extent=depth.extent))


def test_what_lies_beyond_the_range_ends_at_it():
    depth = DepthMap.from_array(np.linspace(0, 10, 64, dtype=np.float32).reshape(8, 8))
    channel = conditioning(depth, place((8, 8), (64, 64)), extent=(4.0, 6.0))
    assert channel.min() == -1
    assert channel.max() == 1
    assert torch.isclose(channel[0, 0, 4, 0], torch.tensor(2 * (32 / 63 * 10 - 4) / 2 - 1))


def test_a_flat_map_has_its_place_within_the_range():
    flat = DepthMap.from_array(np.full((8, 8), 3.0, np.float32))
    assert (conditioning(flat, place((8, 8), (64, 64)), extent=(2.0, 6.0)) == -0.5).all()


@pytest.mark.parametrize("extent", [(1.0, 1.0), (2.0, 1.0), (0.0, float("inf")), (0.0,)])
def test_a_range_that_does_not_rise_is_refused(extent):
    with pytest.raises(RequestError, match="expected two numbers, the lower one first"):
        conditioning(DepthMap.from_array(np.eye(8, dtype=np.float32)), place((8, 8), (64, 64)), extent=extent)


def test_adjustments_begin_from_the_range():
    depth = DepthMap.from_array(np.linspace(0, 10, 64, dtype=np.float32).reshape(8, 8))
    adjusted = depth.adjusted(Adjustments(invert=True), extent=(0.0, 20.0))
    np.testing.assert_allclose(adjusted.values, 1 - depth.values / 20, atol=1e-6)
    assert adjusted.unit
    assert not depth.lies_outside((9.0, 20.0))
    assert depth.lies_outside((10.0, 20.0))
    assert depth.lies_outside((-5.0, 0.0))
