"""Forge, lllyasviel's stable-diffusion-webui-forge, at dfdcbab6. Importing this imports nothing of it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...checkpoint.contents import is_depth_checkpoint
from ...errors import RequestError
from .a1111 import A1111
from .forge_passes import answering
from .forge_small_model import Recognition
from .interface import Answer, Point, Selected

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from ...estimators.estimator import Manage

__all__ = ["Forge"]

LATENT_CHANNELS = 4

_STEALTH = "stealth_pnginfo_option"
_NO_VALUE = object()

_OF_LDM = (Point.DEPTH_STAGE, Point.CHECKPOINT_YAML)
"""How a checkpoint is built by Stability's code, which Forge does without."""


class Forge(A1111):
    """What v1.10.1 has and Forge has not, or in another way: loading, memory, sampling, the canvas.

    Names of files and lines are Forge's. It loads what is selected when the next generation starts, drops
    ``depth_model.*`` of it, and takes five channels for an inpainting model (huggingface_guess, model_list.py, BASE).
    """

    keeps_depth_stage = False
    points: ClassVar[Mapping[Point, tuple[str, str]]] = {
        **{point: place for point, place in A1111.points.items() if point not in _OF_LDM},
        Point.IMG2IMG_CONDITIONING: ("modules.processing", "StableDiffusionProcessing.img2img_image_conditioning"),
    }

    def __init__(self) -> None:
        super().__init__()
        self._canvas: str | None = None
        self._small_model = Recognition()

    def selected(self) -> Selected:
        info = self._selected_info()
        if info is None:
            return Selected(None, is_depth_model=False)
        return Selected(str(info.name), is_depth_checkpoint(Path(info.filename)))

    def checkpoint_file(self) -> Path:
        return Path(self._selected_info().filename)

    def under_lowvram(self, model: Any) -> bool:  # noqa: ARG002 - the interface's
        return False  # modules_forge/initialization.py:38 takes the flags away

    def uses_low_memory(self) -> bool:
        return False  # what lies on the device is Forge's to decide, and it knows of our networks (manage)

    def free_memory(self) -> None:
        from backend import memory_management

        memory_management.cleanup_models()  # its list would hold on to a network that we have let go of
        memory_management.soft_empty_cache()

    @property
    def manage(self) -> Manage | None:
        return _managed

    def save_image(
        self, picture: Image.Image, folder: str, *, in_subfolders: bool | None = None, **details: Any
    ) -> None:
        """Without what Forge hides in a picture's own pixels (stealth_infotext.py): 16 bits have no room for it."""
        data = self.options().data
        before = data.get(_STEALTH, _NO_VALUE)
        data[_STEALTH] = "None"
        try:
            super().save_image(picture, folder, in_subfolders=in_subfolders, **details)
        finally:
            data.pop(_STEALTH)
            if before is not _NO_VALUE:
                data[_STEALTH] = before

    def answer_for_unet(self, p: Any, answer: Answer) -> None:
        """Noted at the sampler of this generation; ``_checking`` looks there at each step."""
        p.sampler.model_wrap_cfg.depth2img_answer = answer

    def batch_pictures(self, source: Any, suffixes: Collection[str]) -> list[str]:
        return super().batch_pictures(source, (*suffixes, ".avif"))  # img2img.py:24

    def prepare(self) -> None:
        self._small_model.begin()
        self._replace("modules.sd_samplers_cfg_denoiser", "sampling_function", _checking)

    def init_image_of(self, component: Any, keywords: Mapping[str, Any]) -> str | None:
        """A canvas is a piece of HTML with the name, and then a text widget with the picture (canvas.py:155-157)."""
        name, kind = super().init_image_of(component, keywords), type(component).__name__
        if kind == "HTML":
            self._canvas = name
            return None
        if kind == "LogicalImage" and "logical_image_background" in (keywords.get("elem_classes") or ()):
            name, self._canvas = self._canvas, None
        return name

    def undo(self) -> None:
        super().undo()
        self._small_model.end()

    @staticmethod
    def _selected_info() -> Any:
        """What the next generation loads (sd_models.py:491); nothing before the settings have been read."""
        from modules import sd_models

        return sd_models.model_data.forge_loading_parameters.get("checkpoint_info")


def _managed(network: nn.Module, device: torch.device) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """Forge's own management brings the network to the device, and takes it away when something else needs the room.

    By itself a network would lie beside what Forge counts: it would move parts of its UNet to the CPU to make room for
    it, at every step, and never ask for the network's.
    """
    from backend import memory_management
    from backend.patcher.base import ModelPatcher

    # Held for as long as the network is used: Forge lets go of what nobody else holds (memory_management.py:562).
    patcher = ModelPatcher(network, load_device=device, offload_device=memory_management.cpu)

    @contextlib.contextmanager
    def on_device() -> Iterator[None]:
        memory_management.load_models_gpu([patcher])
        yield

    return on_device


def _checking(original: Any) -> Any:
    """What stands beside the latent has to fit the UNet in use.

    Forge passes over what is of another size than the latent (sampling_function.py:342-350), and hands on to a refiner
    what the checkpoint before it needed.
    """

    @functools.wraps(original)
    def sampling_function(denoiser: Any, denoiser_params: Any, *args: Any, **keywords: Any) -> Any:
        unet = denoiser.inner_model.inner_model.forge_objects.unet
        wanted = unet.model.diffusion_model.config["in_channels"] - LATENT_CHANNELS
        given, latent = denoiser_params.image_cond, denoiser_params.x
        if wanted == 0 and _has_shape(given, latent, 1):
            denoiser_params.image_cond = None
        elif wanted == 1 and unet.extra_concat_condition is None and not _has_shape(given, latent, 1):
            raise RequestError(
                f"The depth for the UNet is of the shape {tuple(getattr(given, 'shape', ()))}, expected "
                f"{(latent.shape[0], 1, *latent.shape[2:])}, as the latent: another extension changes the size of the "
                "picture or of the batch while it is generated. Switch that extension off."
            )
        answer = getattr(denoiser, "depth2img_answer", None)
        with answering(denoiser, unet, answer) if answer and wanted == 1 else contextlib.nullcontext():
            return original(denoiser, denoiser_params, *args, **keywords)

    return sampling_function


def _has_shape(given: Any, latent: torch.Tensor, channels: int) -> bool:
    shape = getattr(given, "shape", ())
    return tuple(shape) == (latent.shape[0], channels, *latent.shape[2:])
