"""The estimators, as data: which network, what it wants to see, where its weights are published."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ..errors import EstimatorError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["DEFAULT_PRESET", "PRESETS", "Preset", "get_preset"]


@dataclass(frozen=True)
class Preset:
    """One estimator.

    ``network``: "module:function" under ``networks/`` that builds it without weights. ``side``: the network's input
    size in pixels; ``fit`` says which side of a picture is brought to it: "minimal" the one that needs the smaller
    change, "upper_bound" the longer, "lower_bound" the shorter, and "square" both, whatever the picture's shape.
    ``mean`` and ``std``: per RGB channel, for pictures in [0, 1]. ``multiple``: what both sides of an input are
    multiples of. ``resized_in``: the numbers that a picture is resized in, which the authors' later code does in twice
    the precision of Stability's. ``names``: "module:function" likewise, for weights that are not always called as the
    network calls them: it takes a state dict and gives it with the network's own names.
    Sources of the numbers: Stability's ldm/modules/midas/api.py:24-69, MiDaS 3.1's midas/model_loader.py, Depth
    Anything V2's depth_anything_v2/dpt.py.
    """

    name: str
    title: str
    network: str
    side: int
    fit: Literal["minimal", "upper_bound", "lower_bound", "square"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    multiple: int = 32
    resized_in: Literal["float32", "float64"] = "float32"
    names: str = ""

    def build(self) -> nn.Module:
        """The network with random weights: (B, 3, h, w) float -> (B, h, w) nearness; h and w are such multiples.

        Raises:
            EstimatorError: timm is too old for it.
        """
        from .networks.layers import use_own_layers

        network: nn.Module = _function(self.network)()
        use_own_layers(network)
        return network

    def as_named(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state dict with the names that the network has, whichever program wrote it."""
        return _function(self.names)(weights) if self.names else weights


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f".networks.{module}", __package__), function)
    return found


_HALF = (0.5, 0.5, 0.5)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

_MIDAS_31: tuple[tuple[str, str, str, int, Literal["minimal", "square"]], ...] = (
    ("dpt_beit_large_512", "MiDaS 3.1 BEiT-L 512", "beit:dpt_beit_large_512", 512, "minimal"),
    ("dpt_beit_large_384", "MiDaS 3.1 BEiT-L 384", "beit:dpt_beit_large_384", 384, "minimal"),
    ("dpt_swin2_large_384", "MiDaS 3.1 Swin2-L 384", "swin2:dpt_swin2_large_384", 384, "square"),
    ("dpt_swin2_tiny_256", "MiDaS 3.1 Swin2-T 256", "swin2:dpt_swin2_tiny_256", 256, "square"),
)

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
            *(
                Preset(
                    f"depth_anything_v2_{size}",
                    f"Depth Anything V2 {size.capitalize()}",
                    f"depth_anything:depth_anything_v2_{size}",
                    518,
                    "lower_bound",
                    _IMAGENET_MEAN,
                    _IMAGENET_STD,
                    multiple=14,
                    resized_in="float64",
                    names="depth_anything_names:of_the_authors",
                )
                for size in ("small", "base", "large")
            ),
            *(
                Preset(name, title, network, side, fit, _HALF, _HALF, resized_in="float64")
                for name, title, network, side, fit in _MIDAS_31
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
