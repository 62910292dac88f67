"""The estimators, as data: which network, what it wants to see, where its weights are published."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from ..errors import EstimatorError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DEFAULT_PRESET", "PRESETS", "Preset", "get_preset"]


@dataclass(frozen=True)
class Preset:
    """One estimator.

    ``network``: "module:function" under ``networks/`` that builds it without weights. ``side``: the network's input
    size in pixels; ``fit`` says which side of a picture is brought to it: "minimal" the one that needs the smaller
    change, "upper_bound" the longer. ``mean`` and ``std``: per RGB channel, for pictures in [0, 1]. Source of the
    numbers: Stability's ldm/modules/midas/api.py:24-69.
    """

    name: str
    title: str
    network: str
    side: int
    fit: Literal["minimal", "upper_bound"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def build(self) -> nn.Module:
        """The network with random weights: (B, 3, h, w) float -> (B, h, w) nearness; h and w are multiples of 32."""
        from .networks.layers import use_own_layers

        module, _, function = self.network.partition(":")
        network: nn.Module = getattr(importlib.import_module(f".networks.{module}", __package__), function)()
        use_own_layers(network)
        return network


_HALF = (0.5, 0.5, 0.5)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

DEFAULT_PRESET = "dpt_hybrid"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset("dpt_hybrid", "MiDaS DPT-Hybrid", "dpt:dpt_hybrid", 384, "minimal", _HALF, _HALF),
            Preset("dpt_large", "MiDaS DPT-Large", "dpt:dpt_large", 384, "minimal", _HALF, _HALF),
            Preset("midas_v21", "MiDaS v2.1", "midas_v21:midas_v21", 384, "upper_bound", _IMAGENET_MEAN, _IMAGENET_STD),
            Preset(
                "midas_v21_small",
                "MiDaS v2.1 small",
                "midas_v21:midas_v21_small",
                256,
                "upper_bound",
                _IMAGENET_MEAN,
                _IMAGENET_STD,
            ),
        )
    }
)

_SMALL = Preset("small", "Small, of this project", "small:SmallDepthNet", 128, "minimal", _HALF, _HALF)
"""Comes inside a checkpoint or not at all, so it is no choice among ``PRESETS``, whose weights are published."""


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        EstimatorError: there is none.
    """
    if name == _SMALL.name:
        return _SMALL
    try:
        return PRESETS[name]
    except KeyError:
        raise EstimatorError(f"No depth estimator is called {name!r}; expected one of {', '.join(PRESETS)}.") from None
