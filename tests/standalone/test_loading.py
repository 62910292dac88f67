"""From a checkpoint to a model: what is read, how it is kept, and what is refused."""

from __future__ import annotations

import dataclasses
import math
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import save_file

from lib_depth2img.checkpoint.small_model import SMALL_CONFIG, register_architecture
from lib_depth2img.errors import CheckpointError, TensorFileError
from lib_depth2img.standalone.architecture import architecture_of
from lib_depth2img.standalone.generate import estimate_depth, generate
from lib_depth2img.standalone.loading import Model, load_model
from lib_depth2img.standalone.parameters import Parameters
from tests.pretend import pretended

QUICK = Parameters(prompt="a red ball on a blue table", size=(64, 64), steps=4, denoising_strength=1.0)
FIRST = "model.diffusion_model.input_blocks.0.0.weight"


def _save(path: Path, tensors: dict[str, torch.Tensor], config: object = None) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    OmegaConf.save(config or OmegaConf.load(SMALL_CONFIG), path.with_suffix(".yaml"))
    return path


def _parts(model: Model) -> dict[str, torch.nn.Module]:
    return {"unet": model.unet, "vae": model.vae, "text": model.text}


def _devices(module: torch.nn.Module) -> set[str]:
    return {weight.device.type for weight in module.parameters()}


def _weights(model: Model) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": w for part, module in _parts(model).items() for name, w in module.named_parameters()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({FIRST: lambda tensor: tensor[:, :4]}, "takes 4 channels; a depth-to-image model takes 5"),
        (
            {"first_stage_model.post_quant_conv.weight": None},
            r"1 tensors are missing .first_stage_model.post_q",
        ),
        (
            {"cond_stage_model.model.ln_final.bias": None},
            r"1 tensors are missing .cond_stage_model",
        ),
        ({"first_stage_model.post_quant_conv.bias": lambda _: torch.zeros(5)}, r"is \(5,\), expected \(4,\)"),
        (
            {"model.diffusion_model.out.2.weight": lambda tensor: tensor[..., 0]},
            r"out.2.weight is \(4, 64, 3\)",
        ),
        ({"model.diffusion_model.out.2.bias": lambda tensor: tensor * math.nan}, "out.2.bias of .* not finite"),
        ({"cond_stage_model.model.ln_final.bias": lambda tensor: tensor / 0}, "ln_final.bias of .* not finite"),
        ({"first_stage_model.post_quant_conv.bias": lambda tensor: tensor + math.inf}, "post_quant_conv.bias of"),
        ({"alphas_cumprod": lambda _: torch.linspace(1, 0, 1000)}, "noise schedule in .* is not the one"),
        ({"alphas_cumprod": lambda tensor: tensor * math.nan}, "noise schedule in .* is not the one"),
        ({"alphas_cumprod": lambda tensor: tensor[:999]}, "noise schedule in .* is not the one"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, tensors, change, said) -> None:
    changed = {**tensors}
    for name, function in change.items():
        if function is None:
            del changed[name]
        else:
            changed[name] = function(tensors[name])
    with pytest.raises(CheckpointError, match=said):
        load_model(_save(tmp_path / "changed.safetensors", changed))


def test_many_missing_tensors_are_counted_and_some_named(tmp_path, tensors) -> None:
    halved = {name: tensor for name, tensor in tensors.items() if "output_blocks" not in name}
    with pytest.raises(CheckpointError, match=r"(?s)\d\d tensors are missing \(([\w.]+, ){4}…\).*half.yaml"):
        load_model(_save(tmp_path / "half.safetensors", halved))


def test_a_lora_is_no_checkpoint(tmp_path) -> None:
    lora = _save(tmp_path / "lora.safetensors", {"lora_unet_x.lora_up.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match=r"nothing under model.diffusion_model"):
        load_model(lora)


def test_a_broken_file_is_said_to_be_one(tmp_path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(TensorFileError):
        load_model(tmp_path / "broken.safetensors")


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("target", "ldm.models.diffusion.ddpm.LatentDiffusion", "is not the yaml of a depth-to-image model"),
        ("params.unet_config.params.channel_mult", None, "cannot be built here"),
        ("params.unet_config.params.num_res_blocks", "two", "cannot be built here"),
        ("params.unet_config.params.model_channels", 33, "cannot be built here"),
        ("params.beta_schedule", "cosine", "cannot be built here: .*beta_schedule 'cosine'"),
        ("params.parameterization", "w", "cannot be built here"),
        ("params.cond_stage_config.params.layer", "first", "cannot be built here"),
        ("params.cond_stage_config.params.arch", "no-such", "open_clip knows no text encoder 'no-such'"),
    ],
)
def test_a_yaml_that_describes_nothing_known_is_refused(tmp_path, tensors, where, value, said) -> None:
    config = OmegaConf.load(SMALL_CONFIG)
    OmegaConf.update(config.model, where, value)
    with pytest.raises(CheckpointError, match=f"other.yaml.*{said}" if "arch" not in where else said):
        load_model(_save(tmp_path / "other.safetensors", tensors, config))


def test_a_schedule_in_half_precision_is_that_of_the_yaml(tmp_path, tensors, model) -> None:
    rounded = {**tensors, "alphas_cumprod": tensors["alphas_cumprod"].bfloat16()}
    assert np.array_equal(load_model(_save(tmp_path / "half.safetensors", rounded)).betas, model.betas)


def test_a_ckpt_gives_the_same_weights(tmp_path, tensors, model) -> None:
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "same.ckpt")
    shutil.copy(SMALL_CONFIG, tmp_path / "same.yaml")
    found, expected = _weights(load_model(tmp_path / "same.ckpt")), _weights(model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_nothing_is_random_and_nothing_is_fetched(checkpoint, model, monkeypatch) -> None:
    def offline(*_: object) -> None:
        raise OSError("this machine is offline")

    monkeypatch.setattr(socket.socket, "connect", offline)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    again = load_model(checkpoint)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(weight, _weights(again)[name]) for name, weight in _weights(model).items())
    for module in _parts(again).values():
        assert not module.training
        assert not any(weight.is_meta or weight.requires_grad for weight in module.state_dict(keep_vars=True).values())


def test_half_precision_is_how_the_weights_are_kept_but_for_the_autoencoder(checkpoint, model, unseen) -> None:
    half = load_model(checkpoint, precision="bfloat16")
    kept = {part: {weight.dtype for weight in module.parameters()} for part, module in _parts(half).items()}
    assert kept == {"unet": {torch.bfloat16}, "vae": {torch.float32}, "text": {torch.bfloat16}}
    (found,), (expected,) = (generate(each, unseen.picture, unseen.depth_map, QUICK) for each in (half, model))
    difference = np.abs(np.asarray(found, float) - np.asarray(expected, float))
    assert 0 < difference.mean() < 5


def test_a_fine_tune_without_a_depth_stage_still_takes_a_map(tmp_path, tensors, unseen) -> None:
    bare = {name: tensor for name, tensor in tensors.items() if not name.startswith("depth_model.")}
    model = load_model(_save(tmp_path / "bare.safetensors", bare))
    with pytest.raises(CheckpointError, match=r"holds no depth_model.*--depth-map"):
        estimate_depth(model, unseen.picture)
    assert len(generate(model, unseen.picture, unseen.depth_map, QUICK)) == 1


@pytest.mark.parametrize("sampler", ["DDIM", "Euler a", "UniPC"])
@pytest.mark.parametrize("device", ["mps", "cuda"])
def test_another_device_gives_the_same_picture(device, sampler, checkpoint, model, unseen) -> None:
    """MPS holds no float64."""
    mask = Image.new("L", unseen.picture.size)
    mask.paste(255, (0, 0, unseen.picture.width // 2, unseen.picture.height))
    parameters = Parameters(prompt="a ball", size=(64, 64), steps=4, denoising_strength=1.0, sampler=sampler)
    expected = generate(model, unseen.picture, estimate_depth(model, unseen.picture), parameters, mask=mask)
    with pretended():
        there = load_model(checkpoint, device=device)
        found = generate(there, unseen.picture, estimate_depth(there, unseen.picture), parameters, mask=mask)
    assert all(_devices(module) == {device} for module in _parts(there).values())
    assert np.abs(np.asarray(found[0], float) - np.asarray(expected[0], float)).max() <= 1


@pytest.mark.parametrize("device", ["mps", "cuda"])
def test_half_precision_runs_on_another_device(device, checkpoint, model, unseen) -> None:
    once = dataclasses.replace(QUICK, steps=1)
    expected = generate(model, unseen.picture, unseen.depth_map, once)
    with pretended():
        there = load_model(checkpoint, device=device, precision="float16")
        found = generate(there, unseen.picture, unseen.depth_map, once)
    assert np.abs(np.asarray(found[0], float) - np.asarray(expected[0], float)).mean() < 2


def test_offload_leaves_nothing_on_the_device(checkpoint, model, unseen) -> None:
    expected = generate(model, unseen.picture, unseen.depth_map, QUICK)
    with pretended():
        there = load_model(checkpoint, device="cuda", offload=True)
        depth_map = estimate_depth(there, unseen.picture)
        at_work: list[set[str]] = []

        def look(_moment: object) -> None:
            at_work.append({part for part, module in _parts(there).items() if _devices(module) == {"cuda"}})

        found = generate(there, unseen.picture, unseen.depth_map, QUICK, progress=look)
        assert all(_devices(module) == {"cpu"} for module in _parts(there).values())
        assert there.estimator is not None
        assert not there.estimator.loaded
    assert at_work == [{"unet"}] * 4
    assert depth_map.size
    assert np.abs(np.asarray(found[0], float) - np.asarray(expected[0], float)).max() <= 1


def test_registering_the_architecture_twice_is_registering_it_once() -> None:
    import open_clip
    from open_clip import factory

    register_architecture()
    before = len(factory._MODEL_CONFIG_PATHS)
    register_architecture()
    assert len(factory._MODEL_CONFIG_PATHS) == before
    assert "depth2img-small-text" in open_clip.list_models()


def test_a_checkpoint_without_a_yaml_is_taken_for_512_depth_ema(tmp_path) -> None:
    """Its tensors are counted as the published file has them: 686 of the UNet, 248 of the autoencoder.

    The text encoder's last block, 12 596 224 of 352 984 064 numbers, is not run and not read.
    """
    found = architecture_of(tmp_path / "512-depth-ema.ckpt")
    parts = {"unet": (found.unet, 865_913_604), "vae": (found.vae, 83_653_863), "text": (found.text, 340_387_840)}
    for part, count in parts.values():
        assert sum(weight.numel() for weight in part.module.parameters()) == count
        assert all(weight.is_meta for weight in part.module.parameters())
    assert (len(found.unet.names), len(found.vae.names)) == (686, 248)
    assert (found.prediction_type, found.image_size) == ("epsilon", 64)
