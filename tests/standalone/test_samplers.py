"""The samplers' steps: as many as asked for, from the noise that the denoising strength means, down to nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lib_depth2img.errors import RequestError
from lib_depth2img.standalone.generate import generate
from lib_depth2img.standalone.parameters import Parameters
from lib_depth2img.standalone.samplers import SAMPLERS, scheduler

BETAS = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
EVERY = Parameters(prompt="", size=(64, 64))


def _noise_to_signal(made) -> float:
    """The noise in what is handed to the UNet first, as a part of the latent in it."""
    t = made.timesteps[:1]
    noised = [
        made.add_noise(torch.full((1, 1, 1, 1), a), torch.full((1, 1, 1, 1), b), t) for a, b in ((1.0, 0.0), (0.0, 1.0))
    ]
    return float(noised[1] / noised[0])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("strength", [1.0, 0.75, 0.3, 0.01])
def test_every_step_count_starts_from_the_noise_that_the_strength_means(sampler, strength) -> None:
    alphas = np.cumprod(1 - BETAS)[round(1000 * strength) - 1]
    expected = ((1 - alphas) / alphas) ** 0.5
    for steps in range(1, 501):
        asked = dataclasses.replace(EVERY, denoising_strength=strength, steps=steps)
        made = scheduler(sampler, asked.steps_to_run, BETAS[: asked.noised(1000)], "epsilon")
        assert len(made.timesteps) == asked.steps_to_run == max(int(strength * steps + 1e-6), 1)
        assert _noise_to_signal(made) == pytest.approx(expected, rel=1e-4)
        assert round(float(made.timesteps[0])) == round(1000 * strength) - 1
        going_down = made.timesteps.diff() <= (
            0 if sampler == "DPM++ 2M" else -0.1
        )  # Karras' are rounded to whole ones
        assert going_down.all()
        assert 0 <= float(made.timesteps[-1]) <= 1000 * strength / asked.steps_to_run


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 61, 500])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_unet_gives_the_latent_back(sampler, steps, prediction) -> None:
    """Whatever the steps: one that knows noise and latent is right at once, and every sampler ends there."""
    generator = torch.Generator().manual_seed(0)
    latent, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    made = scheduler(sampler, steps, BETAS, prediction)
    alphas = torch.from_numpy(np.cumprod(1 - BETAS)).float()
    x = made.add_noise(latent, noise, made.timesteps[:1])
    drawing = {"generator": generator} if sampler in ("Euler a", "LCM") else {}
    for t in made.timesteps:
        a = alphas[int(t.round())]
        if sampler.startswith("Euler"):
            scaled = made.scale_model_input(x, t)
            eps = (scaled - a.sqrt() * latent) / (1 - a).sqrt()
        else:
            eps = (made.scale_model_input(x, t) - a.sqrt() * latent) / (1 - a).sqrt()
        answer = eps if prediction == "epsilon" else a.sqrt() * eps - (1 - a).sqrt() * latent
        x = made.step(answer, t, x, return_dict=False, **drawing)[0]
    assert float((x - latent).abs().max()) < 0.15


def test_each_sampler_makes_another_picture_of_the_same_kind(model, unseen) -> None:
    quick = Parameters(prompt="a red ball", size=(64, 64), steps=6, denoising_strength=0.8)
    made = {}
    for sampler in SAMPLERS:
        (result,) = generate(model, unseen.picture, unseen.depth_map, dataclasses.replace(quick, sampler=sampler))
        made[sampler] = np.asarray(result, float)
    for sampler, picture in made.items():
        others = [np.abs(picture - other).mean() for name, other in made.items() if name != sampler]
        assert min(others) > 0.05, sampler


@pytest.mark.parametrize("sampler", ["Euler a", "LCM"])
def test_samplers_that_draw_draw_by_the_pictures_own_seed(model, unseen, sampler) -> None:
    quick = Parameters(prompt="a red ball", size=(64, 64), steps=4, sampler=sampler, seed=7, batch_size=2)
    batch = generate(model, unseen.picture, unseen.depth_map, quick)
    (alone,) = generate(model, unseen.picture, unseen.depth_map, dataclasses.replace(quick, seed=8, batch_size=1))
    assert np.abs(np.asarray(batch[1], float) - np.asarray(alone, float)).max() <= 1
    assert np.abs(np.asarray(batch[0], float) - np.asarray(batch[1], float)).mean() > 1


def test_an_unknown_sampler_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match=r"The sampler is 'PLMS'; expected one of DDIM, Euler, Euler a, DPM\+\+ 2M"):
        Parameters(prompt="", size=(64, 64), sampler="PLMS")
