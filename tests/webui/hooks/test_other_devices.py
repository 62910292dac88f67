"""The host computes on a device that is not here: every road of the depth stage there, back, and out of memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lib_depth2img.errors import EstimatorError
from lib_depth2img.estimators.presets import PRESETS
from lib_depth2img.request.request import Depth2ImgRequest
from lib_depth2img.webui.depth_stage import HostDepthStage
from lib_depth2img.webui.estimators import CHECKPOINT, Estimators
from lib_depth2img.webui.hooks import override
from tests.pretend import left_on, pretended
from tests.webui.hooks.conftest import img2img
from tests.webui.hooks.stand_in import Host

PRESET, FILE = "midas_v21_small", "midas_v21_small-70d6b9c8.pt"
CUDA = torch.device("cuda", 0)
MACHINES = [("cuda", torch.float16), ("mps", torch.float32), ("privateuseone", torch.float16)]
"""The host's device with what it loads the depth stage in; on Macs it is kept in float32 (sd_models.py:479-489)."""


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """With a last layer that gives nearness of several units, none of them zero."""
    torch.manual_seed(0)
    network = PRESETS[PRESET].build().eval()
    with torch.no_grad():
        network.scratch.output_conv[4].weight.mul_(20)
        network.scratch.output_conv[4].bias.fill_(8)
    return network.state_dict()


@pytest.fixture
def stage(host: Host, weights: dict[str, torch.Tensor]) -> Iterator[HostDepthStage]:
    """The loaded checkpoint's depth stage, on the CPU in float32."""
    loaded = HostDepthStage(PRESET)
    loaded.load_state_dict({f"model.{name}": tensor for name, tensor in weights.items()})
    usual, host.model.depth_model = host.model.depth_model, loaded
    with pretended():
        yield loaded
    host.model.depth_model = usual


@pytest.fixture
def midas_file(host: Host, weights: dict[str, torch.Tensor]) -> Path:
    path = host.folder / "models" / "midas" / FILE
    path.parent.mkdir(parents=True)
    torch.save(weights, path)
    return path


@pytest.fixture
def picture() -> Image.Image:
    random = np.random.default_rng(3)
    return Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize((96, 64), Image.Resampling.BICUBIC)


def values(picture: Image.Image, name: str = CHECKPOINT) -> np.ndarray:
    """Estimated now, by nobody's cache."""
    return Estimators().estimate([picture], name)[0].values


def devices_of(stage: nn.Module) -> set[str]:
    return {tensor.device.type for tensor in (*stage.parameters(), *stage.buffers())}


def agree(got: np.ndarray, expected: np.ndarray, dtype: torch.dtype) -> None:
    span = float(np.ptp(expected))
    assert span > 0.1, "a flat map would agree with anything"
    assert np.abs(got - expected).max() <= (1e-5 if dtype == torch.float32 else 0.05) * span


@pytest.mark.parametrize(("device", "dtype"), MACHINES)
class TestTheCheckpointsOwn:
    def test_where_it_was_loaded(
        self, host: Host, stage: HostDepthStage, picture: Image.Image, device: str, dtype: torch.dtype
    ) -> None:
        expected = values(picture)
        host.modules.devices.device = torch.device(device)
        stage.to(device, dtype)
        agree(values(picture), expected, dtype)
        assert devices_of(stage) == {device}

    def test_after_unload_checkpoint(
        self, host: Host, stage: HostDepthStage, picture: Image.Image, device: str, dtype: torch.dtype
    ) -> None:
        """sd_models.py:1005 sends the model to the CPU, which computes nothing in half, and leaves it loaded."""
        expected = values(picture)
        host.modules.devices.device = torch.device(device)
        stage.to(device, dtype).to("cpu")
        agree(values(picture), expected, dtype)
        assert devices_of(stage) == {"cpu"}
        assert left_on(device) == []

    def test_after_unload_checkpoint_and_a_failure(
        self, host: Host, stage: HostDepthStage, picture: Image.Image, device: str, dtype: torch.dtype
    ) -> None:
        host.modules.devices.device = torch.device(device)
        stage.to(dtype)
        said = f"{device.upper()} out of memory"

        def full(*_: Any) -> None:
            raise RuntimeError(said)

        handle = stage.register_forward_pre_hook(full)
        with pytest.raises(EstimatorError, match="Not enough memory is left"):
            values(picture)
        handle.remove()
        assert devices_of(stage) == {"cpu"}

    def test_under_medvram(
        self, host: Host, stage: HostDepthStage, picture: Image.Image, device: str, dtype: torch.dtype,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """The host's hook brings the stage in, and keeps books of what is there (lowvram.py:47-66)."""
        expected = values(picture)
        host.modules.devices.device = torch.device(device)
        stage.to(dtype)
        monkeypatch.setattr(host.model, "lowvram", True, raising=False)
        books: dict[str, nn.Module | None] = {"module_in_gpu": None}

        def send_me_to_gpu(module: nn.Module, _: Any = None) -> None:
            if books["module_in_gpu"] is module:
                return
            if books["module_in_gpu"] is not None:
                books["module_in_gpu"].to("cpu")
            module.to(device)
            books["module_in_gpu"] = module

        stage.register_forward_pre_hook(send_me_to_gpu)
        agree(values(picture), expected, dtype)
        assert devices_of(stage) == {device}, "the books say that it is there"
        agree(values(picture), expected, dtype)  # a second time without a move
        send_me_to_gpu(nn.Linear(1, 1))
        assert devices_of(stage) == {"cpu"}
        assert all(shape in ((1, 1), (1,)) for shape in left_on(device))
        agree(values(picture), expected, dtype)

    @pytest.mark.parametrize("source", ["init_image", "image", "depth_map"])
    def test_the_channel_comes_to_the_latent(
        self, host: Host, stage: HostDepthStage, picture: Image.Image, device: str, dtype: torch.dtype, source: str
    ) -> None:
        host.modules.devices.device = torch.device(device)
        stage.to(device, dtype)
        p = img2img(host, picture, width=96, height=64)
        p.init_latent = torch.ones(1, 4, 8, 12, device=device, dtype=dtype)
        fields = {"source": source, "from_noise": True} | ({} if source == "init_image" else {"image": picture})
        if source == "depth_map":
            fields["image"] = picture.convert("L")
        override.bind(p, Depth2ImgRequest.from_mapping(fields))
        found = p.img2img_image_conditioning(None, p.init_latent)
        assert (found.device, found.dtype, tuple(found.shape)) == (p.init_latent.device, torch.float32, (1, 1, 8, 12))
        assert p.init_latent.device.type == device
        assert not p.init_latent.cpu().any()

    def test_the_bare_hosts_call(
        self, host: Host, stage: HostDepthStage, device: str, dtype: torch.dtype, picture: Image.Image
    ) -> None:
        """processing.py:304-315: what it gets from the stage goes on in float32, and stays where it is."""
        host.modules.devices.device = torch.device(device)
        stage.to(device, dtype)
        nearness = stage(torch.zeros(1, 3, 64, 96, device=device))
        assert (nearness.device.type, nearness.dtype) == (device, torch.float32)


@pytest.mark.parametrize(("device", "dtype"), MACHINES)
class TestWeightsThatDidNotComeWithTheCheckpoint:
    """The stage takes them from a file at first use, to where it lies and to what it was loaded in."""

    def test_from_the_models_folder(
        self, host: Host, midas_file: Path, stage: HostDepthStage, picture: Image.Image, device: str, dtype: torch.dtype
    ) -> None:
        expected = values(picture)
        bare = host.model.depth_model = HostDepthStage(PRESET)  # the fixture puts the usual one back
        host.modules.devices.device = torch.device(device)
        bare.to(device, dtype)
        agree(values(picture), expected, dtype)
        assert devices_of(bare) == {device}
        assert {each.dtype for each in bare.parameters()} == {dtype}

    def test_after_fp8_storage(
        self, host: Host, midas_file: Path, stage: HostDepthStage, picture: Image.Image, device: str, dtype: torch.dtype
    ) -> None:
        """sd_models.py:502-512; the first parameter that was left alone says what the rest was loaded in."""
        expected = values(picture)
        bare = host.model.depth_model = HostDepthStage(PRESET)
        host.modules.devices.device = torch.device(device)
        bare.to(device, dtype)
        for module in bare.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(torch.float8_e4m3fn)
        agree(values(picture), expected, dtype)
        assert {each.dtype for each in bare.parameters()} == {dtype}


class TestUnderAutocast:
    """``HostDepthStage.forward`` is what the bare host calls, and ADetailer's inner pass, under the host's autocast."""

    def test_the_stage_computes_as_without(self, stage: HostDepthStage) -> None:
        x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
        plain = stage(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(stage(x), plain)

    def test_what_is_meant_for_float32_is_computed_so(self, stage: HostDepthStage) -> None:
        seen: dict[str, torch.dtype] = {}
        last = stage.model.scratch.output_conv[4]
        last.register_forward_hook(lambda *call: seen.update(output=call[2].dtype))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            stage.bfloat16()(torch.zeros(1, 3, 64, 96))
        assert seen == {"output": torch.float32}


class TestEstimatorsOfTheirOwn:
    @pytest.mark.parametrize(
        ("device", "precision"),
        [("cuda", "float16"), ("mps", "float32"), ("xpu", "float32"), ("privateuseone", "float32")],
    )
    def test_on_the_hosts_device(
        self, host: Host, midas_file: Path, picture: Image.Image, device: str, precision: str
    ) -> None:
        expected = values(picture, PRESET)
        host.modules.devices.device = torch.device(device)
        with pretended():
            estimators = Estimators()
            (found,) = estimators.estimate([picture], PRESET)
            (own,) = estimators._own.values()
            assert own._network.precision == precision
            agree(found.values, expected, getattr(torch, precision))
            assert left_on(device) != []
            del own
            estimators.release()
            assert left_on(device) == []

    @pytest.mark.parametrize("flag", ["dtype", "dtype_inference"])
    def test_no_half_and_full_precision_count_for_them(
        self, host: Host, midas_file: Path, picture: Image.Image, flag: str
    ) -> None:
        """--no-half makes ``devices.dtype`` float32, --precision full ``dtype_inference`` (shared_init.py:31-33)."""
        expected = values(picture, PRESET)
        host.modules.devices.device = CUDA
        setattr(host.modules.devices, flag, torch.float32)
        with pretended():
            agree(values(picture, PRESET), expected, torch.float32)

    def test_the_users_own_choice_goes_before(self, host: Host, midas_file: Path, picture: Image.Image) -> None:
        host.modules.devices.device = CUDA
        host.modules.devices.dtype = torch.float32
        host.modules.shared.opts.data["depth2img_precision"] = "float16"
        with pretended():
            estimators = Estimators()
            estimators.estimate([picture], PRESET)
            (own,) = estimators._own.values()
            assert own._network.precision == "float16"

    def test_the_cpu_where_the_settings_say_so(self, host: Host, midas_file: Path, picture: Image.Image) -> None:
        expected = values(picture, PRESET)
        host.modules.devices.device = CUDA
        host.modules.shared.opts.data["depth2img_device"] = "cpu"
        with pretended():
            agree(values(picture, PRESET), expected, torch.float32)
            assert left_on("cuda") == []


class TestItSaysWhere:
    """Over the progress bar: with DirectML a card may not be where one thinks, and the settings may say the CPU."""

    @pytest.fixture
    def said(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        texts: list[str] = []

        class State:
            textinfo = property(lambda _: None, lambda _, text: texts.append(text))

        monkeypatch.setattr(host.modules.shared, "state", State())
        return texts

    @pytest.mark.parametrize("device", ["privateuseone:0", "cuda:0", "cpu"])
    def test_of_an_estimator_of_its_own(
        self, host: Host, midas_file: Path, picture: Image.Image, said: list[str], device: str
    ) -> None:
        host.modules.devices.device = torch.device(device)
        with pretended():
            values(picture, PRESET)
            host.modules.shared.opts.data["depth2img_device"] = "cpu"
            values(picture, PRESET)
        assert said == [f"Estimating depth on {device}", None, "Estimating depth on cpu", None]

    def test_of_the_checkpoints_own(
        self, host: Host, stage: HostDepthStage, picture: Image.Image, said: list[str]
    ) -> None:
        host.modules.devices.device = torch.device("privateuseone", 0)
        stage.to("privateuseone:0")
        values(picture)
        assert said == ["Estimating depth on privateuseone:0", None]


class TestTheFileOfTheLoadedCheckpoint:
    """It may be moved, or its drive be gone, while the checkpoint is loaded: the bare host carries on."""

    def test_is_gone(self, host: Host, picture: Image.Image) -> None:
        estimators = Estimators()
        (before,) = estimators.estimate([picture], CHECKPOINT)
        Path(host.model.sd_model_checkpoint).unlink()
        assert estimators.estimate([picture], CHECKPOINT)[0] is before, "and what was estimated is still known"

    def test_was_gone_from_the_start(self, host: Host, stage: HostDepthStage, picture: Image.Image) -> None:
        Path(host.model.sd_model_checkpoint).unlink()
        estimators = Estimators()
        (first,) = estimators.estimate([picture], CHECKPOINT)
        assert estimators.estimate([picture], CHECKPOINT)[0] is first

    def test_other_weights_loaded_into_the_same_stage_are_other_weights(
        self, host: Host, stage: HostDepthStage, weights: dict[str, torch.Tensor], picture: Image.Image
    ) -> None:
        """The host reuses a loaded model's modules when the yaml is the same (sd_models.py:978-984)."""
        file = Path(host.model.sd_model_checkpoint)
        estimators = Estimators()
        (before,) = estimators.estimate([picture], CHECKPOINT)
        file.write_bytes(b"another checkpoint of this name")
        stage.load_state_dict({f"model.{name}": tensor * 0.5 for name, tensor in weights.items()})
        (after,) = estimators.estimate([picture], CHECKPOINT)
        assert not np.allclose(after.values, before.values)


class TestMemory:
    @pytest.mark.parametrize("fails", ["in the middle", "before any work"])
    def test_a_failed_generation_keeps_nothing_alive(self, host: Host, picture: Image.Image, fails: str) -> None:
        """Without anybody collecting garbage: latents are most of what a card holds."""
        request = {"far": 2} if fails == "before any work" else None
        p = img2img(host, picture, request=request)
        gone, latent = weakref.ref(p), weakref.ref(p.__dict__.setdefault("init_latent", torch.zeros(1)))
        gc.collect()
        gc.disable()
        try:
            _fail(host, p)
            del p
            assert gone() is None
            assert latent() is None
        finally:
            gc.enable()


def _fail(host: Host, p: Any) -> None:
    def sample() -> None:
        raise RuntimeError("interrupted in the middle")

    p.sample = sample
    with pytest.raises(Exception, match=r"in the middle|far"):
        host.generate(p)
    del p.sample
