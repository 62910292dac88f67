"""From a picture, its depth map and a prompt to new pictures."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..depth.adjust import Adjustments
from ..depth.conditioning import conditioning
from ..devices import autocast, out_of_memory_as
from ..errors import CheckpointError, RequestError
from ..estimators.estimator import DepthEstimator
from ..estimators.network import BorrowedNetwork
from ..progress import Listener, Progress
from . import pictures
from .loading import has_depth_stage, quiet
from .settings import Settings

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..depth.depth_map import DepthMap

__all__ = ["estimate_depth", "generate"]


def estimate_depth(model: Any, picture: Image.Image, *, device: str | torch.device = "cpu") -> DepthMap:
    """Nearness of the picture by the depth stage that the checkpoint brought.

    Raises:
        CheckpointError: the checkpoint brought none.
        EstimatorError: the estimate failed.
    """
    if not has_depth_stage(model):
        raise CheckpointError(
            "The checkpoint holds no depth_model.*, so it cannot estimate depth. Bring a map with --depth-map, or make "
            "one: python -m lib_depth2img depth."
        )
    stage = model.depth_model
    network = BorrowedNetwork(lambda: contextlib.nullcontext(stage), key=id(stage), device=device)
    return DepthEstimator(stage.preset.name, weights=network).estimate([picture])[0]


def generate(
    model: Any,
    picture: Image.Image,
    depth_map: DepthMap,
    settings: Settings,
    *,
    mask: Image.Image | None = None,
    adjustments: Adjustments | None = None,
    precision: str = "float32",
    progress: Listener | None = None,
) -> list[Image.Image]:
    """``settings.batch_size`` pictures of ``settings.size``; number i of them is that of the seed plus i alone.

    ``mask``: white is painted anew, black stays as it is in the picture; of any size. ``depth_map``: over the whole
    of ``picture``. ``precision``: what ldm's autocast computes in, a torch dtype's name.

    Raises:
        RequestError: not enough memory for the size and batch.
        DeviceError: the model's device does not compute in `precision`.
    """
    import torch

    if adjustments is not None and not adjustments.is_identity:
        depth_map = depth_map.adjusted(adjustments)
    depth = conditioning(depth_map, pictures.placement(picture, settings.size), batch_size=settings.batch_size)
    init = pictures.placed(picture, settings.size)
    device = model.betas.device
    with (
        out_of_memory_as(functools.partial(_too_large, settings)),
        quiet(),
        torch.inference_mode(),
        autocast(device, precision),
    ):
        latent = _encode(model, init, settings)
        keep = None if mask is None else 1 - pictures.mask_tensor(mask, init.size).to(device)
        sampled = _Sampling(model, settings, depth.to(device)).run(latent, keep, progress)
        results = pictures.from_tensor(model.decode_first_stage(sampled))
    return results if mask is None else [_composed(init, result, mask) for result in results]


def _too_large(settings: Settings) -> RequestError:
    width, height = settings.size
    return RequestError(
        f"Not enough memory for {settings.batch_size} x {width}x{height}. Use a smaller --width and --height, a "
        "smaller --batch-size, or --device cpu."
    )


def _encode(model: Any, init: Image.Image, settings: Settings) -> torch.Tensor:
    """(B, 4, H/8, W/8): the mode of the encoder, so that the seed decides about the noise alone."""
    posterior = model.encode_first_stage(pictures.to_tensor(init).to(model.betas.device))
    latent: torch.Tensor = model.scale_factor * posterior.mode()
    return latent.float().repeat(settings.batch_size, 1, 1, 1)


def _composed(init: Image.Image, result: Image.Image, mask: Image.Image) -> Image.Image:
    """The result where the mask is white, the picture itself where it is black: the VAE's losses stay inside."""
    from PIL import Image

    return Image.composite(result, init, pictures.placed(mask.convert("L"), init.size))


@dataclass(frozen=True)
class _Sampling:
    """ldm's DDIM sampler with the conditions of one run. ``depth``: (B, 1, h, w) conditioning."""

    model: Any
    settings: Settings
    depth: torch.Tensor

    def run(self, latent: torch.Tensor, keep: torch.Tensor | None, progress: Listener | None) -> torch.Tensor:
        """Noise `latent` (B, 4, h, w) as far as the settings say and denoise it; where `keep` is 1 it comes back."""
        import torch

        sampler = _sampler(self.model)
        sampler.make_schedule(ddim_num_steps=self.settings.steps, ddim_eta=0.0, verbose=False)
        steps = len(sampler.ddim_timesteps) if self._all_steps else self.settings.steps_to_run
        noise = self._noise(latent)
        x = latent
        if self.settings.from_noise:
            x = noise
        elif steps:
            start = torch.full((len(latent),), steps - 1, dtype=torch.long, device=latent.device)
            x = sampler.stochastic_encode(latent, start, noise=noise)
        with_prompt, without = self._conditions()
        for done, index in enumerate(reversed(range(steps)), start=1):
            t = torch.full((len(x),), int(sampler.ddim_timesteps[index]), dtype=torch.long, device=x.device)
            if keep is not None:
                x = self.model.q_sample(latent, t, noise) * keep + x * (1 - keep)
            x, _ = sampler.p_sample_ddim(
                x,
                with_prompt,
                t,
                index=index,
                unconditional_guidance_scale=self.settings.cfg_scale,
                unconditional_conditioning=without,
            )
            if progress is not None:
                progress(Progress("sampling", "", done, steps, unit="step"))
        return x if keep is None else latent * keep + x * (1 - keep)

    @property
    def _all_steps(self) -> bool:
        """ldm's spacing can give one step more than was asked for; a full run takes that one too."""
        return self.settings.steps_to_run == self.settings.steps

    def _noise(self, latent: torch.Tensor) -> torch.Tensor:
        import torch

        seeds = range(self.settings.seed, self.settings.seed + len(latent))
        draws = [torch.randn(latent.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(draws).to(latent.device)

    def _conditions(self) -> tuple[dict[str, list[torch.Tensor]], dict[str, list[torch.Tensor]]]:
        count = len(self.depth)
        texts = (self.settings.prompt, self.settings.negative_prompt)
        contexts = [self.model.get_learned_conditioning([text] * count) for text in texts]
        with_prompt, without = ({"c_concat": [self.depth], "c_crossattn": [context]} for context in contexts)
        return with_prompt, without


def _sampler(model: Any) -> Any:
    """ldm's DDIM sampler, its schedule in float32: part of it is in float64 (ddim.py:45), which MPS does not hold."""
    import torch
    from ldm.models.diffusion.ddim import DDIMSampler

    class Float32Sampler(DDIMSampler):
        def register_buffer(self, name: str, attr: Any) -> None:
            super().register_buffer(name, attr.float() if isinstance(attr, torch.Tensor) else attr)

    return Float32Sampler(model)
