"""The samplers by the names the WebUI gives them: diffusers' schedulers, each on the same steps.

A denoising strength of s means the noise of s of all training steps, whatever the sampler and however many steps: the
scheduler is given no more of the schedule than that, and goes down from there to nothing. So no step count is rounded
to a grid, as it is where a part of the steps is cut off (the host, diffusers' pipelines, ldm's DDIM).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .packages import importing

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DEFAULT_SAMPLER", "SAMPLERS", "scheduler"]

DEFAULT_SAMPLER = "DDIM"

SAMPLERS: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        # The first order of this solver is DDIM (arXiv:2206.00927, 4.1) on any steps; diffusers' own DDIM takes a step
        # for shorter than it is where their number does not divide 1000. The last one ends where ldm's does.
        "DDIM": ("DPMSolverMultistepScheduler", {"solver_order": 1, "final_sigmas_type": "sigma_min"}),
        "Euler": ("EulerDiscreteScheduler", {}),
        "Euler a": ("EulerAncestralDiscreteScheduler", {}),
        "DPM++ 2M": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),  # what "Automatic" means in the WebUI
        "UniPC": ("UniPCMultistepScheduler", {}),
        "LCM": ("LCMScheduler", {}),
    }
)
"""diffusers' class, and how it is set up."""

DRAWING = frozenset({"Euler a", "LCM"})
"""Samplers that draw noise at every step."""


def scheduler(sampler: str, steps: int, betas: np.ndarray, prediction_type: str) -> Any:
    """diffusers' scheduler of that name, ready for ``steps`` steps from the end of ``betas`` down to nothing.

    ``betas``: (t,) float64, the noise that each training step adds, up to the first that is undone; t >= ``steps``.
    Its ``timesteps`` are exactly so many.

    Raises:
        CheckpointError: diffusers is missing.
    """
    with importing("diffusers"):
        import diffusers

        name, options = SAMPLERS[sampler]
        kind = getattr(diffusers, name)
    spacing = {"original_inference_steps": len(betas)} if sampler == "LCM" else {"timestep_spacing": "trailing"}
    made = kind(
        num_train_timesteps=len(betas),
        trained_betas=betas.tolist(),
        prediction_type=prediction_type,
        **spacing,
        **options,
    )
    made.set_timesteps(steps)
    # Of 71 in 2000 step counts its arithmetic makes one more, at -1.
    made.timesteps = made.timesteps[:steps]
    made.set_begin_index(0)  # else it looks for the timestep, which Karras' spacing can hold twice
    return made
