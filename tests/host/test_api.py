"""The API of a real WebUI: the host's own routes with this extension behind them, and this extension's."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webuiapi
from PIL import Image

from tests.host.conftest import DEPTH, NO_MIDAS, PLAIN, Starter, infotexts, left_right
from tests.host.server import WebUI, decode, encode

pytestmark = pytest.mark.usefixtures("webui")


@pytest.fixture
def no_grids_left(webui: WebUI) -> Iterator[None]:
    """Other tests look at what grids there are. (``grid_save`` as an override would stay: processing.py:823.)"""
    yield
    shutil.rmtree(webui.data / "outputs" / "img2img-grids", ignore_errors=True)


def oversized_png() -> str:
    """A small file whose header promises 100000x100000 pixels."""
    import base64

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 16, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


class TestImg2Img:
    def test_just_works_and_returns_one_picture(self, webui: WebUI, photograph: Image.Image) -> None:
        reply = webui.img2img(photograph)
        assert reply.status_code == 200
        assert len(reply.json()["images"]) == 1
        assert "Depth2Img" not in infotexts(reply.json())[0]
        assert webui.records()["concat"].shape == (2, 1, 16, 16)

    def test_the_depth_map_comes_last_with_sixteen_bits(self, webui: WebUI, photograph: Image.Image) -> None:
        reply = webui.img2img(photograph, depth2img={"append_depth_map": True}, batch_size=2).json()
        assert len(reply["images"]) == len(infotexts(reply)) == 3  # two pictures, one map for both
        values = np.asarray(decode(reply["images"][-1]))
        assert values.shape == (512, 512)
        assert len(np.unique(values)) > 1000

    def test_what_comes_back_can_be_sent_again(self, webui: WebUI, photograph: Image.Image) -> None:
        first = webui.img2img(photograph, depth2img={"append_depth_map": True, "gamma": 2.0})
        estimated = webui.records()["concat"]
        returned = {"source": "depth_map", "image": first.json()["images"][-1]}
        assert webui.img2img(photograph, depth2img=returned).status_code == 200
        assert np.abs(webui.records()["concat"] - estimated).max() < 0.05

    def test_positional_arguments(self, webui: WebUI, photograph: Image.Image) -> None:
        arguments = [True, "init_image", None, "checkpoint", 0.1, 0.8]
        body = {"alwayson_scripts": {"depth2img": {"args": arguments}}}
        text = infotexts(webui.img2img(photograph, **body).json())[0]
        assert "Depth2Img far: 0.1" in text
        assert "Depth2Img near: 0.8" in text

    def test_the_infotext_has_what_is_not_default(self, webui: WebUI, photograph: Image.Image) -> None:
        fields = {"source": "depth_map", "image": encode(left_right((64, 64))), "invert": True, "blur": 1.5}
        text = infotexts(webui.img2img(photograph, depth2img=fields).json())[0]
        for expected in (
            "Depth2Img source: depth_map",
            "Depth2Img invert: True",
            "Depth2Img blur: 1.5",
            "image hash: ",
        ):
            assert expected in text
        assert "gamma" not in text

    @pytest.mark.not_on("Forge", "without this extension it hands nine channels to a UNet of five")
    @pytest.mark.not_on("ReForge", "no weight reaches its own depth stage, so it is given depth by ours")
    def test_disabled_is_the_bare_host(self, webui: WebUI, photograph: Image.Image) -> None:
        assert webui.img2img(photograph, depth2img={"enabled": False}).status_code == 200
        assert webui.records()["vae_encodes"] == 2

    @pytest.mark.usefixtures("no_grids_left")
    def test_the_map_is_saved_beside_the_picture(self, webui: WebUI, photograph: Image.Image) -> None:
        fields = {"save_depth_map": True}
        assert webui.img2img(photograph, depth2img=fields, save_images=True, batch_size=2).status_code == 200
        saved = sorted((webui.data / "outputs" / "img2img-images").rglob("*-depth.png"))
        assert len(saved) >= 2
        newest = saved[-1]
        assert Path(str(newest).replace("-depth", "")).is_file()
        assert np.asarray(Image.open(newest)).max() > 50000

    @pytest.mark.parametrize(
        "settings", [{"save_images": False}, {"save_images": True, "override_settings": {"samples_save": False}}]
    )
    def test_a_map_asked_for_is_saved_also_where_pictures_are_not(
        self, webui: WebUI, photograph: Image.Image, settings: dict[str, Any]
    ) -> None:
        folder = webui.data / "outputs" / "img2img-images"
        before = set(folder.rglob("*.png"))
        reply = webui.img2img(photograph, depth2img={"save_depth_map": True}, batch_size=2, **settings)
        assert reply.status_code == 200
        (saved,) = set(folder.rglob("*.png")) - before
        assert saved.name.endswith("-depth.png")
        with Image.open(saved) as image:
            assert np.asarray(image).max() > 50000
            assert "Depth2Img save depth map: True" in image.info["parameters"]

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"nerf": 1}, "nerf"),
            ({"near": 2}, "near"),
            ({"gamma": "much"}, "gamma"),
            ({"invert": 1}, "invert"),
            ({"far": 0.6, "near": 0.5}, "near"),
            ({"source": "somewhere"}, "source"),
            ({"source": "depth_map"}, "image"),
            ({"source": "depth_map", "image": "bm90IGEgcGljdHVyZQ=="}, "image"),
            ({"source": "image", "image": "/etc/passwd"}, "image"),
            ({"source": "depth_map", "image": oversized_png()}, "image"),
            ({"estimator": "dpt_huge"}, "estimator"),
            ({"estimator": "dpt_large"}, "dpt_large"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_refusals(self, webui: WebUI, photograph: Image.Image, fields: dict[str, Any], said: str) -> None:
        reply = webui.img2img(photograph, depth2img=fields)
        assert reply.status_code == 422, reply.text
        assert said in reply.json()["detail"]
        assert reply.json()["error"].endswith("Error")
        assert webui.records()["unet_calls"] == 0

    def test_a_refusal_leaves_the_next_call_alone(self, webui: WebUI, photograph: Image.Image) -> None:
        assert webui.img2img(photograph, depth2img={"near": 2}).status_code == 422
        assert webui.img2img(photograph).status_code == 200


class TestOtherModels:
    @pytest.fixture(autouse=True)
    def plain(self, webui: WebUI) -> None:
        webui.select(PLAIN)

    def test_the_extension_has_no_effect(self, webui: WebUI, bare: WebUI, photograph: Image.Image) -> None:
        bare.select(PLAIN)
        ours, theirs = webui.img2img(photograph).json(), bare.img2img(photograph).json()
        pictures = [np.asarray(decode(reply["images"][0])).astype(int) for reply in (ours, theirs)]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1
        assert infotexts(ours) == infotexts(theirs)

    def test_txt2img_works(self, webui: WebUI) -> None:
        assert webui.post("/sdapi/v1/txt2img", prompt="a", steps=1, width=64, height=64).status_code == 200

    def test_a_depth_source_is_refused(self, webui: WebUI, photograph: Image.Image) -> None:
        reply = webui.img2img(photograph, depth2img={"source": "depth_map", "image": encode(left_right((64, 64)))})
        assert reply.status_code == 422
        assert "source" in reply.json()["detail"]

    def test_a_depth_refiner_is_refused(self, webui: WebUI, photograph: Image.Image) -> None:
        reply = webui.img2img(photograph, refiner_checkpoint=DEPTH, refiner_switch_at=0.5, steps=4)
        assert reply.status_code == 422
        assert DEPTH in reply.json()["detail"]

    @pytest.mark.parametrize(
        "settings",
        [
            {"override_settings": {"sd_model_checkpoint": DEPTH}},
            {"override_settings": {"sd_model_checkpoint": NO_MIDAS}},
            {"refiner_checkpoint": DEPTH, "refiner_switch_at": 0.5, "steps": 4},
            {"enable_hr": True, "hr_checkpoint_name": DEPTH, "denoising_strength": 0.7, "hr_upscaler": "Latent"},
        ],
        ids=["override_settings", "without midas", "refiner", "hires"],
    )
    def test_no_back_door_into_txt2img(self, webui: WebUI, settings: dict[str, Any]) -> None:
        webui.post("/probe/reset")
        reply = webui.post("/sdapi/v1/txt2img", **({"prompt": "a", "steps": 1, "width": 64, "height": 64} | settings))
        assert reply.status_code == 422, reply.text
        assert "depth model" in reply.json()["detail"]
        assert webui.records()["unet_calls"] == 0


class TestTxt2Img:
    def test_one_plain_sentence_before_any_sampling(self, webui: WebUI) -> None:
        webui.post("/probe/reset")
        reply = webui.post("/sdapi/v1/txt2img", prompt="a", steps=1, width=64, height=64)
        assert reply.status_code == 422
        assert reply.json()["error"] == "RequestError"
        assert "img2img" in reply.json()["detail"]
        assert webui.records()["unet_calls"] == 0

    def test_xyz_plot_over_checkpoints_makes_the_others(self, webui: WebUI) -> None:
        labels = webui.state()["txt2img_axes"]
        arguments = [
            *(labels.index("Checkpoint name"), "", [PLAIN, DEPTH]),
            *(0, "", [], 0, "", []),
            *webui.plot_options,
        ]
        body = {"prompt": "a", "steps": 1, "width": 64, "height": 64}
        reply = webui.post("/sdapi/v1/txt2img", **body, script_name="x/y/z plot", script_args=arguments)
        assert reply.status_code == 200, reply.text
        webui.select(DEPTH)
        refused = webui.post("/sdapi/v1/txt2img", **body)
        assert refused.status_code == 422

    @pytest.mark.parametrize(
        ("loaded", "script", "arguments"),
        [
            (DEPTH, "prompt matrix", [False, False, "positive", "comma", 0]),
            (PLAIN, "prompts from file or textbox", [False, False, "start", f"--sd_model {DEPTH} --prompt tree"]),
        ],
        ids=["prompt matrix", "a checkpoint named in a list of prompts"],
    )
    def test_no_script_comes_round_it(self, webui: WebUI, loaded: str, script: str, arguments: list[Any]) -> None:
        webui.select(loaded)
        webui.post("/probe/reset")
        body = {"prompt": "a|b", "steps": 1, "width": 64, "height": 64}
        reply = webui.post("/sdapi/v1/txt2img", **body, script_name=script, script_args=arguments)
        assert reply.status_code == 422, reply.text
        assert "is a depth model" in reply.json()["detail"]
        assert webui.records()["unet_calls"] == 0


class TestOwnRoutes:
    def test_status(self, webui: WebUI) -> None:
        status = webui.get("/depth2img/status").json()
        assert status["checkpoint"] == DEPTH
        assert status["is_depth_model"] is True
        assert status["pair_installed"] is False
        ready = {entry["name"]: entry["ready"] for entry in status["estimators"]}
        assert ready["checkpoint"]
        assert ready["dpt_hybrid"]
        assert not ready["dpt_large"]

    def test_depth(self, webui: WebUI, photograph: Image.Image) -> None:
        picture = photograph.resize((300, 200))
        reply = webui.post("/depth2img/depth", image=encode(picture), estimator="dpt_hybrid", invert=True).json()
        assert (reply["width"], reply["height"], reply["estimator"]) == (300, 200, "dpt_hybrid")
        inverted = np.asarray(decode(reply["depth_map"])).astype(int)
        assert inverted.shape == (200, 300)
        plain = webui.post("/depth2img/depth", image=encode(picture), estimator="checkpoint").json()
        assert np.abs(65535 - inverted - np.asarray(decode(plain["depth_map"])).astype(int)).max() < 700

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"image": "bm90IGEgcGljdHVyZQ=="}, "image"),
            ({"image": oversized_png()}, "image"),
            ({"image": encode(left_right((8, 8))), "estimator": "midas_v21"}, "midas_v21"),
            ({"image": encode(left_right((8, 8))), "far": 2}, "far"),
            ({"image": encode(left_right((8, 8))), "fra": 0}, "fra"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_refusals(self, webui: WebUI, body: dict[str, Any], said: str) -> None:
        reply = webui.post("/depth2img/depth", **body)
        assert reply.status_code == 422, reply.text
        assert said in reply.json()["detail"]

    def test_documented(self, webui: WebUI) -> None:
        paths = webui.get("/openapi.json").json()["paths"]
        assert "get" in paths["/depth2img/status"]
        assert "post" in paths["/depth2img/depth"]
        assert webui.get("/docs").status_code == 200

    def test_the_checkpoints_estimator_needs_a_depth_model(self, webui: WebUI, photograph: Image.Image) -> None:
        webui.select(PLAIN)
        assert webui.get("/depth2img/status").json()["is_depth_model"] is False
        reply = webui.post("/depth2img/depth", image=encode(photograph))
        assert reply.status_code == 422
        assert "dpt_hybrid" in reply.json()["detail"]
        assert webui.post("/depth2img/depth", image=encode(photograph), estimator="dpt_hybrid").status_code == 200


def test_the_extras_routes_are_left_alone(webui: WebUI, photograph: Image.Image) -> None:
    """They hand scripts no arguments (postprocessing.py:140), so the depth map is off there."""
    pictures = [photograph.resize((64, 64)), photograph.resize((96, 64))]
    images = [{"data": encode(picture), "name": f"{picture.width}.png"} for picture in pictures]
    reply = webui.post("/sdapi/v1/extra-batch-images", imageList=images, upscaling_resize=1)
    assert reply.status_code == 200, reply.text
    for image, picture in zip(reply.json()["images"], pictures, strict=True):
        assert (np.asarray(decode(image).convert("RGB")) == np.asarray(picture)).all()


def test_concurrent_calls_queue(webui: WebUI, photograph: Image.Image) -> None:
    maps = [left_right((128, 128), edge) for edge in (0.25, 0.5, 0.75)]

    def generate(image: Image.Image) -> np.ndarray:
        reply = webui.img2img(photograph, depth2img={"source": "depth_map", "image": encode(image)})
        assert reply.status_code == 200
        return np.asarray(decode(reply.json()["images"][0])).astype(int)

    def estimate(size: int) -> np.ndarray:
        reply = webui.post("/depth2img/depth", image=encode(photograph.resize((size, size))))
        assert reply.status_code == 200
        return np.asarray(decode(reply.json()["depth_map"])).astype(int)

    serial = [*map(generate, maps), *map(estimate, (200, 210))]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = [*pool.map(generate, maps), *pool.map(estimate, (200, 210))]
    assert all(np.abs(one - other).max() <= 1 for one, other in zip(serial, together, strict=True))
    assert np.abs(serial[0] - serial[1]).max() > 2


def test_webuiapi_unmodified(webui: WebUI, photograph: Image.Image) -> None:
    api = webuiapi.WebUIApi(host="127.0.0.1", port=webui.port)
    settings = {"images": [photograph], "steps": 2, "width": 128, "height": 128, "seed": 1, "sampler_name": "Euler"}
    assert len(api.img2img(**settings).images) == 1
    scripts = {"Depth2Img": {"args": [{"append_depth_map": True}]}}
    result = api.img2img(**settings, alwayson_scripts=scripts)
    assert len(result.images) == 2
    assert result.images[1].size == (512, 512)
    with pytest.raises(RuntimeError, match="422"):
        api.txt2img(prompt="a", steps=1)


def test_same_credentials_as_the_hosts_api(start: Starter, photograph: Image.Image) -> None:
    webui = start("credentials", "--no-half", "--nowebui", "--api-auth", "ada:one,bob:two")
    for path in ("/sdapi/v1/options", "/depth2img/status"):
        assert webui.get(path).status_code == 401
        assert webui.get(path, auth=("ada", "two")).status_code == 401
        assert webui.get(path, auth=("eve", "one")).status_code == 401
        assert webui.get(path, auth=("bob", "two")).status_code == 200
    assert webui.post("/depth2img/depth", image=encode(photograph)).status_code == 401
    webui.stop()


@pytest.mark.usefixtures("no_grids_left")
def test_the_json_reply_is_whole(webui: WebUI, photograph: Image.Image) -> None:
    """Grid, pictures and map stay aligned with their texts, as a client expects that indexes them."""
    reply = webui.img2img(photograph, depth2img={"append_depth_map": True}, n_iter=2, save_images=True).json()
    info = json.loads(reply["info"])
    assert info["index_of_first_image"] == 1
    assert len(info["infotexts"]) == len(reply["images"]) == 4
