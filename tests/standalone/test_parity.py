"""The parts and the whole against Stability's own code with the same weights and the same noise."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from ldm.models.diffusion import ddim

from lib_depth2img.depth.control import Control
from lib_depth2img.standalone.parameters import Parameters
from lib_depth2img.standalone.samplers import scheduler
from lib_depth2img.standalone.sampling import Sampling

PROMPT = "a red ball on a blue table, studio light"


def _worst(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max())


@pytest.fixture(scope="module")
def latent() -> torch.Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("prompt", ["", PROMPT, "Ünïcode &amp; «punctuation»,  it's 3.5", "a ball " * 37])
def test_the_text_encoder_is_theirs(model, ldms, prompt) -> None:
    with torch.no_grad():
        theirs = ldms.get_learned_conditioning([prompt])
    assert _worst(model.text(prompt), theirs) < 1e-5


def test_the_autoencoder_is_theirs(model, ldms, latent) -> None:
    pictures = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(4)) * 2 - 1
    with torch.no_grad():
        assert (
            _worst(model.vae.encode(pictures).latent_dist.mode(), ldms.first_stage_model.encode(pictures).mode()) < 1e-4
        )
        assert _worst(model.vae.decode(latent).sample, ldms.first_stage_model.decode(latent)) < 1e-4


@pytest.mark.parametrize("t", [0, 500, 999])
def test_the_unet_is_theirs(model, ldms, latent, t) -> None:
    depth, context = torch.rand(2, 1, 16, 16), torch.randn(2, 154, 96)
    x = torch.cat([latent.repeat(2, 1, 1, 1), depth], dim=1)
    with torch.no_grad():
        theirs = ldms.model.diffusion_model(x, torch.tensor([t, t]), context)
        assert _worst(model.unet(x, torch.tensor(t), context).sample, theirs) < 1e-4
    assert theirs.std() > 0.01


def test_the_schedule_is_theirs(model, ldms) -> None:
    assert np.abs(model.betas - ldms.betas.double().numpy()).max() < 1e-8
    assert ldms.parameterization == "v"
    assert model.prediction_type == "v_prediction"


def _ldms_ddim(ldms: Any, timesteps: np.ndarray, latent: torch.Tensor, depth: torch.Tensor, parameters: Parameters):
    """Their sampler from the noise of ``parameters``' seed, on these timesteps (ascending)."""
    noise = torch.randn(latent.shape[1:], generator=torch.Generator().manual_seed(parameters.seed))[None]
    with contextlib.redirect_stdout(io.StringIO()), patch.object(ddim, "make_ddim_timesteps", lambda **_: timesteps):
        sampler = ddim.DDIMSampler(ldms)
        sampler.make_schedule(len(timesteps), verbose=False)
        x = sampler.stochastic_encode(latent, torch.tensor([len(timesteps) - 1]), noise=noise)
        conditions = [
            {"c_concat": [depth], "c_crossattn": [ldms.get_learned_conditioning([text])]}
            for text in (parameters.prompt, parameters.negative_prompt)
        ]
        for index in reversed(range(len(timesteps))):
            t = torch.tensor([int(timesteps[index])])
            scale = parameters.cfg_scale
            x, _ = sampler.p_sample_ddim(
                x, conditions[0], t, index, unconditional_guidance_scale=scale, unconditional_conditioning=conditions[1]
            )
    return x


@pytest.mark.parametrize("prediction", ["v", "eps"])
@pytest.mark.parametrize(("strength", "steps"), [(1.0, 10), (0.6, 10), (1.0, 7)])
def test_latents_after_ddim_are_theirs(model, ldms, latent, monkeypatch, strength, steps, prediction) -> None:
    monkeypatch.setattr(ldms, "parameterization", prediction)
    words = {"v": "v_prediction", "eps": "epsilon"}
    model = dataclasses.replace(model, prediction_type=words[prediction])
    depth = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1
    parameters = Parameters(
        prompt=PROMPT, negative_prompt="grey", size=(128, 128), denoising_strength=strength, steps=steps, seed=7
    )
    with torch.no_grad():
        texts = [model.text(text) for text in (parameters.prompt, parameters.negative_prompt)]
        ours = Sampling(model, parameters, depth, *texts, Control()).run(latent, None, None)
        betas = model.betas[: parameters.noised(1000)]
        timesteps = scheduler("DDIM", parameters.steps_to_run, betas, "epsilon").timesteps.numpy()[::-1].copy()
        theirs = _ldms_ddim(ldms, timesteps, latent, depth, parameters)
    assert theirs.std() > 0.3
    print(_worst(ours, theirs), theirs.std())
    assert _worst(ours, theirs) < 1e-3
