"""Pictures in, depth maps out: one object around one network."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..depth.depth_map import DepthMap
from ..devices import (
    Precision,
    checked_device,
    checked_precision,
    empty_cache,
    fast_memory_format,
    out_of_memory_as,
    without_autocast,
)
from ..errors import EstimatorError
from .cache import DepthCache
from .loading import WeightsSource, build_network
from .preprocess import network_input, network_size, picture_array, shrunk
from .presets import DEFAULT_PRESET, Preset, get_preset

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor, nn

__all__ = ["DepthEstimator", "Manage", "Precision"]

Manage = Callable[["nn.Module", "torch.device"], Callable[[], AbstractContextManager[Any]]]
"""Takes in a network that lies in the CPU's memory; gives what is entered for each pass on that device."""

BATCH_AREA = 8 * 384 * 384
"""Pixels of network input that go through the network together; more pictures than that take several passes."""


class DepthEstimator:
    """Estimates nearness with a network of its own, loaded on first use.

    ``weights``: a MiDaS ``.pt``, a whole checkpoint with ``depth_model.*`` in it, or a state dict. ``device``: as
    torch names it.
    ``precision``: "auto" is float16 on CUDA and float32 elsewhere; the reduced ones keep in float32 the
    standardisation of weights and the last layer, where half precision breaks the estimate. ``cache``: shared between
    estimators when handed over. ``manage``: who brings the network to the device for each pass; None: it lies
    there from the first one on.

    Safe from several threads: the network runs for one caller at a time, and a picture that is being estimated for
    one thread is not estimated again for another.

    Raises:
        EstimatorError: unknown preset, or weights that cannot be opened.
        DeviceError: no such device or precision, or a precision that the device cannot do.
    """

    def __init__(
        self,
        preset: str = DEFAULT_PRESET,
        *,
        weights: WeightsSource,
        device: str | torch.device = "cpu",
        precision: Precision = "auto",
        cache: DepthCache | None = None,
        manage: Manage | None = None,
    ) -> None:
        self.preset = get_preset(preset)
        network = _OwnNetwork(self.preset, weights, checked_device(device), precision, manage)
        self._set_up(network, _weights_key(weights), cache)

    @classmethod
    def around(
        cls,
        stage: Callable[[], AbstractContextManager[nn.Module]],
        *,
        key: Hashable,
        preset: str = DEFAULT_PRESET,
        device: str | torch.device = "cpu",
        cache: DepthCache | None = None,
    ) -> DepthEstimator:
        """An estimator around a network that belongs to somebody else, such as the depth stage of a loaded checkpoint.

        ``stage``: gives the live module for the length of one pass, asked anew each time, so that nothing of it is
        kept; it is called as a module with (B, 3, h, w) in its parameters' dtype and gives (B, 1, h, w) or (B, h, w)
        nearness. ``key``: says whose weights they are, for the cache. ``device``: where the input goes, which under
        lowvram is not where the weights lie between calls.
        """
        import torch

        estimator = cls.__new__(cls)
        estimator.preset = get_preset(preset)
        estimator._set_up(_BorrowedNetwork(stage, torch.device(device)), key, cache)
        return estimator

    def _set_up(self, network: _OwnNetwork | _BorrowedNetwork, key: Hashable, cache: DepthCache | None) -> None:
        self.cache = DepthCache() if cache is None else cache
        self._network = network
        self._key = (key, self.preset.name, network.precision)
        self._running = threading.Lock()

    @property
    def loaded(self) -> bool:
        """True while the network of this estimator is in memory."""
        return self._network.loaded

    def estimate(self, pictures: Sequence[Image.Image | np.ndarray]) -> list[DepthMap]:
        """One depth map per picture, in their order: relative nearness (near = high) on the network's grid, over the
        whole picture.

        ``pictures``: PIL images or (H, W, 3) uint8 RGB arrays, of any sizes. Equal ones are estimated once, those of
        equal network size go through the network together, and those seen before come from the cache.

        Raises:
            EstimatorError: something that is no picture, not enough memory, or an estimate that is not finite.
            TensorFileError: at the first use, the weights' file is broken; ``WeightsError`` when it does not fit.
        """
        arrays = [picture_array(picture) for picture in pictures]
        keys: list[Hashable] = [(*self._key, _digest(array)) for array in arrays]
        found = {key: depth_map for key in keys if (depth_map := self.cache.get(key)) is not None}
        missing = {key: array for key, array in zip(keys, arrays, strict=True) if key not in found}
        if missing:
            with self._running:
                # Another thread may have estimated some of them while this one waited.
                found.update({key: depth_map for key in missing if (depth_map := self.cache.get(key)) is not None})
                missing = {key: array for key, array in missing.items() if key not in found}
                found.update(self._estimate(missing))
        return [found[key] for key in keys]

    def release(self) -> None:
        """Give back the memory of the network and the cache; the next estimate loads the network again."""
        with self._running:
            self._network.release()
            self.cache.clear()

    def _estimate(self, pictures: dict[Hashable, np.ndarray]) -> dict[Hashable, DepthMap]:
        estimated: dict[Hashable, DepthMap] = {}
        for size, keys in _batches(pictures, self.preset):
            shown = [shrunk(pictures[key], size) for key in keys]
            with out_of_memory_as(functools.partial(self._no_memory, size)):
                nearness = self._network.run(network_input(shown, size, self.preset))
            if not np.isfinite(nearness).all():
                raise EstimatorError(
                    f"{self.preset.title} gave numbers that are not finite. {self._network.against_infinity}"
                )
            for key, values in zip(keys, nearness, strict=True):
                estimated[key] = DepthMap(values.copy(), unit=False)
                self.cache.put(key, estimated[key])
        return estimated

    def _no_memory(self, size: tuple[int, int]) -> EstimatorError:
        width, height = size
        return EstimatorError(
            f"Not enough memory is left for depth estimation by {self.preset.title} at {width}x{height}. "
            f"{self._network.against_want}"
        )


class _OwnNetwork:
    """Loads on first use, and can be let go.

    ``against_infinity``, ``against_want``: what helps when its numbers are not finite, and when memory is wanting.
    """

    against_want = "Free memory, or let it run on the CPU: --device cpu (in the WebUI: Settings, Depth2Img, Device)."

    def __init__(
        self,
        preset: Preset,
        weights: WeightsSource,
        device: torch.device,
        precision: Precision,
        manage: Manage | None,
    ) -> None:
        self.precision = checked_precision(precision, device)
        self._preset, self._weights, self._device, self._manage = preset, weights, device, manage
        self._module: nn.Module | None = None
        self._pass: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def loaded(self) -> bool:
        return self._module is not None

    @property
    def against_infinity(self) -> str:
        if self.precision == "float32":
            return "Its weights are broken: install them again."
        return (
            f"It computed in {self.precision}: let it compute in float32, by --precision float32 "
            "(in the WebUI: Settings, Depth2Img, Precision)."
        )

    def run(self, pictures: Tensor) -> np.ndarray:
        import torch

        dtype = getattr(torch, self.precision)
        if self._module is None:
            self._module = self._loaded(dtype)
        with self._pass():
            return _run(self._module, pictures.to(self._device, dtype))

    def _loaded(self, dtype: torch.dtype) -> nn.Module:
        network = _cast(build_network(self._preset, self._weights), dtype, self._device)
        if self._manage is None:
            return network.to(self._device)
        self._pass = self._manage(network, self._device)
        return network

    def release(self) -> None:
        self._module, self._pass = None, nullcontext
        empty_cache(self._device)


class _BorrowedNetwork:
    """Somebody else's module; nothing of it is kept. What helps against what: as in ``_OwnNetwork``."""

    precision = "as loaded"
    loaded = False
    against_infinity = (
        "It is the checkpoint's own and computes as the checkpoint was loaded: load it in float32 (in the WebUI: "
        "--no-half), or choose another estimator."
    )
    against_want = "Free memory, choose another estimator, or start the WebUI with --medvram or --lowvram."

    def __init__(self, stage: Callable[[], AbstractContextManager[nn.Module]], device: torch.device) -> None:
        self._stage, self._device = stage, device

    def run(self, pictures: Tensor) -> np.ndarray:
        with self._stage() as stage:
            dtype = next((parameter.dtype for parameter in stage.parameters()), pictures.dtype)
            return _run(stage, pictures.to(self._device, dtype))

    def release(self) -> None:
        pass


def _run(network: nn.Module, pictures: Tensor) -> np.ndarray:
    """(B, 3, h, w) -> (B, h, w) float32; in the network's own precision even where the host samples under autocast."""
    import torch

    batch, _, height, width = pictures.shape
    with torch.no_grad(), without_autocast(pictures.device):
        nearness: Tensor = network(pictures)
    return _array(nearness.float().reshape(batch, height, width).cpu())


def _array(nearness: Tensor) -> np.ndarray:
    array: np.ndarray = nearness.numpy()
    return array


def _cast(network: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Everything to ``dtype`` but what keeps float32 for its own reasons, as it computes fastest on ``device``.

    It stays where it lies.
    """
    import torch

    from .networks.building import cast
    from .networks.convolutions import FoldedStdConv2d
    from .networks.decoder import Conv2dFloat32

    network.float()
    for module in network.modules():
        if dtype == torch.bfloat16 and device.type == "cpu" and hasattr(module, "fused_attn"):
            # timm's switch; the fused attention of torch 2.1 is three times slower here.
            module.fused_attn = False  # type: ignore[assignment]
        if not isinstance(module, FoldedStdConv2d | Conv2dFloat32):
            cast(module, dtype)
    return network.to(memory_format=fast_memory_format(device))  # type: ignore[call-overload]


def _batches(pictures: dict[Hashable, np.ndarray], preset: Preset) -> Iterator[tuple[tuple[int, int], list[Hashable]]]:
    """The pictures' keys by network size (width, height), in groups that go through the network together."""
    by_size: dict[tuple[int, int], list[Hashable]] = {}
    for key, picture in pictures.items():
        height, width = picture.shape[:2]
        by_size.setdefault(network_size((width, height), preset), []).append(key)
    for (width, height), keys in by_size.items():
        count = max(1, BATCH_AREA // (width * height))
        for start in range(0, len(keys), count):
            yield (width, height), keys[start : start + count]


def _digest(picture: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return picture.shape, hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest()


def _weights_key(weights: WeightsSource) -> Hashable:
    """What stands for the weights in the cache's keys: the file as it is now, or this very object."""
    if not isinstance(weights, str | Path):
        return object()
    path = Path(weights)
    try:
        status = path.stat()
    except OSError as error:
        raise EstimatorError(f"The weights {path} cannot be opened: {error.strerror}.") from error
    return str(path.resolve()), status.st_size, status.st_mtime_ns
