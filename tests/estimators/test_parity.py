"""The bundled networks against Stability's own, with the same weights on the same pictures."""

from __future__ import annotations

from contextlib import nullcontext

import cv2
import geffnet
import numpy as np
import pytest
import torch
import torchvision
from ldm.data.util import AddMiDaS
from ldm.modules.midas import api
from ldm.modules.midas.midas.dpt_depth import DPTDepthModel
from ldm.modules.midas.midas.midas_net import MidasNet
from ldm.modules.midas.midas.midas_net_custom import MidasNet_small
from PIL import Image

from lib_depth2img import DepthEstimator, conditioning, place
from lib_depth2img.estimators.network import BorrowedNetwork
from lib_depth2img.estimators.networks.building import without_weights
from lib_depth2img.estimators.preprocess import network_input, network_size
from lib_depth2img.estimators.presets import PRESETS
from lib_depth2img.estimators.stage import DepthStage

# ldm asks timm for the hybrid by an older name.
pytestmark = pytest.mark.filterwarnings("ignore:Mapping deprecated model name:UserWarning")

SIZES = [(512, 512), (640, 360), (333, 517), (1024, 256)]
"""Of pictures, (width, height)."""

NETWORK_SIZES = [(224, 128), (96, 160), (320, 32)]
"""Of networks' inputs, likewise: smaller than presets ask for, since only ``AS_TRAINED`` is anything of its own."""

AS_TRAINED = (384, 384)
"""The one size where a transformer's trained positions are used as they are."""


def _hub(repository: str, model: str, **options: object) -> torch.nn.Module:
    """What torch.hub would have fetched: the same architectures from PyPI."""
    if model == "tf_efficientnet_lite3":
        return geffnet.tf_efficientnet_lite3(pretrained=False, exportable=options["exportable"])
    return torchvision.models.resnext101_32x8d(weights=None)


def _stability(name: str, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    monkeypatch.setattr(torch.hub, "load", _hub)
    if name == "midas_v21":
        network = MidasNet(None)
    elif name == "midas_v21_small":
        network = MidasNet_small(None, exportable=True)
    else:
        backbone = {"dpt_hybrid": "vitb_rn50_384", "dpt_large": "vitl16_384"}[name]
        network = DPTDepthModel(path=None, backbone=backbone)
    return network.eval()


STABILITYS = ("dpt_hybrid", "dpt_large", "midas_v21", "midas_v21_small")


@pytest.mark.parametrize("name", STABILITYS)
def test_networks_have_stabilitys_keys_and_give_its_nearness(name, random_network, photograph, monkeypatch):
    theirs, ours = without_weights(lambda: _stability(name, monkeypatch)), random_network(name)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)

    for size in [*NETWORK_SIZES, AS_TRAINED] if name == "dpt_hybrid" else NETWORK_SIZES:
        x = network_input([photograph], size, PRESETS[name])
        with torch.no_grad():
            expected, got = theirs(x), ours(x)
        assert expected.std() > 0.05 * expected.max(), "the comparison would be of a constant"
        assert (got - expected).abs().max() <= 1e-4 * expected.max(), f"{name} at {size}"


@pytest.mark.parametrize("name", STABILITYS)
@pytest.mark.parametrize("size", [*SIZES, (384, 384), (100, 90), (1000, 999), (48, 640)])
def test_preprocessing_is_stabilitys(name, size, photograph):
    picture = cv2.resize(photograph, size)
    sample = {"jpg": torch.from_numpy(picture / 127.5 - 1.0).float()}  # what the host hands over, processing.py:307
    expected = AddMiDaS(model_type=name)(sample)["midas_in"]
    got = network_input([picture], network_size(size, PRESETS[name]), PRESETS[name])[0].numpy()
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-5


def _host_conditioning(picture: np.ndarray, stage: torch.nn.Module, batch_size: int) -> torch.Tensor:
    """The bare host's (modules/processing.py:304-321), but for the VAE encode that only tells it the latent's size."""
    source_image = torch.from_numpy(picture).permute(2, 0, 1)[None].repeat(batch_size, 1, 1, 1) / 127.5 - 1.0
    sample = {"jpg": source_image[0].permute(1, 2, 0)}
    midas_in = torch.from_numpy(AddMiDaS(model_type="dpt_hybrid")(sample)["midas_in"][None]).repeat(batch_size, 1, 1, 1)
    latent = (source_image.shape[2] // 8, source_image.shape[3] // 8)
    with torch.no_grad():
        depth = torch.nn.functional.interpolate(stage(midas_in), size=latent, mode="bicubic", align_corners=False)
    lowest, highest = torch.aminmax(depth)
    return 2.0 * (depth - lowest) / (highest - lowest) - 1.0


@pytest.mark.parametrize("size", [(512, 512), (640, 448), (256, 256)])
def test_conditioning_from_a_picture_is_the_hosts(size, random_network, photograph):
    """With the small network inside, since both sides call the same one."""
    stage = DepthStage("small")
    stage.model.load_state_dict(random_network("small").state_dict())
    theirs = api.MiDaSInference.__new__(api.MiDaSInference)
    torch.nn.Module.__init__(theirs)
    theirs.model = stage.model
    picture = cv2.resize(photograph, size)

    estimator = DepthEstimator("dpt_hybrid", weights=BorrowedNetwork(lambda: nullcontext(stage), key="random"))
    (depth_map,) = estimator.estimate([picture])
    got = conditioning(depth_map, place(size, size), batch_size=2)

    expected = _host_conditioning(picture, theirs, 2)
    assert got.shape == expected.shape
    assert got.std() > 0.1
    assert (got - expected).abs().max() <= 1e-4


class _Seen(torch.nn.Module):
    """Keeps what it is shown; its answer is the red channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.x = x
        return x[:, 0]


@pytest.mark.parametrize("size", [(1024, 1024), (3000, 2000), (1000, 1500)])
def test_a_large_photograph_is_seen_as_the_host_shows_it_at_the_models_size(size, photograph):
    """The host shrinks it to the canvas with Lanczos first (images.py:283), and only then MiDaS samples it."""
    grain = np.random.default_rng(0).integers(-40, 41, (size[1], size[0], 1))
    picture = np.clip(cv2.resize(photograph, size).astype(int) + grain, 0, 255).astype(np.uint8)
    scale = 512 / min(size)
    canvas = (round(size[0] * scale), round(size[1] * scale))
    shrunk = np.array(Image.fromarray(picture).resize(canvas, Image.Resampling.LANCZOS))
    sample = {"jpg": torch.from_numpy(shrunk / 127.5 - 1.0).float()}
    expected = AddMiDaS(model_type="dpt_hybrid")(sample)["midas_in"]

    stage = _Seen()
    DepthEstimator("dpt_hybrid", weights=BorrowedNetwork(lambda: nullcontext(stage), key="seen")).estimate([picture])
    got = stage.x[0].numpy()
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-5
    sampled = network_input([picture], network_size(size, PRESETS["dpt_hybrid"]), PRESETS["dpt_hybrid"])[0].numpy()
    assert np.abs(sampled - expected).mean() > 0.05, "without shrinking it would be another picture"
