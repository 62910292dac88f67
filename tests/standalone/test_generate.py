"""The standalone road: what each input does, and what is refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lib_depth2img.checkpoint.small_model import SMALL_CONFIG, register_architecture
from lib_depth2img.depth.adjust import Adjustments
from lib_depth2img.depth.conditioning import conditioning
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.errors import CheckpointError, RequestError, TensorFileError
from lib_depth2img.standalone import generate as road
from lib_depth2img.standalone.agreement import rank_correlation
from lib_depth2img.standalone.contact_sheet import STRENGTHS, contact_sheet, stacked
from lib_depth2img.standalone.generate import estimate_depth, generate
from lib_depth2img.standalone.loading import load_model
from lib_depth2img.standalone.pictures import default_size, from_tensor, placed, placement, to_tensor
from lib_depth2img.standalone.settings import Settings
from tests.pretend import pretended

QUICK = Settings(prompt="a red ball on a blue table", size=(64, 64), steps=4, denoising_strength=1.0)


def _array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, float)


def test_number_i_of_a_batch_is_that_of_the_seed_plus_i(model, unseen) -> None:
    batch = generate(model, unseen.picture, unseen.depth_map, dataclasses.replace(QUICK, batch_size=2, seed=7))
    (alone,) = generate(model, unseen.picture, unseen.depth_map, dataclasses.replace(QUICK, seed=8))
    assert np.abs(_array(batch[1]) - _array(alone)).max() <= 1
    assert np.abs(_array(batch[0]) - _array(batch[1])).mean() > 1


def test_from_noise_takes_nothing_from_the_picture(model, unseen) -> None:
    black, white = (Image.new("RGB", (256, 256), value) for value in ("black", "white"))
    settings = dataclasses.replace(QUICK, from_noise=True, denoising_strength=0.3)
    first, second = (generate(model, picture, unseen.depth_map, settings)[0] for picture in (black, white))
    assert np.array_equal(_array(first), _array(second))
    kept = dataclasses.replace(QUICK, denoising_strength=0.3)
    first, second = (generate(model, picture, unseen.depth_map, kept)[0] for picture in (black, white))
    assert np.abs(_array(second) - _array(first)).mean() > 1


def test_depth_prompt_and_negative_prompt_each_change_the_result(model, unseen) -> None:
    (result,) = generate(model, unseen.picture, unseen.depth_map, QUICK)
    turned = DepthMap.from_array(np.ascontiguousarray(unseen.nearness[::-1]))
    (other_depth,) = generate(model, unseen.picture, turned, QUICK)
    prompts = ({"prompt": "green hills, foggy"}, {"negative_prompt": "a red ball"})
    others = [generate(model, unseen.picture, unseen.depth_map, dataclasses.replace(QUICK, **p))[0] for p in prompts]
    for other in (other_depth, *others):
        assert np.abs(_array(other) - _array(result)).mean() > 0.1


def test_strength_zero_is_the_round_trip_of_the_vae(model, unseen) -> None:
    (result,) = generate(model, unseen.picture, unseen.depth_map, dataclasses.replace(QUICK, denoising_strength=0.0))
    with torch.no_grad():
        latent = model.first_stage_model.encode(to_tensor(placed(unseen.picture, QUICK.size))).mode()
        expected = from_tensor(model.first_stage_model.decode(latent))[0]
    assert np.abs(_array(result) - _array(expected)).max() <= 1


def test_the_conditioning_is_the_librarys(model, unseen, monkeypatch) -> None:
    seen = []
    sampler = road._Sampling.run
    monkeypatch.setattr(road._Sampling, "run", lambda self, *rest: seen.append(self.depth) or sampler(self, *rest))
    adjustments = Adjustments(gamma=2.0, invert=True)
    generate(model, unseen.picture, unseen.depth_map, QUICK, adjustments=adjustments)
    expected = conditioning(unseen.depth_map.adjusted(adjustments), placement(unseen.picture, QUICK.size))
    assert torch.equal(seen[0], expected)


def test_progress_counts_every_step(model, unseen) -> None:
    counts: list[tuple[int, int]] = []
    settings = dataclasses.replace(QUICK, denoising_strength=0.5)
    generate(
        model,
        unseen.picture,
        unseen.depth_map,
        settings,
        progress=lambda moment: counts.append((moment.done, moment.total)),
    )
    assert counts == [(1, 2), (2, 2)]


def test_what_is_not_masked_stays_to_the_pixel(model, unseen) -> None:
    picture = unseen.picture.resize((64, 64))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    (result,) = generate(model, picture, unseen.depth_map, QUICK, mask=mask)
    changed = np.abs(_array(result) - _array(picture)).sum(2) > 0
    assert not changed[np.asarray(mask) == 0].any()
    assert changed[np.asarray(mask) > 0].mean() > 0.5


def test_running_out_of_memory_is_said_in_plain_words(model, unseen, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 64 bytes")

    monkeypatch.setattr(model, "decode_first_stage", full)
    with pytest.raises(RequestError, match=r"Not enough memory for 1 x 64x64.*--batch-size"):
        generate(model, unseen.picture, unseen.depth_map, QUICK)


def test_other_errors_of_torch_are_not_called_a_lack_of_memory(model, unseen, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(model, "decode_first_stage", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        generate(model, unseen.picture, unseen.depth_map, QUICK)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"denoising_strength": 1.2}, "denoising_strength is 1.2; it has to be a number from 0 to 1"),
        ({"steps": 0}, "steps is 0; it has to be a number from 1 to 500"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"size": (100, 64)}, "width: got 100, expected a multiple of 64; 128 would do"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_range(change: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        dataclasses.replace(QUICK, **change)


def test_a_default_size_keeps_the_pictures_shape() -> None:
    assert default_size(Image.new("RGB", (900, 600)), short_side=256, step=64) == (384, 256)
    assert default_size(Image.new("RGB", (10, 5000)), short_side=256, step=64)[0] == 256


def test_placed_pictures_fill_the_size_as_the_depth_does() -> None:
    columns = np.tile(np.arange(300, dtype=np.uint8)[None] // 2, (100, 1))
    picture = Image.fromarray(columns).convert("RGB")
    result = np.asarray(placed(picture, (64, 64)))[..., 0].astype(float)
    depth = conditioning(DepthMap.from_array(columns), placement(picture, (64, 64)))[0, 0].numpy()
    assert result.min() > 40  # 100 columns on each side are cut off
    assert np.corrcoef(result.reshape(8, 8, 8, 8).mean((1, 3)).ravel(), depth.ravel())[0, 1] > 0.999


def test_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, (2, 40, 30)).astype(float)  # many ties
    assert rank_correlation(a, a + b) == pytest.approx(spearmanr(a.ravel(), (a + b).ravel()).statistic)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, np.zeros_like(a)) == 0


def test_the_contact_sheet_has_a_row_without_and_a_row_with_depth(model, unseen) -> None:
    counts: list[tuple[int, int]] = []
    settings = dataclasses.replace(QUICK, steps=2)
    sheet = contact_sheet(
        model,
        unseen.picture,
        unseen.depth_map,
        settings,
        progress=lambda moment: counts.append((moment.done, moment.total)),
    )
    assert [row.title for row in sheet.rows] == ["img2img, no depth", "depth-to-image"]
    assert counts[-1] == (2 * len(STRENGTHS), 2 * len(STRENGTHS))
    assert all(len(row.agreement) == len(STRENGTHS) for row in sheet.rows)
    assert "1.0: " in str(sheet.rows[1])
    assert sheet.image.width > 5 * 64
    assert stacked([sheet.image, sheet.image]).height == 2 * sheet.image.height


def _save(path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    path.with_suffix(".yaml").write_text(SMALL_CONFIG.read_text())


@pytest.fixture(scope="module")
def tensors(checkpoint) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(checkpoint)


def test_four_channels_are_no_depth_model(tmp_path, tensors) -> None:
    first = "model.diffusion_model.input_blocks.0.0.weight"
    _save(tmp_path / "plain.safetensors", {**tensors, first: tensors[first][:, :4]})
    with pytest.raises(CheckpointError, match=r"takes 4 channels; a depth-to-image model takes 5"):
        load_model(tmp_path / "plain.safetensors")


def test_a_lora_is_no_checkpoint(tmp_path) -> None:
    _save(tmp_path / "lora.safetensors", {"lora_unet_x.lora_up.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match=r"nothing under model.diffusion_model"):
        load_model(tmp_path / "lora.safetensors")


def test_missing_tensors_are_counted_and_named(tmp_path, tensors) -> None:
    name = "first_stage_model.post_quant_conv.weight"
    _save(tmp_path / "cut.safetensors", {key: tensor for key, tensor in tensors.items() if key != name})
    with pytest.raises(CheckpointError, match=r"1 tensors are missing .first_stage_model.post_quant_conv.weight"):
        load_model(tmp_path / "cut.safetensors")


def test_other_shapes_are_refused_by_name(tmp_path, tensors) -> None:
    name = "first_stage_model.post_quant_conv.bias"
    _save(tmp_path / "odd.safetensors", {**tensors, name: torch.zeros(5)})
    with pytest.raises(CheckpointError, match=r"post_quant_conv.bias is \(5,\), expected \(4,\)"):
        load_model(tmp_path / "odd.safetensors")


def test_a_broken_file_is_said_to_be_one(tmp_path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(TensorFileError):
        load_model(tmp_path / "broken.safetensors")


def test_a_fine_tune_without_a_depth_stage_still_takes_a_map(tmp_path, tensors, unseen) -> None:
    bare = {name: tensor for name, tensor in tensors.items() if not name.startswith("depth_model.")}
    _save(tmp_path / "bare.safetensors", bare)
    model = load_model(tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match=r"holds no depth_model.*--depth-map"):
        estimate_depth(model, unseen.picture)
    assert len(generate(model, unseen.picture, unseen.depth_map, QUICK)) == 1


@pytest.mark.parametrize("device", ["mps", "cuda"])
def test_another_device_gives_the_same_picture(device, checkpoint, unseen) -> None:
    """MPS holds no float64, of which ldm's schedule has some."""
    mask = Image.new("L", unseen.picture.size)
    mask.paste(255, (0, 0, unseen.picture.width // 2, unseen.picture.height))
    here = load_model(checkpoint)
    expected = generate(here, unseen.picture, estimate_depth(here, unseen.picture), QUICK, mask=mask)
    with pretended():
        there = load_model(checkpoint, device=device)
        depth_map = estimate_depth(there, unseen.picture, device=device)
        found = generate(there, unseen.picture, depth_map, QUICK, mask=mask)
    assert {each.device.type for each in there.parameters()} == {device}
    assert np.abs(np.asarray(found[0], float) - np.asarray(expected[0], float)).max() <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "nowhere"), "'nowhere' is no device; expected cpu, cuda"),
        (("--device", "mps"), "finds no mps device"),
        (("--precision", "float16"), "float16 does not run on a CPU; use bfloat16, which does, or float32."),
    ],
)
def test_what_the_machine_cannot_do_is_refused_before_the_checkpoint_is_read(
    options, said, tmp_path, unseen, checkpoint, monkeypatch, capsys
) -> None:
    from lib_depth2img.cli import main
    from lib_depth2img.standalone import loading

    unseen.picture.save(tmp_path / "in.png")
    arguments = ["img2img", str(tmp_path / "in.png"), "--prompt", "a ball", "-o", str(tmp_path / "out.png")]
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("the checkpoint was read"))
    assert main([*arguments, "--checkpoint", str(checkpoint), *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_registering_the_architecture_twice_is_registering_it_once() -> None:
    import open_clip
    from open_clip import factory

    register_architecture()
    before = len(factory._MODEL_CONFIG_PATHS)
    register_architecture()
    assert len(factory._MODEL_CONFIG_PATHS) == before
    assert "depth2img-small-text" in open_clip.list_models()


def _size(path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _img2img(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "lib_depth2img", "img2img", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line_writes_a_picture_and_shows_progress(tmp_path, unseen, checkpoint) -> None:
    unseen.picture.save(tmp_path / "in.png")
    quick = ("--steps", 2, "--width", 64, "--height", 64, "--batch-size", 2, "--gamma", 1.5)
    done = _img2img(
        tmp_path / "in.png", "--prompt", "a ball", "-o", tmp_path / "out.png", "--checkpoint", checkpoint, *quick
    )
    assert done.returncode == 0, done.stderr
    assert "img2img: 100%" in done.stderr
    assert done.stdout.split() == [str(tmp_path / "out-1.png"), str(tmp_path / "out-2.png")]
    assert [_size(tmp_path / f"out-{n}.png") for n in (1, 2)] == [(64, 64)] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out-1.png", "out-2.png"]


def test_the_command_line_writes_a_contact_sheet(tmp_path, unseen, checkpoint) -> None:
    unseen.picture.save(tmp_path / "in.png")
    quick = ("--steps", 2, "--width", 64, "--height", 64, "--contact-sheet")
    done = _img2img(
        tmp_path / "in.png", "--prompt", "a ball", "-o", tmp_path / "out.png", "--checkpoint", checkpoint, *quick
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3  # the file, and a line for each row
    assert _size(tmp_path / "out.png")[0] > 5 * 64


def test_a_missing_default_model_is_said_in_one_line(tmp_path, unseen, monkeypatch, capsys) -> None:
    from lib_depth2img.checkpoint import small_model
    from lib_depth2img.cli import main

    monkeypatch.setattr(small_model, "SMALL_CHECKPOINT", tmp_path / "none.safetensors")
    unseen.picture.save(tmp_path / "in.png")
    assert main(["img2img", str(tmp_path / "in.png"), "--prompt", "a ball", "-o", str(tmp_path / "out.png")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--checkpoint" in error


def test_a_checkpoint_without_a_yaml_is_taken_for_512_depth_ema_and_nothing_is_fetched(tmp_path) -> None:
    from lib_depth2img.standalone.loading import _configuration

    parameters = _configuration(tmp_path / "512-depth-ema.ckpt").params
    assert parameters.unet_config.params.model_channels == 320
    assert parameters.cond_stage_config.params.version is None
    assert parameters.depth_stage_config.target == "lib_depth2img.estimators.stage.DepthStage"
    assert parameters.depth_stage_config.params.model_type == "dpt_hybrid"
