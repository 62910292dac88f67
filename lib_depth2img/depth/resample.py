"""Two kernels on (H, W) arrays: point sampling by cubic convolution, and the area average; one axis after the other.

Both work in float64 and leave the rounding to the caller, so that a constant stays exactly constant after the cast
to float32. Otherwise the per-picture scaling of the conditioning would blow the rounding noise of a flat map up to
[-1, 1].
"""

from __future__ import annotations

import numpy as np

__all__ = ["area", "bicubic", "resize"]

_A = -0.75
"""Free parameter of cubic convolution (Keys 1981): torch's and OpenCV's choice."""


def bicubic(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values at the crossings of ``rows`` and ``columns``: (len(rows), len(columns)) float64.

    ``values``: (H, W). ``rows``, ``columns``: coordinates in samples, where sample i covers [i, i + 1) and has its
    centre at i + 0.5. Beyond the edges the outermost samples repeat (torch, aten/native/UpSample.h,
    ``upsample_get_value_bounded``).
    """
    return _cubic_along(_cubic_along(values, rows, axis=0), columns, axis=1)


def area(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mean over (width, height) = ``size`` equal boxes: (height, width); an axis that would grow is left alone."""
    width, height = size
    return _mean_along(_mean_along(values, height, axis=0), width, axis=1)


def resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width) float32 at ``size`` (width, height): the area average along an axis that shrinks below half,
    bicubic along any other.
    """
    height, width = values.shape
    averaged = area(values, (size[0] if width > 2 * size[0] else width, size[1] if height > 2 * size[1] else height))
    rows, columns = (
        (np.arange(wanted) + 0.5) * (have / wanted) for wanted, have in zip(size[::-1], averaged.shape, strict=True)
    )
    return bicubic(averaged, rows, columns).astype(np.float32)


def _cubic_along(values: np.ndarray, coordinates: np.ndarray, *, axis: int) -> np.ndarray:
    count = values.shape[axis]
    position = np.asarray(coordinates, dtype=np.float64) - 0.5
    first = np.floor(position)
    fraction = position - first
    if not fraction.any() and first.min() >= 0 and first.max() < count:
        exact: np.ndarray = values.take(first.astype(np.intp), axis=axis)
        return exact
    taps = first.astype(np.intp)[None] + np.arange(-1, 3)[:, None]
    shape = (-1, 1) if axis == 0 else (1, -1)
    result: np.ndarray | None = None
    for tap, weight in zip(taps.clip(0, count - 1), _cubic_weights(fraction), strict=True):
        term = values.take(tap, axis=axis) * weight.reshape(shape)
        result = term if result is None else np.add(result, term, out=result)
    assert result is not None
    return result


def _cubic_weights(fraction: np.ndarray) -> tuple[np.ndarray, ...]:
    """Weights of the neighbours at distance 1 + t, t, 1 - t and 2 - t; the last one makes their sum exactly one."""
    t, u = fraction, 1.0 - fraction
    before = _A * t * u * u
    near = ((_A + 2.0) * t - (_A + 3.0)) * t * t + 1.0
    after = ((_A + 2.0) * u - (_A + 3.0)) * u * u + 1.0
    return before, near, after, 1.0 - before - near - after


def _mean_along(values: np.ndarray, wanted: int, *, axis: int) -> np.ndarray:
    """Mean over ``wanted`` equal boxes; a sample that is cut by a box's edge counts in part on either side."""
    count = values.shape[axis]
    if wanted >= count:
        return values
    edges = np.arange(wanted + 1) * (count / wanted)
    edges[-1] = count
    whole = np.floor(edges).astype(np.intp)
    shape = (-1, 1) if axis == 0 else (1, -1)
    cut = values.take(whole.clip(max=count - 1), axis=axis) * (edges - whole).reshape(shape)
    sums = np.add.reduceat(values, whole[:-1], axis=axis, dtype=np.float64)
    leaving, entering = (slice(None, -1), slice(1, None))
    if axis == 0:
        sums += cut[entering] - cut[leaving]
    else:
        sums += cut[:, entering] - cut[:, leaving]
    sums *= wanted / count
    return sums
