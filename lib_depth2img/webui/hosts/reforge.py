"""reForge, Panchovix's stable-diffusion-webui-reForge, main at 3b56b268. Importing this imports nothing of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from ...errors import Depth2ImgError
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
    loading: ClassVar[Mapping[str, Any]] = {"force_full_load": True}
    stealth = "stealth_pnginfo_opt"

    def __init__(self) -> None:
        super().__init__()
        self.small_model = Recognition("ldm_patched.modules.supported_models", small_model)

    def prepare(self) -> None:
        super().prepare()
        self._replace(_LOADER, "VAE", with_small_vae)
        self._replace("ldm.models.diffusion.ddpm", "LatentDepth2ImageDiffusion.__init__", _without_depth_stage)
        self._replace("modules_forge.main_thread", "run_and_wait_result", _bringing_refusals)


class BuiltLater:
    """Stands where a depth model has its depth stage, and builds that when it is called: never, while we are there.

    Once this extension has been taken out, the host comes to it with the checkpoint that is still in its memory.
    """

    def __init__(self, stage: Any) -> None:
        self._config = stage

    def __call__(self, pictures: Any) -> Any:
        return self._stage(pictures)

    @functools.cached_property
    def _stage(self) -> Any:
        from ldm.util import instantiate_from_config

        return instantiate_from_config(self._config)


def _without_depth_stage(original: Any) -> Any:
    """It would take half a gigabyte, and be filled with nothing that we need (ldm ddpm.py:1695)."""

    @functools.wraps(original)
    def init(model: Any, depth_stage_config: Any, *args: Any, **keywords: Any) -> None:
        later = {"target": f"{__name__}.{BuiltLater.__name__}", "params": {"stage": depth_stage_config}}
        original(model, later, *args, **keywords)

    return init


def _bringing_refusals(original: Any) -> Any:
    """The host's main thread prints what was raised there and gives None for a result (main_thread.py:36-40).

    So the page would say "'NoneType' object is not iterable" in the place of our sentence.
    """

    @functools.wraps(original)
    def run_and_wait_result(function: Any, *args: Any, **keywords: Any) -> Any:
        refusals: list[Depth2ImgError] = []

        def run(*args: Any, **keywords: Any) -> Any:
            try:
                return function(*args, **keywords)
            except Depth2ImgError as error:
                refusals.append(error)

        result = original(run, *args, **keywords)
        if refusals:
            raise refusals.pop()
        return result

    return run_and_wait_result
