"""reForge, Panchovix's stable-diffusion-webui-reForge, main at 3b56b268. Importing this imports nothing of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from .forge_family import ForgeFamily, Recognition
from .interface import Point
from .reforge_small_model import small_model, with_small_vae

__all__ = ["ReForge"]

_LOADER = "modules_forge.forge_loader"


class ReForge(ForgeFamily):
    """Pages, settings and what is selected as in v1.10.1, memory and sampling as in Forge.

    Names of files and lines are reForge's. A checkpoint is built by its yaml as in v1.10.1, but only its frame: UNet,
    VAE and text encoder are put in afterwards, and no weight ever reaches a depth stage (forge_loader.py:387-442).
    """

    points: ClassVar[Mapping[Point, tuple[str, str]]] = {
        **ForgeFamily.points,
        Point.CHECKPOINT_YAML: (_LOADER, "find_checkpoint_config"),  # imported there by name
    }
    memory = "ldm_patched.modules.model_management"
    patcher = "ldm_patched.modules.model_patcher"
    stealth = "stealth_pnginfo_opt"

    def __init__(self) -> None:
        super().__init__()
        self.small_model = Recognition("ldm_patched.modules.supported_models", small_model)

    def prepare(self) -> None:
        super().prepare()
        self._replace(_LOADER, "VAE", with_small_vae)
        self._replace("ldm.models.diffusion.ddpm", "LatentDepth2ImageDiffusion.__init__", _without_depth_stage)


def _without_depth_stage(original: Any) -> Any:
    """It would take half a gigabyte, and never be filled."""

    @functools.wraps(original)
    def init(model: Any, depth_stage_config: Any, *args: Any, **keywords: Any) -> None:  # noqa: ARG001 - theirs
        original(model, "__is_first_stage__", *args, **keywords)  # for which None is built (ldm util.py:83)

    return init
