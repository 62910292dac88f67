"""What one run of the standalone road asks for, checked."""

from __future__ import annotations

from dataclasses import dataclass

from ..depth.adjust import Range
from ..depth.geometry import LATENT_FACTOR
from ..errors import RequestError
from .samplers import DEFAULT_SAMPLER, SAMPLERS

__all__ = ["SIZE_STEP", "Parameters"]

SIZE_STEP = 64
"""Width and height are multiples of this: 8 for the latent, and 8 again for the levels of Stable Diffusion's UNet."""

LATENT_CHANNELS = 4

_RANGES = {
    "denoising_strength": Range(0.0, 1.0),
    "steps": Range(1, 500),
    "cfg_scale": Range(1.0, 30.0),
    "seed": Range(0, 2**32 - 1),
    "batch_size": Range(1, 64),
}


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Prompt, size and sampling of one run; the names are the host's.

    ``size``: (width, height) of the result. ``sampler``: one of ``SAMPLERS``. ``from_noise``: start from noise alone,
    with nothing of the picture's colours in it; then every step is run, whatever the denoising strength.

    Raises:
        RequestError: a number out of range, an unknown sampler, or a size that is no multiple of ``SIZE_STEP``.
    """

    prompt: str
    size: tuple[int, int]
    negative_prompt: str = ""
    denoising_strength: float = 0.75
    steps: int = 30
    sampler: str = DEFAULT_SAMPLER
    cfg_scale: float = 4.0
    seed: int = 0
    batch_size: int = 1
    from_noise: bool = False

    def __post_init__(self) -> None:
        for name, allowed in _RANGES.items():
            allowed.checked(name, getattr(self, name))
        if self.sampler not in SAMPLERS:
            raise RequestError(f"The sampler is {self.sampler!r}; expected one of {', '.join(SAMPLERS)}.")
        for name, length in zip(("width", "height"), self.size, strict=True):
            if length < SIZE_STEP or length % SIZE_STEP:
                nearest = max(round(length / SIZE_STEP), 1) * SIZE_STEP
                raise RequestError(f"{name}: got {length}, expected a multiple of {SIZE_STEP}; {nearest} would do.")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one result's latent, and of its noise."""
        width, height = self.size
        return LATENT_CHANNELS, height // LATENT_FACTOR, width // LATENT_FACTOR

    @property
    def _strength(self) -> float:
        return 1.0 if self.from_noise else self.denoising_strength

    @property
    def steps_to_run(self) -> int:
        """How many of ``steps`` are run: the denoising strength's part of them, at least one; none at strength 0."""
        return max(int(self._strength * self.steps + 1e-6), 1) if self._strength > 0 else 0

    def noised(self, training_steps: int) -> int:
        """As how many of so many training steps the picture is noised at the start; depends on the strength alone."""
        return max(round(self._strength * training_steps), 1)
