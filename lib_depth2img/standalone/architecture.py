"""The parts of a depth model as its yaml describes them, empty, and what ldm calls their weights.

The yaml is read as data: nothing it names is imported, and no part fetches weights of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.configuration import PAIR_YAML, beside, describes_depth_model, read_yaml
from ..checkpoint.contents import TEXT, UNET, VAE
from ..errors import CheckpointError
from .names import unet_name, vae_name
from .packages import importing

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Architecture", "Part", "architecture_of"]

_PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
_LEFT_OUT = {"last": 0, "penultimate": 1}


@dataclass(frozen=True)
class Part:
    """A module whose weights are on ``meta``, and the checkpoint's name of each by the module's own."""

    module: nn.Module
    names: Mapping[str, str]


@dataclass(frozen=True)
class Architecture:
    """A depth model without its weights.

    ``unet``: a ``UNet2DConditionModel``. ``vae``: an ``AutoencoderKL``. ``text``: a ``TextEncoder``. ``betas``: (T,)
    float64, the noise that each of the T steps of training adds. ``prediction_type``: what the UNet gives, in
    diffusers' words. ``scale_factor``: latents are the autoencoder's times this. ``image_size``: of the latent that the
    model was made for.
    """

    unet: Part
    vae: Part
    text: Part
    betas: np.ndarray
    prediction_type: str
    scale_factor: float
    image_size: int


def architecture_of(checkpoint: Path) -> Architecture:
    """What the yaml beside ``checkpoint`` describes, or without one that of 512-depth-ema.

    Raises:
        CheckpointError: it is no yaml of a depth model, or of one that cannot be built here; a package is missing.
    """
    yaml = beside(checkpoint)
    yaml = yaml if yaml.is_file() else PAIR_YAML
    if not describes_depth_model(yaml):
        raise CheckpointError(
            f"{yaml.name} is not the yaml of a depth-to-image model. Put the one that {checkpoint.name} was made with "
            "in its place, or none for a fine-tune of 512-depth-ema."
        )
    given = read_yaml(yaml)["model"]["params"]
    try:
        return Architecture(
            unet=_unet(given["unet_config"]["params"]),
            vae=_vae(given["first_stage_config"]["params"]["ddconfig"]),
            text=_text(given["cond_stage_config"]["params"]),
            betas=_betas(given),
            prediction_type=_PREDICTIONS[given.get("parameterization", "eps")],
            scale_factor=float(given.get("scale_factor", 1.0)),
            image_size=int(given["image_size"]),
        )
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{yaml.name} describes a model that cannot be built here: {error!r}.") from error


def _betas(given: Mapping[str, Any]) -> np.ndarray:
    """The schedule that ldm calls "linear": its square roots are (ldm/modules/diffusionmodules/util.py:24)."""
    if given.get("beta_schedule", "linear") != "linear":
        raise ValueError(f"beta_schedule {given['beta_schedule']!r}")
    start, end = float(given.get("linear_start", 1e-4)), float(given.get("linear_end", 2e-2))
    betas: np.ndarray = np.linspace(start**0.5, end**0.5, int(given.get("timesteps", 1000))) ** 2
    return betas


def _unet(given: Mapping[str, Any]) -> Part:
    with importing("diffusers"):
        from diffusers import UNet2DConditionModel

    widths = [given["model_channels"] * factor for factor in given["channel_mult"]]
    attention = [2**level in given["attention_resolutions"] for level in range(len(widths))]
    blocks = given["num_res_blocks"]
    per_head = given.get("num_head_channels", -1)
    config = {
        "in_channels": given["in_channels"],
        "out_channels": given["out_channels"],
        "block_out_channels": widths,
        "layers_per_block": blocks,
        "down_block_types": ["CrossAttnDownBlock2D" if crossed else "DownBlock2D" for crossed in attention],
        "up_block_types": ["CrossAttnUpBlock2D" if crossed else "UpBlock2D" for crossed in reversed(attention)],
        # diffusers means the number of heads by it: huggingface/diffusers#2011
        "attention_head_dim": [given["num_heads"] if per_head == -1 else width // per_head for width in widths],
        "cross_attention_dim": given["context_dim"],
        "transformer_layers_per_block": given.get("transformer_depth", 1),
        "use_linear_projection": given.get("use_linear_in_transformer", False),
    }
    return _part(lambda: UNet2DConditionModel(**config), lambda name: UNET + unet_name(name, blocks, attention))


def _vae(given: Mapping[str, Any]) -> Part:
    with importing("diffusers"):
        from diffusers import AutoencoderKL
        from diffusers.models.autoencoders.vae import Encoder

    widths = [given["ch"] * factor for factor in given["ch_mult"]]
    config = {"in_channels": given["in_channels"], "layers_per_block": given["num_res_blocks"]}
    down, up = (("DownEncoderBlock2D",) * len(widths), ("UpDecoderBlock2D",) * len(widths))

    def build() -> nn.Module:
        vae: nn.Module = AutoencoderKL(
            **config,
            out_channels=given["out_ch"],
            down_block_types=down,
            up_block_types=up,
            block_out_channels=widths,
            latent_channels=given["z_channels"],
        )
        if (
            given["num_res_blocks"] == 0
        ):  # nothing then widens ldm's encoder on its last level, while diffusers' is wide
            narrow = [given["ch"], *widths[:-1]]
            vae.encoder = Encoder(
                **config, out_channels=given["z_channels"], down_block_types=down, block_out_channels=narrow
            )
        return vae

    return _part(build, lambda name: VAE + vae_name(name, len(widths)))


def _text(given: Mapping[str, Any]) -> Part:
    from .text import TextEncoder

    left_out = _LEFT_OUT[given.get("layer", "last")]
    return _part(lambda: TextEncoder(given.get("arch", "ViT-H-14"), left_out), lambda name: TEXT + name)


def _part(build: Callable[[], nn.Module], name_of: Callable[[str], str]) -> Part:
    from ..estimators.networks.building import without_weights

    module = without_weights(build).eval()
    return Part(module, {name: name_of(name) for name in module.state_dict()})
