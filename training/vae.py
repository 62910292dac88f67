"""Stage 3, the autoencoder: ldm's AutoencoderKL with factor 8 and four latent channels, small enough for a CPU.

    python -m training.vae encoder --data data/train --out runs/encoder
    python -m training.vae decoder --data data/train --out runs/vae --encoder runs/encoder/encoder.pt

It has few residual blocks: two in the middle at latent size, and one per level of the decoder. Blocks at full size
cost most of the time of a picture, and rendered pictures do with few. The encoder learns first, against a throw-away
decoder that works at latent size and costs a fifth; then it is fixed, so the UNet can learn from its latents while
the real decoder is still being trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from ldm.models.autoencoder import AutoencoderKL
from torch import nn

from .data import Dataset
from .loop import Settings, add_settings, picture_tensor, settings_from, train

__all__ = ["SCALE_FACTOR", "build", "normalise", "train_decoder", "train_encoder"]

CONFIG = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 64,
    "ch_mult": [1, 1, 1, 2], "num_res_blocks": 0, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip
SCALE_FACTOR = 0.18215  # Stable Diffusion's own; `normalise` makes the latents fit it
_SAMPLING_ERROR = 0.15  # of the latents' deviation: sampled latents are never exact, and the decoder should bear it


def build() -> torch.nn.Module:
    """The untrained autoencoder."""
    return AutoencoderKL(ddconfig=CONFIG, lossconfig={"target": "torch.nn.Identity"}, embed_dim=4)


def dead_leaves(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) uint8 picture of overlapping discs, whose statistics are near those of photographs.

    Lee, Mumford and Huang, "Occlusion models for natural images", 2001.
    """
    picture = np.empty((size, size, 3), np.uint8)
    picture[:] = rng.integers(0, 256, 3)
    for _ in range(60):
        radius = int(3 + size / 3 * rng.random() ** 3)
        centre = tuple(int(v) for v in rng.integers(0, size, 2))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.circle(picture, centre, radius, colour, -1, cv2.LINE_AA)
    if rng.random() < 0.5:
        noise = cv2.resize(rng.normal(0, 18, (size // 4, size // 4, 3)).astype(np.float32), (size, size))
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return picture


def _crop(rng: np.random.Generator, pictures: np.ndarray, size: int) -> np.ndarray:
    if rng.random() < 0.12:
        return dead_leaves(rng, size)
    picture = np.asarray(pictures[rng.integers(pictures.shape[0]), rng.integers(pictures.shape[1])])
    whole = picture.shape[0]
    if rng.random() < 0.35 and whole >= 2 * size:
        picture = cv2.resize(picture, (whole // 2, whole // 2), interpolation=cv2.INTER_AREA)
    top, left = rng.integers(0, picture.shape[0] - size + 1), rng.integers(0, picture.shape[1] - size + 1)
    return picture[top : top + size, left : left + size]


def _edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def _distance(out: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Absolute difference of colours, of edges, and of colours at a quarter of the size."""
    edges = sum(F.l1_loss(a, b) for a, b in zip(_edges(out), _edges(wanted), strict=True))
    return F.l1_loss(out, wanted) + 0.5 * edges + F.l1_loss(F.avg_pool2d(out, 4), F.avg_pool2d(wanted, 4))


class _CheapDecoder(nn.Module):
    """Latent (b, 4, h, w) to picture (b, 3, 8 h, 8 w) by convolutions at latent size and one shuffle of pixels."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, width, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(4))
        self.last = nn.Conv2d(width, 192, 3, padding=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.first(z)
        for block in self.blocks:
            x = x + F.silu(block(x))
        return F.pixel_shuffle(self.last(x), 8)


class _Sketch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vae, self.decoder = build(), _CheapDecoder()
        self.vae.decoder = nn.Identity()
        self.vae.post_quant_conv.requires_grad_(False)


def _batch(rng: np.random.Generator, pictures: np.ndarray, size: int, batch: int, device: str) -> torch.Tensor:
    return picture_tensor(np.stack([_crop(rng, pictures, size) for _ in range(batch)]), device) * 2 - 1


def train_encoder(
    data: Path, folder: Path, settings: Settings, *, size: int = 64, batch: int = 16
) -> dict[str, torch.Tensor]:
    """Train the encoder; return the weights of it and of the bottleneck, with latents of deviation 1 / SCALE_FACTOR."""
    pictures = Dataset(data).pictures
    torch.manual_seed(settings.seed)
    model = _Sketch().to(settings.device)

    def loss(rng: np.random.Generator, _step: int) -> dict[str, torch.Tensor]:
        wanted = _batch(rng, pictures, size, batch, settings.device)
        with torch.autocast(settings.device, torch.bfloat16):
            posterior = model.vae.encode(wanted)
            out = model.decoder(posterior.sample())
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return {
            "loss": _distance(out.float(), wanted) + 2e-4 * divergence,
            "l1": F.l1_loss(out.float(), wanted),
            "kl": divergence,
        }

    vae = train(model, loss, folder, settings).vae
    every = max(len(pictures) // 64, 1)
    normalise(vae, picture_tensor(pictures[::every, 0][:64], settings.device) * 2 - 1)
    with torch.no_grad():  # the decoder is yet to come, and should see latents of deviation 1
        vae.post_quant_conv.weight.copy_(torch.eye(4)[:, :, None, None] * SCALE_FACTOR)
        vae.post_quant_conv.bias.zero_()
    return vae.state_dict()


def train_decoder(
    data: Path, encoder: Path, folder: Path, settings: Settings, *, size: int = 64, batch: int = 8
) -> torch.nn.Module:
    """Train the decoder of a fixed encoder on crops of `size` pixels, twice that in the last fifth."""
    pictures = Dataset(data).pictures
    torch.manual_seed(settings.seed)
    model = build().to(settings.device)
    model.load_state_dict(torch.load(encoder, map_location=settings.device), strict=False)
    for fixed in (model.encoder, model.quant_conv, model.post_quant_conv):
        fixed.requires_grad_(False)

    def loss(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        large = step >= 0.8 * settings.steps and 2 * size <= pictures.shape[2]
        wanted = _batch(
            rng, pictures, 2 * size if large else size, max(batch // 4, 1) if large else batch, settings.device
        )
        with torch.autocast(settings.device, torch.bfloat16):
            with torch.no_grad():
                latent = model.encode(wanted).mean
                latent = latent + torch.randn_like(latent) * (_SAMPLING_ERROR * float(rng.random()) / SCALE_FACTOR)
            out = model.decode(latent).float()
        return {"loss": _distance(out, wanted), "l1": F.l1_loss(out, wanted)}

    return train(model, loss, folder, settings)


@torch.no_grad()
def normalise(model: torch.nn.Module, pictures: torch.Tensor) -> None:
    """Fold a shift and scale per channel into the convolutions at the bottleneck, so that latents of `pictures`
    (b, 3, h, w) in [-1, 1] have mean 0 and deviation 1 / SCALE_FACTOR. The picture that comes out stays the same.
    """
    mean = model.encode(pictures).mean.transpose(0, 1).flatten(1)
    shift, gain = mean.mean(1), 1 / (SCALE_FACTOR * mean.std(1))
    quant, post = model.quant_conv, model.post_quant_conv
    post.bias += (post.weight[:, :, 0, 0] * shift).sum(1)
    post.weight /= gain[None, :, None, None]
    quant.weight[:4] *= gain[:, None, None, None]
    quant.bias[:4] = (quant.bias[:4] - shift) * gain
    quant.bias[4:] += 2 * gain.log()


def main() -> None:
    """Command line of this stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("encoder", "decoder"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=None, help="encoder.pt, for the decoder")
    parser.add_argument("--batch", type=int, default=16)
    add_settings(parser, steps=1500, learning_rate=1.5e-3)
    given = parser.parse_args()
    settings = settings_from(given, weight_decay=0.0, average=0.99)
    if given.part == "encoder":
        torch.save(train_encoder(given.data, given.out, settings, batch=given.batch), given.out / "encoder.pt")
    else:
        model = train_decoder(given.data, given.encoder, given.out, settings, batch=given.batch)
        torch.save(model.state_dict(), given.out / "vae.pt")


if __name__ == "__main__":
    main()
