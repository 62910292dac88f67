"""A depth model of full size, ``FULL_SIZE``: the published one, or one of random weights."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.depth.conditioning import conditioning
from lib_depth2img.estimators.estimator import DepthEstimator
from lib_depth2img.standalone.pictures import placement
from tests.host.conftest import depth_map, left_right
from tests.host.server import WebUI

pytestmark = pytest.mark.full_size

SIZE = (256, 256)


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return Path(os.environ["FULL_SIZE"]).absolute()


@pytest.fixture
def full(shared_webui: WebUI, checkpoint: Path) -> WebUI:
    shared_webui.bring(checkpoint)
    return shared_webui


def test_img2img_with_the_depth_of_its_own_estimator(full: WebUI, checkpoint: Path, photograph: Image.Image) -> None:
    reply = full.img2img(photograph, width=SIZE[0], height=SIZE[1], steps=1)
    assert reply.status_code == 200, reply.text
    estimator = DepthEstimator("dpt_hybrid", weights=checkpoint)
    wanted = conditioning(estimator.estimate([photograph]), [placement(photograph, SIZE)]).numpy()
    records = full.records()
    assert wanted.std() > 0.2
    assert np.abs(records["concat"] - wanted).max() < 1e-3
    assert records["depth_inputs"] == 1


def test_a_map_of_ones_own(full: WebUI, photograph: Image.Image) -> None:
    fields = depth_map(left_right((512, 512)))
    reply = full.img2img(photograph, width=SIZE[0], height=SIZE[1], steps=1, depth2img=fields)
    assert reply.status_code == 200, reply.text
    channel = full.records()["concat"][0, 0]
    assert (channel[:, :15] == -1).all()
    assert (channel[:, 17:] == 1).all()
