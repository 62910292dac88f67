"""LoRA files in the spellings that people have, added to the weights while they are read."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers
from safetensors.torch import save_file

from lib_depth2img.errors import CheckpointError, TensorFileError
from lib_depth2img.standalone.loading import load_model

QUERY = "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
OUT = "mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0"
CONVOLUTION = "up_blocks_2_resnets_1_conv1"
TEXT = "text_model_encoder_layers_1_"
KOHYA = {
    f"lora_unet_{QUERY}": (128, 128),
    f"lora_unet_{OUT}": (128, 128),
    f"lora_unet_{CONVOLUTION}": (64, 128, 3, 3),
    f"lora_te_{TEXT}self_attn_k_proj": (96, 96),
    f"lora_te_{TEXT}self_attn_out_proj": (96, 96),
    f"lora_te_{TEXT}mlp_fc1": (384, 96),
    f"lora_te_{TEXT}mlp_fc2": (96, 384),
}
"""Layers by kohya's names, and the shapes of their weights."""


def _lora(shapes: Mapping[str, tuple[int, ...]], rank: int = 4, alpha: float | None = 2.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(6)
    tensors = {}
    for layer, (height, width, *kernel) in shapes.items():
        ones = [1] * len(kernel)
        tensors[f"{layer}.lora_up.weight"] = torch.randn(height, rank, *ones, generator=generator) / 8
        tensors[f"{layer}.lora_down.weight"] = torch.randn(rank, width, *kernel, generator=generator) / 8
        if alpha is not None:
            tensors[f"{layer}.alpha"] = torch.tensor(alpha)
    return tensors


def _file(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def _weights(checkpoint: Path, *loras: tuple[Path, float]) -> dict[str, torch.Tensor]:
    model = load_model(checkpoint, loras=loras)
    named = {"unet": model.unet, "text": model.text}
    return {f"{part}.{name}": w for part, module in named.items() for name, w in module.named_parameters()}


def _changed(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: after[name] - tensor for name, tensor in before.items() if not torch.equal(after[name], tensor)}


@pytest.fixture(scope="module")
def before(checkpoint) -> dict[str, torch.Tensor]:
    return _weights(checkpoint)


def test_each_layer_gets_up_times_down_times_alpha_by_rank_times_the_weight(checkpoint, before, tmp_path) -> None:
    tensors = _lora(KOHYA)
    found = _changed(before, _weights(checkpoint, (_file(tmp_path / "x.safetensors", tensors), 0.5)))
    blocks = "text.transformer.resblocks.1"
    places = {
        f"lora_unet_{QUERY}": ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight", slice(None)),
        f"lora_unet_{OUT}": ("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0.weight", slice(None)),
        f"lora_unet_{CONVOLUTION}": ("unet.up_blocks.2.resnets.1.conv1.weight", slice(None)),
        f"lora_te_{TEXT}self_attn_k_proj": (f"{blocks}.attn.in_proj_weight", slice(96, 192)),
        f"lora_te_{TEXT}self_attn_out_proj": (f"{blocks}.attn.out_proj.weight", slice(None)),
        f"lora_te_{TEXT}mlp_fc1": (f"{blocks}.mlp.c_fc.weight", slice(None)),
        f"lora_te_{TEXT}mlp_fc2": (f"{blocks}.mlp.c_proj.weight", slice(None)),
    }
    assert found.keys() == {name for name, _ in places.values()}
    for layer, (name, rows) in places.items():
        up, down = (tensors[f"{layer}.lora_{way}.weight"] for way in ("up", "down"))
        expected = torch.zeros_like(before[name])
        expected[rows] = 0.5 * 2.0 / 4 * torch.einsum("or,ri...->oi...", up.flatten(1), down)
        assert torch.allclose(found[name], expected, atol=1e-6), layer


def test_diffusers_names_and_kohyas_mean_the_same(checkpoint, before, tmp_path) -> None:
    """diffusers' own converter makes its names of kohya's."""
    linear = {name: shape for name, shape in KOHYA.items() if len(shape) == 2}
    kohya = _file(tmp_path / "kohya.safetensors", _lora(linear, alpha=None))
    converted, _ = _convert_non_diffusers_lora_to_diffusers({**_lora(linear, alpha=4.0)})
    assert any(name.startswith("text_encoder.") for name in converted)
    diffusers = _file(tmp_path / "diffusers.safetensors", converted)
    expected = _changed(before, _weights(checkpoint, (kohya, 1.0)))
    found = _changed(before, _weights(checkpoint, (diffusers, 1.0)))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], change) for name, change in expected.items())


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("unet.{}.lora_B.weight", "unet.{}.lora_A.weight"),
        ("unet.{}.lora_B.default.weight", "unet.{}.lora_A.default.weight"),
        ("unet.{}.lora.up.weight", "unet.{}.lora.down.weight"),
        ("mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.up.weight",
         "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.down.weight"),
        ("lora_unet_middle_block_1_transformer_blocks_0_attn2_to_out_0.lora_up.weight",
         "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_out_0.lora_down.weight"),
    ],
)  # fmt: skip
def test_older_and_newer_spellings_are_known(checkpoint, before, tmp_path, up, down) -> None:
    dotted = "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
    layer = f"lora_unet_{OUT}"
    kohya = _lora({layer: (128, 128)}, alpha=None)
    other = {
        up.format(dotted): kohya[f"{layer}.lora_up.weight"],
        down.format(dotted): kohya[f"{layer}.lora_down.weight"],
    }
    expected = _changed(before, _weights(checkpoint, (_file(tmp_path / "kohya.safetensors", kohya), 1.0)))
    found = _changed(before, _weights(checkpoint, (_file(tmp_path / "other.safetensors", other), 1.0)))
    (name,) = found
    assert torch.equal(found[name], expected[name])


def test_several_add_up_and_minus_takes_one_away(checkpoint, before, tmp_path) -> None:
    lora = _file(tmp_path / "x.safetensors", _lora(KOHYA))
    twice = _changed(before, _weights(checkpoint, (lora, 0.25), (lora, 0.25)))
    once = _changed(before, _weights(checkpoint, (lora, 0.5)))
    assert all(torch.allclose(twice[name], change, atol=1e-6) for name, change in once.items())
    gone = _weights(checkpoint, (lora, 1.0), (lora, -1.0))
    assert all(torch.allclose(gone[name], tensor, atol=1e-5) for name, tensor in before.items())


def test_layers_that_the_model_does_not_have_are_named_in_a_warning(checkpoint, tmp_path, caplog) -> None:
    more = _lora({**KOHYA, "lora_te2_text_model_encoder_layers_9_mlp_fc1": (8, 8)})
    with caplog.at_level(logging.WARNING):
        load_model(checkpoint, loras=[(_file(tmp_path / "x.safetensors", more), 1.0)])
    (record,) = caplog.records
    assert "x.safetensors: 3 tensors are for no layer of this model: lora_te2_text" in record.getMessage()


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"weight": torch.zeros(2)}, "x.safetensors holds no LoRA for this model; it holds weight"),
        (_lora({"lora_unet_no_such_layer": (8, 8)}), "no LoRA for this model; it holds lora_unet_no_such_layer.alpha"),
        (_lora({f"lora_unet_{QUERY}": (320, 768)}), r"does not fit this model: unet_.*\(320, 4\) by \(4, 768\)"),
        (_lora({f"lora_unet_{CONVOLUTION}": (64, 128)}), r"for a weight of \(64, 128, 3, 3\). A LoRA of Stable"),
        ({f"lora_unet_{QUERY}.lora_up.weight": torch.zeros(128, 4)}, "is cut off: of unet_.* it holds only lora_unet"),
        (
            {**_lora({f"lora_unet_{QUERY}": (128, 128)}), f"lora_unet_{QUERY}.dora_scale": torch.ones(1, 128)},
            "is no LoRA of the kind that is known here: it holds lora_unet_.*dora_scale",
        ),
        ({f"lora_unet_{QUERY}.hada_w1_a": torch.zeros(128, 4)}, "is no LoRA of the kind that is known.*hada_w1_a"),
        (_lora({f"lora_unet_{QUERY}": (128, 128)}, alpha=math.nan), "not finite"),
    ],
)  # fmt: skip
def test_what_is_no_lora_for_this_model_is_refused(checkpoint, tmp_path, tensors, said) -> None:
    with pytest.raises(CheckpointError, match=said):
        load_model(checkpoint, loras=[(_file(tmp_path / "x.safetensors", tensors), 1.0)])


def test_a_broken_file_is_said_to_be_one(checkpoint, tmp_path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"<html>")
    with pytest.raises(TensorFileError, match=r"x.safetensors"):
        load_model(checkpoint, loras=[(tmp_path / "x.safetensors", 1.0)])
