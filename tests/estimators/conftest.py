"""What the tests of this room share: networks with random weights that behave, and a photograph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from lib_depth2img import DepthEstimator
from tests.gpu import subjects


@pytest.fixture
def random_network() -> Callable[[str], nn.Module]:
    """``random_network(name)``: that preset with random weights, in evaluation mode; the last ones are kept."""
    return subjects.random_network


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """(512, 512, 3) uint8."""
    return subjects.photograph((512, 512))


@pytest.fixture(scope="session")
def lightened() -> Callable[[DepthEstimator], DepthEstimator]:
    """``lightened(estimator)``: it shows its network pictures of 128 instead of 384 pixels, a tenth of the work."""

    def lightened(estimator: DepthEstimator) -> DepthEstimator:
        estimator.preset = replace(estimator.preset, side=128)
        return estimator

    return lightened
