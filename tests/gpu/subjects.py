"""What the checks are made on: networks with random weights that behave, and pictures that need no download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lib_depth2img import DepthEstimator
from lib_depth2img.estimators.cache import DepthCache
from lib_depth2img.estimators.networks.building import assign, without_weights
from lib_depth2img.estimators.presets import get_preset
from lib_depth2img.estimators.stage import DepthStage

__all__ = ["Subject", "photograph", "photographs", "random_network", "subject", "unusual_pictures"]

_PHOTOGRAPH = Path(__file__).parents[2] / "lib_depth2img" / "assets" / "demo-photograph.jpg"


@dataclass(frozen=True)
class Subject:
    """One network on one device.

    ``weights``: float32 on the CPU. ``photographs``: (H, W, 3) uint8. ``unusual``: flat ones and extremes, likewise, by
    a name. ``expected``: (h, w) nearness of each photograph, in float32 on the CPU.
    """

    network: str
    device: torch.device
    weights: Mapping[str, Tensor]
    photographs: Sequence[np.ndarray]
    unusual: Mapping[str, np.ndarray]
    expected: Sequence[np.ndarray]

    def estimator(self, precision: str) -> DepthEstimator:
        """An estimator with a network of its own on the device; it keeps no maps, so that each estimate is a pass."""
        return DepthEstimator(
            self.network,
            weights=self.weights,
            device=self.device,
            precision=precision,  # type: ignore[arg-type]
            cache=DepthCache(0),
        )

    def stage(self) -> DepthStage:
        """A checkpoint's depth stage as it is loaded: float32, on the CPU."""
        stage = without_weights(lambda: DepthStage(self.network))
        assert isinstance(stage, DepthStage)
        assign(stage.model, self.weights)
        return stage


def subject(network: str, device: torch.device, *, quick: bool = False) -> Subject:
    """The network of that name with random weights, and what it says on the CPU; when ``quick``, of fewer pictures."""
    weights = random_network(network).state_dict()
    shown = photographs()[: 1 if quick else None]
    unusual = unusual_pictures()
    if quick:
        unusual = {name: unusual[name] for name in ("black", "squares of one pixel", "a strip of 40:1")}
    on_cpu = DepthEstimator(network, weights=weights, precision="float32")
    return Subject(network, device, weights, shown, unusual, [found.values for found in on_cpu.estimate(shown)])


@lru_cache(maxsize=2)
def random_network(name: str) -> nn.Module:
    """A network on the CPU, the same each time: every layer alive, outputs positive and far from constant.

    The last two are kept.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = get_preset(name).build().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.8, 1.2)
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.uniform_(-0.1, 0.1)
        _enliven(network)
        _calibrate(network, _last_layer(name, network), 256 // get_preset(name).multiple * get_preset(name).multiple)
    return network


def _enliven(network: nn.Module) -> None:
    """Give size to what begins next to zero, so that a fresh network would be next to none."""
    for name, parameter in network.named_parameters():
        if name.endswith((".gamma", ".gamma_1", ".gamma_2")) or ("layers." in name and ".norm" in name):
            parameter.uniform_(0.2, 0.5)
        elif name.endswith("relative_position_bias_table"):
            parameter.normal_()


def _last_layer(name: str, network: nn.Module) -> nn.Conv2d:
    place = {"small": "scratch.head.3", "depth_anything": "depth_head.scratch.output_conv2.2"}
    layer = network.get_submodule(place.get(name.partition("_v2")[0], "scratch.output_conv.4"))
    assert isinstance(layer, nn.Conv2d)
    return layer


def _calibrate(network: nn.Module, last: nn.Conv2d, side: int) -> None:
    """Scale and shift the last layer so that a photograph gives nearness around 1000 ± 300, well above ReLU's zero."""
    picture = torch.from_numpy(photograph((side, side))).permute(2, 0, 1)[None] / 127.5 - 1
    before: list[Tensor] = []
    handle = last.register_forward_hook(lambda module, args, output: before.append(output.clone()))
    network(picture)
    handle.remove()
    assert last.bias is not None
    scale = 300.0 / before[0].std()
    last.weight *= scale
    last.bias.copy_((last.bias - before[0].mean()) * scale + 1000.0)


def photograph(size: tuple[int, int] | None = None) -> np.ndarray:
    """(H, W, 3) uint8: the packaged photograph, at ``size`` (width, height) or as it is."""
    with Image.open(_PHOTOGRAPH) as file:
        picture = file.convert("RGB")
    return np.array(picture if size is None else picture.resize(size, Image.Resampling.BICUBIC))


def photographs() -> tuple[np.ndarray, ...]:
    """(H, W, 3) uint8: of the usual size, wide, upright and odd, long, and large with grain."""
    usual = [photograph(size) for size in ((512, 512), (640, 360), (333, 517), (1024, 256))]
    grain = np.random.RandomState(0).randint(-40, 41, (1500, 1000, 1))
    return (*usual, np.clip(photograph((1000, 1500)) + grain, 0, 255).astype(np.uint8))


def unusual_pictures() -> dict[str, np.ndarray]:
    """Flat ones and extremes, (H, W, 3) uint8, by a name."""
    rows, cols = np.mgrid[0:512, 0:512]
    squares = (255 * ((rows + cols) % 2)).astype(np.uint8)
    halves = np.where(cols < 256, 0, 255).astype(np.uint8)
    return {
        "black": np.zeros((512, 512, 3), np.uint8),
        "grey": np.full((512, 512, 3), 128, np.uint8),
        "white": np.full((512, 512, 3), 255, np.uint8),
        "red": np.full((512, 512, 3), (255, 0, 0), np.uint8),
        "squares of one pixel": np.repeat(squares[..., None], 3, axis=2),
        "half black, half white": np.repeat(halves[..., None], 3, axis=2),
        "noise": np.random.RandomState(0).randint(0, 256, (512, 512, 3)).astype(np.uint8),
        "one pixel": np.full((1, 1, 3), 200, np.uint8),
        "a strip of 40:1": photograph((2000, 50)),
    }
