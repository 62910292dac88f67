"""Networks are built without weights, given those of a file, and cast to the precision they compute in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...devices import fast_memory_format
from .convolutions import FoldedStdConv2d
from .decoder import Conv2dFloat32

__all__ = ["assign", "cast_network", "without_weights"]

_MADE_ON_META = (torch.empty, torch.zeros, torch.ones, torch.randn)


class _WeightsOnMeta(TorchFunctionMode):
    """In it, what weights are made by is on ``meta``, with the empty picture from which timm learns a size.

    Of this thread only. ``torch.device("meta")`` would send everything there, also the ``linspace`` that timm below
    1.0.21 reads numbers from.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _MADE_ON_META:
            kwargs = {**kwargs, "device": "meta"}
        return function(*args, **kwargs)


def without_weights(build: Callable[[], nn.Module]) -> nn.Module:
    """What ``build`` gives, its weights on ``meta``: neither memory nor random numbers are spent on them."""
    with _WeightsOnMeta():
        return build()


def assign(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make ``weights`` those of ``network``, by name and without a copy; what is on ``meta`` after it becomes zeros.

    torch's ``load_state_dict(assign=True)`` does the former, but only from 2.1 on.
    """
    for prefix, module in network.named_modules():
        start = f"{prefix}." if prefix else ""
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(_chosen(weights.get(start + name), parameter), requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, _chosen(weights.get(start + name), buffer))


def _chosen(weight: Tensor | None, built: Tensor) -> Tensor:
    if weight is not None:
        return weight
    return torch.zeros_like(built, device="cpu") if built.is_meta else built.detach()


def cast_network(network: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Everything to ``dtype`` but what keeps float32 for its own reasons, as it computes fastest on ``device``.

    It stays where it lies.
    """
    network.float()
    for module in network.modules():
        if dtype == torch.bfloat16 and device.type == "cpu" and hasattr(module, "fused_attn"):
            # timm's switch; the fused attention of torch 2.1 is three times slower here.
            module.fused_attn = False  # type: ignore[assignment]
        if not isinstance(module, FoldedStdConv2d | Conv2dFloat32):
            _cast(module, dtype)
    return network.to(memory_format=fast_memory_format(device))  # type: ignore[call-overload]


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Bring the floating-point weights of ``module`` itself, not of its children, to ``dtype``."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        if parameter.is_floating_point():
            setattr(module, name, nn.Parameter(parameter.data.to(dtype), requires_grad=False))
    for name, buffer in list(module.named_buffers(recurse=False)):
        if buffer.is_floating_point():
            setattr(module, name, buffer.to(dtype))
