"""From noise, or a noised latent, to a latent: the loop around a scheduler, with guidance and a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..depth.control import Control, Rows
from ..errors import CheckpointError
from ..progress import Listener, Progress
from .samplers import DRAWING, scheduler

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .loading import Model
    from .parameters import Parameters

__all__ = ["Sampling", "noise_of"]


def noise_of(seed: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """The standard normal noise that a seed begins with, float32 on the CPU, on every device the same."""
    import torch

    return torch.randn(shape, generator=seed)


@dataclass(frozen=True)
class Sampling:
    """What one run holds still.

    ``depth``: (1, 1, h, w) conditioning. ``prompt``, ``negative``: (1, tokens, width). ``control``: how much depth
    counts. ``noise``: (B, 4, h, w) standard normal, in the place of that of the seeds. What samplers draw at every step
    stays that of the seeds.
    """

    model: Model
    parameters: Parameters
    depth: Tensor
    prompt: Tensor
    negative: Tensor
    control: Control
    noise: Tensor | None = None

    def run(self, latent: Tensor, keep: Tensor | None, progress: Listener | None) -> Tensor:
        """Noise ``latent`` (1, 4, h, w) as far as the parameters say, denoise it: (B, 4, h, w) float32.

        ``keep``: (1, 1, h, w) in [0, 1]; where it is 1 the latent comes back.

        Raises:
            CheckpointError: what came out is not finite.
        """
        import torch

        wanted = self.parameters
        seeds = range(wanted.seed, wanted.seed + wanted.batch_size)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        # Drawn also where another is given: samplers that draw go on behind it.
        own = torch.stack([noise_of(each, latent.shape[1:]) for each in generators])
        noise = (own if self.noise is None else self.noise).to(latent.device)
        latent = latent.repeat(wanted.batch_size, 1, 1, 1)
        steps = wanted.steps_to_run
        if steps == 0:
            return latent
        betas = self.model.betas[: wanted.noised(len(self.model.betas))]
        made = scheduler(wanted.sampler, steps, betas, self.model.prediction_type)
        drawing: dict[str, Any] = {"generator": generators} if wanted.sampler in DRAWING else {}
        timesteps = made.timesteps.to(latent.device)
        x = noise * made.init_noise_sigma if wanted.from_noise else made.add_noise(latent, noise, timesteps[:1])
        with self.model.at_work(self.model.unet):
            for done, t in enumerate(timesteps):
                if keep is not None:
                    x = made.add_noise(latent, noise, t[None]) * keep + x * (1 - keep)
                predicted = self._predicted(made.scale_model_input(x, t), t, done / steps)
                x = made.step(predicted, t, x, return_dict=False, **drawing)[0]
                self._check(x)
                if progress is not None:
                    progress(Progress("sampling", "", done + 1, steps, unit="step"))
        return x if keep is None else latent * keep + x * (1 - keep)

    def _predicted(self, x: Tensor, t: Tensor, progress: float) -> Tensor:
        """What the UNet says of ``x``, led away from the negative prompt: (B, 4, h, w) float32."""
        import torch

        count, scale = len(x), self.parameters.cfg_scale
        if scale == 1:
            return self._controlled(x, t, self.prompt, [True] * count, progress)
        if self.prompt.shape == self.negative.shape:
            contexts = torch.cat([each.repeat(count, 1, 1) for each in (self.negative, self.prompt)])
            prompted = [False] * count + [True] * count
            without, with_prompt = self._controlled(x.repeat(2, 1, 1, 1), t, contexts, prompted, progress).chunk(2)
        else:  # of another number of chunks: one after the other, as the host does it
            without, with_prompt = (
                self._controlled(x, t, context, [prompted] * count, progress)
                for context, prompted in ((self.negative, False), (self.prompt, True))
            )
        return without + scale * (with_prompt - without)

    def _controlled(self, x: Tensor, t: Tensor, context: Tensor, prompted: list[bool], progress: float) -> Tensor:
        """What the UNet says of ``x`` (N, 4, h, w), with as much depth as counts."""
        import torch

        context = context.expand(len(x), -1, -1).to(self._dtype)

        def asked(channel: Tensor) -> Tensor:
            seen = torch.cat([x, channel], dim=1).to(self._dtype)
            found: Tensor = self.model.unet(seen, t, context, return_dict=False)[0]
            return found.float()

        channel = self.depth.expand(len(x), -1, -1, -1)
        return self.control.answer(asked, channel, Rows([0] * len(x), prompted), progress)

    @property
    def _dtype(self) -> torch.dtype:
        """The UNet's; its own ``dtype`` goes through all of its modules each time, almost a millisecond."""
        found: torch.dtype = next(self.model.unet.parameters()).dtype
        return found

    def _check(self, x: Tensor) -> None:
        if not bool(x.isfinite().all()):
            precision = str(self._dtype).removeprefix("torch.")
            remedy = (
                "The checkpoint or a LoRA is broken, or --cfg-scale too high."
                if precision == "float32"
                else "Use --precision float32, or bfloat16 instead of float16."
            )
            raise CheckpointError(f"The UNet gave numbers that are not finite, computing in {precision}. {remedy}")
