"""Together with the host's other features: samplers, settings, LoRA, and the scripts it comes with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from lib_depth2img.request.fields import FIELDS
from tests.host.conftest import DEPTH, channel, depth_map, left_right, picture_of
from tests.host.server import WebUI, decode, encode

pytestmark = pytest.mark.usefixtures("webui")

NO_HYPERTILE = pytest.mark.not_on("ReForge", "it has no hypertile, no passes apart")
NOT_IN_FORGE = pytest.mark.not_on(
    "Forge", "it has no tiling (modules_forge/utils.py:24), no hypertile, no passes apart"
)


def test_every_sampler_of_the_host(webui: WebUI, photograph: Image.Image) -> None:
    samplers = [entry["name"] for entry in webui.get("/sdapi/v1/samplers").json()]
    assert len(samplers) > 15
    wanted = None
    for sampler in samplers:
        reply = webui.img2img(photograph, sampler_name=sampler, width=64, height=64, steps=4)
        assert reply.status_code == 200, f"{sampler}: {reply.text}"
        depth = channel(webui)
        wanted = depth if wanted is None else wanted
        if depth.shape != wanted.shape:  # some of reForge's look at half the latent, or at more of it
            assert "Dy" in sampler or "Intern" in sampler
            assert abs(depth.mean() - wanted.mean()) < 0.1
            continue
        assert (depth == wanted).all(), sampler


@pytest.fixture
def no_cache(webui: WebUI) -> Iterator[None]:
    """Every generation estimates, so that a feature that reached the estimator would show."""
    webui.post("/sdapi/v1/options", depth2img_cache_megabytes=0)
    yield
    webui.post("/sdapi/v1/options", depth2img_cache_megabytes=256)


@pytest.mark.usefixtures("no_cache")
class TestFeaturesOfSampling:
    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param({"tiling": True}, marks=NOT_IN_FORGE),
            {"subseed": 3, "subseed_strength": 0.4},
            {"override_settings": {"eta_noise_seed_delta": 31337}},
            {"override_settings": {"img2img_color_correction": True}},
            pytest.param(
                {"override_settings": {"hypertile_enable_unet": True, "hypertile_max_tile_unet": 64}},
                marks=[NOT_IN_FORGE, NO_HYPERTILE],
            ),
            {"override_settings": {"token_merging_ratio": 0.5}},
            {"cfg_scale": 1.0},
            {"prompt": "a house AND a tree"},
            {"prompt": "house " * 90, "negative_prompt": "tree"},
        ],
        ids=lambda settings: next(iter(settings.get("override_settings", settings))) + str(len(str(settings))),
    )
    def test_it_acts_and_the_depth_is_the_same(
        self, webui: WebUI, photograph: Image.Image, settings: dict[str, Any]
    ) -> None:
        common = {"sampler_name": "Euler a", "steps": 4, "width": 256, "height": 256, "cfg_scale": 15}
        without = picture_of(webui.img2img(photograph, **common))
        wanted = channel(webui)
        with_it = picture_of(webui.img2img(photograph, **common | settings))
        assert webui.records()["depth_inputs"] == 1
        assert (channel(webui) == wanted).all()
        assert np.abs(with_it - without).max() > 2, "the feature is not on"

    @NOT_IN_FORGE
    @NO_HYPERTILE
    def test_conditional_and_unconditional_apart(self, webui: WebUI, unseen: Image.Image) -> None:
        assert webui.img2img(unseen).status_code == 200
        wanted, calls = channel(webui), webui.records()["unet_calls"]
        assert webui.img2img(unseen, override_settings={"batch_cond_uncond": False}).status_code == 200
        assert webui.records()["unet_calls"] == 2 * calls
        assert (channel(webui) == wanted).all()


class TestScriptsAndExtensions:
    def test_soft_inpainting(self, webui: WebUI, photograph: Image.Image) -> None:
        mask = Image.new("L", (512, 512))
        mask.paste(255, (100, 100, 300, 300))
        settings = {"mask": encode(mask), "inpaint_full_res": False, "denoising_strength": 0.8, "steps": 4}
        mine = {"Depth2Img": {"args": [depth_map(left_right((512, 512)))]}}
        soft = {"Soft Inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}}
        without = picture_of(webui.img2img(photograph, **settings, alwayson_scripts=mine))
        with_it = picture_of(webui.img2img(photograph, **settings, alwayson_scripts=mine | soft))
        assert np.abs(with_it - without).max() > 2
        depth = channel(webui)
        assert (depth[:, :7] == -1).all()
        assert (depth[:, 9:] == 1).all()

    def test_a_lora(self, webui: WebUI, photograph: Image.Image) -> None:
        folder = webui.data / "models" / "Lora"
        folder.mkdir(exist_ok=True)
        save_lora(webui.data / "models" / "Stable-diffusion" / DEPTH, folder / "test.safetensors")
        assert webui.post("/sdapi/v1/refresh-loras").status_code == 200
        without = picture_of(webui.img2img(photograph))
        wanted = channel(webui)
        with_it = picture_of(webui.img2img(photograph, prompt="a house <lora:test:1>"))
        assert (channel(webui) == wanted).all()
        assert np.abs(with_it - without).max() > 2

    def test_loopback_estimates_each_picture(self, webui: WebUI, unseen: Image.Image) -> None:
        arguments = [2, 0.5, "Linear", "None"]
        reply = webui.img2img(unseen, script_name="loopback", script_args=arguments)
        assert reply.status_code == 200
        assert webui.records()["depth_inputs"] == 2

    def test_prompt_matrix(self, webui: WebUI, photograph: Image.Image) -> None:
        assert webui.img2img(photograph).status_code == 200
        wanted = channel(webui)
        settings = {"script_name": "prompt matrix", "script_args": [False, False, "positive", "comma", 0]}
        reply = webui.img2img(photograph, prompt="a|b", depth2img={"append_depth_map": True}, **settings)
        assert reply.status_code == 200
        assert len(reply.json()["images"]) == 3, "a grid and two pictures"
        assert (webui.records()["concat"] == wanted).all()

    def test_sd_upscale_gives_each_tile_its_part_of_the_map(self, webui: WebUI, photograph: Image.Image) -> None:
        """256x128 in tiles of 128: the last tile is the right half, in whose middle the map has its edge."""
        picture = photograph.resize((256, 128))
        fields = depth_map(left_right((256, 128), 0.75), append_depth_map=True)
        arguments = ["", 0, "None", 1.0]
        reply = webui.img2img(picture, depth2img=fields, script_name="sd upscale", script_args=arguments)
        assert reply.status_code == 200, reply.text
        assert len(reply.json()["images"]) == 1
        assert decode(reply.json()["images"][0]).size == (256, 128)
        depth = channel(webui)
        assert (depth[:, :7] == -1).all()
        assert (depth[:, 9:] == 1).all()

    @pytest.mark.parametrize(
        ("script", "arguments"),
        [
            ("poor man's outpainting", [64, 4, 1, ["left"]]),
            ("outpainting mk2", [None, 64, 4, ["left"], 1.0, 0.05]),
        ],
    )
    def test_outpainting(self, webui: WebUI, photograph: Image.Image, script: str, arguments: list[Any]) -> None:
        picture = photograph.resize((128, 128))
        settings = {"script_name": script, "script_args": arguments}
        reply = webui.img2img(picture, depth2img={"append_depth_map": True}, **settings)
        assert reply.status_code == 200, reply.text
        assert [decode(image).size for image in reply.json()["images"]] == [(192, 128)]
        refused = webui.img2img(picture, depth2img=depth_map(left_right((128, 128))), **settings)
        assert refused.status_code == 422
        assert "outpainting" in refused.json()["detail"].lower()

    def test_xyz_plot(self, webui: WebUI, photograph: Image.Image) -> None:
        axes = webui.state()["axes"]
        mine = [label for label in axes if "Depth2Img" in label]
        assert len(mine) == len(set(mine)) == sum(entry.axis for entry in FIELDS)
        arguments = [
            *(axes_index(webui, "[Depth2Img] Near"), "0.5,1", []),
            *(0, "", [], 0, "", []),
            *webui.plot_options,
        ]
        reply = webui.img2img(photograph, script_name="x/y/z plot", script_args=arguments)
        assert reply.status_code == 200, reply.text
        cells = [np.asarray(decode(image).convert("RGB")) for image in reply.json()["images"][1:]]
        assert len(cells) == 2
        assert (cells[0] != cells[1]).any()
        texts = json.loads(reply.json()["info"])["infotexts"][1:]
        assert ["Depth2Img near: 0.5" in text for text in texts] == [True, False]


def axes_index(webui: WebUI, label: str) -> int:
    """The axis's place among those of img2img (xyz_grid.py:388)."""
    labels: list[str] = webui.state()["img2img_axes"]
    return labels.index(label)


def save_lora(checkpoint: Path, path: Path) -> None:
    """One of rank 1 on every query of the UNet's attention, with the module names that the host has for them."""
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    with safe_open(checkpoint, "pt") as file:
        for key in file.keys():  # noqa: SIM118 - no mapping
            if key.startswith("model.diffusion_model.") and key.endswith("to_q.weight"):
                inside = key.removeprefix("model.diffusion_model.").removesuffix(".weight")
                name = f"lora_unet_{inside.replace('.', '_')}"
                rows, columns = file.get_slice(key).get_shape()
                tensors[f"{name}.lora_up.weight"] = torch.randn(rows, 1, generator=generator)
                tensors[f"{name}.lora_down.weight"] = torch.randn(1, columns, generator=generator)
    assert tensors
    save_file(tensors, path)
