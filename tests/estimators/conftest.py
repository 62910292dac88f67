"""Networks with random weights that behave: every layer alive, outputs positive and far from constant."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from skimage import data
from torch import nn

from lib_depth2img.estimators.presets import PRESETS


@lru_cache(maxsize=1)
def _random_network(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = PRESETS[name].build().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.8, 1.2)
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.uniform_(-0.1, 0.1)
        _calibrate(network)
    return network


def _calibrate(network: nn.Module) -> None:
    """Scale and shift the last layer so that a photograph gives nearness around 1000 ± 300, well above ReLU's zero."""
    photograph = torch.from_numpy(data.astronaut()[:256, :256]).permute(2, 0, 1)[None] / 127.5 - 1
    head = network.scratch.output_conv
    last = head[4]
    before: list[torch.Tensor] = []
    handle = last.register_forward_hook(lambda module, args, output: before.append(output.clone()))
    network(photograph)
    handle.remove()
    scale = 300.0 / before[0].std()
    last.weight *= scale
    last.bias.copy_((last.bias - before[0].mean()) * scale + 1000.0)


@pytest.fixture
def random_network():
    """``random_network(name)``: that preset with random weights, in evaluation mode; the last one is kept."""
    return _random_network


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """(512, 512, 3) uint8."""
    return data.astronaut()
