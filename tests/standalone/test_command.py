"""``img2img`` of the command line: what its options do, and what it says."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lib_depth2img.cli import main
from lib_depth2img.standalone import loading
from lib_depth2img.standalone.samplers import SAMPLERS

QUICK = ("--steps", "2", "--width", "64", "--height", "64")


@pytest.fixture
def img2img(tmp_path, unseen, checkpoint):
    """Run the command in this process: its exit code."""
    unseen.picture.save(tmp_path / "in.png")

    def run(*options: object, to: str = "out.png") -> int:
        words = ["img2img", tmp_path / "in.png", "--prompt", "a ball", "-o", tmp_path / to, "--checkpoint", checkpoint]
        return main([*map(str, words), *QUICK, *map(str, options)])

    return run


def _bytes(path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def _size(path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "nowhere"), "'nowhere' is no device; expected cpu, cuda"),
        (("--device", "mps"), "finds no mps device"),
        (("--precision", "float16"), "float16 does not run on a CPU; use bfloat16, which does, or float32."),
        (("--lora", "none.safetensors:0.5"), "There is no LoRA at none.safetensors; --lora takes FILE or FILE:WEIGHT."),
    ],
)
def test_what_cannot_be_is_refused_before_the_checkpoint_is_read(options, said, img2img, monkeypatch, capsys) -> None:
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("the checkpoint was read"))
    assert img2img(*options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_a_picture_is_written_and_progress_shown(tmp_path, unseen, checkpoint) -> None:
    unseen.picture.save(tmp_path / "in.png")
    words = ["img2img", tmp_path / "in.png", "--prompt", "a ball", "-o", tmp_path / "out.png"]
    command = [sys.executable, "-W", "ignore", "-m", "lib_depth2img", *map(str, words), *QUICK]
    options = ["--checkpoint", str(checkpoint), "--batch-size", "2", "--gamma", "1.5"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sampling: 100%" in done.stderr
    assert done.stdout.split() == [str(tmp_path / "out-1.png"), str(tmp_path / "out-2.png")]
    assert [_size(tmp_path / f"out-{n}.png") for n in (1, 2)] == [(64, 64)] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out-1.png", "out-2.png"]


def test_a_contact_sheet_is_written(img2img, tmp_path, capsys) -> None:
    assert img2img("--contact-sheet") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3  # the file, and a line for each row
    assert _size(tmp_path / "out.png")[0] > 5 * 64


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_step_of_each_sampler_makes_a_picture(img2img, tmp_path, sampler) -> None:
    assert img2img("--steps", 1, "--sampler", sampler) == 0
    assert img2img("--denoising-strength", 0, to="same.png") == 0
    assert _bytes(tmp_path / "out.png") != _bytes(tmp_path / "same.png")


def test_a_random_seed_is_said_and_gives_the_picture_again(img2img, tmp_path, capsys) -> None:
    assert img2img("--seed", -1) == 0
    (seed,) = re.findall(r"^seed (\d+)$", capsys.readouterr().err, re.MULTILINE)
    assert img2img("--seed", seed, to="again.png") == 0
    assert img2img("--seed", (int(seed) + 1) % 2**32, to="other.png") == 0
    assert _bytes(tmp_path / "out.png") == _bytes(tmp_path / "again.png") != _bytes(tmp_path / "other.png")


def test_a_lora_changes_the_picture_by_its_weight(img2img, tmp_path) -> None:
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v"
    lora = {f"{layer}.lora_up.weight": torch.ones(128, 1), f"{layer}.lora_down.weight": torch.ones(1, 128)}
    save_file(lora, tmp_path / "x.safetensors")
    made = []
    for number, weight in enumerate((None, ":0", "")):
        options = () if weight is None else ("--lora", f"{tmp_path / 'x.safetensors'}{weight}")
        assert img2img(*options, to=f"{number}.png") == 0
        made.append(_bytes(tmp_path / f"{number}.png"))
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("x.safetensors", "x.safetensors", 1.0),
        ("x.safetensors:0.5", "x.safetensors", 0.5),
        ("x.safetensors:-1", "x.safetensors", -1.0),
        (r"C:\loras\x.safetensors", r"C:\loras\x.safetensors", 1.0),
        (r"C:\x.safetensors:0.5", r"C:\x.safetensors", 0.5),
        ("x.safetensors:nan", "x.safetensors:nan", 1.0),  # no such file, which is then said
    ],
)
def test_a_drive_is_no_weight(text, path, weight) -> None:
    from lib_depth2img.cli import build_parser

    parsed = build_parser().parse_args(["img2img", "in.png", "--prompt", "", "-o", "out.png", "--lora", text])
    assert [(str(found), number) for found, number in parsed.lora] == [(path, weight)]


def test_a_file_whose_name_looks_like_a_weight_is_a_file(tmp_path, monkeypatch) -> None:
    from lib_depth2img.commands.generation import _lora

    monkeypatch.chdir(tmp_path)
    (tmp_path / "style:2").touch()
    assert (str(_lora("style:2")[0]), _lora("style:2")[1]) == ("style:2", 1.0)


def test_offload_says_that_it_does_nothing_on_a_cpu(img2img, capsys) -> None:
    assert img2img("--offload") == 0
    assert "--offload changes nothing on a CPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.diffusion_model.out.2.weight", "The UNet gave numbers that are not finite, computing in float32."),
        ("first_stage_model.decoder.conv_out.weight", "The autoencoder gave numbers that are not finite"),
    ],
)
def test_what_would_be_a_black_picture_is_an_error(img2img, tmp_path, checkpoint, capsys, name, said) -> None:
    tensors = load_file(checkpoint)
    tensors[name] = tensors[name].float() / tensors[name].abs().max() * 3e38  # finite, but not what comes of it
    save_file(tensors, tmp_path / "broken.safetensors")
    (tmp_path / "broken.yaml").write_text(checkpoint.with_suffix(".yaml").read_text())
    assert img2img("--checkpoint", tmp_path / "broken.safetensors") == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert said in error
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("package", ["diffusers", "open_clip", "scipy"])
def test_a_missing_package_is_asked_for_in_one_sentence(tmp_path, unseen, package) -> None:
    unseen.picture.save(tmp_path / "in.png")
    words = ["img2img", tmp_path / "in.png", "--prompt", "a", "-o", tmp_path / "out.png", *QUICK, "--contact-sheet"]
    without = f"import sys; sys.modules[{package!r}] = None"
    code = f"{without}; from lib_depth2img.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"{package} cannot be imported" in error
    assert "pip install 'sd-webui-depth2img[standalone]'" in error
    assert "Traceback" not in done.stderr


def test_a_missing_default_model_is_said_in_one_line(tmp_path, unseen, monkeypatch, capsys) -> None:
    from lib_depth2img.checkpoint import small_model

    monkeypatch.setattr(small_model, "SMALL_CHECKPOINT", tmp_path / "none.safetensors")
    unseen.picture.save(tmp_path / "in.png")
    assert main(["img2img", str(tmp_path / "in.png"), "--prompt", "a ball", "-o", str(tmp_path / "out.png")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--checkpoint" in error


def test_control_of_depth_by_options(img2img, tmp_path) -> None:
    region = Image.new("L", (32, 32), 0)
    region.save(tmp_path / "black.png")
    assert img2img(to="plain.png") == 0
    assert img2img("--depth-strength", 0, to="none.png") == 0
    assert img2img("--depth-region", tmp_path / "black.png", to="black.out.png") == 0
    assert img2img("--depth-end", 0.5, "--depth-mode", "depth", to="other.png") == 0
    plain, none, black, other = (_bytes(tmp_path / f"{name}.png") for name in ("plain", "none", "black.out", "other"))
    assert none == black
    assert len({plain, none, other}) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--depth-strength", "3"), "strength is 3.0; it has to be a number from 0 to 2"),
        (("--depth-start", "0.8", "--depth-end", "0.2"), "start is 0.8 and end is 0.2; start has to be at most end"),
        (("--depth-region", "none.png"), "none.png"),
    ],
)
def test_control_that_cannot_be_is_refused_before_the_checkpoint_is_read(
    options, said, img2img, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("the checkpoint was read"))
    assert img2img(*options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_maps_of_distances_by_either_name(img2img, tmp_path) -> None:
    rows = np.linspace(0.5, 9.0, 64, dtype=np.float32)[:, None] * np.ones((1, 64), np.float32)
    np.save(tmp_path / "far.npy", rows)
    np.save(tmp_path / "near.npy", 1 / rows)
    made = {}
    for name, options in {
        "near.npy": (),
        "far.npy": ("--distance",),
        "meant": ("--meaning", "distance"),
        "wrong": ("--meaning", "nearness"),
    }.items():
        depth_map = tmp_path / (name if name.endswith("npy") else "far.npy")
        assert img2img("--depth-map", depth_map, *options, to=f"{name}.png") == 0
        made[name] = _bytes(tmp_path / f"{name}.png")
    assert made["near.npy"] == made["far.npy"] == made["meant"] != made["wrong"]
