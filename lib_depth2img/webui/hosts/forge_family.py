"""What Forge and reForge have in common and v1.10.1 has otherwise: memory, sampling, a list of checkpoint kinds.

Names of files and lines are Forge's at dfdcbab6; reForge has the same under other names.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import RequestError
from .a1111 import A1111
from .forge_passes import ANSWER, answered
from .interface import Answer, Point

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from ...estimators.estimator import Manage

__all__ = ["ForgeFamily", "Recognition"]

LATENT_CHANNELS = 4

_NO_VALUE = object()

_RESIZING = ("_dy", "_intern")
"""In the names of samplers' functions that do (sd_samplers_kdiffusion_smea.py, ldm_patched/k_diffusion/sampling.py)."""


class Recognition:
    """A kind of checkpoint, put into a host's list of them between ``begin`` and ``end``; beginning again is nothing.

    ``kinds``: the host's module with the list, ``models``. ``make``: from that module to the kind, which is a class.
    """

    def __init__(self, kinds: str, make: Callable[[Any], Any]) -> None:
        self._kinds, self._make = kinds, make
        self._known: Any = None

    def begin(self) -> None:
        if self._known is None:
            kinds = importlib.import_module(self._kinds)
            self._known = self._make(kinds)
            kinds.models.append(self._known)

    def end(self) -> None:
        if self._known is not None:
            importlib.import_module(self._kinds).models.remove(self._known)
            self._known = None


class ForgeFamily(A1111):
    """A host that drops ``depth_model.*`` of a checkpoint, and lets a manager decide what lies on the device.

    ``memory`` and ``patcher``: the modules of that manager, and of ``ModelPatcher``; ``loading``: what it is told, so
    that a network comes whole and not layer by layer, which only its own layers can. ``stealth``: the option by which
    infotext is hidden in a picture's pixels. ``small_model``: how the small packaged checkpoint is recognised.
    """

    keeps_depth_stage = False
    points: ClassVar[Mapping[Point, tuple[str, str]]] = {
        **{point: place for point, place in A1111.points.items() if point is not Point.DEPTH_STAGE},
        Point.IMG2IMG_CONDITIONING: ("modules.processing", "StableDiffusionProcessing.img2img_image_conditioning"),
    }
    memory: str
    patcher: str
    loading: ClassVar[Mapping[str, Any]] = {}
    stealth: str
    small_model: Recognition

    def under_lowvram(self, model: Any) -> bool:  # noqa: ARG002 - the interface's
        return False  # modules_forge/initialization.py:38 takes the flags away

    def uses_low_memory(self) -> bool:
        return False  # what lies on the device is the manager's to decide, and it knows of our networks (manage)

    def free_memory(self) -> None:
        memory_management = importlib.import_module(self.memory)
        memory_management.cleanup_models()  # its list would hold on to a network that we have let go of
        memory_management.soft_empty_cache()

    @property
    def manage(self) -> Manage | None:
        return self._managed

    def _managed(
        self, network: nn.Module, device: torch.device
    ) -> Callable[[], contextlib.AbstractContextManager[Any]]:
        """The host's manager brings the network to the device, and takes it away when something else needs the room.

        By itself a network would lie beside what is counted: parts of the UNet would be moved to the CPU to make room
        for it, at every step, and the network's own room would never be asked for.
        """
        import torch

        memory_management = importlib.import_module(self.memory)
        # Held for as long as the network is used: what nobody else holds is let go of (memory_management.py:562).
        patcher = importlib.import_module(self.patcher).ModelPatcher(
            network, load_device=device, offload_device=torch.device("cpu")
        )

        @contextlib.contextmanager
        def on_device() -> Iterator[None]:
            memory_management.load_models_gpu([patcher], **self.loading)
            network.to(device)  # --always-no-vram leaves it where it lies
            yield

        return on_device

    def answer_for_unet(self, p: Any, answer: Answer) -> None:
        """Noted at the sampler of this generation, where ``_checking`` looks at each step."""
        setattr(p.sampler.model_wrap_cfg, ANSWER, answer)

    def save_image(
        self, picture: Image.Image, folder: str, *, in_subfolders: bool | None = None, **details: Any
    ) -> None:
        """Without what is hidden in a picture's own pixels (stealth_infotext.py): 16 bits have no room for it."""
        data = self.options().data
        before = data.get(self.stealth, _NO_VALUE)
        data[self.stealth] = "None"
        try:
            super().save_image(picture, folder, in_subfolders=in_subfolders, **details)
        finally:
            data.pop(self.stealth)
            if before is not _NO_VALUE:
                data[self.stealth] = before

    def prepare(self) -> None:
        self.small_model.begin()
        self._replace("modules.sd_samplers_cfg_denoiser", "cfg_denoiser_callback", _checking)

    def undo(self) -> None:
        super().undo()
        self.small_model.end()


def _checking(original: Any) -> Any:
    """What stands beside the latent has to fit the UNet in use; other extensions have their say first.

    Also at each step, since a refiner brings its own: who answers for a UNet that takes depth.

    The host passes over what is of another size than the latent (sampling_function.py:342-350), and hands on to a
    refiner what the checkpoint before it needed.
    """

    @functools.wraps(original)
    def cfg_denoiser_callback(params: Any) -> None:
        original(params)
        objects = params.denoiser.inner_model.inner_model.forge_objects
        unet = objects.unet
        wanted = unet.model.diffusion_model.in_channels - LATENT_CHANNELS
        given, latent = params.image_cond, params.x
        if wanted == 0 and _has_shape(given, latent, 1):
            params.image_cond = None
        elif wanted == 1 and unet.extra_concat_condition is None and not _has_shape(given, latent, 1):
            params.image_cond = _fitted(given, latent, params.denoiser)
        if wanted == 1 and hasattr(params.denoiser, ANSWER):
            objects.unet = answered(unet, params.denoiser)

    return cfg_denoiser_callback


def _fitted(given: Any, latent: torch.Tensor, denoiser: Any) -> torch.Tensor:
    """The depth for a step at which the sampler itself looks at a latent of another size, as some of reForge's do.

    Raises:
        RequestError: the size is another for another reason.
    """
    import torch

    shape = tuple(getattr(given, "shape", ()))
    sampler = str(getattr(getattr(denoiser, "sampler", None), "funcname", ""))
    if any(name in sampler for name in _RESIZING) and shape[:2] == (latent.shape[0], 1) and len(shape) == latent.ndim:
        return torch.nn.functional.interpolate(given, tuple(latent.shape[2:]), mode="area")
    raise RequestError(
        f"The depth for the UNet is of the shape {shape}, expected {(latent.shape[0], 1, *latent.shape[2:])}, as the "
        "latent: the sampler or another extension changes the size of the picture or of the batch while it is "
        "generated. Choose another sampler, or switch that extension off."
    )


def _has_shape(given: Any, latent: torch.Tensor, channels: int) -> bool:
    shape = getattr(given, "shape", ())
    return tuple(shape) == (latent.shape[0], channels, *latent.shape[2:])
