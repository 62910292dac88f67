"""Layers of our own where torch's would be reached by others.

A host changes torch's layers for its own networks, and an estimator must not change with them:

- its "Tiling" makes layers of exactly ``nn.Conv2d`` circular (modules/sd_hijack.py:317);
- where a device has no autocast it replaces ``forward`` of the classes themselves, for the length of a generation, by
  one that casts weights and back (modules/devices.py:144-208), and other threads come and go meanwhile;
- its LoRA extension replaces the same ``forward`` for good (extensions-builtin/Lora/lora_patches.py).

These are subclasses, so they load, move and cast as torch's do, with a ``forward`` of their own.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Conv2d", "GroupNorm", "LayerNorm", "Linear", "use_own_layers"]


class Conv2d(nn.Conv2d):
    """``nn.Conv2d``, padded with zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Linear(nn.Linear):
    """``nn.Linear``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


_OWN: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: Conv2d,
    nn.Linear: Linear,
    nn.LayerNorm: LayerNorm,
    nn.GroupNorm: GroupNorm,
}


def use_own_layers(network: nn.Module) -> None:
    """Make every layer of ``network`` whose ``forward`` is torch's one of the classes above, in place.

    Subclasses of timm's bring a ``forward`` of their own and stay.
    """
    for module in network.modules():
        for kind, own in _OWN.items():
            if isinstance(module, kind) and _forward_is_of(kind, type(module)):
                module.__class__ = own


def _forward_is_of(kind: type[nn.Module], inheriting: type[nn.Module]) -> bool:
    """By where it is defined, since what is defined there may at this moment be somebody else's."""
    before = inheriting.__mro__[: inheriting.__mro__.index(kind)]
    return not any("forward" in vars(base) for base in before)
