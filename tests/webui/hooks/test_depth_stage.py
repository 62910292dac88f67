"""What the host builds for ``depth_model``, and the yaml of a checkpoint that has none."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from lib_depth2img.checkpoint.configuration import PAIR_YAML, beside, describes_depth_model
from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from lib_depth2img.errors import CheckpointError, EstimatorError, WeightsError
from lib_depth2img.estimators.networks.building import without_weights
from lib_depth2img.estimators.presets import PRESETS
from lib_depth2img.webui import depth_stage
from lib_depth2img.webui.depth_stage import HostDepthStage
from lib_depth2img.webui.estimators import Estimators
from lib_depth2img.webui.hosts import host as facade
from tests.webui.hooks.conftest import img2img
from tests.webui.hooks.stand_in import Host

PRESET, FILE = "midas_v21_small", "midas_v21_small-70d6b9c8.pt"


@pytest.fixture(scope="session")
def published() -> dict[str, torch.Tensor]:
    """A state dict as MiDaS publishes it, with random weights."""
    torch.manual_seed(0)
    network = PRESETS[PRESET].build().eval()
    with torch.no_grad():
        for parameter in network.scratch.output_conv.parameters():
            parameter.abs_()
    return network.state_dict()


@pytest.fixture
def midas_file(host: Host, published: dict[str, torch.Tensor]) -> Path:
    path = host.folder / "models" / "midas" / FILE
    path.parent.mkdir(parents=True)
    torch.save(published, path)
    return path


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def wanted(published: dict[str, torch.Tensor], picture: torch.Tensor) -> torch.Tensor:
    network = PRESETS[PRESET].build().eval()
    network.load_state_dict(published)
    with torch.no_grad():
        result: torch.Tensor = network(picture)
    return result[:, None]


def loaded(published: dict[str, torch.Tensor] | None) -> nn.Module:
    """A model with the stage in it, loaded as the host does it: not strict (sd_models.py:433)."""
    model = nn.Module()
    model.depth_model = HostDepthStage(PRESET)
    state_dict = {f"depth_model.model.{name}": tensor for name, tensor in (published or {}).items()}
    model.load_state_dict(state_dict, strict=False)
    return model


class TestWeights:
    def test_that_came_with_the_checkpoint(
        self, host: Host, published: dict[str, torch.Tensor], picture: torch.Tensor
    ) -> None:
        assert torch.allclose(loaded(published).depth_model(picture), wanted(published, picture), rtol=1e-4)

    def test_that_did_not_come_from_the_models_folder(
        self, host: Host, midas_file: Path, published: dict[str, torch.Tensor], picture: torch.Tensor
    ) -> None:
        stage = loaded(None).depth_model
        for parameter in stage.parameters():
            parameter.data.zero_()  # as the host leaves what the checkpoint lacks
        assert torch.allclose(stage(picture), wanted(published, picture), rtol=1e-4)

    def test_under_any_published_name(
        self, host: Host, midas_file: Path, picture: torch.Tensor, published: dict[str, torch.Tensor]
    ) -> None:
        midas_file.rename(midas_file.with_name("midas_v21_small_256.pt"))
        assert torch.allclose(loaded(None).depth_model(picture), wanted(published, picture), rtol=1e-4)

    def test_that_are_nowhere(self, host: Host, picture: torch.Tensor) -> None:
        stage = loaded(None).depth_model
        with pytest.raises(EstimatorError) as caught:
            stage(picture)
        assert f"python -m lib_depth2img install --estimator {PRESET} --to models/midas" in str(caught.value)
        assert str(host.folder) not in str(caught.value), "it goes to API clients too"

    def test_of_another_network(self, host: Host, midas_file: Path, picture: torch.Tensor) -> None:
        torch.save({"pretrained.other": torch.zeros(3)}, midas_file)
        with pytest.raises(WeightsError, match="does not fit"):
            loaded(None).depth_model(picture)

    def test_in_the_dtype_the_host_loaded_it_with(self, host: Host, midas_file: Path) -> None:
        stage = loaded(None).depth_model.to(torch.bfloat16)
        assert {parameter.dtype for parameter in stage.prepare().parameters()} == {torch.bfloat16}

    @pytest.mark.parametrize("inside", [True, False])
    def test_rounded_to_eight_bits_are_read_again(
        self, host: Host, midas_file: Path, published: dict[str, torch.Tensor], picture: torch.Tensor, inside: bool
    ) -> None:
        """What sd_models.py:502-512 does with every Conv2d and Linear when FP8 storage is on."""
        checkpoint = host.folder / "depth.safetensors"
        save_file({f"depth_model.model.{name}": tensor for name, tensor in published.items()}, checkpoint)
        stage = loaded(published if inside else None).depth_model
        for module in stage.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(torch.float8_e4m3fn)
        assert torch.allclose(stage(picture), wanted(published, picture), rtol=1e-4)


@contextlib.contextmanager
def manual_cast(devices: Any, target_dtype: torch.dtype) -> Iterator[None]:
    """devices.py:134-208: the layers cast input and weights and back, torch-wide, while a generation goes on."""

    def wrapper(self: nn.Module, *args: torch.Tensor) -> torch.Tensor:
        org_dtype = next(self.parameters()).dtype
        self.to(target_dtype)
        result = self.org_forward(*[arg.to(target_dtype) for arg in args])
        self.to(org_dtype)
        return result.to(target_dtype)

    devices.patch_module_list = [nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm]
    for kind in devices.patch_module_list:
        kind.org_forward, kind.forward = kind.forward, wrapper
    try:
        yield
    finally:
        for kind in devices.patch_module_list:
            kind.forward = kind.org_forward
            del kind.org_forward


class TestWhereTheDeviceHasNoAutocast:
    """bfloat16 in the place of float16, which this torch cannot do on a CPU."""

    def test_the_stage_computes_in_its_own_precision_and_keeps_its_weights(
        self, host: Host, published: dict[str, torch.Tensor], picture: torch.Tensor
    ) -> None:
        stage = loaded(published).depth_model
        before = {name: tensor.clone() for name, tensor in stage.state_dict().items()}
        expected = wanted(published, picture)
        with manual_cast(host.modules.devices, torch.bfloat16):
            assert torch.allclose(stage(picture), expected, rtol=1e-4)
            assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.bfloat16, "the host's own casting goes on"
        assert all(torch.equal(tensor, before[name]) for name, tensor in stage.state_dict().items())

    def test_and_so_do_estimators_of_their_own(self, host: Host, midas_file: Path) -> None:
        pictures = [Image.effect_noise((64, 64), 80).convert("RGB")]
        (plain,) = Estimators().estimate(pictures, PRESET)
        with manual_cast(host.modules.devices, torch.bfloat16):
            (cast,) = Estimators().estimate(pictures, PRESET)
        assert np.allclose(cast.values, plain.values, rtol=1e-4)


class TestPatches:
    @pytest.fixture(autouse=True)
    def midas_api(self) -> Iterator[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield importlib.import_module("ldm.modules.midas.api")

    def test_stability_builds_this_stage(self, host: Host, midas_api: Any) -> None:
        original = midas_api.MiDaSInference
        depth_stage.hook()
        depth_stage.hook()
        assert midas_api.MiDaSInference is HostDepthStage
        facade.undo()
        assert midas_api.MiDaSInference is original


def sd2_depth_model(*, midas: str | None = None, channels: int = 5, context_dim: int = 1024) -> dict[str, torch.Tensor]:
    """What of an SD2 checkpoint's names and shapes the decision hangs on."""
    shapes = {
        "model.diffusion_model.input_blocks.0.0.weight": (320, channels, 3, 3),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, context_dim),
    }
    if midas:
        stage = without_weights(PRESETS[midas].build)
        shapes |= {f"depth_model.model.{name}": tuple(value.shape) for name, value in stage.state_dict().items()}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


class TestYaml:
    @pytest.fixture
    def info(self, host: Host) -> SimpleNamespace:
        depth_stage.hook()
        return SimpleNamespace(filename=str(host.folder / "fine-tune.safetensors"))

    def find(self, host: Host, state_dict: dict[str, torch.Tensor], info: Any) -> Any:
        return host.modules.sd_models_config.find_checkpoint_config(state_dict, info)

    def test_of_a_depth_model_that_the_host_knows_is_the_hosts(self, host: Host, info: SimpleNamespace) -> None:
        assert self.find(host, sd2_depth_model(midas="dpt_hybrid"), info) == "the host's guess"
        assert not beside(info.filename).exists()

    def test_of_a_depth_model_without_midas_comes_from_the_package(self, host: Host, info: SimpleNamespace) -> None:
        assert self.find(host, sd2_depth_model(), info) == str(PAIR_YAML)
        assert not beside(info.filename).exists()

    def test_of_a_depth_model_with_another_network_is_written_beside_it(
        self, host: Host, info: SimpleNamespace
    ) -> None:
        found = self.find(host, sd2_depth_model(midas="dpt_large"), info)
        assert found == str(beside(info.filename))
        assert describes_depth_model(Path(found), midas="dpt_large")
        assert not describes_depth_model(Path(found), midas="dpt_hybrid")

    def test_that_fits_is_left_to_the_host(self, host: Host, info: SimpleNamespace) -> None:
        beside(info.filename).write_text(PAIR_YAML.read_text() + "# mine\n")
        assert self.find(host, sd2_depth_model(), info) == "the host's guess"
        assert beside(info.filename).read_text().endswith("# mine\n")

    def test_that_does_not_fit_is_passed_over_and_kept(
        self, host: Host, info: SimpleNamespace, caplog: pytest.LogCaptureFixture
    ) -> None:
        beside(info.filename).write_text("model: {target: something.else}\n")
        assert self.find(host, sd2_depth_model(), info) == str(PAIR_YAML)
        assert beside(info.filename).read_text() == "model: {target: something.else}\n"
        assert "fine-tune.yaml does not describe this depth model and is not used" in caplog.text

    def test_that_cannot_be_written_comes_from_the_package(
        self, host: Host, info: SimpleNamespace, caplog: pytest.LogCaptureFixture
    ) -> None:
        info.filename = str(host.folder / "no such folder" / "fine-tune.safetensors")
        assert self.find(host, sd2_depth_model(midas="dpt_large"), info) == str(PAIR_YAML)
        assert "no yaml could be written beside" in caplog.text

    @pytest.mark.parametrize("other", [{"channels": 4}, {"channels": 9}, {"context_dim": 768}])
    def test_other_models_are_the_hosts(self, host: Host, info: SimpleNamespace, other: dict[str, int]) -> None:
        assert self.find(host, sd2_depth_model(**other), info) == "the host's guess"  # type: ignore[arg-type]
        assert not beside(info.filename).exists()

    def test_without_a_file_it_is_the_hosts(self, host: Host, info: SimpleNamespace) -> None:
        assert self.find(host, sd2_depth_model(), None) == "the host's guess"


class TestDamage:
    """What the host would take without a word."""

    @pytest.fixture
    def state_dict(self) -> dict[str, torch.Tensor]:
        return load_file(SMALL_CHECKPOINT)

    def load(self, host: Host, state_dict: dict[str, torch.Tensor]) -> None:
        depth_stage.hook()
        info = SimpleNamespace(filename=host.model.sd_model_checkpoint)
        host.modules.sd_models_config.find_checkpoint_config(state_dict, info)

    def test_a_whole_checkpoint_is_left_as_it_is(
        self, host: Host, state_dict: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
    ) -> None:
        names = set(state_dict)
        self.load(host, state_dict)
        depth_stage.refuse_damaged()
        assert set(state_dict) == names
        assert "Depth2Img" not in caplog.text

    @pytest.mark.parametrize("part", ["model.diffusion_model.out.2.weight", "depth_model."])
    @pytest.mark.parametrize("gone", [True, False])
    def test_makes_no_pictures(
        self,
        host: Host,
        state_dict: dict[str, torch.Tensor],
        part: str,
        gone: bool,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        name = next(name for name in state_dict if name.startswith(part))
        whole = dict(state_dict)
        if gone:
            del state_dict[name]
        else:
            state_dict[name].view(-1)[0] = float("nan")
        self.load(host, state_dict)
        said = "lacks 1 tensors of its" if gone else rf"not finite \(NaN or inf\) in 1 tensors \({name}\)"
        with pytest.raises(CheckpointError, match=rf"{said}.*get the file again"):
            depth_stage.refuse_damaged()
        assert "Depth2Img: " in caplog.text
        with pytest.raises(CheckpointError, match=said):
            host.generate(img2img(host, Image.new("RGB", (64, 64))))
        whole[name] = torch.nan_to_num(whole[name])
        self.load(host, whole)
        depth_stage.refuse_damaged()

    def test_a_rounded_schedule_is_left_to_the_yaml(
        self, host: Host, state_dict: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
    ) -> None:
        state_dict["alphas_cumprod"] = state_dict["alphas_cumprod"].bfloat16()
        self.load(host, state_dict)
        assert "alphas_cumprod" not in state_dict
        assert "is rounded to bfloat16; an exact one is used" in caplog.text
        depth_stage.refuse_damaged()
