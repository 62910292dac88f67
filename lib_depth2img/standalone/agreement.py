"""How well two depth maps agree about what is in front of what."""

from __future__ import annotations

import numpy as np

__all__ = ["rank_correlation"]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays of equal shape, in [-1, 1]; ties share their mean rank.

    1: the same order of near and far everywhere. 0 where either is flat, since it orders nothing.
    """
    a, b = _ranks(first), _ranks(second)
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts, dtype=np.float64)
    ranks: np.ndarray = (last - (counts - 1) / 2)[inverse]
    return ranks
