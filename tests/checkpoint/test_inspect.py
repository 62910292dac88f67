"""Recognising checkpoints by their headers, and the yaml beside them."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from lib_depth2img.checkpoint import configuration
from lib_depth2img.checkpoint.inspect import depth_model_without_yaml, inspect, write_yaml_beside
from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT, SMALL_CONFIG
from lib_depth2img.cli import main
from lib_depth2img.errors import TensorFileError
from lib_depth2img.estimators.networks.building import without_weights
from lib_depth2img.estimators.presets import PRESETS
from tests.checkpoint import models

REPO = Path(__file__).parents[2]

HOST_CLASS = "ldm.models.diffusion.ddpm.LatentDepth2ImageDiffusion"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Checkpoints of every kind, full size, taking no disk."""
    folder = tmp_path_factory.mktemp("models")
    kinds = {
        "depth": models.depth_shapes(),
        "no-midas": models.depth_shapes(midas=False),
        "ordinary": models.ordinary_shapes(),
        "inpainting": models.ordinary_shapes(in_channels=9),
        "sd1": {name: shape for name, shape in models.ordinary_shapes(768).items() if "cond_stage" not in name},
        "unet-only": {name: shape for name, shape in models.depth_shapes().items() if "diffusion_model" in name},
        "midas": models.midas_shapes(),
        "ema": models.depth_shapes() | {"model_ema.diffusion_modelout2weight": (4, 320, 3, 3)},
        "nothing": {"some.lora.weight": (4, 4)},
    }
    for name, shapes in kinds.items():
        models.sparse_safetensors(folder / f"{name}.safetensors", shapes)
    return folder


def test_the_depth_model(folder):
    report = inspect(folder / "depth.safetensors")
    assert (report.format, report.tensors, report.tensor_bytes) == ("safetensors", 1608, 5_707_036_372)
    assert report.dtypes == {"float32": 5_707_036_372}
    assert (report.unet_channels, report.stable_diffusion, report.midas) == (5, "2", "dpt_hybrid")
    assert (report.text_encoder, report.vae, report.ema, report.leftovers) == ("OpenCLIP", True, False, 0)
    assert (report.yaml, report.yaml_fits, report.depth_model) == (None, None, True)
    assert report.verdict == "A depth model with dpt_hybrid inside; it lacks a yaml beside it."


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no-midas", {"unet_channels": 5, "midas": None, "depth_model": True}),
        ("ordinary", {"unet_channels": 4, "stable_diffusion": "2", "depth_model": False}),
        ("inpainting", {"unet_channels": 9, "depth_model": False}),
        ("sd1", {"unet_channels": 4, "stable_diffusion": "1", "text_encoder": None}),
        ("unet-only", {"unet_channels": 5, "vae": False, "text_encoder": None, "midas": None}),
        ("ema", {"ema": True, "depth_model": True}),
        (
            "midas",
            {"unet_channels": None, "depth_model": False, "verdict": "MiDaS weights (dpt_hybrid), not a checkpoint."},
        ),
        ("nothing", {"unet_channels": None, "verdict": "Not a Stable Diffusion checkpoint."}),
    ],
)
def test_other_kinds(folder, name, expected):
    report = inspect(folder / f"{name}.safetensors").as_dict()
    assert {key: report[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("preset", "shapes"),
    [
        ("dpt_large", {"pretrained.model.cls_token": (1, 1, 1024), "scratch.output_conv.4.weight": (1, 32, 1, 1)}),
        ("midas_v21", {"pretrained.layer1.0.weight": (64, 3, 7, 7), "scratch.output_conv.4.weight": (1, 32, 1, 1)}),
        (
            "midas_v21_small",
            {"pretrained.layer1.0.weight": (32, 3, 3, 3), "scratch.output_conv.4.weight": (1, 32, 1, 1)},
        ),
        (None, {"pretrained.layer1.0.weight": (32, 3, 3, 3)}),
    ],
)
def test_which_midas_is_inside(tmp_path, preset, shapes):
    inside = {f"depth_model.model.{name}": shape for name, shape in shapes.items()}
    path = models.sparse_safetensors(tmp_path / "m.safetensors", models.depth_shapes(midas=False) | inside)
    assert inspect(path).midas == preset
    write_yaml_beside(path)
    stage = OmegaConf.load(path.with_suffix(".yaml")).model.params.depth_stage_config
    assert stage.params.model_type == (preset or "dpt_hybrid")
    assert inspect(path).yaml_fits is True


def test_a_training_checkpoint_of_torch(tmp_path):
    weights = models.random_weights(models.small(models.depth_shapes()), 0, torch.float16)
    path = models.save(tmp_path / "trained.ckpt", weights)
    report = inspect(path)
    assert (report.format, report.tensors, report.leftovers) == ("torch zip", 1608, 2)
    assert set(report.dtypes) == {"float16"}
    assert report.midas == "dpt_hybrid"


def test_the_yaml_beside_it(tmp_path):
    path = models.sparse_safetensors(tmp_path / "model.v2.safetensors", models.depth_shapes())
    yaml = tmp_path / "model.v2.yaml"  # where the host looks: os.path.splitext
    assert depth_model_without_yaml(path)
    assert write_yaml_beside(path) == yaml
    assert not depth_model_without_yaml(path)
    report = inspect(path)
    assert (report.yaml, report.yaml_fits) == (str(yaml), True)
    assert report.verdict == "A depth model with dpt_hybrid inside; complete."


@pytest.mark.parametrize(
    "text",
    [
        "mine: true\n",
        "",
        "[broken",
        configuration.PAIR_YAML.read_text().replace("in_channels: 5", "in_channels: 4"),
        configuration.PAIR_YAML.read_text().replace("context_dim: 1024", "context_dim: 768"),
        configuration.PAIR_YAML.read_text().replace("LatentDepth2ImageDiffusion", "LatentDiffusion"),
        configuration.pair_yaml("dpt_large"),
    ],
)
def test_a_yaml_that_does_not_fit_is_said_and_left_alone(tmp_path, text):
    path = models.sparse_safetensors(tmp_path / "model.safetensors", models.depth_shapes())
    yaml = path.with_suffix(".yaml")
    yaml.write_text(text)
    assert inspect(path).yaml_fits is False
    assert "a yaml that fits" in inspect(path).verdict
    assert write_yaml_beside(path) is None
    assert yaml.read_text() == text


def test_a_yaml_with_a_depth_stage_of_its_own_fits(tmp_path):
    """Its class may hold any network."""
    path = models.sparse_safetensors(tmp_path / "model.safetensors", models.depth_shapes())
    path.with_suffix(".yaml").write_text(configuration.pair_yaml("other").replace("api.MiDaSInference", "api.Mine"))
    assert inspect(path).yaml_fits is True


def test_a_yaml_beside_an_ordinary_model_is_not_judged(tmp_path):
    path = models.sparse_safetensors(tmp_path / "model.safetensors", models.ordinary_shapes())
    yaml = path.with_suffix(".yaml")
    for text in (configuration.pair_yaml(), "mine: true\n"):
        yaml.write_text(text)
        report = inspect(path)
        assert (report.yaml, report.yaml_fits) == (str(yaml), None)
        assert "yaml" not in report.verdict


@pytest.mark.parametrize(
    ("part", "prefix", "count"),
    [
        ("UNet", "model.diffusion_model.middle_block.", 40),
        ("UNet", "model.diffusion_model.out.2.bias", 1),
        ("MiDaS", "depth_model.model.pretrained.model.blocks.", 10),
    ],
)
def test_tensors_that_are_missing_are_counted(tmp_path, part, prefix, count):
    shapes = models.depth_shapes()
    gone = [name for name in shapes if name.startswith(prefix)][:count]
    assert len(gone) == count
    path = models.sparse_safetensors(
        tmp_path / "model.safetensors", {name: shape for name, shape in shapes.items() if name not in gone}
    )
    write_yaml_beside(path)
    report = inspect(path)
    assert report.missing == {part: count}
    assert report.verdict == f"A depth model with dpt_hybrid inside; it lacks {count} tensors of its {part}."


@pytest.mark.parametrize("preset", PRESETS)
def test_a_whole_midas_lacks_nothing_and_any_other_does(tmp_path, preset):
    """Counted on our networks, whose names the published files have. A head that classifies is not needed."""
    state = without_weights(PRESETS[preset].build).state_dict()
    network = {f"depth_model.model.{name}": tuple(tensor.shape) for name, tensor in state.items()}
    needed = {name: shape for name, shape in network.items() if ".pretrained.model.head." not in name}
    lacking = {name: shape for name, shape in needed.items() if not name.endswith("scratch.layer2_rn.weight")}
    for shapes, missing in ((network, {}), (needed, {}), (lacking, {"MiDaS": 1})):
        path = models.sparse_safetensors(tmp_path / "m.safetensors", models.depth_shapes(midas=False) | shapes)
        report = inspect(path)
        assert (report.midas, report.missing) == (preset, missing)


def test_the_packaged_model_lacks_nothing():
    report = inspect(SMALL_CHECKPOINT)
    assert report.missing == {}
    assert report.verdict == "A depth model with small inside; complete."


@pytest.mark.parametrize("name", ["ordinary", "inpainting", "sd1", "midas", "nothing"])
def test_only_depth_models_get_a_yaml(folder, name):
    path = folder / f"{name}.safetensors"
    assert not depth_model_without_yaml(path)
    assert write_yaml_beside(path) is None
    assert not path.with_suffix(".yaml").exists()


def test_fine_tunes_without_midas_get_one_too(folder):
    path = folder / "no-midas.safetensors"
    assert write_yaml_beside(path) == path.with_suffix(".yaml")
    assert inspect(path).yaml_fits is True
    assert "without MiDaS" in inspect(path).verdict


def test_the_yaml_is_stabilitys_in_content():
    """The values of the released file, and nothing besides."""
    ours = OmegaConf.to_container(OmegaConf.load(configuration.PAIR_YAML))
    params = ours["model"]["params"]
    assert ours["model"]["target"] == HOST_CLASS
    plain = {key: value for key, value in params.items() if not isinstance(value, dict)}
    assert plain == {
        "linear_start": 0.00085, "linear_end": 0.0120, "num_timesteps_cond": 1, "log_every_t": 200, "timesteps": 1000,
        "first_stage_key": "jpg", "cond_stage_key": "txt", "image_size": 64, "channels": 4,
        "cond_stage_trainable": False, "conditioning_key": "hybrid", "scale_factor": 0.18215,
        "monitor": "val/loss_simple_ema", "finetune_keys": None, "use_ema": False,
    }  # fmt: skip
    assert params["depth_stage_config"] == {
        "target": "ldm.modules.midas.api.MiDaSInference",
        "params": {"model_type": "dpt_hybrid"},
    }
    assert params["unet_config"]["params"] == {
        "use_checkpoint": True, "image_size": 32, "in_channels": 5, "out_channels": 4, "model_channels": 320,
        "attention_resolutions": [4, 2, 1], "num_res_blocks": 2, "channel_mult": [1, 2, 4, 4], "num_head_channels": 64,
        "use_spatial_transformer": True, "use_linear_in_transformer": True, "transformer_depth": 1, "context_dim": 1024,
        "legacy": False,
    }  # fmt: skip
    assert params["first_stage_config"]["params"] == {
        "embed_dim": 4,
        "monitor": "val/rec_loss",
        "ddconfig": {
            "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
            "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
        },
        "lossconfig": {"target": "torch.nn.Identity"},
    }  # fmt: skip
    assert params["cond_stage_config"] == {
        "target": "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder",
        "params": {"freeze": True, "layer": "penultimate"},
    }
    assert ours["model"]["base_learning_rate"] == 5e-7


def test_the_yaml_builds_a_model_of_the_checkpoints_size():
    """512-depth-ema.ckpt has 5,707,592,867 bytes; what the yaml describes fills it but for 0.6 MB of names."""
    total = sum(4 * torch.Size(shape).numel() for shape in models.depth_shapes().values())
    assert 0 < 5_707_592_867 - total < 1_000_000


# --- the command line ---


def test_the_command(folder, capsys):
    assert main(["checkpoint", "inspect", "--header-only", str(folder / "depth.safetensors")]) == 0
    text = capsys.readouterr().out
    assert "5 input channels, Stable Diffusion 2" in text
    assert "MiDaS:        dpt_hybrid" in text
    assert main(["checkpoint", "inspect", "--header-only", "--json", str(folder / "depth.safetensors")]) == 0
    assert json.loads(capsys.readouterr().out)["tensors"] == 1608


def test_the_command_writes_the_yaml_when_asked(tmp_path, capsys):
    path = models.sparse_safetensors(tmp_path / "model.safetensors", models.depth_shapes())
    assert main(["checkpoint", "inspect", "--header-only", "--write-yaml", str(path)]) == 0
    assert f"written: {path.with_suffix('.yaml')}" in capsys.readouterr().out


def test_a_hostile_file_is_one_line_and_exit_code_2(tmp_path, capsys):
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'true'\ntR.")
    assert main(["checkpoint", "inspect", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "os.system" in error
    with pytest.raises(TensorFileError):
        inspect(path)


# --- time and memory ---


class SparseFile:
    """A file that leaves holes where one certain block is written, so that a large zip takes no disk."""

    ZEROS = bytes(16 * 2**20)

    def __init__(self, file) -> None:
        self.file = file

    def write(self, data) -> int:
        if data is self.ZEROS:
            self.file.seek(len(data), 1)
            return len(data)
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


def large_ckpt(path: Path, monkeypatch) -> Path:
    """2,000 tensors in 5 GB, as torch.save writes them."""
    tiny = path.with_suffix(".tiny")
    torch.save({"state_dict": {f"model.layer{index}.weight": torch.zeros(1) for index in range(2_000)}}, tiny)
    crc32 = zipfile.crc32  # the sum over 5 GB of nothing takes seconds and nobody looks at it
    monkeypatch.setattr(zipfile, "crc32", lambda data, *rest: 0 if data is SparseFile.ZEROS else crc32(data, *rest))
    with zipfile.ZipFile(tiny) as small, path.open("w+b") as raw, zipfile.ZipFile(SparseFile(raw), "w") as large:
        for entry in small.infolist():
            large.writestr(entry.filename, small.read(entry))
        with large.open("tiny/filler", "w", force_zip64=True) as filler:
            for _ in range(320):
                filler.write(SparseFile.ZEROS)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "ckpt"])
def test_five_gigabytes_in_under_a_second_and_200_mb(tmp_path, monkeypatch, kind):
    if kind == "ckpt":
        path = large_ckpt(tmp_path / "large.ckpt", monkeypatch)
    else:
        path = models.sparse_safetensors(tmp_path / "large.safetensors", models.depth_shapes())
    assert path.stat().st_size > 5_000_000_000
    code = f"""
import re, time
from pathlib import Path
started = time.perf_counter()
from lib_depth2img.checkpoint.inspect import inspect
report = inspect({str(path)!r})
seconds = time.perf_counter() - started
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(report.tensors, seconds, peak)
"""
    best = 10.0
    for _ in range(3):  # the fastest of three: other work on the machine is not what is measured
        done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
        tensors, seconds, peak = (float(word) for word in done.stdout.split())
        best = min(best, seconds)
        assert tensors > 1_600
        assert peak < 200e6
        if best < 1:
            break
        time.sleep(1)
    assert best < 1


class TestDamage:
    """What would give black pictures, in the file of the small model."""

    @pytest.fixture
    def tensors(self) -> dict[str, torch.Tensor]:
        return load_file(SMALL_CHECKPOINT)

    def saved(self, folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
        path = folder / "model.safetensors"
        save_file(tensors, path)
        shutil.copy(SMALL_CONFIG, path.with_suffix(".yaml"))
        return path

    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize(
        "prefix", ["model.diffusion_model.out.", "first_stage_model.d", "cond_stage_model.", "depth_model.", "alphas_c"]
    )
    def test_numbers_that_are_none_are_said_by_the_command(self, tmp_path, tensors, prefix, number, capsys):
        name = next(name for name in tensors if name.startswith(prefix))
        broken = tensors[name].clone()
        broken.view(-1)[-1] = number
        path = self.saved(tmp_path, {**tensors, name: broken})
        assert main(["checkpoint", "inspect", "--quiet", str(path)]) == 0
        said = capsys.readouterr().out
        assert f"It holds numbers that are not finite (NaN or inf) in 1 tensors ({name}): it is damaged." in said
        assert "complete" not in said
        assert main(["checkpoint", "inspect", "--header-only", "--json", str(path)]) == 0
        assert json.loads(capsys.readouterr().out)["not_finite"] is None

    def test_copies_that_nobody_uses_do_not_count(self, tmp_path, tensors):
        path = self.saved(tmp_path, {**tensors, "model_ema.decay": torch.tensor(math.nan)})
        report = inspect(path, numbers=True)
        assert report.not_finite == []
        assert report.verdict == "A depth model with small inside; complete."

    def test_a_schedule_rounded_to_bfloat16_is_said(self, tmp_path, tensors):
        path = self.saved(tmp_path, {**tensors, "alphas_cumprod": tensors["alphas_cumprod"].bfloat16()})
        assert inspect(path).rounded_schedule
        assert "alphas_cumprod) is rounded to bfloat16, which makes black pictures." in inspect(path).verdict

    def test_missing_tensors_of_the_small_unet_are_counted(self, tmp_path, tensors):
        gone = [name for name in tensors if name.startswith("model.diffusion_model.middle")][:10]
        path = self.saved(tmp_path, {name: tensor for name, tensor in tensors.items() if name not in gone})
        assert "it lacks 10 tensors of its UNet" in inspect(path).verdict
