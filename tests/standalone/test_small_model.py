"""The proof that depth-to-image works in the small model, on scenes and prompts of a seed that training never used."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from lib_depth2img.cli import main
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.standalone.generate import generate
from lib_depth2img.standalone.loading import load_model
from lib_depth2img.standalone.parameters import Parameters
from lib_depth2img.standalone.pictures import from_tensor, to_tensor
from lib_depth2img.weights.tensor_file import open_tensor_file
from training.measure import (
    GREY,
    Unseen,
    depth_agreement,
    edge_agreement,
    named_colour_is_nearest,
    unseen_scenes,
)

SEED = 4242  # training used 1, its validation 77
COUNT = 50
FLAT = DepthMap.from_array(np.zeros((8, 8), np.float32))


def _parameters(prompt: str, seed: int, **others: object) -> Parameters:
    values = {"denoising_strength": 1.0, "steps": 12, "cfg_scale": 3.0, "size": (256, 256), **others}
    return Parameters(prompt=prompt, seed=seed, **values)


@pytest.fixture(scope="module")
def model():
    return load_model(SMALL_CHECKPOINT)


@dataclass(frozen=True)
class Result:
    """One unseen scene, and what the model made of its depth and of none."""

    scene: Unseen
    with_depth: Image.Image
    without: Image.Image


@pytest.fixture(scope="module")
def results(model) -> list[Result]:
    found = []
    for index, scene in enumerate(unseen_scenes(COUNT, SEED)):
        parameters = _parameters(scene.prompt, index)
        made = (generate(model, GREY, depth_map, parameters)[0] for depth_map in (scene.depth_map, FLAT))
        found.append(Result(scene, *made))
    return found


def test_the_file_is_small_and_in_stable_diffusions_own_names() -> None:
    assert SMALL_CHECKPOINT.stat().st_size <= 32e6
    with open_tensor_file(SMALL_CHECKPOINT) as file:
        shapes = {name: tuple(entry.shape) for name, entry in file.items()}
        assert {entry.dtype for name, entry in file.items() if name != "alphas_cumprod"} == {"float16"}
    assert shapes["model.diffusion_model.input_blocks.0.0.weight"][1] == 5
    assert shapes["first_stage_model.post_quant_conv.weight"][:2] == (4, 4)
    roots = {name.split(".")[0] for name in shapes}
    assert roots == {"model", "first_stage_model", "cond_stage_model", "depth_model", "alphas_cumprod"}


def test_composition_comes_from_the_depth_channel(model, results) -> None:
    kept = [depth_agreement(model, result.with_depth, result.scene.nearness) for result in results]
    assert np.median(kept) >= 0.9


def test_without_depth_there_is_no_such_composition(model, results) -> None:
    flat = [depth_agreement(model, result.without, result.scene.nearness) for result in results]
    assert np.median(flat) <= 0.3


def test_another_scenes_depth_gives_another_composition(model, results) -> None:
    others = [
        depth_agreement(model, result.with_depth, results[(index + 1) % len(results)].scene.nearness)
        for index, result in enumerate(results)
    ]
    assert np.median(others) <= 0.3


def test_edges_lie_on_the_true_depths_edges_by_a_yardstick_without_the_estimator(results) -> None:
    with_depth = np.median([edge_agreement(result.with_depth, result.scene.nearness) for result in results])
    without = np.median([edge_agreement(result.without, result.scene.nearness) for result in results])
    assert with_depth >= 0.75
    assert without <= 0.6


def test_the_named_colour_is_the_nearest_of_the_palette(results) -> None:
    right = [
        named_colour_is_nearest(result.with_depth, result.scene.subject, result.scene.look.colour) for result in results
    ]
    assert np.mean(right) >= 0.9


def test_the_estimator_knows_near_from_far_on_unseen_scenes(model, results) -> None:
    found = [depth_agreement(model, result.scene.picture, result.scene.nearness) for result in results]
    assert np.median(found) >= 0.95


@pytest.fixture(scope="module")
def repainted(model) -> tuple[Unseen, Image.Image, Image.Image]:
    """A scene with a blue tower, its mask, and the tower painted anew in red."""
    scene = next(s for s in unseen_scenes(200, seed=88) if s.look.subject == "tower" and s.look.colour == "blue")
    mask = Image.fromarray(scene.subject.astype(np.uint8) * 255)
    (result,) = generate(model, scene.picture, scene.depth_map, _parameters("a red tower", 3), mask=mask)
    return scene, mask, result


def test_inpainting_keeps_what_is_not_masked(model, repainted) -> None:
    scene, _, result = repainted
    around = ~scene.subject
    before, after = (np.asarray(picture, float)[around] for picture in (scene.picture, result))
    latent = model.vae.encode(to_tensor(scene.picture)).latent_dist.mode()
    round_trip = np.asarray(from_tensor(model.vae.decode(latent).sample)[0], float)[around]
    assert np.abs(after - before).mean() < np.abs(round_trip - before).mean()


def test_inpainting_gives_the_masked_object_the_prompts_colour_and_the_depths_shape(model, repainted) -> None:
    scene, _, result = repainted
    assert named_colour_is_nearest(result, scene.subject, "red")
    assert depth_agreement(model, result, scene.nearness) >= 0.8


def test_it_is_usable_at_twice_the_size(model, unseen) -> None:
    (result,) = generate(model, GREY, unseen.depth_map, _parameters(unseen.prompt, 1, size=(512, 512)))
    assert result.size == (512, 512)
    assert depth_agreement(model, result, unseen.nearness) >= 0.8


def test_the_demo_shows_what_depth_is_for(tmp_path) -> None:
    sheet = tmp_path / "demo.png"
    command = [sys.executable, "-m", "lib_depth2img", "demo", "--output", str(sheet), "--steps", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    rows = [line for line in done.stdout.splitlines() if "agreement of depth" in line]
    at_full_strength = [float(row.rsplit(" ", 1)[1]) for row in rows]
    for plain, with_depth in zip(at_full_strength[::2], at_full_strength[1::2], strict=True):
        assert with_depth >= 0.6
        assert plain <= with_depth - 0.3
    with Image.open(sheet) as picture:
        assert picture.size[0] > 5 * 256


def test_inspect_knows_it(capsys) -> None:
    assert main(["checkpoint", "inspect", str(SMALL_CHECKPOINT), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["midas"], found["unet_channels"]) == ("small", 5)


def test_no_path_of_the_machine_that_trained_it_is_in_the_yaml() -> None:
    text = Path(SMALL_CHECKPOINT).with_suffix(".yaml").read_text()
    assert "/" not in text.replace("depth2img-small-text.json", "")
