"""Every stage of the training for a few steps, one after the other, down to a checkpoint that makes a picture."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

with warnings.catch_warnings():  # ldm, timm and open_clip warn on import about one another
    warnings.simplefilter("ignore")
    from training import estimator, latents, text, unet, vae

from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.standalone.generate import estimate_depth, generate
from lib_depth2img.standalone.loading import load_model
from lib_depth2img.standalone.parameters import Parameters
from training.data import generate as generate_data
from training.export import PREFIXES, export
from training.loop import Settings, train

STEPS = Settings(steps=2, learning_rate=1e-3, warmup=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the outcome of each stage."""
    folder = tmp_path_factory.mktemp("runs")
    data = folder / "data"
    generate_data(data, scenes=6, looks=2, size=64, seed=9, processes=1)
    net = estimator.train_estimator(data, folder / "estimator", STEPS, batch=2, size=64)
    torch.save(net.state_dict(), folder / "estimator.pt")
    torch.save(vae.train_encoder(data, folder / "encoder", STEPS, size=32, batch=2), folder / "encoder.pt")
    decoder = vae.train_decoder(data, folder / "encoder.pt", folder / "vae", STEPS, size=32, batch=2)
    torch.save(decoder.state_dict(), folder / "vae.pt")
    latents.encode(data, folder / "encoder.pt", folder / "latents", size=64)
    latents.encode(data, folder / "encoder.pt", folder / "crops", size=64, crop=32)
    stage = text.train_text(folder / "text", STEPS, batch=4)
    torch.save({k: v for k, v in stage.state_dict().items() if "visual" not in k}, folder / "text.pt")
    model = unet.train_unet([folder / "latents", folder / "crops"], folder / "text.pt", folder / "unet", STEPS, batch=2)
    torch.save(model.state_dict(), folder / "unet.pt")
    return folder


def test_each_stage_writes_its_losses_and_a_state_to_resume_from(runs: Path) -> None:
    for stage in ("estimator", "encoder", "vae", "text", "unet"):
        last = json.loads((runs / stage / "log.jsonl").read_text().splitlines()[-1])
        assert last["step"] == 2
        assert np.isfinite(last["loss"])
        assert (runs / stage / "state.pt").is_file()


def test_latents_have_the_deviation_that_the_scale_factor_expects(runs: Path) -> None:
    found = latents.Latents(runs / "latents")
    assert found.latents.shape == (6, 2, 4, 8, 8)
    assert found.latents.std() == pytest.approx(1.0, abs=0.35)
    assert found.depth.min() == -1.0
    assert found.depth.max() == 1.0


def test_normalising_the_latents_leaves_the_pictures_as_they_are() -> None:
    torch.manual_seed(0)
    model = vae.build().eval()
    pictures = torch.rand(3, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before = model.decode(model.encode(pictures).mean)
        vae.normalise(model, pictures)
        posterior = model.encode(pictures)
        after = model.decode(posterior.mean)
    assert torch.allclose(before, after, atol=1e-3)
    deviation = posterior.mean.transpose(0, 1).flatten(1).std(1) * vae.SCALE_FACTOR
    assert torch.allclose(deviation, torch.ones(4), atol=1e-3)


def test_words_that_no_caption_uses_stay_silent(runs: Path) -> None:
    table = torch.load(runs / "text.pt")["model.token_embedding.weight"]
    known = text.known_tokens()
    unknown = torch.ones(len(table), dtype=torch.bool)
    unknown[known] = False
    assert not table[unknown].any()
    assert table[known].abs().sum(1).min() > 0


def test_the_exported_checkpoint_is_loaded_and_makes_a_picture(runs: Path) -> None:
    parts = {part: runs / f"{part}.pt" for part in PREFIXES}
    out = runs / "model.safetensors"
    export(parts, out)
    beside = Path("lib_depth2img/assets/depth2img-small.yaml")
    out.with_suffix(".yaml").write_text(beside.read_text())
    model = load_model(out)
    picture = Image.new("RGB", (64, 64), (90, 120, 30))
    depth = estimate_depth(model, picture)
    parameters = Parameters(prompt="a red ball", size=(64, 64), steps=2)
    (result,) = generate(model, picture, DepthMap.from_array(depth.values), parameters)
    assert result.size == (64, 64)


class _Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.zeros(3))


def _learn(folder: Path, steps: int, stop_after: int | None = None) -> torch.Tensor:
    torch.manual_seed(0)
    model = _Line()

    def loss(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        if step == stop_after:
            raise KeyboardInterrupt
        drawn = torch.from_numpy(rng.normal(size=3)).float() + torch.randn(3)
        return {"loss": ((model.slope - drawn) ** 2).sum()}

    return train(model, loss, folder, Settings(steps=steps, learning_rate=0.1, warmup=1, keep_s=0.0)).slope.detach()


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = _learn(tmp_path / "whole", 12)
    with pytest.raises(KeyboardInterrupt):
        _learn(tmp_path / "stopped", 12, stop_after=7)
    assert torch.equal(_learn(tmp_path / "stopped", 12), whole)
    assert not torch.equal(whole, torch.zeros(3))
