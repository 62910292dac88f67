"""Stage 2, the estimator: SmallDepthNet learns the nearness of rendered pictures.

python -m training.estimator --data data/train --out runs/estimator
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from lib_depth2img.estimators.networks.small import SmallDepthNet

from .data import Dataset
from .loop import Settings, add_settings, picture_tensor, settings_from, train

__all__ = ["INPUT_SIZE", "estimate", "train_estimator"]

INPUT_SIZE = 128
_MEAN, _STD = 0.5, 0.5


def estimate(model: torch.nn.Module, pictures: torch.Tensor, size: int = INPUT_SIZE) -> torch.Tensor:
    """Nearness (b, h, w) of square pictures (b, 3, h, w) in [0, 1], estimated at `size` and brought back to h x w."""
    small = F.interpolate(pictures, size=(size, size), mode="bilinear", antialias=True)
    with torch.no_grad():
        out = model((small - _MEAN) / _STD)
    return F.interpolate(out[:, None], size=pictures.shape[2:], mode="bilinear", align_corners=False)[:, 0]


class _Pictures:
    """The data at one size, in memory: looks of a picture reduced with and without antialiasing, and their nearness.

    The runner resizes bicubically without antialiasing, as MiDaS does, so the network must bear that too.
    """

    def __init__(self, data: Path, size: int) -> None:
        whole = Dataset(data)
        kept = [number for number, family in enumerate(whole.families) if family != "flat"]
        looks = whole.pictures.shape[1]
        self.pictures = np.empty((len(kept), looks, size, size, 3), np.uint8)
        self.nearness = np.empty((len(kept), size, size), np.float32)
        for place, number in enumerate(kept):
            for look in range(looks):
                how = cv2.INTER_CUBIC if (number + look) % 2 else cv2.INTER_AREA
                self.pictures[place, look] = cv2.resize(whole.pictures[number, look], (size, size), interpolation=how)
            near = whole.nearness[number].astype(np.float32)
            self.nearness[place] = cv2.resize(near, (size, size), interpolation=cv2.INTER_AREA)

    def draw(self, rng: np.random.Generator, batch: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (b, 3, s, s) in [0, 1], disturbed and partly turned, and their nearness (b, s, s)."""
        numbers = rng.integers(len(self.pictures), size=batch)
        looks = rng.integers(self.pictures.shape[1], size=batch)
        pictures = _disturb(rng, picture_tensor(self.pictures[numbers, looks], device))
        wanted = torch.from_numpy(self.nearness[numbers]).to(device)
        half = batch // 2
        pictures[:half], wanted[:half] = pictures[:half].flip(-1), wanted[:half].flip(-1)
        return pictures, wanted


def _disturb(rng: np.random.Generator, pictures: torch.Tensor) -> torch.Tensor:
    """Shifts of colour, and for some blur or grain, so that the network does not lean on clean pixels."""
    b = len(pictures)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (b, 3, 1, 1))).to(pictures)
    shift = torch.from_numpy(rng.uniform(-0.03, 0.03, (b, 1, 1, 1))).to(pictures)
    out = pictures * gain + shift
    some = b // 4
    if some:
        out[-some:] = _blurred(out[-some:], float(rng.uniform(0.4, 1.6)))
        out[:some] += torch.randn_like(out[:some]) * float(rng.uniform(0.0, 0.03))
    return out.clamp(0, 1)


def _blurred(pictures: torch.Tensor, sigma: float) -> torch.Tensor:
    weights = torch.exp(-(torch.arange(-2, 3, device=pictures.device) ** 2) / (2 * sigma**2))
    line = (weights / weights.sum()).expand(3, 1, 1, 5)
    padded = F.pad(pictures, (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(padded, line, groups=3), line.transpose(2, 3), groups=3)


def _correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a.flatten(1), b.flatten(1)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return F.cosine_similarity(a, b, dim=1).mean()


def _losses(out: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
    """Absolute error of nearness, of its root (which weighs what is far), of its edges, and the correlation."""
    error = F.l1_loss(out, wanted)
    far = F.l1_loss((out + 1e-3).sqrt(), (wanted + 1e-3).sqrt())
    edges = sum(
        F.l1_loss(out[:, s:] - out[:, :-s], wanted[:, s:] - wanted[:, :-s])
        + F.l1_loss(out[..., s:] - out[..., :-s], wanted[..., s:] - wanted[..., :-s])
        for s in (1, 4)
    )
    correlation = _correlation((out + 1e-3).sqrt(), (wanted + 1e-3).sqrt())
    loss = error + far + 0.5 * edges + 0.5 * (1 - correlation)
    return {"loss": loss, "l1": error, "correlation": correlation}


def train_estimator(
    data: Path, folder: Path, settings: Settings, *, size: int = INPUT_SIZE, batch: int = 16, start: Path | None = None
) -> torch.nn.Module:
    """Train at one size, from the weights in `start` where given; return the averaged weights."""
    samples = _Pictures(data, size)
    torch.manual_seed(settings.seed)
    model = SmallDepthNet().to(settings.device)
    if start is not None:
        model.load_state_dict(torch.load(start, map_location=settings.device))

    def loss(rng: np.random.Generator, _step: int) -> dict[str, torch.Tensor]:
        pictures, wanted = samples.draw(rng, batch, settings.device)
        with torch.autocast(settings.device, torch.bfloat16):
            out = model((pictures - _MEAN) / _STD)
        return _losses(out.float(), wanted)

    return train(model, loss, folder, settings)


def main() -> None:
    """Command line of this stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=INPUT_SIZE)
    parser.add_argument("--start", type=Path, default=None)
    add_settings(parser, steps=6000, learning_rate=2e-3)
    given = parser.parse_args()
    settings = settings_from(given)
    model = train_estimator(given.data, given.out, settings, size=given.size, start=given.start)
    torch.save(model.state_dict(), given.out / "estimator.pt")


if __name__ == "__main__":
    main()
