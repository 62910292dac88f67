from __future__ import annotations

import gc
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lib_depth2img import DepthEstimator, DepthMap
from lib_depth2img.errors import DeviceError, EstimatorError, WeightsError
from lib_depth2img.estimators.cache import DepthCache
from lib_depth2img.estimators.network import BorrowedNetwork
from lib_depth2img.estimators.presets import PRESETS
from lib_depth2img.estimators.stage import DepthStage

SMALL = "midas_v21_small"


class Brightness(nn.Module):
    """A depth stage that can be reckoned by hand: nearness is the mean of the normalised channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.passes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes.append(tuple(x.shape))
        return x.mean(1, keepdim=True) * self.weight


def grey(level: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


@pytest.fixture
def stage() -> Brightness:
    return Brightness()


@pytest.fixture
def estimator(stage: Brightness) -> DepthEstimator:
    return borrowing(stage)


def borrowing(stage: nn.Module, *, key: str = "stage", preset: str = "dpt_hybrid", **options: Any) -> DepthEstimator:
    """An estimator around a module that stays the test's own."""
    return DepthEstimator(preset, weights=BorrowedNetwork(lambda: nullcontext(stage), key=key), **options)


@pytest.fixture(scope="module")
def small_weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return PRESETS[SMALL].build().eval().state_dict()


def test_one_map_per_picture_in_their_order(estimator):
    maps = estimator.estimate([grey(0), grey(255, (96, 64)), grey(128), np.zeros((32, 32, 3), np.uint8)])
    assert [round(float(depth_map.values.mean()), 2) for depth_map in maps] == [-1.0, 1.0, 0.0, -1.0]
    assert all(isinstance(depth_map, DepthMap) and not depth_map.unit for depth_map in maps)


def test_equal_pictures_once_and_those_of_one_size_together(estimator, stage):
    estimator.estimate([grey(1), grey(2), grey(1), grey(3, (128, 64)), np.asarray(grey(2))])
    assert sorted(stage.passes) == [(1, 3, 192, 384), (2, 3, 384, 384)]


def test_a_large_batch_takes_several_passes(estimator, stage):
    maps = estimator.estimate([grey(level) for level in range(20)])
    assert [shape[0] for shape in stage.passes] == [8, 8, 4]
    levels = [float(depth_map.values.mean()) for depth_map in maps]
    assert levels == sorted(levels)


def test_pictures_seen_before_come_from_the_cache(estimator, stage):
    (first,) = estimator.estimate([grey(7)])
    (again,) = estimator.estimate([grey(7)])
    assert again is first
    assert len(stage.passes) == 1
    picture = np.array(grey(7))
    picture[5, 5, 1] += 1
    estimator.estimate([picture])
    estimator.estimate([grey(7, (64, 65))])
    assert len(stage.passes) == 3


def test_a_shared_cache_keeps_estimators_apart(stage):
    cache = DepthCache()
    first = borrowing(stage, key="one", cache=cache)
    other_weights = borrowing(stage, key="two", cache=cache)
    other_preset = borrowing(stage, key="one", preset="midas_v21", cache=cache)
    same = borrowing(stage, key="one", cache=cache)
    for estimator in (first, other_weights, other_preset, same):
        estimator.estimate([grey(9)])
    assert len(stage.passes) == 3


def test_two_files_of_weights_share_a_cache_and_no_maps(random_network, tmp_path):
    """Also when the second has taken the first one's place."""
    cache, maps, last = DepthCache(), [], "scratch.head.3.bias"
    weights = random_network("small").state_dict()
    for name, brought_nearer in (("one.pt", 0.0), ("two.pt", 500.0), ("one.pt", 1000.0)):
        torch.save({**weights, last: weights[last] + brought_nearer}, tmp_path / name)
        os.utime(tmp_path / name, ns=(len(maps), len(maps)))
        maps += DepthEstimator("small", weights=tmp_path / name, cache=cache).estimate([grey(9)])
    assert len(cache) == 3
    assert len({depth_map.digest for depth_map in maps}) == 3


def test_threads_share_one_estimate_and_disturb_none(stage):
    started = threading.Barrier(8)

    def estimate(level: int) -> float:
        started.wait()
        return float(estimator.estimate([grey(level)])[0].values.mean())

    estimator = borrowing(stage)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(estimate, [10, 20, 30, 40] * 2))
    assert len(stage.passes) == 4
    assert results == pytest.approx([level / 127.5 - 1 for level in (10, 20, 30, 40)] * 2, abs=1e-5)


def test_real_networks_may_run_in_several_threads_at_once(random_network, photograph):
    """Stability's keeps its activations in a global of the module; two threads in one network mix them up."""
    network = random_network("dpt_hybrid")
    pictures = [
        torch.from_numpy(photograph[y : y + 64, y : y + 64]).permute(2, 0, 1)[None] / 127.5 - 1 for y in (0, 99)
    ]
    with torch.no_grad():
        alone = [network(picture) for picture in pictures]

        def run(index: int) -> torch.Tensor:
            with torch.no_grad():
                return network(pictures[index % 2])

        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(run, range(8)))
    for index, nearness in enumerate(together):
        torch.testing.assert_close(nearness, alone[index % 2], rtol=1e-4, atol=1e-2)


def test_loads_on_first_use_and_gives_everything_back(small_weights):
    estimator = DepthEstimator(SMALL, weights=small_weights)
    assert not estimator.loaded
    (before,) = estimator.estimate([grey(50)])
    assert estimator.loaded
    network = weakref.ref(estimator._network._module)
    estimator.release()
    gc.collect()
    assert network() is None
    assert not estimator.loaded
    assert len(estimator.cache) == 0
    (after,) = estimator.estimate([grey(50)])
    np.testing.assert_array_equal(after.values, before.values)


def test_nothing_of_a_borrowed_module_is_kept(photograph):
    stage = Brightness()
    gone = weakref.ref(stage)
    holder = {"stage": stage}
    network = BorrowedNetwork(lambda: nullcontext(holder["stage"]), key="borrowed")
    estimator = DepthEstimator(weights=network)
    estimator.estimate([photograph])
    holder["stage"] = Brightness()
    del stage
    gc.collect()
    assert gone() is None
    estimator.estimate([photograph[::-1]])
    assert len(holder["stage"].passes) == 1


def test_a_borrowed_module_is_called_as_one_so_that_hooks_run_and_gets_its_own_dtype(stage):
    """lowvram moves the depth stage by a hook on the module (modules/lowvram.py:138); half() makes it float16."""
    seen = []
    stage.bfloat16().register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    (depth_map,) = borrowing(stage).estimate([grey(255)])
    assert seen == [torch.bfloat16]
    assert depth_map.values.dtype == np.float32


def test_the_hosts_autocast_does_not_reach_the_network(small_weights, photograph):
    estimator = DepthEstimator(SMALL, weights=small_weights, cache=DepthCache(0))
    (plain,) = estimator.estimate([photograph])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (inside,) = estimator.estimate([photograph])
    np.testing.assert_array_equal(inside.values, plain.values)


def test_works_where_bicubic_interpolation_is_missing(small_weights, photograph, monkeypatch):
    """As on MPS in torch 2.1."""
    interpolate = nn.functional.interpolate

    def without_bicubic(*args, **kwargs):
        assert "bicubic" not in (*args, *kwargs.values()), "bicubic is not implemented for MPS"
        return interpolate(*args, **kwargs)

    monkeypatch.setattr(nn.functional, "interpolate", without_bicubic)
    DepthEstimator(SMALL, weights=small_weights).estimate([photograph])


def test_bfloat16_gives_nearly_the_same_map(random_network, photograph, lightened):
    weights = random_network("dpt_hybrid").state_dict()
    full, reduced = (
        lightened(DepthEstimator("dpt_hybrid", weights=weights, precision=precision)).estimate([photograph])[0].values
        for precision in ("float32", "bfloat16")
    )
    assert np.corrcoef(full.ravel(), reduced.ravel())[0, 1] >= 0.999
    assert np.abs(full - reduced).max() > 0, "both were computed in float32"


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (640, 16), (16, 640), (8, 4000), (20000, 500)])
@pytest.mark.parametrize("preset", ["dpt_hybrid", SMALL])
def test_extreme_shapes_work(size, preset, stage):
    estimator = borrowing(stage, preset=preset)
    (depth_map,) = estimator.estimate([grey(255, size)])
    ((_, _, height, width),) = stage.passes
    assert height % 32 == width % 32 == 0
    assert min(height, width) >= 32
    assert height * width <= 16 * 384 * 384
    assert depth_map.values.mean() == pytest.approx(depth_map.values.flat[0], abs=1e-3)


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        ("picture.png", "got a str"),
        (None, "got a NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(estimator, picture, said):
    with pytest.raises(EstimatorError, match=f"(?i){said}"):
        estimator.estimate([picture])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "midas"}, "'midas'; expected one of dpt_hybrid"),
        ({"device": "gpu"}, "'gpu' is no device"),
        ({"precision": "float8"}, "'float8'; expected one of auto"),
        ({"precision": "float16"}, "float16 does not run on a CPU; use bfloat16"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(options, said):
    with pytest.raises((DeviceError, EstimatorError), match=said):
        DepthEstimator(**{"weights": {}, **options})


def test_an_estimate_that_is_not_finite_is_refused(estimator, stage):
    with torch.no_grad():
        stage.weight.fill_(float("nan"))
    with pytest.raises(EstimatorError, match=r"DPT-Hybrid gave numbers that are not finite.*--no-half"):
        estimator.estimate([grey(3)])
    with torch.no_grad():
        stage.weight.fill_(1.0)
    estimator.estimate([grey(3)])  # and nothing of it was kept


@pytest.mark.parametrize(("precision", "said"), [("float32", "install them again"), ("bfloat16", "precision float32")])
def test_an_own_network_that_is_not_finite_says_what_helps(precision, said, random_network):
    weights = random_network("small").state_dict()
    weights["scratch.head.3.weight"] = torch.full_like(weights["scratch.head.3.weight"], 3e38)  # finite, its sums not
    with pytest.raises(EstimatorError, match=f"not finite.*{said}"):
        DepthEstimator("small", weights=weights, precision=precision).estimate([grey(3)])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_before_the_estimate(number, random_network):
    weights = {**random_network("small").state_dict(), "scratch.head.3.bias": torch.full((1,), number)}
    with pytest.raises(WeightsError, match=r"not finite.*1 tensors of the estimator \(scratch\.head\.3\.bias\)"):
        DepthEstimator("small", weights=weights).estimate([grey(3)])


def full(*_: object) -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_is_said_in_plain_words(estimator, stage):
    stage.register_forward_pre_hook(full)
    said = "Not enough memory is left for depth estimation by MiDaS DPT-Hybrid at 384x192. .*--medvram"
    with pytest.raises(EstimatorError, match=said):
        estimator.estimate([grey(3, (128, 64))])


def test_out_of_memory_of_an_own_network_says_what_helps(random_network, monkeypatch):
    monkeypatch.setattr(type(random_network("small")), "forward", full)
    with pytest.raises(EstimatorError, match=r"at 128x128\. .*--device cpu"):
        DepthEstimator("small", weights=random_network("small").state_dict()).estimate([grey(3)])


def test_missing_files_are_refused_at_once(tmp_path):
    with pytest.raises(EstimatorError, match=r"none\.pt cannot be opened: No such file"):
        DepthEstimator(weights=tmp_path / "none.pt")


def test_weights_of_another_preset_are_refused(small_weights):
    with pytest.raises(WeightsError, match=r"does not fit dpt_hybrid; .* missing: pretrained"):
        DepthEstimator("dpt_hybrid", weights=small_weights).estimate([grey(3)])


def test_the_depth_stage_is_stabilitys_in_keys_and_stays_in_evaluation_mode():
    stage = DepthStage(SMALL)
    assert all(name.startswith("model.") for name in stage.state_dict())
    stage.train()
    assert not any(module.training for module in stage.modules())
    x = torch.zeros(2, 3, 64, 96)
    assert stage(x).shape == (2, 1, 64, 96)
    assert not stage(x).requires_grad


def test_a_managed_network_is_taken_in_once_and_entered_for_each_pass(small_weights):
    """As by a host that moves networks to and fro itself: nobody else moves it, and nothing holds it afterwards."""
    taken: list[weakref.ref[nn.Module]] = []
    said: list[str] = []

    @contextmanager
    def on_device():
        said.append("in")
        yield
        said.append("out")

    def manage(network: nn.Module, device: torch.device):
        taken.append(weakref.ref(network))
        network.register_forward_hook(lambda *_: said.append("pass"))
        assert device == torch.device("cpu")
        return on_device

    managed = DepthEstimator(SMALL, weights=small_weights, manage=manage)
    alone = DepthEstimator(SMALL, weights=small_weights)
    assert taken == [], "loaded on first use"
    for level in (10, 200, 10):
        (ours,), (theirs,) = managed.estimate([grey(level)]), alone.estimate([grey(level)])
        assert np.array_equal(ours.values, theirs.values)
    assert (len(taken), said) == (1, ["in", "pass", "out"] * 2)
    managed.release()
    gc.collect()
    assert taken[0]() is None
