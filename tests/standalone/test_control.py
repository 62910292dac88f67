"""How much depth counts outside of a host: what it costs, and what the packaged model makes of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from lib_depth2img.depth.control import Control
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.standalone import pictures
from lib_depth2img.standalone.agreement import rank_correlation
from lib_depth2img.standalone.generate import estimate_depth, generate
from lib_depth2img.standalone.loading import Model, load_model
from lib_depth2img.standalone.parameters import Parameters
from training.measure import GREY

QUICK = Parameters(prompt="a red ball on a blue table", size=(64, 64), steps=4, denoising_strength=1.0, cfg_scale=3.0)
FLAT = DepthMap.from_array(np.zeros((8, 8), np.float32))


def made(model, unseen, control: Control | None, depth_map: DepthMap | None = None, **changes) -> tuple:
    """The picture's numbers and the rows that the UNet was asked."""
    rows = []
    handle = model.unet.register_forward_pre_hook(lambda _module, given: rows.append(len(given[0])))
    parameters = dataclasses.replace(QUICK, **changes)
    (result,) = generate(model, unseen.picture, depth_map or unseen.depth_map, parameters, control=control)
    handle.remove()
    return np.asarray(result, int), sum(rows)


def test_one_is_the_picture_of_before_bit_for_bit_at_no_cost(model, unseen) -> None:
    before, rows = made(model, unseen, None)
    whole = Control(1.0, 0.0, 1.0, "balanced", pictures.region(Image.new("L", (9, 9), 255), unseen.picture, (64, 64)))
    found, asked = made(model, unseen, whole)
    assert np.array_equal(found, before)
    assert (rows, asked) == (8, 8)


def test_none_is_a_flat_map_bit_for_bit_at_no_cost(model, unseen) -> None:
    flat, _ = made(model, unseen, None, FLAT)
    for control in (Control(0), Control(end=0), Control(start=1)):
        found, asked = made(model, unseen, control)
        assert np.array_equal(found, flat)
        assert asked == 8


@pytest.mark.parametrize("changes", [{}, {"cfg_scale": 1.0}, {"sampler": "UniPC"}, {"prompt": "a red ball, " * 40}])
def test_between_every_step_costs_a_second_pass(model, unseen, changes) -> None:
    before, rows = made(model, unseen, None, **changes)
    for control in (Control(0.5), Control(region=pictures.region(_left(), unseen.picture, (64, 64)))):
        found, asked = made(model, unseen, control, **changes)
        assert asked == 2 * rows
        assert np.abs(found - before).max() > 1
    found, asked = made(model, unseen, Control(0.5, start=0.5), **changes)
    assert asked == rows + rows // 2


def test_the_side_of_depth_is_that_of_the_prompt(model, unseen) -> None:
    """Without guidance there is no other side."""
    before, rows = made(model, unseen, None)
    deep, asked = made(model, unseen, Control(mode="depth"))
    assert asked == 2 * rows
    assert np.abs(deep - before).max() > 1
    assert np.array_equal(*(made(model, unseen, c, cfg_scale=1.0)[0] for c in (Control(mode="depth"), None)))


def _left() -> Image.Image:
    region = Image.new("L", (64, 64), 0)
    region.paste(255, (0, 0, 32, 64))
    return region


@pytest.fixture(scope="module")
def packaged() -> Model:
    return load_model(SMALL_CHECKPOINT)


def test_depth_holds_inside_the_region_and_nowhere_else(packaged, unseen) -> None:
    """One scene, whose depth a grey picture's result keeps on the left half, and on the right does not."""
    parameters = dataclasses.replace(QUICK, prompt=unseen.prompt, size=(256, 256), steps=12, seed=3)
    control = Control(region=pictures.region(_left(), GREY, parameters.size))
    (result,) = generate(packaged, GREY, unseen.depth_map, parameters, control=control)
    seen = estimate_depth(packaged, result).resized((64, 64)).values
    true = unseen.depth_map.resized((64, 64)).values
    inside, outside = (rank_correlation(seen[:, at], true[:, at]) for at in (slice(0, 30), slice(34, 64)))
    assert inside > 0.6
    assert outside < inside - 0.3
