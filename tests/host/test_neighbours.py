"""Beside ControlNet, ADetailer and the depthmap script, which bring an old timm, MiDaS of their own, and inner passes.

The WebUI runs in its data folder here, not in its own: the depthmap script looks for weights in ``./models/midas`` and
makes folders there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch
from PIL import Image
from safetensors.torch import save_file
from selenium.webdriver import Chrome

from tests.host.conftest import DEPTH, NO_MIDAS, Starter, depth_map, faults, left_right, picture_of
from tests.host.server import WebUI, decode, encode
from tests.host.test_load import estimated
from tests.webui.browser import Page

pytestmark = pytest.mark.neighbours

FACE = (150, 50, 300, 250)
"""(x1, y1, x2, y2): what ADetailer may change in the photograph, with its padding."""


@pytest.fixture(scope="module")
def shared_neighbours(start: Starter, root: Path) -> Iterator[WebUI]:
    folders = [Path(folder).absolute() for folder in os.environ["NEIGHBOURS"].split(os.pathsep)]
    webui = start("among", "--no-half", "--gradio-allowed-path", str(root), neighbours=folders, in_data=True)
    yield webui
    webui.stop()


@pytest.fixture
def neighbours(shared_neighbours: WebUI) -> Iterator[WebUI]:
    """The WebUI with all of them, the depth model loaded. Whatever is done with it, nothing of ours raises."""
    shared_neighbours.select(DEPTH)
    read = len(log_of(shared_neighbours))
    yield shared_neighbours
    assert faults(log_of(shared_neighbours)[read:]) == []


@pytest.fixture
def unchanged(neighbours: WebUI, photograph: Image.Image) -> Iterator[None]:
    """A generation after the test is given the same depth as one before."""
    wanted = conditioning(neighbours, photograph)
    yield
    assert np.array_equal(conditioning(neighbours, photograph), wanted)


def log_of(webui: WebUI) -> str:
    return webui.log.read_text(errors="replace")


def conditioning(webui: WebUI, picture: Image.Image, **fields: Any) -> np.ndarray:
    """(2, 1, 16, 16): what reached the UNet beside the latent."""
    reply = webui.img2img(picture, depth2img=fields)
    assert reply.status_code == 200, reply.text
    concat: np.ndarray = webui.records()["concat"]
    return concat


class TestTogether:
    def test_all_of_them_are_there(self, neighbours: WebUI) -> None:
        scripts = neighbours.get("/sdapi/v1/scripts").json()["img2img"]
        assert {"depth2img", "controlnet", "adetailer", "depthmap"} <= set(scripts), "NEIGHBOURS has to name all three"
        assert faults(log_of(neighbours)) == []

    def test_the_panel_on_the_page(self, neighbours: WebUI, driver: Chrome) -> None:
        page = Page(driver, neighbours.url, patience=120.0)
        page.open()
        assert len(page.all("#depth2img_panel")) == 1
        assert DEPTH in page.text("#depth2img_status")
        assert [text for text in page.complaints() if "depth2img" in text.lower()] == []

    def test_the_conditioning_is_as_without_them(
        self, neighbours: WebUI, webui: WebUI, photograph: Image.Image
    ) -> None:
        alone = picture_of(webui.img2img(photograph))
        together = picture_of(neighbours.img2img(photograph))
        assert np.abs(neighbours.records()["concat"] - webui.records()["concat"]).max() < 1e-4
        assert np.abs(together - alone).max() <= 1

    def test_an_estimator_from_the_models_folder(self, neighbours: WebUI, photograph: Image.Image) -> None:
        """Its file holds the very network of the checkpoint, so the depth has to be the same."""
        inside = conditioning(neighbours, photograph)
        assert np.abs(conditioning(neighbours, photograph, estimator="dpt_hybrid") - inside).max() < 1e-4

    def test_the_route_with_it(self, neighbours: WebUI, webui: WebUI, unseen: Image.Image) -> None:
        reply = neighbours.post("/depth2img/depth", image=encode(unseen), estimator="dpt_hybrid")
        assert reply.status_code == 200, reply.text
        found = np.asarray(decode(reply.json()["depth_map"])).astype(int)
        assert np.abs(found - estimated(webui, unseen)).max() < 700

    def test_a_checkpoint_without_midas(self, neighbours: WebUI, photograph: Image.Image) -> None:
        complete = conditioning(neighbours, photograph)
        neighbours.select(NO_MIDAS)
        assert np.abs(conditioning(neighbours, photograph) - complete).max() < 1e-4

    @pytest.mark.parametrize("checkpoint", [DEPTH, NO_MIDAS])
    def test_fp8_storage(self, neighbours: WebUI, webui: WebUI, unseen: Image.Image, checkpoint: str) -> None:
        expected = estimated(webui, unseen)
        neighbours.select(checkpoint)
        neighbours.post("/sdapi/v1/options", fp8_storage="Enable")
        try:
            assert "torch.float8_e4m3fn" in neighbours.state()["depth_dtypes"], "the host did not do what this is about"
            assert np.abs(estimated(neighbours, unseen) - expected).max() <= 1
            assert neighbours.state()["depth_dtypes"] == ["torch.float32"]
        finally:
            neighbours.post("/sdapi/v1/options", fp8_storage="Disable")


@pytest.fixture(scope="module")
def adapter(shared_neighbours: WebUI) -> str:
    """The name of a small T2I-Adapter with random weights, as wide as the test checkpoints' UNet.

    Of ControlNet's kinds of control it is one that a depth model can have: a ControlNet itself is handed all five
    channels and wants four (its hook.py:588-614), a reference unit hands four to a UNet of five (:780-791).
    """
    random = torch.Generator().manual_seed(0)
    tensors = {
        "conv_in.weight": torch.randn(32, 64, 3, 3, generator=random),
        "conv_in.bias": torch.zeros(32),
        "body.0.block2.weight": torch.randn(32, 32, 1, 1, generator=random),
    }
    save_file(tensors, shared_neighbours.data / "models" / "ControlNet" / "small.safetensors")
    names: list[str] = shared_neighbours.get("/controlnet/model_list").json()["model_list"]
    return next(name for name in names if name.startswith("small"))


@pytest.mark.usefixtures("unchanged")
class TestControlNet:
    def test_a_unit_and_depth_act_both(self, neighbours: WebUI, photograph: Image.Image, adapter: str) -> None:
        without = picture_of(neighbours.img2img(photograph))
        wanted = neighbours.records()["concat"]
        with_it = picture_of(neighbours.img2img(photograph, alwayson_scripts=controlled(adapter)))
        assert np.array_equal(neighbours.records()["concat"], wanted)
        assert np.abs(with_it - without).max() > 2, "the unit is not on"
        without_depth = controlled(adapter) | mine(depth_map(left_right((512, 512))))
        other = picture_of(neighbours.img2img(photograph, alwayson_scripts=without_depth))
        assert np.abs(other - with_it).max() > 2

    def test_both_maps_are_among_the_results(self, neighbours: WebUI, photograph: Image.Image, adapter: str) -> None:
        scripts = controlled(adapter) | mine({"append_depth_map": True})
        reply = neighbours.img2img(photograph, alwayson_scripts=scripts)
        assert reply.status_code == 200, reply.text
        pictures = [decode(image) for image in reply.json()["images"]]
        assert len(pictures) == 3
        assert sorted(picture.size for picture in pictures) == [(128, 128), (128, 128), (512, 512)]

    def test_after_a_unit_that_cannot_run(self, neighbours: WebUI, photograph: Image.Image) -> None:
        """ControlNet fails in the middle of the UNet and takes off its hooks at the next generation."""
        unit = {"enabled": True, "module": "reference_only", "model": "None"}
        reply = neighbours.img2img(photograph, alwayson_scripts={"ControlNet": {"args": [unit]}})
        assert reply.status_code == 500


def controlled(adapter: str) -> dict[str, Any]:
    unit = {"enabled": True, "module": "canny", "model": adapter, "processor_res": 128}
    return {"ControlNet": {"args": [unit]}}


def mine(fields: dict[str, Any]) -> dict[str, Any]:
    return {"Depth2Img": {"args": [fields]}}


@pytest.mark.usefixtures("unchanged")
class TestADetailer:
    """It finds the photograph's face, and paints it anew in a generation of its own, on the same depth model."""

    @pytest.mark.parametrize(
        "fields", [{}, {"enabled": False}, {"estimator": "dpt_hybrid"}], ids=["on", "off", "dpt_hybrid"]
    )
    def test_the_inner_pass(self, neighbours: WebUI, photograph: Image.Image, fields: dict[str, Any]) -> None:
        """ADetailer keeps our script out of it, so that the host's own code asks the depth stage."""
        reply = neighbours.img2img(photograph, alwayson_scripts=detailed() | mine(fields))
        assert_only_the_face_is_new(reply, photograph)
        records = neighbours.records()
        assert records["events"][-2:] == ["unet", "unet"]
        assert "estimated" in records["events"][records["events"].index("unet") :], "depth for the inner pass"
        assert records["concat"].shape == (2, 1, 16, 16)
        assert (records["concat"].min(), records["concat"].max()) == (-1, 1)

    def test_our_script_in_the_inner_pass(self, neighbours: WebUI, photograph: Image.Image) -> None:
        """With its setting "Apply only selected scripts" off. A given map counts there too: the face's part of it."""
        fields = depth_map(left_right((512, 512), 0.44), append_depth_map=True)
        neighbours.post("/sdapi/v1/options", ad_only_selected_scripts=False)
        try:
            reply = neighbours.img2img(photograph, alwayson_scripts=detailed() | mine(fields))
        finally:
            neighbours.post("/sdapi/v1/options", ad_only_selected_scripts=True)
        assert_only_the_face_is_new(reply, photograph)
        assert len(reply.json()["images"]) == 2
        depth = neighbours.records()["concat"][0, 0]
        assert (depth[:, 0] == -1).all()
        assert (depth[:, -1] == 1).all()
        assert neighbours.records()["depth_inputs"] == 0

    def test_the_map_among_the_results(self, neighbours: WebUI, photograph: Image.Image) -> None:
        """ADetailer calls ``postprocess`` once more in between, with results that are empty (!adetailer.py:906-909)."""
        reply = neighbours.img2img(photograph, alwayson_scripts=detailed() | mine({"append_depth_map": True}))
        assert_only_the_face_is_new(reply, photograph)
        picture, appended = (decode(image) for image in reply.json()["images"])
        assert appended.size == picture.size
        assert len(np.unique(np.asarray(appended))) > 1000

    @pytest.mark.parametrize("pictures", [True, False], ids=["beside the picture", "alone"])
    def test_the_map_is_saved_once(self, neighbours: WebUI, photograph: Image.Image, pictures: bool) -> None:
        folder = neighbours.data / "outputs" / "img2img-images"
        before = set(folder.rglob("*.png"))
        scripts = detailed() | mine({"save_depth_map": True})
        reply = neighbours.img2img(photograph, alwayson_scripts=scripts, save_images=pictures)
        assert_only_the_face_is_new(reply, photograph)
        saved = sorted(path.stem for path in set(folder.rglob("*.png")) - before)
        name = saved[0].removesuffix("-depth")
        assert saved == ([name, f"{name}-depth"] if pictures else [f"{name}-depth"])

    def test_a_batch(self, neighbours: WebUI, photograph: Image.Image) -> None:
        scripts = detailed() | mine({"append_depth_map": True})
        reply = neighbours.img2img(photograph, alwayson_scripts=scripts, batch_size=2)
        assert_only_the_face_is_new(reply, photograph)
        assert len(reply.json()["images"]) == 3


def detailed() -> dict[str, Any]:
    """With "skip img2img", so that the detector is given the photograph and not what a random model makes of it."""
    enabled, skip_img2img = True, True
    tab = {"ad_model": "mediapipe_face_short", "ad_denoising_strength": 1.0}
    return {"ADetailer": {"args": [enabled, skip_img2img, tab]}}


def assert_only_the_face_is_new(reply: requests.Response, photograph: Image.Image) -> None:
    change = np.abs(picture_of(reply) - np.asarray(photograph).astype(int)).max(axis=2)
    x1, y1, x2, y2 = FACE
    assert change[y1:y2, x1:x2].max() > 20, "no inner pass"
    change[y1:y2, x1:x2] = 0
    assert change.max() == 0


@pytest.mark.usefixtures("unchanged")
class TestDepthmapScript:
    def test_it_estimates_what_we_generated(self, neighbours: WebUI, photograph: Image.Image) -> None:
        """With the same MiDaS file. It hands its network blue for red (depthmap_generation.py: get_raw_prediction)."""
        size = {"width": 384, "height": 384}  # of the network, so that nobody resizes
        without = picture_of(neighbours.img2img(photograph, **size))
        wanted = neighbours.records()["concat"]
        reply = neighbours.img2img(photograph, **size, **estimating_afterwards(neighbours))
        assert np.array_equal(picture_of(reply), without)
        assert np.array_equal(neighbours.records()["concat"], wanted)
        _, theirs = (decode(image) for image in reply.json()["images"])
        ours = estimated(neighbours, Image.fromarray(without[:, :, ::-1].astype(np.uint8)))
        assert np.abs(np.asarray(theirs).astype(int) - ours).max() < 700


def estimating_afterwards(webui: WebUI) -> dict[str, Any]:
    """The depthmap script, chosen in the tab, with DPT-Hybrid. Its last argument lists the others' names."""
    scripts = webui.get("/sdapi/v1/script-info").json()
    script = next(each for each in scripts if each["name"] == "depthmap" and each["is_img2img"])
    *values, names = (argument["value"] for argument in script["args"])
    arguments = dict(zip(names.split(names[0])[1:], values, strict=True))
    wanted = {"model_type": 4, "net_width": 384, "net_height": 384, "compute_device": "CPU"}
    assert set(wanted) <= set(arguments)
    return {"script_name": "depthmap", "script_args": [*(arguments | wanted).values(), names]}


@pytest.mark.usefixtures("unchanged")
def test_all_of_them_at_once(neighbours: WebUI, photograph: Image.Image, adapter: str) -> None:
    scripts = controlled(adapter) | detailed() | mine({"append_depth_map": True, "estimator": "dpt_hybrid"})
    reply = neighbours.img2img(photograph, alwayson_scripts=scripts, **estimating_afterwards(neighbours))
    assert_only_the_face_is_new(reply, photograph)
