"""MiDaS 3.1's networks against timm's own, and against what MiDaS' code for other sizes does, by the same weights.

MiDaS' own code (isl-org/MiDaS) wants a timm of 2022 and is no package; it was run by hand, docs/estimators.md says with
what result. Here its two parts are compared with what is on the machine: the backbones with timm's, which fixes them to
one size, and the rest with the DPT that Stability's code has.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from lib_depth2img.estimators.loading import load_weights
from lib_depth2img.estimators.networks.beit import dpt_beit, relative_bias
from lib_depth2img.estimators.networks.building import assign, cast_network, without_weights
from lib_depth2img.estimators.networks.dpt import DPT
from lib_depth2img.estimators.networks.layers import use_own_layers
from lib_depth2img.estimators.networks.swin2 import dpt_swin2
from lib_depth2img.estimators.preprocess import network_input, network_size
from lib_depth2img.estimators.presets import PRESETS

BEIT = {"embed_dim": 64, "depth": 4, "num_heads": 4, "img_size": 96}
SWIN = {"embed_dim": 24, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}


def random(network: nn.Module) -> nn.Module:
    """Weights such that every part of the network has its share in what comes out."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("logit_scale"):
                parameter.fill_(1.5)
            elif parameter.ndim == 1:
                parameter.uniform_(0.2, 0.5, generator=generator)
            elif name.endswith(("relative_position_bias_table", "cls_token")):
                parameter.normal_(generator=generator)
            else:
                parameter.normal_(0, float(np.prod(parameter.shape[1:])) ** -0.5, generator=generator)
    return network.eval()


def beit() -> DPT:
    return random(empty_beit())  # type: ignore[return-value]


def swin() -> DPT:
    return random(empty_swin())  # type: ignore[return-value]


def empty_beit() -> DPT:
    network = dpt_beit("beit_large_patch16_384", taps=(0, 1, 2, 3), channels=(16, 32, 64, 64), **BEIT)
    use_own_layers(network)
    return network


def empty_swin() -> DPT:
    network = dpt_swin2("swinv2_tiny_window16_256", channels=(24, 48, 96, 192), **SWIN)
    use_own_layers(network)
    return network


def tokens_of(encoder: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What each block of a BeitEncoder gives."""
    grid = (x.shape[2] // 16, x.shape[3] // 16)
    tokens = encoder._tokens(encoder.model.patch_embed.proj(x), grid)
    found = []
    for block in encoder.model.blocks:
        tokens = encoder._through(block, tokens, grid)
        found.append(tokens)
    return found


def seen_by(blocks: list[nn.Module], run: object, x: torch.Tensor) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    handles = [block.register_forward_hook(lambda *call: found.append(call[2])) for block in blocks]
    run(x)  # type: ignore[operator]
    for handle in handles:
        handle.remove()
    return found


@torch.no_grad()
def test_beit_at_its_trained_size_is_timms():
    ours = beit()
    theirs = timm.create_model("beit_large_patch16_384", **BEIT).eval()
    theirs.load_state_dict(ours.pretrained.model.state_dict(), strict=False)
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    for got, expected in zip(
        tokens_of(ours.pretrained, x), seen_by(list(theirs.blocks), theirs.forward_features, x), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize("grid", [(6, 6), (3, 5), (9, 4)])
def test_the_bias_of_distances_is_stretched_over_other_sizes(grid):
    """Entry by entry: each pair of tokens gets what lies at their distance in the stretched square."""
    table = torch.randn(11 * 11 + 3, 2, generator=torch.Generator().manual_seed(2))
    rows, cols = grid
    square = F.interpolate(
        table[:-3].reshape(1, 11, 11, 2).permute(0, 3, 1, 2), size=(2 * rows - 1, 2 * cols - 1), mode="bilinear"
    )[0]
    got = relative_bias(table, grid)
    assert got.shape == (2, 1 + rows * cols, 1 + rows * cols)
    for one in range(rows * cols):
        for other in range(rows * cols):
            down, right = one // cols - other // cols, one % cols - other % cols
            expected = square[:, down + rows - 1, right + cols - 1]
            assert torch.equal(got[:, 1 + one, 1 + other], expected)
    assert torch.equal(got[:, 0, 1:], table[-3][:, None].expand(2, rows * cols))
    assert torch.equal(got[:, 1:, 0], table[-2][:, None].expand(2, rows * cols))
    assert torch.equal(got[:, 0, 0], table[-1])


def _of_later_timm(name: str) -> str:
    moved = re.sub(r"layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", name)
    return moved.replace("head.", "head.fc.")


@torch.no_grad()
@pytest.mark.parametrize("side", [256, 128])
def test_swin2_is_timms_built_for_the_same_size(side):
    """At 128 pixels timm has to be built with half the window; the weights do not know of it."""
    ours = swin()
    theirs = timm.create_model("swinv2_tiny_window16_256", img_size=side, window_size=side // 16, **SWIN).eval()
    later = isinstance(theirs.layers[0].downsample, nn.Identity)  # timm from 0.9 on
    mine = ours.pretrained.model.state_dict().items()
    missing, left_over = theirs.load_state_dict(
        {_of_later_timm(name) if later else name: tensor for name, tensor in mine}, strict=False
    )
    assert left_over == []
    assert all(name.endswith("attn_mask") for name in missing)
    for stage, theirs_stage in zip(ours.pretrained.model.layers, theirs.layers, strict=True):
        for block, theirs_block in zip(stage.blocks, theirs_stage.blocks, strict=True):
            block.attn.window_size = theirs_block.attn.window_size  # what distances are measured by
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))
    blocks = [stage.blocks[-1] for stage in theirs.layers]
    for got, expected in zip(ours.pretrained(x), seen_by(blocks, theirs.forward_features, x), strict=True):
        seen = expected.reshape(2, *got.shape[2:], -1).permute(0, 3, 1, 2)
        torch.testing.assert_close(got, seen, rtol=0, atol=1e-5 * expected.abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize("build", [beit, swin])
@pytest.mark.parametrize("size", [(64, 64), (96, 160), (128, 32), (256, 128)])
def test_any_multiple_of_32_gives_a_map_of_that_size(build, size):
    nearness = build()(torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(4)))
    assert nearness.shape == (1, *size)
    assert nearness.dtype == torch.float32
    assert torch.isfinite(nearness).all()


@torch.no_grad()
@pytest.mark.parametrize("build", [beit, swin])
def test_bfloat16_keeps_the_map(build):
    x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(5))
    expected = build()(x)
    got = cast_network(build(), torch.bfloat16, torch.device("cpu"))(x.bfloat16())
    assert np.corrcoef(got.flatten(), expected.flatten())[0, 1] >= 0.999


@torch.no_grad()
@pytest.mark.parametrize(("build", "empty"), [(beit, empty_beit), (swin, empty_swin)])
def test_without_weights_and_with_them_again(build, empty):
    whole, x = build(), torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(6))
    built = without_weights(empty)
    assign(built, whole.state_dict())
    assert torch.equal(built.eval()(x), whole(x))


def test_what_a_timm_of_2022_saved_of_the_sizes_is_passed_over():
    weights = {"pretrained.model.blocks.0.attn.proj.weight": torch.zeros(1)}
    derived = ("blocks.0.attn.relative_position_index", "layers.0.blocks.1.attn_mask")
    saved = weights | {f"pretrained.model.{name}": torch.zeros(1) for name in derived}
    assert load_weights(saved, PRESETS["dpt_beit_large_384"]).keys() == weights.keys()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dpt_beit_large_512", (512, 288)),
        ("dpt_beit_large_384", (672, 384)),
        ("dpt_swin2_large_384", (384, 384)),
        ("dpt_swin2_tiny_256", (256, 256)),
    ],
)
def test_square_where_the_authors_have_it_square(name, expected, photograph):
    """midas/model_loader.py: keep_aspect_ratio is off for Swin; 640x360 by its Resize."""
    assert network_size((640, 360), PRESETS[name]) == expected
    assert network_input([photograph], expected, PRESETS[name]).shape == (1, 3, expected[1], expected[0])
