"""Loading in a real WebUI without a network: every checkpoint, every memory mode, back and forth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from tests.host.conftest import BROKEN, DEPTH, MIDAS, NO_MIDAS, PLAIN, Starter
from tests.host.server import WebUI, decode, encode

STAGE = "HostDepthStage"


@pytest.mark.not_on("Forge", "ReForge", "a checkpoint in its memory has no depth stage")
def test_a_depth_model_loads_with_its_own_weights(webui: WebUI, photograph: Image.Image) -> None:
    state = webui.state()
    assert state["depth_class"] == STAGE
    assert state["depth_dtypes"] == ["torch.float32"]
    assert webui.img2img(photograph).status_code == 200


@pytest.mark.not_on("WebUI", "a checkpoint in its memory has its depth stage with it")
def test_no_depth_network_stays_that_was_not_asked_to(webui: WebUI, unseen: Image.Image) -> None:
    """Neither ours nor an empty one of the host's."""
    webui.post("/sdapi/v1/options", depth2img_keep_loaded=False)
    try:
        assert webui.img2img(unseen).status_code == 200
        assert webui.records()["depth_inputs"] == 1
        assert webui.state()["depth_networks"] == 0
    finally:
        webui.post("/sdapi/v1/options", depth2img_keep_loaded=True)


def test_without_midas_inside_the_models_folder_is_used(webui: WebUI, photograph: Image.Image) -> None:
    """The file there is the very network of the complete checkpoint, so the depth has to be the same."""
    assert webui.img2img(photograph).status_code == 200
    complete = webui.records()["concat"]
    webui.select(NO_MIDAS)
    assert webui.img2img(photograph).status_code == 200
    assert np.abs(webui.records()["concat"] - complete).max() < 1e-4


def test_without_any_midas_one_sentence_names_the_command(webui: WebUI, unseen: Image.Image) -> None:
    weights = webui.data / "models" / "midas" / MIDAS
    aside = weights.with_suffix(".aside")
    webui.select(PLAIN)
    webui.select(NO_MIDAS)
    weights.rename(aside)
    try:
        reply = webui.img2img(unseen)
        assert reply.status_code == 422
        assert "python -m lib_depth2img install --estimator dpt_hybrid" in reply.json()["detail"]
        assert reply.json()["detail"].count("\n") == 0
    finally:
        aside.rename(weights)
    assert webui.img2img(unseen).status_code == 200


def test_back_and_forth_keeps_memory_level(webui: WebUI, bare: WebUI, photograph: Image.Image) -> None:
    def round_trip(host: WebUI) -> dict[str, Any]:
        for checkpoint in (PLAIN, DEPTH):
            host.select(checkpoint)
            reply = host.img2img(photograph)
            assert reply.status_code == 200 or host is bare, reply.text
        return host.state()

    # reForge itself holds on to the model before the last one.
    kept = max(round_trip(bare)["models"] for _ in range(3))
    states = [round_trip(webui) for _ in range(6)]
    assert max(state["models"] for state in states) <= kept
    sizes = [state["rss"] for state in states]
    # One depth stage is 490 MB, and the allocator's own drift is far below that.
    assert max(sizes[1:]) - sizes[0] < 250e6, [f"{size / 1e6:.0f} MB" for size in sizes]


def test_unload_and_reload(webui: WebUI, photograph: Image.Image) -> None:
    assert webui.post("/sdapi/v1/unload-checkpoint").status_code == 200
    assert webui.post("/sdapi/v1/reload-checkpoint").status_code == 200
    assert webui.img2img(photograph).status_code == 200


def test_a_preview_after_unload_and_no_memory_of_it_after(webui: WebUI, unseen: Image.Image) -> None:
    assert webui.post("/sdapi/v1/unload-checkpoint").status_code == 200
    assert estimated(webui, unseen).std() > 0
    assert webui.post("/sdapi/v1/reload-checkpoint").status_code == 200
    assert webui.img2img(unseen).status_code == 200


@pytest.mark.not_on("Forge", "ReForge", "a checkpoint in its memory has no depth stage")
def test_the_loaded_checkpoints_file_may_go(webui: WebUI, photograph: Image.Image, unseen: Image.Image) -> None:
    """A network drive that is gone; what was estimated before is known, and what was not is estimated."""
    file = webui.data / "models" / "Stable-diffusion" / DEPTH
    assert webui.img2img(photograph).status_code == 200
    wanted = webui.records()["concat"]
    file.rename(file.with_suffix(".aside"))
    try:
        for picture in (photograph, unseen):
            assert webui.img2img(picture).status_code == 200
        assert webui.img2img(photograph).status_code == 200
        assert np.array_equal(webui.records()["concat"], wanted)
    finally:
        file.with_suffix(".aside").rename(file)


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        (("--no-half", "--medvram"), {}),
        (("--no-half", "--lowvram"), {}),
        (("--no-half", "--disable-model-loading-ram-optimization"), {}),
        (("--no-half",), {"sd_checkpoints_limit": 2, "sd_checkpoints_keep_in_cpu": True}),
    ],
    ids=["medvram", "lowvram", "no meta", "two models"],
)
@pytest.mark.not_on("Forge", "ReForge", "it has other flags and settings for memory and precision")
def test_memory_modes(
    start: Starter, webui: WebUI, photograph: Image.Image, flags: tuple[str, ...], settings: dict[str, object]
) -> None:
    assert webui.img2img(photograph).status_code == 200
    wanted = webui.records()["concat"]
    other = start("mode", *flags, settings=settings)
    for checkpoint in (DEPTH, PLAIN, DEPTH, NO_MIDAS):
        other.select(checkpoint)
        reply = other.img2img(photograph)
        assert reply.status_code == 200, reply.text
        if checkpoint != PLAIN:
            assert np.abs(other.records()["concat"] - wanted).max() < 1e-4, checkpoint
    other.stop()
    assert not other.network_log.exists(), other.network_log.read_text()


HALF = {
    "half": (),
    "half, medvram": ("--medvram",),
    "half, lowvram": ("--lowvram",),
    "precision half": ("--precision", "half"),
    "precision half, medvram": ("--precision", "half", "--medvram"),
    "precision half, lowvram": ("--precision", "half", "--lowvram"),
    "upcast sampling": ("--upcast-sampling",),
    "upcast sampling, medvram": ("--upcast-sampling", "--medvram"),
    "upcast sampling, lowvram": ("--upcast-sampling", "--lowvram"),
}


@pytest.mark.half_precision
@pytest.mark.parametrize("flags", HALF.values(), ids=HALF)
@pytest.mark.not_on("Forge", "ReForge", "it has other flags and settings for memory and precision")
def test_half_precision(start: Starter, shared_webui: WebUI, photograph: Image.Image, flags: tuple[str, ...]) -> None:
    """With the packaged model, since a CPU takes minutes for one pass of MiDaS in half precision."""
    shared_webui.bring(SMALL_CHECKPOINT)
    expected, picture = generated(shared_webui, photograph)
    other = start("half", *flags)
    for checkpoint in (SMALL_CHECKPOINT, other.data / PLAIN, SMALL_CHECKPOINT):
        other.bring(checkpoint)
        concat, result = generated(other, photograph)
        if checkpoint == SMALL_CHECKPOINT:
            if "--upcast-sampling" not in flags:  # where the stage keeps float32 or not, as it was loaded
                assert other.state()["depth_dtypes"] == ["torch.float16"]
            assert np.abs(concat - expected).max() < 0.01
            assert np.abs(result - picture).mean() < 2
    other.stop()


@pytest.mark.half_precision
@pytest.mark.not_on("Forge", "ReForge", "it has other flags and settings for memory and precision")
def test_midas_in_half_precision(start: Starter, webui: WebUI, photograph: Image.Image) -> None:
    expected, _picture = generated(webui, photograph)
    other = start("half midas", "--precision", "half")
    for checkpoint in (DEPTH, NO_MIDAS):
        other.select(checkpoint)
        assert np.abs(generated(other, photograph)[0] - expected).max() < 0.01, checkpoint
    other.stop()


def generated(webui: WebUI, picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """What reached the UNet beside the latent, and the picture (H, W, 3)."""
    reply = webui.img2img(picture)
    assert reply.status_code == 200, reply.text
    pixels = np.asarray(decode(reply.json()["images"][0]).convert("RGB"), np.float32)
    return webui.records()["concat"], pixels


@pytest.mark.parametrize("flag", ["--medvram", "--lowvram"])
@pytest.mark.not_on("Forge", "ReForge", "a checkpoint in its memory has no depth stage")
def test_the_stage_is_on_the_gpu_for_its_pass_only(start: Starter, photograph: Image.Image, flag: str) -> None:
    """Told by what lowvram.py asks for, as there is one device here: in before the pass, away before the UNet's."""
    other = start("moves", "--no-half", flag)
    assert other.img2img(photograph).status_code == 200
    events = other.records()["events"]
    assert events[:3] == ["brought in", "estimated in place", "sent away"], events
    assert set(events[3:]) == {"unet"}, events
    assert other.img2img(photograph).status_code == 200
    assert set(other.records()["events"]) == {"unet"}, "a depth map from the cache moves nothing"
    other.stop()


@pytest.mark.not_on("Forge", "ReForge", "a checkpoint in its memory has no depth stage")
def test_fp8_storage(start: Starter, webui: WebUI, photograph: Image.Image) -> None:
    """The host rounds every Conv2d and Linear to eight bits (sd_models.py:502-512); the estimate is as without."""
    expected = estimated(webui, photograph)
    other = start("fp8", "--no-half", settings={"fp8_storage": "Enable"})
    for checkpoint in (DEPTH, NO_MIDAS):
        other.select(checkpoint)
        assert "torch.float8_e4m3fn" in other.state()["depth_dtypes"], "the host did not do what this is about"
        assert np.abs(estimated(other, photograph) - expected).max() <= 1, checkpoint
        assert other.state()["depth_dtypes"] == ["torch.float32"]
    other.stop()


def estimated(webui: WebUI, picture: Image.Image) -> np.ndarray:
    """The depth map by the checkpoint's own estimator, (H, W) in the steps of the PNG."""
    reply = webui.post("/depth2img/depth", image=encode(picture), estimator="checkpoint")
    assert reply.status_code == 200, reply.text
    return np.asarray(decode(reply.json()["depth_map"]), np.int64)


def test_a_broken_checkpoint_among_the_others(webui: WebUI, photograph: Image.Image) -> None:
    """It lay there when the WebUI started; somebody chooses it, and goes back."""
    webui.post("/sdapi/v1/options", sd_model_checkpoint=BROKEN)
    webui.select(DEPTH)
    assert webui.img2img(photograph).status_code == 200
    assert webui.records()["concat"].std() > 0.1


def test_nobody_asked_the_network(webui: WebUI) -> None:
    assert not webui.network_log.exists(), webui.network_log.read_text()
