"""How Forge recognises the small packaged checkpoint, as it recognises Stable Diffusion 2.

Forge guesses a checkpoint's kind by the sizes in its UNet (huggingface_guess, detection.py) and builds the other parts
by a folder of configurations in the layout of diffusers (backend/loader.py, ``forge_loader``). What is said here are
the sizes in assets/depth2img-small.yaml and depth2img-small-text.json, in those words.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["TEXT_ENCODER", "UNET", "VAE", "small_model"]

_WIDTH, _TEXT_LAYERS, _HEADS = 96, 2, 4

UNET = {
    "context_dim": _WIDTH,
    "model_channels": 64,
    "in_channels": 5,
    "use_linear_in_transformer": True,
    "adm_in_channels": None,
    "use_temporal_attention": False,
}

VAE = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [64, 64, 64, 128],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 0,
    "norm_num_groups": 32,
    "sample_size": 256,
}

TEXT_ENCODER = {
    "hidden_size": _WIDTH,
    "intermediate_size": 4 * _WIDTH,
    "num_hidden_layers": _TEXT_LAYERS,
    "num_attention_heads": _HEADS,
    "projection_dim": 32,
}


def small_model(model_list: Any) -> Any:
    """The small checkpoint's kind, for the ``models`` of huggingface_guess' module."""

    class SmallDepthModel(model_list.SD20):
        """Forge builds subclasses too with its engine for Stable Diffusion 2 (loader.py, ``matched_guesses``)."""

        unet_config = UNET
        unet_extra_config = {**model_list.SD20.unet_extra_config, "num_head_channels": 32}  # noqa: RUF012 - theirs is

        @property
        def huggingface_repo(self) -> str:
            """Joined to Forge's own folder of configurations (loader.py), which an absolute path replaces."""
            return str(_configurations(super().huggingface_repo))

        def model_type(self, state_dict: Any, prefix: str = "") -> Any:  # noqa: ARG002 - theirs
            return model_list.ModelType.V_PREDICTION

    return SmallDepthModel


_folder: list[tempfile.TemporaryDirectory[str]] = []
"""Of the process, made when the small checkpoint is first loaded."""


def _configurations(sd2: str) -> Path:
    """Those of Stable Diffusion 2 with other sizes. ``sd2``: where Forge has these, below its folder."""
    from backend import loader

    if not _folder:
        _folder.append(tempfile.TemporaryDirectory(prefix="depth2img-", ignore_cleanup_errors=True))
        source, folder = Path(loader.dir_path, "huggingface", sd2), Path(_folder[0].name)
        shutil.copytree(source, folder, dirs_exist_ok=True)
        text = json.loads((source / "text_encoder" / "config.json").read_text(encoding="utf-8"))
        for part, config in (("vae", VAE), ("text_encoder", text | TEXT_ENCODER)):
            (folder / part / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return Path(_folder[0].name)
