"""The packaged checkpoint in the real WebUI: the same weights do there what they do in the standalone road."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from lib_depth2img.depth.conditioning import conditioning
from lib_depth2img.standalone.generate import estimate_depth
from lib_depth2img.standalone.loading import load_model
from lib_depth2img.standalone.pictures import placement
from tests.host.server import WebUI, decode, encode
from training.measure import GREY, Unseen, depth_agreement, named_colour_is_nearest, unseen_scenes

SIZE = (256, 256)
STRONG = {"width": 256, "height": 256, "steps": 15, "cfg_scale": 3, "sampler_name": "DDIM"}


@pytest.fixture(scope="module")
def model():
    return load_model(SMALL_CHECKPOINT)


@pytest.fixture(scope="module")
def scenes() -> list[Unseen]:
    return unseen_scenes(5, seed=911)


@pytest.fixture
def small(shared_webui: WebUI) -> WebUI:
    """The WebUI with the packaged checkpoint loaded."""
    shared_webui.bring(SMALL_CHECKPOINT)
    assert shared_webui.get("/depth2img/status").json()["is_depth_model"]
    return shared_webui


def test_conditioning_is_that_of_the_standalone_road(small: WebUI, model, photograph: Image.Image) -> None:
    assert small.img2img(photograph, width=256, height=256).status_code == 200
    theirs = small.records()["concat"][:1]
    ours = conditioning(estimate_depth(model, photograph), placement(photograph, SIZE)).numpy()
    assert theirs.std() > 0.1
    assert np.abs(theirs - ours).max() < 1e-3


@pytest.mark.not_on("Forge", "it has no tiling (modules_forge/utils.py:24), no hypertile, no passes apart")
def test_tiling_makes_the_picture_seamless_and_leaves_the_depth_alone(small: WebUI, unseen: Image.Image) -> None:
    """The host makes layers of exactly ``nn.Conv2d`` circular (sd_hijack.py:317), and this network is made of them."""
    small.post("/sdapi/v1/options", depth2img_cache_megabytes=0)
    try:
        concats, pictures = [], []
        for tiling in (False, True):
            reply = small.img2img(unseen, tiling=tiling, steps=4)
            assert reply.status_code == 200, reply.text
            assert small.records()["depth_inputs"] == 1
            concats.append(small.records()["concat"])
            pictures.append(np.asarray(decode(reply.json()["images"][0]).convert("RGB"), np.float32))
        assert np.abs(pictures[0] - pictures[1]).max() > 2, "the feature is not on"
        assert np.array_equal(*concats)
    finally:
        small.post("/sdapi/v1/options", depth2img_cache_megabytes=256)


def test_a_depth_map_decides_the_composition_and_the_prompt_the_colour(small: WebUI, model, scenes) -> None:
    agreements, right = [], []
    for scene in scenes:
        depth = Image.fromarray((scene.nearness * 65535).round().astype(np.uint16))
        reply = small.img2img(
            GREY, depth2img={"source": "depth_map", "image": encode(depth)}, prompt=scene.prompt, **STRONG
        )
        assert reply.status_code == 200, reply.text
        result = decode(reply.json()["images"][0])
        agreements.append(depth_agreement(model, result, scene.nearness))
        right.append(named_colour_is_nearest(result, scene.subject, scene.look.colour))
    assert np.median(agreements) >= 0.85
    assert sum(right) >= 4  # a thin black figure in fog comes out paler
