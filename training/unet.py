"""Stage 6, the UNet: from noise, depth and words to latents, in v-prediction on Stable Diffusion's schedule.

    python -m training.unet --latents data/latents-128 data/latents-crops data/latents-256 data/latents-256 \\
        data/latents-256 data/latents-256 data/latents-flat --text runs/text/text.pt --out runs/unet

A folder named several times is drawn from as much more often; the flat one teaches what a map without depth means.
Ten captions in a hundred are empty, for guidance; the depth is never left out. Salimans and Ho, "Progressive
distillation for fast sampling of diffusion models", 2022, for v.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from ldm.modules.diffusionmodules.openaimodel import UNetModel

from . import text as text_stage
from .latents import Latents
from .loop import Settings, add_settings, settings_from, train
from .words import caption

__all__ = ["alphas", "build", "train_unet"]

CONFIG = {
    "image_size": 32, "in_channels": 5, "out_channels": 4, "model_channels": 64, "channel_mult": [1, 2, 2],
    "num_res_blocks": 1, "attention_resolutions": [2, 4], "num_head_channels": 32, "use_spatial_transformer": True,
    "use_linear_in_transformer": True, "transformer_depth": 1, "context_dim": 96, "legacy": False,
    "use_checkpoint": False,
}  # fmt: skip


def build() -> torch.nn.Module:
    """The untrained UNet."""
    return UNetModel(**CONFIG)


def alphas() -> torch.Tensor:
    """(1000,) cumulative signal power of Stable Diffusion's schedule (ldm modules/diffusionmodules/util.py:21-25)."""
    betas = torch.linspace(0.00085**0.5, 0.0120**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def _bent(rng: np.random.Generator, depth: torch.Tensor) -> torch.Tensor:
    """Depth as other sources give it: bent by a power, or blurred; again in [-1, 1], flat stays flat."""
    out = depth
    if rng.random() < 0.3:
        out = F.avg_pool2d(F.pad(out, (1, 1, 1, 1), mode="replicate"), 3, 1)
    low, high = out.amin((1, 2, 3), keepdim=True), out.amax((1, 2, 3), keepdim=True)
    unit = (out - low) / (high - low).clamp_min(1e-6)
    if rng.random() < 0.5:
        unit = unit ** float(np.exp(rng.uniform(-0.6, 0.6)))
    return unit * 2 - 1


class _Batches:
    """Draws latents, depth and caption tokens."""

    def __init__(self, folders: list[Path], batch: int, device: str) -> None:
        self.sets, self.batch, self.device = [Latents(folder) for folder in folders], batch, device

    def __call__(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        data = self.sets[rng.integers(len(self.sets))]
        count = max(self.batch * 16**2 // data.latents.shape[-1] ** 2, 1)  # `batch` is of 128-pixel pictures
        numbers = rng.integers(len(data), size=count)
        kinds = rng.integers(data.latents.shape[1], size=count)
        latent = torch.from_numpy(data.latents[numbers, kinds]).to(self.device).float()
        depth = torch.from_numpy(data.depth[numbers, kinds % 2]).to(self.device).float()
        captions = [caption(data.looks[n][k], rng) for n, k in zip(numbers, kinds, strict=True)]
        captions = ["" if rng.random() < 0.1 else text for text in captions]
        return latent, _bent(rng, depth), captions


def train_unet(
    latents: list[Path], text: Path, folder: Path, settings: Settings, *, batch: int = 32, start: Path | None = None
) -> torch.nn.Module:
    """Train on encoded pictures with the text stage fixed; return the averaged weights."""
    torch.manual_seed(settings.seed)
    model = build().to(settings.device)
    if start is not None:
        model.load_state_dict(torch.load(start, map_location=settings.device))
    encoder = text_stage.build().to(settings.device)
    encoder.load_state_dict(torch.load(text, map_location=settings.device), strict=False)
    draw, signal = _Batches(latents, batch, settings.device), alphas().to(settings.device)

    def loss(rng: np.random.Generator, _step: int) -> dict[str, torch.Tensor]:
        clean, depth, captions = draw(rng)
        # High noise is where composition and colour are settled, so it is drawn a little more often.
        t = torch.from_numpy((1000 * rng.random(len(clean)) ** 0.8).astype(np.int64)).to(settings.device)
        a = signal[t][:, None, None, None]
        noise = torch.randn_like(clean)
        noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
        wanted = a.sqrt() * noise - (1 - a).sqrt() * clean
        with torch.no_grad():
            context = encoder.encode_with_transformer(open_clip.tokenize(captions).to(settings.device))
        with torch.autocast(settings.device, torch.bfloat16):
            out = model(torch.cat([noisy, depth], 1), t, context)
        error = ((out.float() - wanted) ** 2).mean((1, 2, 3))
        high = t > 700
        return {"loss": error.mean(), "high": error[high].mean() if high.any() else error.mean()}

    return train(model, loss, folder, settings)


def main() -> None:
    """Command line of this stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--latents", type=Path, nargs="+", required=True, help="one or more folders, drawn from in turn"
    )
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, default=None)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--average", type=float, default=0.998)
    add_settings(parser, steps=8000, learning_rate=8e-4)
    given = parser.parse_args()
    settings = settings_from(given, average=given.average)
    model = train_unet(given.latents, given.text, given.out, settings, batch=given.batch, start=given.start)
    torch.save(model.state_dict(), given.out / "unet.pt")


if __name__ == "__main__":
    main()
