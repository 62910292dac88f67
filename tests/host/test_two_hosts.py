"""A second WebUI, ``OTHER_ROOT``: the packaged checkpoint makes the same pictures in both, as far as both can."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from tests.host.conftest import PLAIN, Starter, depth_map, left_right, picture_of
from tests.host.server import WebUI

pytestmark = pytest.mark.two_hosts

SAMPLERS = ("Euler", "DDIM", "DPM++ 2M", "Euler a")


@pytest.fixture(scope="module")
def pictures(start: Starter, photograph: Image.Image) -> Callable[..., dict[str, np.ndarray]]:
    """From flags of ``start`` to the picture of each sampler, (H, W, 3) in steps of 255; the WebUI is stopped then."""

    def made(other: Path | None, checkpoint: Path, *, extension: bool) -> dict[str, np.ndarray]:
        webui: WebUI = start("one of two", "--no-half", extension=extension, other=other)
        webui.bring(checkpoint)
        settings = {"width": 256, "height": 256, "steps": 8, "cfg_scale": 3, "denoising_strength": 0.75}
        if extension:
            settings["depth2img"] = depth_map(left_right((256, 256)))
        found = {
            sampler: picture_of(webui.img2img(photograph, sampler_name=sampler, **settings)) for sampler in SAMPLERS
        }
        webui.stop()
        return found

    return made


def test_it_differs_no_more_than_an_ordinary_model_does_without_this_extension(
    pictures: Callable[..., dict[str, np.ndarray]], checkpoints: Path
) -> None:
    other = Path(os.environ["OTHER_ROOT"]).absolute()
    bare = [pictures(each, checkpoints / PLAIN, extension=False) for each in (None, other)]
    ours = [pictures(each, SMALL_CHECKPOINT, extension=True) for each in (None, other)]
    differences = {
        sampler: [np.abs(pair[0][sampler] - pair[1][sampler]).mean() for pair in (bare, ours)] for sampler in SAMPLERS
    }
    told = ", ".join(f"{sampler} {without:.2f} {with_it:.2f}" for sampler, (without, with_it) in differences.items())
    print(f"Mean difference in steps of 255, an ordinary model without us and the packaged one with: {told}.")
    assert all(with_it <= without + 0.1 for without, with_it in differences.values()), told
