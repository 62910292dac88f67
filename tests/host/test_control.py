"""Strength, steps, region and mode of the depth in a real WebUI: what it costs, what it changes, what stays behind."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.host.conftest import NO_MIDAS, PLAIN, channel, depth_map, infotexts, left_right, picture_of
from tests.host.server import WebUI, encode

pytestmark = pytest.mark.usefixtures("webui")

EDGE = left_right((128, 128))
FLAT_MAP = Image.new("L", (128, 128), 90)
STEPS = 4
ADAPTIVE = ("DPM adaptive", "ODE ")
"""Samplers that take as many steps as the picture needs; ODE is of reForge."""


def made(webui: WebUI, photograph: Image.Image, control: dict[str, Any], **fields: Any) -> tuple[np.ndarray, int]:
    """The picture, and how often the UNet was asked."""
    settings = {"steps": STEPS} | fields
    depth2img = control if "source" in control else depth_map(EDGE, **control)
    picture = picture_of(webui.img2img(photograph, depth2img=depth2img, **settings))
    return picture, webui.records()["unet_calls"]


def equal(one: np.ndarray, other: np.ndarray) -> bool:
    """The host draws the init latent without a seed, within 1e-6."""
    return bool(np.abs(one - other).max() <= 1)


def test_every_sampler_of_the_host(webui: WebUI, photograph: Image.Image) -> None:
    """At 1 nothing changes, at 0 the map does not count, at 2 it counts more, each at one pass; between 0 and 1 it
    costs a second one and gives another picture than either.
    """
    samplers = [entry["name"] for entry in webui.get("/sdapi/v1/samplers").json()]
    assert len(samplers) > 15
    small = {"width": 64, "height": 64}
    for name in samplers:
        small["sampler_name"] = name
        plain, calls = made(webui, photograph, {}, **small)
        if not plain.any():  # of reForge, for rectified flows: black with a model of this kind
            assert name.endswith("RF")
            continue
        whole, calls_whole = made(webui, photograph, {"strength": 1.0, "start": 0.0, "end": 1.0}, **small)
        half, calls_half = made(webui, photograph, {"strength": 0.5}, **small)
        none, calls_none = made(webui, photograph, {"strength": 0.0}, **small)
        twice, calls_twice = made(webui, photograph, {"strength": 2.0}, **small)
        flat, _ = made(webui, photograph, depth_map(FLAT_MAP), **small)
        assert equal(plain, whole), name
        assert equal(none, flat), name
        assert not equal(half, plain), name
        assert not equal(half, none), name
        assert not equal(twice, plain), name
        counted = calls_whole, calls_half, calls_none, calls_twice
        assert name.startswith(ADAPTIVE) or counted == (calls, 2 * calls, calls, calls), name


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_size": 2},
        {"n_iter": 2},
        {"cfg_scale": 1.0},
        {"prompt": "a house AND a tree"},
        {"prompt": "a house " * 90},
        {"subseed": 3, "subseed_strength": 0.4},
        {"override_settings": {"token_merging_ratio": 0.5}},
        {"denoising_strength": 0.6},
        {"negative_prompt": "blurry"},
    ],
    ids=lambda fields: next(iter(fields)) + str(len(str(fields))),
)
def test_with_the_hosts_other_features(webui: WebUI, photograph: Image.Image, fields: dict[str, Any]) -> None:
    plain, calls = made(webui, photograph, {}, **fields)
    half, calls_half = made(webui, photograph, {"strength": 0.5}, **fields)
    assert calls_half == 2 * calls
    assert not equal(half, plain)
    again, _ = made(webui, photograph, {}, **fields)
    assert equal(again, plain)


@pytest.mark.not_on("Forge", "ReForge", "they have no hypertile, and ask for all rows that fit together")
@pytest.mark.parametrize(
    ("settings", "deeper"),
    [({"hypertile_enable_unet": True, "hypertile_max_tile_unet": 64}, 2), ({"batch_cond_uncond": False}, 1.5)],
)
def test_with_settings_of_v1101(webui: WebUI, photograph: Image.Image, settings: dict[str, Any], deeper: float) -> None:
    """Asked apart, only the rows of the negative prompt cost a second pass in the mode for depth."""
    _, calls = made(webui, photograph, {}, override_settings=settings)
    deep, calls_deep = made(webui, photograph, {"mode": "depth"}, override_settings=settings)
    assert calls_deep == deeper * calls
    assert not equal(deep, made(webui, photograph, {}, override_settings=settings)[0])
    _, calls_half = made(webui, photograph, {"strength": 0.5}, override_settings=settings)
    assert calls_half == 2 * calls


@pytest.mark.parametrize(("refiner", "factor"), [(NO_MIDAS, 2.0), (PLAIN, 1.5)], ids=["depth", "no depth"])
def test_a_refiner(webui: WebUI, photograph: Image.Image, refiner: str, factor: float) -> None:
    """It takes over at half of the steps; one that takes no depth is asked once."""
    taking_over = {"refiner_checkpoint": refiner, "refiner_switch_at": 0.5, "steps": 4, "sampler_name": "Euler"}
    alone, _ = made(webui, photograph, {}, steps=4, sampler_name="Euler")
    plain, calls = made(webui, photograph, {}, **taking_over)
    half, calls_half = made(webui, photograph, {"strength": 0.5}, **taking_over)
    late, _ = made(webui, photograph, {"start": 0.5}, **taking_over)
    if refiner != PLAIN:
        assert channel(webui).max() == 1, "the last steps see depth"
    flat, _ = made(webui, photograph, {"strength": 0.0}, **taking_over)
    assert refiner != PLAIN or not equal(plain, alone)
    assert calls_half == factor * calls
    assert not equal(half, plain)
    assert not equal(half, flat)
    assert refiner != PLAIN or equal(late, flat), "from half of the steps on only a depth model sees it"


def test_rows_are_told_apart_however_they_are_asked(webui: WebUI, photograph: Image.Image) -> None:
    """Prompts of another length than the negative one are asked apart; the mode has to know which is which."""
    long = {"prompt": "a house " * 90, "negative_prompt": ""}
    deep, _ = made(webui, photograph, {"mode": "depth"}, **long)
    assert not equal(deep, made(webui, photograph, {}, **long)[0])


@pytest.mark.parametrize(
    ("control", "at_last"),
    [({"end": 0.5}, False), ({"start": 0.5}, True), ({"end": 0.0}, False), ({"start": 1.0}, False), ({}, True)],
)
def test_start_and_end_share_the_steps(
    webui: WebUI, photograph: Image.Image, control: dict[str, Any], at_last: bool
) -> None:
    """What the UNet sees at the last step, at one pass for each."""
    _, calls = made(webui, photograph, {})
    _, asked = made(webui, photograph, control)
    assert asked == calls
    depth = channel(webui)
    assert (depth == -1).all() != at_last
    if at_last:
        assert (depth[:, 9:] == 1).all()


def test_the_first_steps_count_too(webui: WebUI, photograph: Image.Image) -> None:
    plain, _ = made(webui, photograph, {})
    late, _ = made(webui, photograph, {"start": 0.5})
    assert not equal(late, plain)


def test_a_region_counts_where_it_is_white(webui: WebUI, photograph: Image.Image) -> None:
    plain, calls = made(webui, photograph, {})
    none, _ = made(webui, photograph, {"strength": 0.0})
    white, asked = made(webui, photograph, {"region": encode(Image.new("L", (64, 64), 255))})
    assert (asked, equal(white, plain)) == (calls, True)
    black, asked = made(webui, photograph, {"region": encode(Image.new("L", (64, 64), 0))})
    assert (asked, equal(black, none)) == (calls, True)
    half, asked = made(webui, photograph, {"region": encode(left_right((64, 64)))})
    assert asked == 2 * calls
    assert not equal(half, plain)
    assert not equal(half, none)


def test_a_region_follows_only_masked(webui: WebUI, photograph: Image.Image) -> None:
    """The mask's box lies in the region's black: as if depth counted nowhere."""
    mask = Image.new("L", (512, 512))
    ImageDraw.Draw(mask).rectangle((320, 320, 420, 420), fill=255)
    settings = {"mask": encode(mask), "inpaint_full_res": True, "inpaint_full_res_padding": 8, "mask_blur": 0}
    diagonal = Image.linear_gradient("L").resize((512, 512))
    region = Image.new("L", (512, 512))
    region.paste(255, (0, 0, 256, 512))
    inside, _ = made(webui, photograph, depth_map(diagonal, region=encode(region)), **settings)
    none, _ = made(webui, photograph, depth_map(diagonal, strength=0.0), **settings)
    plain, _ = made(webui, photograph, depth_map(diagonal), **settings)
    assert equal(inside, none)
    assert not equal(inside, plain)


def test_a_region_lies_over_the_tiles_of_sd_upscale(webui: WebUI, photograph: Image.Image) -> None:
    """256x128 in two tiles of 128. The region ends in the second one, which alone costs two passes per step."""
    picture = photograph.resize((256, 128))
    fields = {"steps": STEPS, "script_name": "sd upscale", "script_args": ["", 0, "None", 1.0]}
    calls = []
    for white in (1.0, 0.75, 0.5):
        region = Image.new("L", (256, 128), 0)
        region.paste(255, (0, 0, round(256 * white), 128))
        request = depth_map(left_right((256, 128), 0.75), region=encode(region))
        reply = webui.img2img(picture, depth2img=request, **fields)
        assert reply.status_code == 200, reply.text
        calls.append(webui.records()["unet_calls"])
    assert calls == [2 * STEPS, 3 * STEPS, 2 * STEPS]


def test_outside_of_the_mask_only(webui: WebUI, photograph: Image.Image) -> None:
    mask = Image.new("L", (512, 512))
    mask.paste(255, (0, 0, 512, 256))
    settings = {"mask": encode(mask), "inpaint_full_res": False, "mask_blur": 0}
    plain, calls = made(webui, photograph, {}, **settings)
    free, asked = made(webui, photograph, {"outside_mask": True}, **settings)
    assert asked == 2 * calls
    assert not equal(free, plain)


def test_soft_inpainting(webui: WebUI, photograph: Image.Image) -> None:
    mask = Image.new("L", (512, 512))
    mask.paste(255, (128, 128, 384, 384))
    soft = {"Soft Inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}}
    scripts = soft | {"Depth2Img": {"args": [depth_map(EDGE, strength=0.5)]}}
    reply = webui.img2img(photograph, mask=encode(mask), steps=STEPS, alwayson_scripts=scripts)
    assert reply.status_code == 200, reply.text
    assert webui.records()["unet_calls"] == 2 * STEPS


def test_the_infotext_says_it(webui: WebUI, photograph: Image.Image) -> None:
    region = encode(left_right((64, 64)))
    reply = webui.img2img(photograph, depth2img={"strength": 0.4, "end": 0.75, "mode": "prompt", "region": region})
    (text,) = infotexts(reply.json())
    for said in ("Depth2Img strength: 0.4", "Depth2Img end: 0.75", "Depth2Img mode: prompt", "Depth2Img region hash: "):
        assert said in text
    (text,) = infotexts(webui.img2img(photograph, depth2img={}).json())
    assert "Depth2Img" not in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"strength": 2.5}, "strength: got 2.5, expected a number from 0 to 2."),
        ({"start": 0.7, "end": 0.3}, "start: got 0.7, expected at most end, which is 0.3."),
        ({"mode": "strong"}, "mode: got 'strong', expected one of balanced, prompt, depth."),
        ({"region": "aGVsbG8="}, "region: "),
    ],
)
def test_bad_values_are_422(webui: WebUI, photograph: Image.Image, fields: dict[str, Any], said: str) -> None:
    reply = webui.img2img(photograph, depth2img=fields)
    assert reply.status_code == 422
    assert reply.json()["detail"].startswith(said)
    assert webui.records()["unet_calls"] == 0


def test_nothing_is_left_after_an_interrupted_generation(webui: WebUI, photograph: Image.Image) -> None:
    plain, calls = made(webui, photograph, {})
    replies: list[Any] = []
    settings = {"steps": 150, "width": 256, "height": 256}
    working = threading.Thread(
        target=lambda: replies.append(webui.img2img(photograph, depth2img={"strength": 0.5}, **settings))
    )
    working.start()
    deadline = time.monotonic() + 60
    while webui.records()["unet_calls"] < 6 and time.monotonic() < deadline:
        time.sleep(0.1)
    webui.post("/sdapi/v1/interrupt")
    working.join(timeout=120)
    assert replies[0].status_code == 200
    assert webui.records()["unet_calls"] < 300
    again, asked = made(webui, photograph, {})
    assert (asked, equal(again, plain)) == (calls, True)
