"""Own networks on devices that are not here, and out of every host's reach."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lib_depth2img import DepthEstimator
from lib_depth2img.devices import (
    PRECISIONS,
    autocast,
    checked_device,
    checked_precision,
    out_of_memory_as,
    without_autocast,
)
from lib_depth2img.errors import DeviceError, EstimatorError
from lib_depth2img.estimators.networks.building import assign, without_weights
from lib_depth2img.estimators.presets import PRESETS, get_preset
from lib_depth2img.estimators.stage import DepthStage
from tests.pretend import autocast_of_directml, left_on, pretended

LARGE = ("depth_anything_v2_base", "depth_anything_v2_large", "dpt_beit_large_512", "dpt_swin2_large_384")
"""Made of the same layers as a smaller one among the presets."""

NETWORKS = (*(name for name in PRESETS if name not in LARGE), "small")
MOVED = tuple(name for name in NETWORKS if name not in ("dpt_large", "dpt_beit_large_384"))
"""1.4 GB are not sent to and fro: those of ``dpt_large`` are the layers of ``dpt_hybrid``, and BEiT's are tested by a
reduced network in ``test_midas31.py``."""

REPLACED_BY_HOSTS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention, nn.GroupNorm, nn.LayerNorm)
"""modules/devices.py:134-140 and extensions-builtin/Lora/lora_patches.py:8-18."""


def test_autocast_can_be_left_where_torch_has_none() -> None:
    """torch 2.1 raises for mps, every torch for DirectML's privateuseone; meta stands for whatever comes."""
    for kind in ("mps", "privateuseone", "meta", "xpu"):
        with without_autocast(torch.device(kind)):
            pass


def test_autocast_of_the_device_is_left() -> None:
    layer, x = nn.Linear(2, 2), torch.zeros(1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        with without_autocast(torch.device("cpu")):
            assert layer(x).dtype == torch.float32


def test_the_amd_forks_own_autocast_is_left_too_and_comes_back() -> None:
    layer, x = nn.Linear(2, 2), torch.zeros(1, 2)
    with autocast_of_directml():
        assert layer(x).dtype == torch.bfloat16  # a tensor of the CPU, as there
        for device in ("privateuseone", "cpu"):
            with without_autocast(torch.device(device)):
                assert layer(x).dtype == torch.float32
            assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize("device", ["cpu", "privateuseone:0"])
@pytest.mark.parametrize("name", ["dpt_hybrid", "depth_anything_v2_small"])
def test_the_amd_forks_own_autocast_changes_no_estimate(name, device, random_network, photograph, lightened) -> None:
    """On its device, and on the CPU when the settings say so."""
    weights, pictures = random_network(name).state_dict(), [photograph]
    expected = lightened(DepthEstimator(name, weights=weights)).estimate(pictures)[0].values
    with autocast_of_directml(), pretended():
        found = lightened(DepthEstimator(name, weights=weights, device=device)).estimate(pictures)[0].values
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("device", ["cuda", "mps", "privateuseone:0"])
@pytest.mark.parametrize("name", ["dpt_hybrid", "midas_v21_small", "depth_anything_v2_small", "dpt_swin2_tiny_256"])
def test_an_estimate_on_another_device_is_the_same(name, device, random_network, photograph, lightened) -> None:
    weights, pictures = random_network(name).state_dict(), [photograph]
    expected = lightened(DepthEstimator(name, weights=weights)).estimate(pictures)[0].values
    with pretended():
        estimator = lightened(DepthEstimator(name, weights=weights, device=device))
        found = estimator.estimate(pictures)[0].values
        assert {each.device.type for each in estimator._network._module.parameters()} == {device.partition(":")[0]}
        estimator.release()
        assert left_on(device.partition(":")[0]) == []
    span = np.ptp(expected)
    if device == "cuda":
        assert 0 < np.abs(found - expected).max() <= 0.05 * span
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] >= 0.999
    else:
        assert np.abs(found - expected).max() <= 1e-4 * span


def test_release_also_empties_what_torch_keeps_of_the_devices_memory(random_network, monkeypatch) -> None:
    emptied = []
    with pretended(), monkeypatch.context() as patch:
        patch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
        estimator = DepthEstimator("small", weights=random_network("small").state_dict(), device="mps")
        assert emptied == []
        estimator.release()
    assert emptied == ["mps"]


def stage_of_zeros(name: str) -> DepthStage:
    stage = without_weights(lambda: DepthStage(name))
    assert isinstance(stage, DepthStage)
    assign(stage, {})
    return stage


@pytest.mark.parametrize("move", ["cpu", "cuda"])
@pytest.mark.parametrize("name", MOVED)
def test_a_stage_that_is_sent_away_leaves_nothing_behind(name, move) -> None:
    """What layers derive from their weights, too; "cuda": from one card to another."""
    stage = stage_of_zeros(name)
    with pretended(), torch.no_grad():
        stage.to("mps")
        stage(torch.zeros(1, 3, 64, 64, device="mps"))
        assert left_on("mps") != []
        stage.to(move)
        assert left_on("mps") == []
        assert stage(torch.zeros(1, 3, 64, 64, device=move)).device.type == move


@pytest.mark.parametrize("name", MOVED)
def test_the_stage_takes_any_dtype_and_computes_in_its_own(name) -> None:
    stage, side = stage_of_zeros(name), 2 * get_preset(name).multiple
    with pretended():
        stage.to("cuda", torch.float16)
        for dtype in (torch.float32, torch.float16):
            nearness = stage(torch.zeros(1, 3, side, side, device="cuda", dtype=dtype))
            assert nearness.shape == (1, 1, side, side)
        with pytest.raises(RuntimeError, match="same device"):
            stage(torch.zeros(1, 3, side, side))  # the pretence can fail


@pytest.fixture(scope="module", params=NETWORKS)
def network(request) -> nn.Module:
    """Each network in turn, built once; its tests leave it as it was."""
    return get_preset(request.param).build().eval()


class TestOutOfTheHostsReach:
    def test_replaced_forwards_of_torchs_layers_are_not_called(self, network, monkeypatch) -> None:
        x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = network(x)
            for kind in REPLACED_BY_HOSTS:
                monkeypatch.setattr(kind, "forward", lambda *_: pytest.fail("the host's layer was called"))
            assert torch.equal(network(x), expected)

    def test_tiling_changes_no_estimate(self, network) -> None:
        """modules/sd_hijack.py:313-318."""
        x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = network(x)
            layers = [layer for layer in network.modules() if type(layer) == nn.Conv2d]  # noqa: E721 - as the host
            for layer in layers:
                layer.padding_mode = "circular"
            assert torch.equal(network(x), expected)
        assert layers == []

    def test_a_cast_of_another_thread_that_ends_in_the_middle_ends_as_it_should(self) -> None:
        """A generation ends while the preview estimates: afterwards every layer of the process is torch's own again."""
        before = {kind: kind.forward for kind in REPLACED_BY_HOSTS}
        stage, in_the_middle, over = DepthStage("small"), threading.Event(), threading.Event()
        cast = ExitStack()
        cast.enter_context(manual_cast(torch.bfloat16))

        def other_thread() -> None:
            in_the_middle.wait()
            cast.close()
            over.set()

        def wait(*_: Any) -> None:
            in_the_middle.set()
            over.wait()

        stage.model.pretrained.eighth.register_forward_pre_hook(wait)
        thread = threading.Thread(target=other_thread)
        thread.start()
        stage(torch.zeros(1, 3, 64, 64))
        thread.join()
        assert {kind: kind.forward for kind in REPLACED_BY_HOSTS} == before
        assert not any(hasattr(kind, "org_forward") for kind in REPLACED_BY_HOSTS)
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.float32

    def test_a_network_built_while_the_host_casts_is_as_any_other(self) -> None:
        torch.manual_seed(0)
        plain = get_preset("small").build().eval()
        x = torch.randn(1, 3, 64, 64)
        with manual_cast(torch.bfloat16):
            torch.manual_seed(0)
            built = get_preset("small").build().eval()
        with torch.no_grad():
            assert torch.equal(built(x), plain(x))


@contextmanager
def manual_cast(target_dtype: torch.dtype) -> Iterator[None]:
    """modules/devices.py:134-208, word by word but for what of it casts."""

    def forward_wrapper(self: nn.Module, *args: torch.Tensor) -> torch.Tensor:
        self.to(target_dtype)
        result: torch.Tensor = self.org_forward(*[arg.to(target_dtype) for arg in args])  # type: ignore[operator]
        return result

    for kind in REPLACED_BY_HOSTS:
        kind.org_forward, kind.forward = kind.forward, forward_wrapper  # type: ignore[attr-defined,method-assign]
    try:
        yield
    finally:
        for kind in REPLACED_BY_HOSTS:
            if hasattr(kind, "org_forward"):
                kind.forward = kind.org_forward  # type: ignore[method-assign]
                del kind.org_forward


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "HIP out of memory. Tried to allocate 2.00 GiB",
        "MPS backend out of memory (MPS allocated: 5.05 GB, other allocations: 1.20 GB, max allowed: 6.77 GB).",
        "XPU out of memory, please use `empty_cache` to release all unoccupied cached memory.",
        "[enforce fail at alloc_cpu.cpp:83] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 8000000000000 bytes. Error code 12 (Cannot allocate memory)",
        "[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 b.",
        "Could not allocate tensor with 8388608 bytes. There is not enough GPU video memory available!",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_missing_memory_is_known_in_every_devices_words(text) -> None:
    with pytest.raises(EstimatorError, match="too little"), out_of_memory_as(lambda: EstimatorError("too little")):
        raise RuntimeError(text)


def test_missing_memory_of_this_very_machine_is_known() -> None:
    with pytest.raises(EstimatorError, match="too little"), out_of_memory_as(lambda: EstimatorError("too little")):
        torch.empty(1 << 55, dtype=torch.uint8)
    with pytest.raises(EstimatorError, match="too little"), out_of_memory_as(lambda: EstimatorError("too little")):
        np.empty(1 << 55, dtype=np.uint8)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="size of tensor a"), out_of_memory_as(lambda: EstimatorError("too little")):
        torch.zeros(2) + torch.zeros(3)


class TestWhatADeviceCanDo:
    def test_auto(self) -> None:
        expected = {"cpu": "float32", "cuda": "float16", "mps": "float32"}
        assert {name: checked_precision("auto", torch.device(name)) for name in expected} == expected

    def test_a_device_that_is_not_here(self) -> None:
        for name in ("mps", "meta"):
            with pytest.raises(DeviceError, match=f"finds no {name} device .*; use cpu"):
                checked_device(name)
        with pytest.raises(DeviceError, match="'gpu' is no device; expected cpu, cuda, cuda:N or mps"):
            checked_device("gpu")

    def test_a_precision_that_the_device_lacks(self) -> None:
        with pytest.raises(DeviceError, match=r"bfloat16 does not run on mps .*; use float32"):
            checked_precision("bfloat16", torch.device("mps"))
        with pytest.raises(DeviceError, match="float16 does not run on a CPU; use bfloat16"):
            checked_precision("float16", torch.device("cpu"))
        with pytest.raises(DeviceError, match="'half'; expected one of auto"):
            checked_precision("half", torch.device("cpu"))
        assert {checked_precision(name, torch.device("cpu")) for name in PRECISIONS[:3]} == {"float32", "bfloat16"}

    def test_mixed_precision_where_torch_has_none_is_refused_and_float32_is_not(self) -> None:
        with autocast(torch.device("privateuseone", 0), "float32"):
            pass
        with pretended(), pytest.raises(DeviceError, match="does not compute in float16 on privateuseone; use float32"):
            autocast(torch.device("privateuseone", 0), "float16")
