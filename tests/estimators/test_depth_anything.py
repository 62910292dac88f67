"""Depth Anything V2 against its authors' own code and transformers' implementation, with the same random weights."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from lib_depth2img.errors import WeightsError
from lib_depth2img.estimators.loading import build_network, load_weights
from lib_depth2img.estimators.networks.building import without_weights
from lib_depth2img.estimators.networks.depth_anything import depth_anything
from lib_depth2img.estimators.preprocess import MAX_AREA, network_input, network_size
from lib_depth2img.estimators.presets import PRESETS

SMALL = PRESETS["depth_anything_v2_small"]
ENCODERS = {"small": "vits", "base": "vitb", "large": "vitl"}
SIZES = [(518, 518), (640, 360), (333, 517), (1024, 256)]
"""Of pictures, (width, height)."""


def authors(encoder: str, features: int, channels: list[int]) -> nn.Module:
    """Their network, from the package that carries their code unchanged; it prints what it does without."""
    with contextlib.redirect_stdout(io.StringIO()):
        from depth_anything_v2.dpt import DepthAnythingV2

    network: nn.Module = DepthAnythingV2(encoder, features, channels)
    return network.eval()


@pytest.fixture(scope="module")
def theirs(random_network_of_the_small) -> nn.Module:
    network = authors("vits", 64, [48, 96, 192, 384])
    missing, left_over = network.load_state_dict(random_network_of_the_small.state_dict(), strict=False)
    assert (missing, left_over) == (["pretrained.mask_token"], [])
    return network


@pytest.fixture(scope="module")
def random_network_of_the_small() -> Iterator[nn.Module]:
    from tests.gpu import subjects

    return subjects.random_network(SMALL.name)


@pytest.mark.parametrize("size", [(266, 266), (336, 196), (154, 252), (448, 112)])
def test_the_network_gives_its_authors_nearness(size, theirs, random_network_of_the_small, photograph):
    """At half the sizes that the pictures of ``SIZES`` have, a tenth of the work; the whole ones were run by hand."""
    x = network_input([photograph], size, SMALL)
    with torch.no_grad():
        expected, got = theirs(x), random_network_of_the_small(x)
    assert expected.std() > 0.05 * expected.max(), "the comparison would be of a constant"
    assert (got - expected).abs().max() <= 1e-4 * expected.max()


def test_at_the_trained_size_positions_are_used_as_they_are(theirs, random_network_of_the_small, photograph):
    x = network_input([photograph], (518, 518), SMALL)
    with torch.no_grad():
        expected, got = theirs(x), random_network_of_the_small(x)
    assert (got - expected).abs().max() <= 1e-4 * expected.max()


@pytest.mark.parametrize("size", [*SIZES, (100, 90), (690, 520), (96, 640)])
def test_preprocessing_is_the_authors(size, theirs, photograph):
    picture = cv2.resize(photograph, size)
    expected, _ = theirs.image2tensor(np.ascontiguousarray(picture[:, :, ::-1]))
    got = network_input([picture], network_size(size, SMALL), SMALL)
    assert got.shape == expected.shape
    assert (got - expected.cpu()).abs().max() <= 1e-5


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_every_size_has_the_authors_names_and_shapes(size):
    features, channels = {
        "small": (64, [48, 96, 192, 384]),
        "base": (128, [96, 192, 384, 768]),
        "large": (256, [256, 512, 1024, 1024]),
    }[size]
    expected = without_weights(lambda: authors(ENCODERS[size], features, channels)).state_dict()
    got = without_weights(PRESETS[f"depth_anything_v2_{size}"].build).state_dict()
    shapes = {name: tensor.shape for name, tensor in expected.items() if name != "pretrained.mask_token"}
    assert {name: tensor.shape for name, tensor in got.items()} == shapes


@pytest.mark.parametrize(
    ("size", "expected"),
    [((16000, 1000), (4550, 518)), ((1, 3000), (518, 4550)), ((518, 519), (518, 518)), ((500, 700), (518, 728))],
)
def test_the_shorter_side_is_never_below_the_bound(size, expected):
    assert network_size(size, SMALL) == expected
    assert all(length % 14 == 0 and length >= 518 for length in expected)
    assert expected[0] * expected[1] <= MAX_AREA


def transformers_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As convert_depth_anything_to_hf.py of transformers renames them, for two blocks and the head."""
    named = {
        "pretrained.cls_token": "backbone.embeddings.cls_token",
        "pretrained.pos_embed": "backbone.embeddings.position_embeddings",
        "pretrained.norm.": "backbone.layernorm.",
        "pretrained.patch_embed.proj.": "backbone.embeddings.patch_embeddings.projection.",
        "depth_head.scratch.output_conv1.": "head.conv1.",
        "depth_head.scratch.output_conv2.0.": "head.conv2.",
        "depth_head.scratch.output_conv2.2.": "head.conv3.",
    }
    for block in range(2):
        ours, theirs = f"pretrained.blocks.{block}.", f"backbone.encoder.layer.{block}."
        named |= {f"{ours}{part}.": f"{theirs}{part}." for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2")}
        named |= {f"{ours}ls{number}.gamma": f"{theirs}layer_scale{number}.lambda1" for number in (1, 2)}
        named[f"{ours}attn.proj."] = f"{theirs}attention.output.dense."
    for level in range(4):
        named[f"depth_head.projects.{level}."] = f"neck.reassemble_stage.layers.{level}.projection."
        named[f"depth_head.resize_layers.{level}."] = f"neck.reassemble_stage.layers.{level}.resize."
        named[f"depth_head.scratch.layer{level + 1}_rn."] = f"neck.convs.{level}."
        fusion = f"depth_head.scratch.refinenet{4 - level}."
        there = f"neck.fusion_stage.layers.{level}."
        named[f"{fusion}out_conv."] = f"{there}projection."
        for unit in (1, 2):
            for conv in (1, 2):
                named[f"{fusion}resConfUnit{unit}.conv{conv}."] = f"{there}residual_layer{unit}.convolution{conv}."
    renamed = {}
    for name, tensor in weights.items():
        if ".attn.qkv." in name:
            start, end = name.split("attn.qkv.")
            block = start.split(".")[2]
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"backbone.encoder.layer.{block}.attention.attention.{part}.{end}"] = third
        else:
            (old,) = [old for old in named if name.startswith(old)]
            renamed[name.replace(old, named[old])] = tensor
    return renamed | {"backbone.embeddings.mask_token": torch.zeros(1, 384)}


def two_blocks() -> nn.Module:
    return depth_anything("vit_small_patch14_dinov2", 64, (48, 96, 192, 384), taps=(0, 0, 1, 1), depth=2)


def test_weights_that_transformers_saved_are_known(tmp_path):
    from safetensors.torch import save_file

    weights = dict(two_blocks().state_dict())
    theirs = {name: tensor.clone() for name, tensor in transformers_names(weights).items()}
    assert not set(theirs) & set(weights)
    save_file(theirs, tmp_path / "model.safetensors")
    got = load_weights(tmp_path / "model.safetensors", SMALL)
    assert got.keys() == weights.keys()
    assert all(torch.equal(got[name], weights[name]) for name in weights)


def test_half_of_transformers_attention_is_no_whole_network():
    weights = transformers_names(dict(two_blocks().state_dict()))
    del weights["backbone.encoder.layer.1.attention.attention.key.weight"]
    with pytest.raises(WeightsError, match="does not fit depth_anything_v2_small"):
        build_network(SMALL, weights)
