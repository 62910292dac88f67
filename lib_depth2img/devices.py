"""What torch does otherwise from device to device, asked in one place.

torch 2.1 and 2.3 know no autocast for ``mps``, no torch knows one for DirectML's ``privateuseone``, where the AMD fork
has its own; each device runs out of memory in words of its own. Importing this imports no torch.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from .errors import Depth2ImgError, DeviceError

if TYPE_CHECKING:
    import torch

__all__ = [
    "PRECISIONS",
    "Precision",
    "autocast",
    "checked_device",
    "checked_precision",
    "empty_cache",
    "fast_memory_format",
    "out_of_memory_as",
    "without_autocast",
]

Precision = Literal["auto", "float32", "bfloat16", "float16"]

PRECISIONS: tuple[Precision, ...] = ("auto", "float32", "bfloat16", "float16")

_NO_MEMORY = (
    "out of memory",  # CUDA, HIP, MPS, XPU
    "not enough memory",  # a CPU under Windows
    "allocate memory",  # a CPU under Linux: "can't allocate memory"
    "could not allocate tensor",  # DirectML
    "alloc_failed",  # cuDNN and cuBLAS
)
"""What a RuntimeError of torch says, in small letters, when memory is the reason."""


def checked_device(device: str | torch.device) -> torch.device:
    """The device of that name, tried out.

    Raises:
        DeviceError: it is no device, or none that this torch finds here.
    """
    import torch

    try:
        checked = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"{device!r} is no device; expected cpu, cuda, cuda:N or mps.") from error
    try:
        torch.zeros(1, device=checked).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(
            f"This torch ({torch.__version__}) finds no {checked} device ({_reason(error)}); use cpu."
        ) from error
    return checked


def checked_precision(precision: str, device: torch.device) -> str:
    """The dtype's name that ``precision`` means on ``device``: "auto" is float16 on CUDA and float32 elsewhere.

    Raises:
        DeviceError: no such precision, or one that the device cannot do.
    """
    import torch

    if precision not in PRECISIONS:
        raise DeviceError(f"The precision is {precision!r}; expected one of {', '.join(PRECISIONS)}.")
    if precision == "auto":
        return "float16" if device.type == "cuda" else "float32"
    if precision == "float32":
        return precision
    if precision == "float16" and device.type == "cpu":
        raise DeviceError("float16 does not run on a CPU; use bfloat16, which does, or float32.")
    try:
        torch.zeros(1, device=device, dtype=getattr(torch, precision))
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"{precision} does not run on {device} ({_reason(error)}); use float32.") from error
    return precision


@contextlib.contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """In it, layers on ``device`` compute in the precision of their weights, also within somebody else's autocast.

    Where torch has no autocast for the device, there is none to switch off.
    """
    import torch

    try:
        none: contextlib.AbstractContextManager[object] = torch.autocast(device.type, enabled=False)
    except (
        RuntimeError,
        AssertionError,
        AttributeError,
    ):  # torch has no module for the device, in words of each version
        none = contextlib.nullcontext()
    with none, _without_autocast_of_directml():
        yield


@contextlib.contextmanager
def _without_autocast_of_directml() -> Iterator[None]:
    """The AMD fork's autocast for DirectML, which torch knows nothing of.

    It has put itself before functions as ``conv2d`` and ``linear`` for good, and casts what they are given to half
    precision on whatever device, the CPU too, while a flag is set (modules/dml/amp/autocast_mode.py:14-25).
    """
    import torch

    directml: Any = getattr(torch, "dml", None)
    if not getattr(directml, "is_autocast_enabled", False):
        yield
        return
    directml.is_autocast_enabled = False
    try:
        yield
    finally:
        directml.is_autocast_enabled = True


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """In it, layers with float32 weights compute in ``precision``, a dtype's name, as far as torch thinks it safe.

    Raises:
        DeviceError: the device cannot do it, or torch has no autocast for it.
    """
    import torch

    dtype = checked_precision(precision, device)
    if dtype == "float32":
        return without_autocast(device)
    try:
        return torch.autocast(device.type, dtype=getattr(torch, dtype))
    except (RuntimeError, AssertionError, AttributeError) as error:
        raise DeviceError(
            f"This torch ({torch.__version__}) does not compute in {dtype} on {device.type}; use float32."
        ) from error


@contextlib.contextmanager
def out_of_memory_as(refusal: Callable[[], Depth2ImgError]) -> Iterator[None]:
    """Let an error of missing memory, of whatever device, leave as ``refusal()``; all others pass."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise refusal() from error


def empty_cache(device: torch.device) -> None:
    """Give what torch keeps but does not use back to the device, where it keeps anything."""
    import torch

    empty: Callable[[], None] | None = getattr(getattr(torch, device.type, None), "empty_cache", None)
    if empty is not None:
        empty()


def fast_memory_format(device: torch.device) -> torch.memory_format:
    """How pictures lie in memory where convolutions are fastest: channels-last on CPUs and CUDA.

    Elsewhere it brings nothing, and MPS has computed wrong values from it (pytorch/pytorch#180984).
    """
    import torch

    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in _NO_MEMORY)


def _reason(error: Exception) -> str:
    """The first sentence of what torch says, which may go on for pages."""
    return re.split(r"\.\s|\n", str(error).strip(), maxsplit=1)[0].rstrip(".")
