"""Depth model + (fine-tune - base), computed again here in float64."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lib_depth2img.checkpoint.contents import INPUT_CONVOLUTION
from lib_depth2img.checkpoint.inspect import inspect
from lib_depth2img.checkpoint.transplant import transplant
from lib_depth2img.cli import main
from lib_depth2img.errors import CheckpointError
from tests.checkpoint import models

REPO = Path(__file__).parents[2]

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def base() -> Weights:
    return models.random_weights(models.small(models.ordinary_shapes()), 1)


@pytest.fixture(scope="module")
def tuned(base) -> Weights:
    change = models.random_weights({name: tuple(tensor.shape) for name, tensor in base.items()}, 2)
    return {name: tensor + 0.1 * change[name] for name, tensor in base.items()}


@pytest.fixture(scope="module")
def depth() -> Weights:
    return models.random_weights(models.small(models.depth_shapes()), 3)


@pytest.fixture
def run(tmp_path):
    def call(tuned: Weights, base: Weights, depth: Weights, out: str = "out.safetensors", suffix: str = ".safetensors"):
        paths = {
            name: models.save(tmp_path / f"{name}{suffix}", weights)
            for name, weights in (("fine_tune", tuned), ("base", base), ("depth", depth))
        }
        return transplant(**paths, out=tmp_path / out)

    return call


def expected(name: str, tuned: Weights, base: Weights, depth: Weights) -> torch.Tensor:
    total = depth[name].double()
    if "." in name and name in tuned and name in base:
        difference = tuned[name].double() - base[name].double()
        if name == INPUT_CONVOLUTION:
            total[:, :4] += difference
        else:
            total += difference
    return total


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_every_tensor_is_the_sum(run, tmp_path, tuned, base, depth, suffix):
    result = run(tuned, base, depth, suffix=suffix)
    got = load_file(tmp_path / "out.safetensors")
    assert set(got) == set(depth)
    for name, tensor in got.items():
        assert tensor.dtype == depth[name].dtype
        assert torch.allclose(tensor.double(), expected(name, tuned, base, depth), atol=1e-6), name
    assert torch.equal(got[INPUT_CONVOLUTION][:, 4:], depth[INPUT_CONVOLUTION][:, 4:])
    assert not torch.equal(got[INPUT_CONVOLUTION][:, :4], depth[INPUT_CONVOLUTION][:, :4])
    assert sum(result.added.values()) == len(base) - len(models.SCHEDULE)
    assert result.added["model"] == 686
    assert result.kept == {"noise schedule": 12, "depth_model": 368}
    assert result.skipped == {}
    assert result.warnings == []
    assert 0.05 < result.change < 0.2
    assert inspect(tmp_path / "out.safetensors").verdict == "A depth model with dpt_hybrid inside; complete."


def test_other_dtypes_are_summed_in_float32_and_stored_as_the_depth_models(run, tmp_path, tuned, base, depth):
    half = {name: tensor.half() for name, tensor in depth.items()}
    brain = {name: tensor.bfloat16() for name, tensor in tuned.items()}
    run(brain, base, half)
    got = load_file(tmp_path / "out.safetensors")
    for name, tensor in got.items():
        assert tensor.dtype == torch.float16
        assert torch.allclose(tensor.double(), expected(name, brain, base, half), atol=1e-3, rtol=2**-10), name


def test_what_the_models_do_not_share_is_kept_or_skipped(run, tmp_path, tuned, base, depth):
    norm = "model.diffusion_model.out.0.weight"
    proj = "cond_stage_model.model.text_projection"
    tuned = {name: tensor for name, tensor in tuned.items() if not name.startswith("first_stage_model.")}
    tuned |= {"model.diffusion_model.extra": torch.ones(2), norm: torch.ones(9), "model_ema.x": torch.ones(1)}
    base = {name: tensor for name, tensor in base.items() if name != proj} | {norm: torch.ones(9)}
    result = run(tuned, base, depth)
    got = load_file(tmp_path / "out.safetensors")
    assert result.skipped == {
        "model.diffusion_model.extra": "not in the depth model",
        norm: "of another shape or not a float",
        proj: "not in the base",
    }
    assert result.kept["first_stage_model"] == 248
    for name in (norm, proj, "first_stage_model.decoder.conv_out.weight"):
        assert torch.equal(got[name], depth[name])
    record = json.loads(safe_open(tmp_path / "out.safetensors", "pt").metadata()["depth2img.transplant"])
    assert record["skipped"] == result.skipped
    assert record["kept"] == result.kept
    assert record["added"] == result.added
    assert record["fine-tune"] == "fine_tune.safetensors"


def test_ema_and_training_state_are_left_out(run, tmp_path, tuned, base, depth):
    run(tuned, base, depth | {"model_ema.decay": torch.ones(1)}, suffix=".ckpt")
    assert set(load_file(tmp_path / "out.safetensors")) == set(depth)


def test_the_same_twice_is_warned_of(run, tmp_path, base, depth):
    result = run(base, base, depth)
    assert "are the same" in result.warnings[0]
    assert all(torch.equal(tensor, depth[name]) for name, tensor in load_file(tmp_path / "out.safetensors").items())


def test_a_base_of_nothing_but_zeros_is_divided_by_nothing(run, tmp_path, base, depth):
    zeros = {name: torch.zeros_like(tensor) for name, tensor in base.items()}
    result = run(base, zeros, depth)
    assert result.change == 0
    got = load_file(tmp_path / "out.safetensors")
    name = "model.diffusion_model.out.2.bias"
    assert torch.allclose(got[name], depth[name] + base[name])


def test_a_first_convolution_with_another_kernel_is_left_as_it_is(run, tmp_path, tuned, base, depth):
    """The first two axes may differ in their number of channels, the last two may not."""
    kernel = {INPUT_CONVOLUTION: torch.ones(320, 4, 1, 3)}
    result = run(tuned | kernel, base | kernel, depth)
    assert result.skipped == {INPUT_CONVOLUTION: "of another shape or not a float"}
    assert torch.equal(load_file(tmp_path / "out.safetensors")[INPUT_CONVOLUTION], depth[INPUT_CONVOLUTION])


def test_models_that_are_not_related_are_warned_of(run, base, depth):
    shapes = {name: tuple(tensor.shape) for name, tensor in base.items()}
    result = run(models.random_weights(shapes, 77), base, depth)
    assert "probably not made from" in result.warnings[0]


def test_models_that_cannot_be_added_are_refused(run, tmp_path, tuned, base, depth):
    def ordinary(**changes: int) -> Weights:
        return models.random_weights(models.small(models.ordinary_shapes(**changes)), 1)

    sd1, inpainting, nothing = ordinary(context_dim=768), ordinary(in_channels=9), {"a.b": torch.ones(1)}
    with_midas = base | {name: tensor for name, tensor in depth.items() if name.startswith("depth_model")}
    for arguments, reason in [
        ((tuned, base, base), "UNet of 4 input channels; as depth model"),
        ((depth, base, depth), "depth model already"),
        ((with_midas, base, depth), "depth model already"),
        ((tuned, depth, depth), "UNet of 5 input channels; as base"),
        ((inpainting, base, depth), "UNet of 9 input channels; as fine-tune"),
        ((sd1, sd1, depth), "different versions.*Stable Diffusion 1.*Stable Diffusion 2"),
        ((nothing, base, depth), "no UNet with the names"),
        ((tuned, base, nothing), "no UNet with the names"),
    ]:
        with pytest.raises(CheckpointError, match=reason):
            run(*arguments)
        assert not (tmp_path / "out.safetensors").exists()


def test_a_sum_that_is_not_finite_is_refused(run, tmp_path, tuned, base, depth):
    name = "model.diffusion_model.out.2.bias"
    for broken in (torch.full((4,), float("nan")), torch.full((4,), 1e38)):
        with pytest.raises(CheckpointError, match=r"out\.2\.bias is not finite"):
            run(tuned | {name: broken}, base | {name: -broken}, depth | {name: 3 * broken})
    assert not list(tmp_path.glob("out*"))


def test_an_input_is_never_overwritten(tmp_path, tuned, base, depth):
    paths = {
        name: models.save(tmp_path / f"{name}.safetensors", weights)
        for name, weights in (("fine_tune", tuned), ("base", base), ("depth", depth))
    }
    for path in paths.values():
        with pytest.raises(CheckpointError, match="also what is read"):
            transplant(**paths, out=path, overwrite=True)


def test_the_command(tmp_path, tuned, base, depth, capsys):
    arguments = ["checkpoint", "transplant", "-o", str(tmp_path / "out.safetensors")]
    for flag, weights in (("--fine-tune", tuned | {"model.x.y": torch.ones(1)}), ("--base", base), ("--depth", depth)):
        arguments += [flag, str(models.save(tmp_path / f"{flag}.safetensors", weights))]
    assert main(arguments) == 0
    text, bar = capsys.readouterr()
    assert "out.safetensors: 100%" in bar
    assert "368 depth_model" in text
    assert "model.x.y: not in the depth model" in text
    assert inspect(tmp_path / "out.safetensors").yaml_fits is True
    assert main(arguments) == 2
    capsys.readouterr()
    assert main([*arguments, "--force", "--json", "--quiet"]) == 0
    text, bar = capsys.readouterr()
    assert json.loads(text)["kept"]["depth_model"] == 368
    assert bar == ""


def test_the_largest_tensors_are_added_within_one_gigabyte(tmp_path):
    conv = {INPUT_CONVOLUTION: (320, 4, 3, 3)}
    large = {
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
        "cond_stage_model.model.token_embedding.weight": (49408, 1024),
        "cond_stage_model.model.other.weight": (49408, 1024),
    }
    ordinary = models.sparse_safetensors(tmp_path / "ordinary.safetensors", conv | large)
    tuned = models.sparse_safetensors(tmp_path / "tuned.safetensors", conv | large)
    depth = models.sparse_safetensors(tmp_path / "depth.safetensors", {INPUT_CONVOLUTION: (320, 5, 3, 3)} | large)
    out = tmp_path / "out.safetensors"
    code = f"""
import re
from pathlib import Path
from lib_depth2img.checkpoint.transplant import transplant
transplant(fine_tune={str(tuned)!r}, base={str(ordinary)!r}, depth={str(depth)!r}, out={str(out)!r})
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 1e9
    out.unlink()
