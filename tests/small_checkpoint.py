"""Small Stable Diffusion 2 checkpoints with random weights: the real classes and key names, 1/1000 of the size.

Used by the tests against the stand-in and by those against a real WebUI. Nothing here is a picture model: the weights
are drawn from a seeded normal distribution, only large enough that depth and prompt change the output.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # names are imported that their packages have since deprecated
    importlib.import_module("pytorch_lightning")  # puts warning filters of its own before that
    warnings.simplefilter("ignore")
    importlib.import_module("ldm.models.diffusion.ddpm")
    import open_clip

CLIP_ARCHITECTURE = "depth2img-test"
CLIP_WIDTH = 64
CLIP_CONFIG = {
    "embed_dim": CLIP_WIDTH,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": CLIP_WIDTH, "heads": 2, "layers": 2},
}


def register_clip(folder: Path) -> None:
    """Make ``CLIP_ARCHITECTURE`` known to open_clip in this process."""
    if CLIP_ARCHITECTURE not in open_clip.list_models():
        path = folder / f"{CLIP_ARCHITECTURE}.json"
        path.write_text(json.dumps(CLIP_CONFIG))
        open_clip.add_model_config(path)


def _unet(in_channels: int) -> dict[str, Any]:
    return {
        "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
        "params": {
            "use_checkpoint": False,
            "image_size": 32,
            "in_channels": in_channels,
            "out_channels": 4,
            "model_channels": 32,
            "attention_resolutions": [1, 2],
            "num_res_blocks": 1,
            "channel_mult": [1, 2],
            "num_head_channels": 32,
            "use_spatial_transformer": True,
            "use_linear_in_transformer": True,
            "transformer_depth": 1,
            "context_dim": CLIP_WIDTH,
            "legacy": False,
        },
    }


_VAE: dict[str, Any] = {
    "target": "ldm.models.autoencoder.AutoencoderKL",
    "params": {
        "embed_dim": 4,
        "monitor": "val/rec_loss",
        "ddconfig": {
            "double_z": True,
            "z_channels": 4,
            "resolution": 64,
            "in_channels": 3,
            "out_ch": 3,
            "ch": 32,
            "ch_mult": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "attn_resolutions": [],
            "dropout": 0.0,
        },
        "lossconfig": {"target": "torch.nn.Identity"},
    },
}

_CLIP: dict[str, Any] = {
    "target": "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder",
    "params": {"arch": CLIP_ARCHITECTURE, "version": None, "device": "cpu", "freeze": True, "layer": "penultimate"},
}

_DIFFUSION: dict[str, Any] = {
    "base_learning_rate": 5e-07,
    "params": {
        "linear_start": 0.00085,
        "linear_end": 0.0120,
        "num_timesteps_cond": 1,
        "log_every_t": 200,
        "timesteps": 1000,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": 64,
        "channels": 4,
        "cond_stage_trainable": False,
        "scale_factor": 0.18215,
        "monitor": "val/loss_simple_ema",
        "use_ema": False,
        "first_stage_config": _VAE,
        "cond_stage_config": _CLIP,
    },
}


def depth_config(depth_stage: str = "dpt_hybrid") -> dict[str, Any]:
    """The yaml of a small depth model: Stability's v2-midas-inference.yaml with smaller numbers."""
    config = copy.deepcopy(_DIFFUSION)
    config["target"] = "ldm.models.diffusion.ddpm.LatentDepth2ImageDiffusion"
    config["params"] |= {
        "conditioning_key": "hybrid",
        "finetune_keys": None,
        "unet_config": _unet(5),
        "depth_stage_config": {"target": "ldm.modules.midas.api.MiDaSInference", "params": {"model_type": depth_stage}},
    }
    return {"model": config}


def plain_config() -> dict[str, Any]:
    """The yaml of a small ordinary Stable Diffusion 2 model: four input channels, no depth."""
    config = copy.deepcopy(_DIFFUSION)
    config["target"] = "ldm.models.diffusion.ddpm.LatentDiffusion"
    config["params"] |= {"conditioning_key": "crossattn", "unet_config": _unet(4)}
    return {"model": config}


def randomise(model: Any, seed: int) -> None:
    """Random values where a fresh model has zeros and would not answer to its inputs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(0, 0.05, generator=generator)
        # A fresh VAE would draw its latents with a spread of one, from no seed; a trained one hardly spreads.
        model.first_stage_model.quant_conv.weight[4:].zero_()
        model.first_stage_model.quant_conv.bias[4:].fill_(-30)
        # The host divides by the mean of the text embedding (sd_emphasis.py:49-50), which a fresh LayerNorm makes zero.
        model.cond_stage_model.model.ln_final.bias.normal_(0.1, 0.02, generator=generator)


def random_dpt_hybrid(seed: int = 0) -> Any:
    """Stability's DPT-Hybrid with random weights, its last layer scaled so that pictures give depth of about 8 ± 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ldm.modules.midas.midas.dpt_depth import DPTDepthModel

        torch.manual_seed(seed)
        network = DPTDepthModel(path=None, backbone="vitb_rn50_384", non_negative=True).eval()
    with torch.no_grad():
        network.scratch.output_conv[4].weight.mul_(50)
        network.scratch.output_conv[4].bias.fill_(8)
    return network


def build(config: dict[str, Any], seed: int = 0) -> Any:
    """The model a yaml describes, with random weights, on the CPU, in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ldm imports names that its own dependencies have since deprecated
        from ldm.util import instantiate_from_config

        torch.manual_seed(seed)
        with contextlib.redirect_stdout(io.StringIO()):
            model = instantiate_from_config(OmegaConf.create(config).model)
    randomise(model, seed)
    return model.eval()


def build_depth_model(depth_stage: torch.nn.Module, seed: int = 0) -> Any:
    """A small depth model around ``depth_stage``: Stability's class, so that nothing is read or fetched for it."""
    from unittest.mock import patch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ldm.modules.midas.api
    with patch.object(ldm.modules.midas.api, "load_model", lambda _: (depth_stage, None)):
        return build(depth_config(), seed)


def save_depth_checkpoints(folder: Path, *, complete: str, without_midas: str, flat: str, midas: str) -> None:
    """One small depth model with MiDaS, without, and with a MiDaS that sees the same depth everywhere; MiDaS alone."""
    network = random_dpt_hybrid()
    config = depth_config()
    model = build_depth_model(network)
    save(model, config, folder / complete)
    save(model, config, folder / without_midas, without="depth_model.")
    torch.save(network.state_dict(), folder / midas)
    with torch.no_grad():
        network.scratch.output_conv[4].weight.zero_()
    save(model, config, folder / flat)


def save(model: torch.nn.Module, config: dict[str, Any], path: Path, *, without: str = "\0") -> Path:
    """Write ``path`` (safetensors) and the yaml beside it; keys starting with ``without`` are left out."""
    tensors = {key: value.contiguous() for key, value in model.state_dict().items() if not key.startswith(without)}
    save_file(tensors, path)
    path.with_suffix(".yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    return path
