"""The real names and shapes of Stable Diffusion 2 depth, from Stability's own classes, built on the meta device."""

from __future__ import annotations

import functools
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from lib_depth2img.checkpoint.configuration import PAIR_YAML
from lib_depth2img.checkpoint.contents import CROSS_ATTENTION, INPUT_CONVOLUTION

SCHEDULE = [
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
]

Shapes = dict[str, tuple[int, ...]]


def _shapes(prefix: str, module: torch.nn.Module) -> Shapes:
    return {prefix + name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@functools.cache
def _parts(in_channels: int, context_dim: int) -> Shapes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import open_clip
        from ldm.models.autoencoder import AutoencoderKL
        from ldm.modules.diffusionmodules.openaimodel import UNetModel
    params: Any = OmegaConf.to_container(OmegaConf.load(PAIR_YAML))["model"]["params"]
    unet = {**params["unet_config"]["params"], "in_channels": in_channels, "context_dim": context_dim}
    with torch.device("meta"):
        shapes = _shapes("model.diffusion_model.", UNetModel(**unet))
        shapes |= _shapes("first_stage_model.", AutoencoderKL(**params["first_stage_config"]["params"]))
        clip = open_clip.model.CLIP(**{**open_clip.get_model_config("ViT-H-14"), "quick_gelu": False})
        del clip.visual
        shapes |= _shapes("cond_stage_model.model.", clip)
    return dict.fromkeys(SCHEDULE, (1000,)) | shapes


@functools.cache
def midas_shapes(prefix: str = "") -> Shapes:
    """DPT-Hybrid as Stability's own class has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ldm.modules.midas.midas.dpt_depth import DPTDepthModel

        with torch.device("meta"):
            return _shapes(prefix, DPTDepthModel(path=None, backbone="vitb_rn50_384", non_negative=True))


def ordinary_shapes(context_dim: int = 1024, in_channels: int = 4) -> Shapes:
    """512-base-ema and its like."""
    return dict(_parts(in_channels, context_dim))


def depth_shapes(*, midas: bool = True) -> Shapes:
    """512-depth-ema."""
    return dict(_parts(5, 1024)) | (midas_shapes("depth_model.model.") if midas else {})


def small(shapes: Shapes) -> Shapes:
    """The same names, with shapes cut down except where they tell what the model is."""
    kept = (INPUT_CONVOLUTION, CROSS_ATTENTION)
    return {name: shape if name in kept else tuple(min(size, 4) for size in shape) for name, shape in shapes.items()}


def random_weights(shapes: Shapes, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Weights of about 0.1; counters stay whole numbers."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(7)
        else:
            weights[name] = (torch.randn(shape, generator=generator) * 0.1).to(dtype)
    return weights


def save(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    """As .safetensors, or as a Lightning .ckpt."""
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights, "global_step": 5, "optimizer_states": [{"exp": torch.ones(3)}]}, path)
    return path


def sparse_safetensors(path: Path, shapes: Shapes, dtype: str = "F32") -> Path:
    """A file of full size that takes no disk: its tensors are holes."""
    size = {"F32": 4, "F16": 2}[dtype]
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + size * torch.Size(shape).numel()
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + end)
    return path
