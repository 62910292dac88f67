"""Depth Anything V2 against transformers' own implementation, which the host's transformers does not have yet.

Part of the row of the newest versions (``table.py``), and of no other.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from lib_depth2img.estimators.loading import build_network, load_weights
from lib_depth2img.estimators.networks import depth_anything
from lib_depth2img.estimators.preprocess import network_input, network_size
from lib_depth2img.estimators.presets import PRESETS
from tests.gpu.subjects import photograph

PRESET = PRESETS["depth_anything_v2_small"]


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    """depth-anything/Depth-Anything-V2-Small-hf with random weights, every layer of it alive."""
    backbone = Dinov2Config(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        image_size=518,
        patch_size=14,
        out_indices=[3, 6, 9, 12],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=384,
        patch_size=14,
        neck_hidden_sizes=[48, 96, 192, 384],
        fusion_hidden_size=64,
    )
    network = DepthAnythingForDepthEstimation(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("lambda1"):
                parameter.uniform_(0.2, 0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.uniform_(-0.1, 0.1, generator=generator)
            elif parameter.ndim > 2 and not name.endswith(("token", "embeddings")):
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
            elif parameter.ndim > 1:
                parameter.normal_(0, 0.05, generator=generator)
        network.head.conv3.bias.fill_(1.0)
    return network


@pytest.fixture(scope="module")
def saved(theirs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    theirs.save_pretrained(folder)
    return folder / "model.safetensors"


@torch.no_grad()
@pytest.mark.parametrize("size", [(518, 518), (640, 360), (333, 517), (1024, 256)])
def test_the_networks_agree(size, theirs, saved, monkeypatch):
    """From the file that transformers has saved: since its version 5 the names in memory are others.

    transformers stretches positions to a size, and the authors by a factor with an offset (dinov2.py), as we do:
    away from the trained size both are compared with the offset left out.
    """
    monkeypatch.setattr(depth_anything, "_OFFSET", 0.0)
    ours = build_network(PRESET, load_weights(saved, PRESET))
    x = network_input([photograph(size)], network_size(size, PRESET), PRESET)
    expected, got = theirs(x).predicted_depth, ours(x)
    assert expected.std() > 0.01 * expected.max()
    assert (got - expected).abs().max() <= 1e-4 * expected.max()
