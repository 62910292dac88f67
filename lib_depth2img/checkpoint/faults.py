"""What makes a checkpoint give black or meaningless pictures without an error: told from its tensors, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..progress import Listener, Progress
from ..weights.finite import is_finite
from ..weights.tensor_file import open_tensor_file
from .contents import MIDAS, TEXT, UNET, VAE, WITHOUT_EFFECT, Contents, state_dict_infos

__all__ = ["SCHEDULE", "described", "lacking", "not_finite_in", "not_finite_of", "rounded_schedule"]

SCHEDULE = "alphas_cumprod"

_TOO_COARSE = "bfloat16"
_SHOWN = 2


def lacking(contents: Contents) -> list[str]:
    """Parts of which tensors are missing, such as "10 tensors of its MiDaS"."""
    return [f"{count:,} tensors of its {part}" for part, count in contents.missing.items()]


def rounded_schedule(tensors: Mapping[str, Any]) -> bool:
    """Whether the noise schedule is kept so coarse that its first step is no noise at all, of which the WebUI takes the
    logarithm. ``tensors``: by name, with their types.
    """
    return SCHEDULE in tensors and str(tensors[SCHEDULE].dtype).removeprefix("torch.") == _TOO_COARSE


def not_finite_of(tensors: Mapping[str, Any]) -> list[str]:
    """Names of tensors that are used and hold NaN or inf."""
    return [name for name in _used(tensors) if not is_finite(tensors[name])]


def not_finite_in(path: Path, *, listener: Listener | None = None) -> list[str]:
    """As :func:`not_finite_of`, for a file, of which one tensor is in memory at a time.

    Raises:
        TensorFileError: no weights file, or a damaged one.
    """
    found = []
    with open_tensor_file(path) as file:
        infos = state_dict_infos(file)
        names = _used(infos)
        total, done = sum(infos[name].nbytes for name in names), 0
        for name in names:
            if not is_finite(file.read(infos[name].name)):
                found.append(name)
            done += infos[name].nbytes
            if listener is not None:
                listener(Progress("checking", path.name, done, total))
    return found


def described(names: list[str]) -> str:
    """What tensors with NaN mean, for a message."""
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"numbers that are not finite (NaN or inf) in {len(names):,} tensors ({shown})"


def _used(names: Iterable[str]) -> list[str]:
    """Without copies and leftovers of training, where it is a checkpoint; all of any other file."""
    every = [name for name in names if not any(part in name for part in WITHOUT_EFFECT)]
    if not any(name.startswith(UNET) for name in every):
        return every
    return [
        name for name in every if name.startswith((UNET, VAE, TEXT, MIDAS, "cond_stage_model.")) or name == SCHEDULE
    ]
