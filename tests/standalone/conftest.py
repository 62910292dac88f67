"""The small model with random weights: the real classes and names, and depth and prompt that change the result."""

from __future__ import annotations

import contextlib
import io
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

with warnings.catch_warnings():  # ldm, timm and open_clip warn on import about one another
    warnings.simplefilter("ignore")
    from training import text, unet, vae

from lib_depth2img.checkpoint.small_model import SMALL_CONFIG
from lib_depth2img.estimators.networks.small import SmallDepthNet
from lib_depth2img.standalone.loading import Model, load_model
from training.export import PREFIXES, export
from training.measure import Unseen, unseen_scenes


def _untrained(part: str) -> dict[str, torch.Tensor]:
    builders = {"unet": unet.build, "vae": vae.build, "text": text.build, "estimator": SmallDepthNet}
    state = builders[part]().state_dict()
    for tensor in state.values():
        if tensor.is_floating_point() and not tensor.any():  # ldm starts its last layers at zero: nothing would show
            tensor.normal_(std=0.05)
    return {name: tensor for name, tensor in state.items() if "visual" not in name}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the small model's shape with its yaml beside it, untrained."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(1)
    for part in PREFIXES:
        torch.save(_untrained(part), folder / f"{part}.pt")
    export({part: folder / f"{part}.pt" for part in PREFIXES}, folder / "small.safetensors")
    shutil.copy(SMALL_CONFIG, folder / "small.yaml")
    return folder / "small.safetensors"


@pytest.fixture(scope="session")
def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint)


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> Model:
    return load_model(checkpoint)


@pytest.fixture(scope="session")
def ldms(checkpoint: Path, tensors: dict[str, torch.Tensor]) -> Any:
    """Stability's own model with the weights of ``checkpoint``."""
    config = OmegaConf.load(checkpoint.with_suffix(".yaml")).model
    with warnings.catch_warnings(record=True), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from ldm.util import instantiate_from_config

        built = instantiate_from_config(config)
    missing, unexpected = built.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert not [name for name in missing if name.startswith(("model.", "first_stage_model."))]
    return built.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def unseen() -> Unseen:
    return unseen_scenes(1, seed=555)[0]
