"""How well two depth maps agree about what is in front of what."""

from __future__ import annotations

import numpy as np

from .packages import importing

__all__ = ["rank_correlation"]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays of equal shape, in [-1, 1].

    1: the same order of near and far everywhere. 0 where either is flat, since it orders nothing.

    Raises:
        CheckpointError: there is no scipy.
    """
    with importing("scipy"):
        from scipy.stats import spearmanr

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second, axis=None)[0])
