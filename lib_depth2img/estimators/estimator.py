"""Pictures in, depth maps out: one object around one network."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..depth.depth_map import DepthMap
from ..devices import Precision, out_of_memory_as
from ..errors import EstimatorError
from .cache import DepthCache
from .detail import AS_TRAINED, Detail
from .loading import WeightsSource
from .network import Manage, Network, OwnNetwork
from .preprocess import network_input, network_size, picture_array, shrunk
from .presets import DEFAULT_PRESET, Preset, get_preset
from .tiles import merged, tiles_of

if TYPE_CHECKING:
    import torch
    from PIL import Image

__all__ = ["DepthEstimator"]

BATCH_AREA = 8 * 384 * 384
"""Pixels of network input that go through the network together; more pictures than that take several passes."""


class DepthEstimator:
    """Estimates nearness with one network.

    ``weights``: a MiDaS ``.pt``, a whole checkpoint with ``depth_model.*`` in it, or a state dict, of which a network
    is made on first use; or a :class:`~.network.Network`, which has a device and a precision of its own.
    ``device``: as torch names it.
    ``precision``: "auto" is float16 on CUDA and float32 elsewhere; the reduced ones keep in float32 the
    standardisation of weights and the last layer, where half precision breaks the estimate. ``cache``: shared between
    estimators when handed over. ``manage``: who brings a network of its own to the device for each pass; None: it lies
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
        weights: WeightsSource | Network,
        device: str | torch.device = "cpu",
        precision: Precision = "auto",
        cache: DepthCache | None = None,
        manage: Manage | None = None,
    ) -> None:
        self.preset = get_preset(preset)
        self.cache = DepthCache() if cache is None else cache
        self._network = (
            weights
            if isinstance(weights, Network)
            else OwnNetwork(self.preset, weights, device=device, precision=precision, manage=manage)
        )
        self._key = (self._network.key, self.preset.name, self._network.precision)
        self._running = threading.Lock()

    @property
    def loaded(self) -> bool:
        """True while the network of this estimator is in memory."""
        return self._network.loaded

    @property
    def device(self) -> str:
        """Where the network computes, as torch names it."""
        return str(self._network.device)

    def estimate(self, pictures: Sequence[Image.Image | np.ndarray], detail: Detail = AS_TRAINED) -> list[DepthMap]:
        """One depth map per picture, in their order: relative nearness (near = high) on the network's grid, or that of
        all tiles together, over the whole picture.

        ``detail``: how finely; by default as the network was trained.
        ``pictures``: PIL images or (H, W, 3) uint8 RGB arrays, of any sizes. Equal ones are estimated once, those of
        equal network size go through the network together, and those seen before come from the cache.

        Raises:
            EstimatorError: something that is no picture, not enough memory, or an estimate that is not finite.
            TensorFileError: at the first use, the weights' file is broken; ``WeightsError`` when it does not fit.
        """
        arrays = [picture_array(picture) for picture in pictures]
        asked = (detail.resolution or self.preset.side, detail.tiles)
        keys: list[Hashable] = [(*self._key, *asked, _digest(array)) for array in arrays]
        found = {key: depth_map for key in keys if (depth_map := self.cache.get(key)) is not None}
        missing = {key: array for key, array in zip(keys, arrays, strict=True) if key not in found}
        if missing:
            with self._running:
                # Another thread may have estimated some of them while this one waited.
                found.update({key: depth_map for key in missing if (depth_map := self.cache.get(key)) is not None})
                missing = {key: array for key, array in missing.items() if key not in found}
                found.update(self._estimate(missing, detail))
        return [found[key] for key in keys]

    def release(self) -> None:
        """Give back the memory of the network and the cache; the next estimate loads the network again."""
        with self._running:
            self._network.release()
            self.cache.clear()

    def _estimate(self, pictures: dict[Hashable, np.ndarray], detail: Detail) -> dict[Hashable, DepthMap]:
        estimated: dict[Hashable, DepthMap] = {}
        for key, values in self._nearness(pictures, detail):
            estimated[key] = DepthMap(values, unit=False)
            self.cache.put(key, estimated[key])
        return estimated

    def _nearness(self, pictures: dict[Hashable, np.ndarray], detail: Detail) -> Iterator[tuple[Hashable, np.ndarray]]:
        """Each picture's key with its nearness: in one piece, or put together of its tiles."""
        if detail.tiles == 1:
            yield from self._passes(pictures, detail.resolution)
            return
        for key, picture in pictures.items():
            height, width = picture.shape[:2]
            tiles = tiles_of((width, height), detail.tiles)
            shown: dict[Hashable, np.ndarray] = {None: picture}
            shown |= {tile: picture[tile.y1 : tile.y2, tile.x1 : tile.x2] for tile in tiles}
            found = dict(self._passes(shown, detail.resolution))
            yield key, merged(found[None], tiles, [found[tile] for tile in tiles], (width, height))

    def _passes(
        self, pictures: Mapping[Hashable, np.ndarray], resolution: int
    ) -> Iterator[tuple[Hashable, np.ndarray]]:
        """Each picture's key with what the network says of it: (h, w) float32."""
        for size, keys in _batches(pictures, self.preset, resolution):
            shown = [shrunk(pictures[key], size) for key in keys]
            with out_of_memory_as(functools.partial(self._no_memory, size)):
                nearness = self._network.run(network_input(shown, size, self.preset))
            if not np.isfinite(nearness).all():
                raise EstimatorError(
                    f"{self.preset.title} gave numbers that are not finite. {self._network.if_not_finite}"
                )
            for key, values in zip(keys, nearness, strict=True):
                yield key, values.copy()

    def _no_memory(self, size: tuple[int, int]) -> EstimatorError:
        width, height = size
        return EstimatorError(
            f"Not enough memory is left for depth estimation by {self.preset.title} at {width}x{height}. "
            f"{self._network.if_no_memory}"
        )


def _batches(
    pictures: Mapping[Hashable, np.ndarray], preset: Preset, resolution: int
) -> Iterator[tuple[tuple[int, int], list[Hashable]]]:
    """The pictures' keys by network size (width, height), in groups that go through the network together."""
    by_size: dict[tuple[int, int], list[Hashable]] = {}
    for key, picture in pictures.items():
        height, width = picture.shape[:2]
        by_size.setdefault(network_size((width, height), preset, resolution), []).append(key)
    for (width, height), keys in by_size.items():
        count = max(1, BATCH_AREA // (width * height))
        for start in range(0, len(keys), count):
            yield (width, height), keys[start : start + count]


def _digest(picture: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return picture.shape, hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest()
