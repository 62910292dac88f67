"""A checkpoint and its yaml to a model of diffusers' and open_clip's parts."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint import faults
from ..checkpoint.configuration import beside
from ..checkpoint.contents import TEXT, UNET, VAE, Contents, contents_of, state_dict_infos
from ..devices import Precision, checked_device, checked_precision, empty_cache, fast_memory_format
from ..errors import CheckpointError
from ..estimators.estimator import DepthEstimator
from ..weights.tensor_file import TensorFile, TensorInfo, open_tensor_file
from .architecture import Part, architecture_of
from .lora import Change, changes_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Model", "load_model"]

_log = logging.getLogger(__name__)

_SCHEDULE_TOLERANCE = 0.01  # bfloat16 rounds to 0.004
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Model:
    """A depth model that is ready to run; see `Architecture` for its parts.

    ``estimator``: of the depth stage that the checkpoint brought, loaded on first use; None without one. ``device``:
    where the parts work. ``offload``: whether each is there only while it works.
    """

    unet: Any
    vae: Any
    text: Any
    estimator: DepthEstimator | None
    betas: np.ndarray
    prediction_type: str
    scale_factor: float
    image_size: int
    device: torch.device
    offload: bool

    @contextlib.contextmanager
    def at_work(self, part: nn.Module) -> Iterator[None]:
        """In it, ``part`` is on the device."""
        if not self.offload:
            yield
            return
        part.to(self.device)
        try:
            yield
        finally:
            part.to("cpu")
            empty_cache(self.device)


def load_model(
    checkpoint: Path,
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    offload: bool = False,
    loras: Sequence[tuple[Path, float]] = (),
) -> Model:
    """The depth model of ``checkpoint``, in evaluation mode. Nothing is downloaded.

    ``checkpoint``: .safetensors or .ckpt; the yaml of the same name beside it is used, else the one of 512-depth-ema.
    Its tensors are read one at a time, so a full-size one needs little more memory than its weights. ``precision``: of
    the weights of UNet and text encoder, a dtype's name; the autoencoder stays in float32, since in float16 it gives
    NaN for some pictures. ``offload``: keep the parts in the CPU's memory and bring each to the device for its work;
    on a CPU it changes nothing. ``loras``: files with weights, added to UNet and text encoder.

    Raises:
        DeviceError: no such device, or one that does not compute in ``precision``.
        TensorFileError: a file is broken.
        CheckpointError: no depth-to-image checkpoint, names or shapes that do not fit the yaml, numbers that are not
            finite, a LoRA that does not fit, a package that is missing.
    """
    import torch

    device = checked_device(device)
    dtype = getattr(torch, checked_precision(precision, device))
    offload = offload and device.type != "cpu"
    home = torch.device("cpu") if offload else device
    with open_tensor_file(checkpoint) as file:
        infos = state_dict_infos(file)
        contents = contents_of(infos)
        _check_kind(checkpoint, contents, infos)
        architecture = architecture_of(checkpoint)
        parts = (architecture.unet, architecture.vae, architecture.text)
        _check_fit(checkpoint, parts, infos)
        _check_schedule(file, infos, architecture.betas)
        changes = changes_of(loras, architecture)
        for part in parts:
            kept_in = torch.float32 if part is architecture.vae else dtype
            _fill(part, functools.partial(_read, file, infos, changes), home, kept_in)
    estimator = None
    if contents.midas is not None:
        estimator = DepthEstimator(contents.midas, weights=checkpoint, device=device, precision=precision)
    return Model(
        unet=architecture.unet.module,
        vae=architecture.vae.module,
        text=architecture.text.module,
        estimator=estimator,
        betas=architecture.betas,
        prediction_type=architecture.prediction_type,
        scale_factor=architecture.scale_factor,
        image_size=architecture.image_size,
        device=device,
        offload=offload,
    )


def _check_kind(checkpoint: Path, contents: Contents, names: Iterable[str]) -> None:
    missing = [prefix for prefix in (UNET, VAE, TEXT) if not any(name.startswith(prefix) for name in names)]
    if missing:
        raise CheckpointError(
            f"{checkpoint.name} has nothing under {', '.join(missing)}; expected a whole Stable Diffusion checkpoint, "
            "such as 512-depth-ema.ckpt."
        )
    if not contents.is_depth_model:
        raise CheckpointError(
            f"The UNet of {checkpoint.name} takes {contents.unet_channels} channels; a depth-to-image model takes 5. "
            "Use 512-depth-ema.ckpt or a fine-tune of it."
        )


def _check_fit(checkpoint: Path, parts: Iterable[Part], infos: Mapping[str, TensorInfo]) -> None:
    wanted = {
        part.names[name]: tuple(weight.shape) for part in parts for name, weight in part.module.named_parameters()
    }
    missing = [name for name in wanted if name not in infos]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
        raise CheckpointError(
            f"{checkpoint.name} does not fit its yaml: {len(missing)} tensors are missing ({shown}). "
            f"Put the yaml it was made with beside it, as {beside(checkpoint).name}."
        )
    for name, shape in wanted.items():
        found = infos[name].shape
        if found not in (shape, (*shape, 1, 1)):  # what diffusers has as matrices, ldm has as convolutions of 1x1
            raise CheckpointError(f"{checkpoint.name} does not fit its yaml: {name} is {found}, expected {shape}.")


def _check_schedule(file: TensorFile, infos: Mapping[str, TensorInfo], betas: np.ndarray) -> None:
    """Refuse a checkpoint that was made with another noise schedule; one rounded to half precision is none.

    The yaml's is used in any case.
    """
    if faults.SCHEDULE not in infos:
        return
    found = file.read(infos[faults.SCHEDULE].name).double().numpy()
    if found.shape != betas.shape or not (abs(found - np.cumprod(1 - betas)) <= _SCHEDULE_TOLERANCE).all():
        raise CheckpointError(
            f"The noise schedule in {file.path.name} (alphas_cumprod) is not the one that its yaml describes. "
            "Put the yaml it was made with beside it."
        )
    if faults.rounded_schedule(infos):
        _log.warning("%s has a noise schedule rounded to bfloat16; its yaml's is used.", file.path.name)


def _fill(part: Part, read: Callable[..., Tensor], device: torch.device, dtype: torch.dtype) -> None:
    """Put weights into the empty module, one at a time.

    All have their room before the first is read: what is read leaves no gaps between them then.
    """
    import torch

    half = dtype != torch.float32
    wanted = []
    for name, shape in [(name, tuple(empty.shape)) for name, empty in part.module.named_parameters()]:
        weight = torch.empty(shape, dtype=dtype, device=device)
        if half and weight.ndim == 4:  # in float32 it is no faster, and takes more memory
            weight = weight.contiguous(memory_format=fast_memory_format(device))
        owner, _, own = name.rpartition(".")
        setattr(part.module.get_submodule(owner), own, torch.nn.Parameter(weight, requires_grad=False))
        wanted.append((part.names[name], weight))
    for name, weight in wanted:
        weight.copy_(read(name, tuple(weight.shape), dtype))


def _read(
    file: TensorFile,
    infos: Mapping[str, TensorInfo],
    changes: Mapping[str, Sequence[Change]],
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> Tensor:
    import torch

    tensor = file.read(infos[name].name).reshape(shape).contiguous().float()
    for change in changes.get(name, ()):
        change.apply(tensor)
    low, high = tensor.aminmax()
    limit = torch.finfo(dtype).max
    if not -limit <= float(low) <= float(high) <= limit:  # false with NaN
        raise CheckpointError(
            f"{name} of {file.path.name} holds numbers that are not finite in {str(dtype).removeprefix('torch.')}, "
            "which would give a black picture. The file, or a LoRA, is damaged: get it again from its source."
        )
    return tensor.to(dtype)
