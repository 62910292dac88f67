"""The fifth channel of the UNet, and where it counts. No other place of this project may compute them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RequestError
from .depth_map import DepthMap
from .extent import Extent, checked_extent
from .geometry import LATENT_FACTOR, Placement, sample

if TYPE_CHECKING:
    import torch

__all__ = ["conditioning", "region_share"]


def conditioning(
    depth_maps: DepthMap | Sequence[DepthMap],
    placements: Placement | Sequence[Placement],
    *,
    batch_size: int | None = None,
    extent: Extent | None = None,
) -> torch.Tensor:
    """The depth conditioning of a batch: (B, 1, H/8, W/8) float32 on the CPU, in [-1, 1], near = high.

    ``depth_maps`` and ``placements`` go in pairs; a single one of either serves all of the other.
    ``batch_size``: B, when one pair serves the whole batch.

    Each map is sampled at the latent's size and scaled there by its own minimum and maximum:
    ``2 * (d - min) / (max - min) - 1``, and -1 everywhere when they are equal. The host takes them over the whole batch
    and gives NaN on flat depth (processing.py:304-321). The training code takes them per picture, as here, and adds
    0.001 to the difference, which gives -1 on flat depth (ldm ddpm.py:1711-1723).

    ``extent``: (lowest, highest) in the maps' own unit, in the place of each one's minimum and maximum: what is the
    same in two frames of a sequence is the same in their channels then. What lies beyond is -1 or 1.

    Raises:
        RequestError: numbers of maps, placements and batch that do not fit, canvases that differ or are no
        multiples of 8, an extent that does not rise.
    """
    one = _channel if extent is None else functools.partial(_channel, extent=checked_extent("extent", extent))
    return _sampled(one, depth_maps, placements, batch_size)


def region_share(
    regions: DepthMap | Sequence[DepthMap],
    placements: Placement | Sequence[Placement],
    *,
    batch_size: int | None = None,
) -> torch.Tensor:
    """How far depth counts in each latent cell, for ``Control.region``: (B, 1, H/8, W/8) float32 on the CPU, in [0, 1].

    ``regions``: 1 where it counts, 0 where not, over the whole of a picture. They lie on the canvas as depth maps do;
    nothing is stretched. Else as :func:`conditioning`.

    Raises:
        RequestError: as :func:`conditioning`.
    """
    return _sampled(_share, regions, placements, batch_size)


def _sampled(
    one: Callable[[DepthMap, Placement, tuple[int, int]], np.ndarray],
    depth_maps: DepthMap | Sequence[DepthMap],
    placements: Placement | Sequence[Placement],
    batch_size: int | None,
) -> torch.Tensor:
    import torch

    maps = [depth_maps] if isinstance(depth_maps, DepthMap) else list(depth_maps)
    places = [placements] if isinstance(placements, Placement) else list(placements)
    count = max(len(maps), len(places))
    if not maps or not places or {len(maps), len(places)} - {1, count}:
        raise RequestError(
            f"Got {len(maps)} depth maps and {len(places)} placements; "
            "they go in pairs, or one serves all of the other."
        )
    batch = _checked_batch(batch_size, count)
    size = _latent_size(places)
    maps, places = (group * count if len(group) == 1 else group for group in (maps, places))  # type: ignore[assignment]
    channels = [one(depth_map, placement, size) for depth_map, placement in zip(maps, places, strict=True)]
    stacked = torch.from_numpy(np.stack(channels)[:, None])
    return stacked if count == batch else stacked.repeat(batch, 1, 1, 1)


def _channel(
    depth_map: DepthMap, placement: Placement, size: tuple[int, int], extent: Extent | None = None
) -> np.ndarray:
    depth = sample(depth_map, placement, size).astype(np.float64)
    lowest, highest = extent or (depth.min(), depth.max())
    if lowest == highest:
        return np.full(depth.shape, -1.0, dtype=np.float32)
    if extent is not None:
        depth = depth.clip(lowest, highest)
    scaled: np.ndarray = (2.0 * ((depth - lowest) / (highest - lowest)) - 1.0).astype(np.float32)
    return scaled


def _share(region: DepthMap, placement: Placement, size: tuple[int, int]) -> np.ndarray:
    return sample(region, placement, size).clip(0.0, 1.0)


def _checked_batch(batch_size: int | None, count: int) -> int:
    if batch_size is None:
        return count
    if batch_size < 1 or count not in (1, batch_size):
        raise RequestError(
            f"The batch size is {batch_size} for {count} depth maps; "
            f"it has to be {count}, or above 0 with one depth map for all."
        )
    return batch_size


def _latent_size(placements: Sequence[Placement]) -> tuple[int, int]:
    canvases = sorted({placement.canvas_size for placement in placements})
    if len(canvases) > 1:
        raise RequestError(
            f"The canvases of one batch differ: {canvases}; place every picture on the same width and height."
        )
    width, height = canvases[0]
    if width % LATENT_FACTOR or height % LATENT_FACTOR:
        raise RequestError(f"The canvas is {width}x{height}; width and height have to be multiples of {LATENT_FACTOR}.")
    return width // LATENT_FACTOR, height // LATENT_FACTOR
