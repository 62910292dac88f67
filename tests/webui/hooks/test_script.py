"""When the script has an effect, what it writes, and what it gives back."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from lib_depth2img.errors import DeviceError, EstimatorError, RequestError
from lib_depth2img.request.request import Depth2ImgRequest
from lib_depth2img.webui import estimators
from lib_depth2img.webui.hooks import guard, override
from tests.webui.hooks.conftest import Brightness, halves, img2img, selectable, txt2img
from tests.webui.hooks.stand_in import Host
from tests.webui.hooks.test_override import channel, depth_map


@pytest.fixture
def photograph() -> Image.Image:
    return Image.fromarray(data.astronaut()).resize((96, 64))


class TestOtherModels:
    @pytest.fixture(autouse=True)
    def plain(self, host: Host, plain_model: Any) -> None:
        host.load(plain_model, host.folder / "plain.safetensors")

    def test_no_effect(self, host: Host, photograph: Image.Image) -> None:
        p = img2img(host, photograph)
        processed = host.generate(p)
        assert host.concat is not None
        assert host.concat.shape == (1, 5, 1, 1)  # the host's dummy, proc:403
        assert len(processed.images) == 1
        assert not any("Depth2Img" in key for key in p.extra_generation_params)

    def test_no_effect_on_a_copy_that_was_bound_for_a_depth_model_before(
        self, host: Host, photograph: Image.Image
    ) -> None:
        """A script that made it may have switched the checkpoint since; what the host has by itself is used."""
        p = img2img(host, photograph)
        override.bind(p, Depth2ImgRequest())
        cell = copy.copy(p)
        host.generate(cell)
        assert host.concat is not None
        assert host.concat.shape == (1, 5, 1, 1)

    def test_a_client_that_sends_a_depth_source_is_told(self, host: Host, photograph: Image.Image) -> None:
        with pytest.raises(RequestError, match=r"plain\.safetensors"):
            host.generate(img2img(host, photograph, request=depth_map(halves((8, 8)))))

    def test_the_panel_says_it_itself(self, host: Host, photograph: Image.Image) -> None:
        p = img2img(host, photograph, request=depth_map(halves((8, 8))))
        p.is_api = False
        host.generate(p)
        assert host.concat is not None


class TestTabs:
    def test_it_is_in_img2img_only(self, host: Host) -> None:
        """scripts.py:636-652: False keeps it out of a tab."""
        (script,) = host.runner.alwayson_scripts  # type: ignore[union-attr]
        assert script.show(False) is False
        assert script.show(True) is host.modules.scripts.AlwaysVisible


class TestInfotext:
    def test_what_is_not_default(self, host: Host, photograph: Image.Image) -> None:
        p = img2img(host, photograph, request=depth_map(halves((8, 8)), gamma=2.0))
        host.generate(p)
        assert p.extra_generation_params["Depth2Img gamma"] == "2"
        assert p.extra_generation_params["Depth2Img source"] == "depth_map"
        assert "Depth2Img near" not in p.extra_generation_params

    def test_keys_of_the_picture_before_go_also_when_the_model_changes(
        self, host: Host, plain_model: Any, photograph: Image.Image
    ) -> None:
        p = img2img(host, photograph, request={"gamma": 2.0})
        host.generate(p)
        depth_model = host.model
        host.load(plain_model, host.folder / "plain.safetensors")
        host.generate(p)
        host.load(depth_model)
        assert not any("Depth2Img" in key for key in p.extra_generation_params)


class TestWords:
    """A client of the API reads names of fields, whoever sits before the panel reads labels."""

    @pytest.mark.parametrize(("is_api", "begins"), [(True, "image: got none"), (False, "Depth map: choose one")])
    def test_of_a_request(self, host: Host, photograph: Image.Image, is_api: bool, begins: str) -> None:
        p = img2img(host, photograph, request={"source": "depth_map"})
        p.is_api = is_api
        with pytest.raises(RequestError, match=f"^{begins}") as refused:
            host.generate(p)
        assert vars(refused.value)["detail"] == str(refused.value)

    @pytest.mark.parametrize("is_api", [True, False])
    def test_of_an_estimator(self, host: Host, photograph: Image.Image, is_api: bool) -> None:
        p = img2img(host, photograph, request={"estimator": "dpt_large"})
        p.is_api = is_api
        with pytest.raises(EstimatorError, match="The weights of dpt_large") as refused:
            host.generate(p)
        assert ("python -m" in str(refused.value)) is is_api
        assert ("Get a depth model" in str(refused.value)) is not is_api


class TestResults:
    def test_nothing_unless_asked_for(self, host: Host, photograph: Image.Image) -> None:
        assert len(host.generate(img2img(host, photograph)).images) == 1

    def test_the_map_comes_last_with_its_text(self, host: Host, photograph: Image.Image) -> None:
        processed = host.generate(img2img(host, photograph, request={"append_depth_map": True}, batch_size=2))
        assert len(processed.images) == len(processed.infotexts) == 3
        picture = processed.images[-1]
        assert picture.size == photograph.size
        assert picture.info["parameters"] == processed.infotexts[-1] == "picture 0"
        assert len(np.unique(np.asarray(picture))) > 300  # more than eight bits hold

    @pytest.mark.parametrize("field", ["append_depth_map", "save_depth_map"])
    def test_empty_results_of_another_script_in_between_stay_empty(
        self, host: Host, photograph: Image.Image, field: str
    ) -> None:
        """ADetailer 25.3, scripts/!adetailer.py:907: after one picture, all scripts' postprocess on a copy of p."""
        p = img2img(host, photograph, request={field: True})
        in_between = SimpleNamespace(images=[], infotexts=[], all_seeds=[1], all_prompts=[""], index_of_first_image=0)
        sample = p.sample

        def with_another_script() -> torch.Tensor:
            samples = sample()
            host.runner.postprocess(copy.copy(p), in_between)  # type: ignore[union-attr]
            return samples

        p.sample = with_another_script  # type: ignore[method-assign]
        processed = host.generate(p)
        assert in_between.images == []
        assert len(processed.images) == 1 + (field == "append_depth_map")
        saved = list((host.folder / "outputs").rglob("*-depth.png"))
        assert len(saved) == (field == "save_depth_map")

    def test_each_picture_of_a_batch_has_its_map(self, host: Host) -> None:
        pictures = [halves((64, 64), edge).convert("RGB") for edge in (0.25, 0.75)]
        processed = host.generate(img2img(host, pictures, request={"append_depth_map": True}, batch_size=2))
        assert processed.infotexts[2:] == ["picture 0", "picture 1"]
        assert np.asarray(processed.images[2]).mean() > np.asarray(processed.images[3]).mean()

    @pytest.mark.parametrize(("is_api", "samples_format"), [(False, "png"), (True, "jpg"), (True, "webp")])
    def test_eight_bits_where_sixteen_would_not_survive(
        self, host: Host, photograph: Image.Image, is_api: bool, samples_format: str
    ) -> None:
        host.modules.shared.opts.data["samples_format"] = samples_format
        p = img2img(host, photograph, request={"append_depth_map": True})
        p.is_api = is_api
        assert host.generate(p).images[-1].mode == "L"

    def test_never_among_the_tiles_of_a_selectable_script(self, host: Host, photograph: Image.Image) -> None:
        assert host.runner is not None
        host.runner.selectable_scripts.append(selectable("SD upscale"))
        p = img2img(host, photograph, request={"append_depth_map": True})
        p.script_args = (1, *p.script_args[1:])
        assert len(host.generate(p).images) == 1

    def test_saved_beside_the_pictures(
        self, host: Host, photograph: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.generate_saved(host, photograph, tmp_path, monkeypatch)
        saved = sorted(tmp_path.glob("*-depth.png"))
        assert [path.name for path in saved] == ["00001-depth.png", "00002-depth.png"]
        assert np.asarray(Image.open(saved[0])).max() > 50000

    def test_saved_in_the_folder_of_the_settings(
        self, host: Host, photograph: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "maps" / "new"
        host.modules.shared.opts.data["depth2img_maps_folder"] = str(folder)
        self.generate_saved(host, photograph, tmp_path, monkeypatch)
        assert len(list(folder.iterdir())) == 2

    def test_asked_for_they_are_saved_also_where_the_pictures_are_not(
        self, host: Host, photograph: Image.Image, tmp_path: Path
    ) -> None:
        processed = host.generate(img2img(host, photograph, request={"save_depth_map": True}, batch_size=2))
        (saved,) = (tmp_path / "outputs").rglob("*.png")  # one map for both pictures
        assert saved.name == "00000-1000-depth.png"
        assert np.asarray(Image.open(saved)).max() > 50000
        folder = tmp_path / "maps"
        host.modules.shared.opts.data["depth2img_maps_folder"] = str(folder)
        host.generate(img2img(host, photograph, request={"save_depth_map": True}))
        assert [path.name for path in folder.iterdir()] == ["00000-1000-depth.png"]
        assert processed.comments == ""

    def test_tiles_of_a_selectable_script_are_not_saved(
        self, host: Host, photograph: Image.Image, tmp_path: Path
    ) -> None:
        assert host.runner is not None
        host.runner.selectable_scripts.append(selectable("SD upscale"))
        p = img2img(host, photograph, request={"save_depth_map": True})
        p.script_args = (1, *p.script_args[1:])
        host.generate(p)
        assert not list(tmp_path.rglob("*-depth.png"))

    @pytest.mark.parametrize("with_pictures", [True, False])
    def test_a_folder_that_cannot_be_written_is_said_beside_the_pictures(
        self,
        host: Host,
        photograph: Image.Image,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        with_pictures: bool,
    ) -> None:
        (tmp_path / "file").write_text("no folder")
        host.modules.shared.opts.data["depth2img_maps_folder"] = str(tmp_path / "file")
        if with_pictures:
            processed = self.generate_saved(host, photograph, tmp_path, monkeypatch)
        else:
            processed = host.generate(img2img(host, photograph, request={"save_depth_map": True}))
        assert "the depth map could not be saved" in processed.comments
        (told,) = (text for key, text in processed.extra_generation_params.items() if key == "Depth2Img not saved")
        assert told.startswith("the depth map could not be saved: ")
        assert len(processed.images) >= 1

    def test_what_could_not_be_saved_is_not_said_of_the_next_picture(
        self, host: Host, photograph: Image.Image, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("no folder")
        host.modules.shared.opts.data["depth2img_maps_folder"] = str(tmp_path / "file")
        p = img2img(host, photograph, request={"save_depth_map": True})
        assert "Depth2Img not saved" in host.generate(p).extra_generation_params
        host.modules.shared.opts.data["depth2img_maps_folder"] = str(tmp_path / "maps")
        assert "Depth2Img not saved" not in host.generate(p).extra_generation_params

    def generate_saved(self, host: Host, photograph: Image.Image, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        """The host notes a file's name on the picture (images.py:706); masks saved beside have names of their own."""
        p = img2img(host, photograph, request={"save_depth_map": True}, batch_size=2)
        run = host.runner.postprocess  # type: ignore[union-attr]

        def postprocess(p: Any, processed: Any) -> None:
            for picture, name in zip(processed.images, ("00001.png", "00002.png"), strict=True):
                picture.already_saved_as = str(folder / name)
            mask = Image.new("L", (8, 8))
            mask.already_saved_as = str(folder / "00003-mask.png")  # type: ignore[attr-defined]
            processed.images.insert(1, mask)
            run(p, processed)

        monkeypatch.setattr(host.runner, "postprocess", postprocess)
        return host.generate(p)


class TestEstimators:
    def test_weights_that_are_not_there(self, host: Host, photograph: Image.Image) -> None:
        with pytest.raises(EstimatorError, match="install --estimator midas_v21_small --to"):
            host.generate(img2img(host, photograph, request={"estimator": "midas_v21_small"}))

    def test_one_of_its_own(
        self, host: Host, network: Brightness, photograph: Image.Image, small_weights: Path
    ) -> None:
        host.generate(img2img(host, photograph, request={"estimator": "midas_v21_small"}))
        assert network.shapes == []
        assert np.isfinite(channel(host)).all()
        assert channel(host).max() == 1

    def test_the_settings_name_the_default(
        self, host: Host, network: Brightness, photograph: Image.Image, small_weights: Path
    ) -> None:
        host.modules.shared.opts.data["depth2img_estimator"] = "midas_v21_small"
        host.generate(img2img(host, photograph, request={"gamma": 2.0}))
        assert network.shapes == []

    def test_the_settings_precision_is_used(self, host: Host, photograph: Image.Image, small_weights: Path) -> None:
        channels = []
        for precision in ("float32", "bfloat16"):
            host.modules.shared.opts.data["depth2img_precision"] = precision
            host.generate(img2img(host, photograph, request={"estimator": "midas_v21_small"}))
            channels.append(channel(host))
        assert (channels[0] != channels[1]).any()
        assert len(estimators.ESTIMATORS._own) == 1  # that of before is no longer in memory

    def test_the_settings_device_is_used(
        self, host: Host, photograph: Image.Image, small_weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host.modules.devices.device = torch.device("mps")
        with pytest.raises(DeviceError, match="no mps device"):
            host.generate(img2img(host, photograph, request={"estimator": "midas_v21_small"}))
        host.modules.shared.opts.data["depth2img_device"] = "cpu"
        host.generate(img2img(host, photograph, request={"estimator": "midas_v21_small"}))
        assert channel(host).max() == 1

    def test_the_settings_cache_size_holds_from_the_next_estimate(
        self, host: Host, network: Brightness, photograph: Image.Image
    ) -> None:
        for _ in range(2):
            host.generate(img2img(host, photograph))
        assert len(network.shapes) == 1
        host.modules.shared.opts.data["depth2img_cache_megabytes"] = 0
        for _ in range(2):
            host.generate(img2img(host, photograph))
        assert len(network.shapes) == 3
        assert len(estimators.ESTIMATORS.cache) == 0

    @pytest.mark.parametrize("reason", ["setting", "medvram", "lowvram", "unload"])
    def test_its_memory_is_released(
        self, host: Host, photograph: Image.Image, small_weights: Path, reason: str
    ) -> None:
        request = {"estimator": "midas_v21_small"}
        estimators.hook()
        pool = estimators.ESTIMATORS
        host.generate(img2img(host, photograph, request=request))
        assert len(pool._own) == 1
        if reason == "unload":
            host.modules.sd_models.unload_model_weights()
        elif reason == "setting":
            host.modules.shared.opts.data["depth2img_keep_loaded"] = False
            host.generate(img2img(host, photograph, request=request))
        else:
            setattr(host.modules.shared.cmd_opts, reason, True)
            host.generate(img2img(host, photograph, request=request))
        assert pool._own == {}
        assert len(pool.cache) == 1

    @pytest.fixture
    def small_weights(self, host: Host) -> Path:
        from lib_depth2img.estimators.presets import PRESETS

        torch.manual_seed(0)
        network = PRESETS["midas_v21_small"].build()
        with torch.no_grad():
            for parameter in network.scratch.output_conv.parameters():
                parameter.abs_()
        path = host.folder / "models" / "midas" / "midas_v21_small-70d6b9c8.pt"
        path.parent.mkdir(parents=True)
        torch.save(network.state_dict(), path)
        return path


class TestGuard:
    @pytest.fixture(autouse=True)
    def guarded(self, host: Host) -> None:
        guard.hook()

    def test_txt2img_ends_before_sampling(self, host: Host) -> None:
        with pytest.raises(RequestError, match="no txt2img") as caught:
            host.generate(txt2img(host))
        assert vars(caught.value)["status_code"] == 422
        assert host.concat is None

    def test_also_for_a_p_without_scripts(self, host: Host) -> None:
        p = txt2img(host)
        p.scripts = None
        with pytest.raises(RequestError):
            host.generate(p)

    def test_also_when_the_model_comes_in_after_init(self, host: Host, plain_model: Any) -> None:
        depth_model = host.model
        host.load(plain_model, host.folder / "plain.safetensors")
        p = txt2img(host)
        p.init()
        host.load(depth_model)
        with pytest.raises(RequestError):
            p.sample()

    @pytest.mark.parametrize(
        "fields",
        [{"refiner_checkpoint": "depth"}, {"enable_hr": True, "hr_checkpoint_name": "depth"}],
        ids=["refiner", "hires"],
    )
    @pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
    def test_back_doors(
        self, host: Host, plain_model: Any, fields: dict[str, Any], suffix: str, tmp_path: Path
    ) -> None:
        self.add_checkpoint(host, tmp_path / f"other{suffix}")
        host.load(plain_model, host.folder / "plain.safetensors")
        with pytest.raises(RequestError, match="depth"):
            host.generate(txt2img(host, **fields))

    def test_a_refiner_whose_file_is_gone_passes(self, host: Host, plain_model: Any, tmp_path: Path) -> None:
        """The host has its own word on that, when the refiner's turn has come."""
        self.add_checkpoint(host, tmp_path / "depth.safetensors")
        (tmp_path / "depth.safetensors").unlink()
        host.load(plain_model, host.folder / "plain.safetensors")
        host.generate(txt2img(host, refiner_checkpoint="depth"))

    def test_other_refiners_pass(self, host: Host, plain_model: Any, tmp_path: Path) -> None:
        (tmp_path / "broken.safetensors").write_bytes(b"not a checkpoint")
        host.checkpoints["broken"] = type("Info", (), {"filename": str(tmp_path / "broken.safetensors")})
        host.load(plain_model, host.folder / "plain.safetensors")
        for name in ("broken", "nowhere", None):
            host.generate(txt2img(host, refiner_checkpoint=name))

    @pytest.mark.parametrize(
        "fields",
        [{"enable_hr": True, "hr_checkpoint_name": None}, {"enable_hr": False, "hr_checkpoint_name": "depth"}],
        ids=["of the same checkpoint", "off"],
    )
    def test_hires_that_does_not_come_to_it_passes(
        self, host: Host, plain_model: Any, tmp_path: Path, fields: dict[str, Any]
    ) -> None:
        self.add_checkpoint(host, tmp_path / "other.safetensors")
        host.load(plain_model, host.folder / "plain.safetensors")
        host.generate(txt2img(host, **fields))
        assert host.concat is not None, "it sampled"

    def test_a_depth_refiner_after_another_model_in_img2img(
        self, host: Host, plain_model: Any, photograph: Image.Image, tmp_path: Path
    ) -> None:
        self.add_checkpoint(host, tmp_path / "other.safetensors")
        host.load(plain_model, host.folder / "plain.safetensors")
        with pytest.raises(RequestError, match="cannot refine"):
            host.generate(img2img(host, photograph, refiner_checkpoint="depth"))

    def test_taken_off_again(self, host: Host) -> None:
        from lib_depth2img.webui.hosts import host as facade

        guard.hook()
        facade.undo()
        p = txt2img(host)
        p.init()
        assert not host.modules.patches.originals["depth2img"]

    def add_checkpoint(self, host: Host, path: Path) -> None:
        import torch
        from safetensors.torch import save_file

        tensors = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 5, 3, 3)}
        if path.suffix == ".ckpt":
            torch.save({"state_dict": tensors}, path)
        else:
            save_file(tensors, path)
        host.checkpoints["depth"] = type("Info", (), {"filename": str(path)})
