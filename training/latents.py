"""Stage 5, the latents: what the UNet learns from, encoded once.

    python -m training.latents --data data/train --encoder runs/encoder/encoder.pt --out data/latents-128 --size 128
    python -m training.latents --data data/train --encoder runs/encoder/encoder.pt --out data/latents-crops \\
        --size 256 --crop 128 --scenes 2500
    python -m training.latents --data data/train --encoder runs/encoder/encoder.pt --out data/latents-256 --size 256 \\
        --scenes 4500

Every second look is turned left to right with its depth, so that nothing is learned about sides. Crops show the UNet
the scale of large pictures at the price of small ones; their depth stays scaled by the whole picture's.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch

from lib_depth2img.depth.conditioning import conditioning
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.depth.geometry import place

from . import vae as vae_stage
from .data import Dataset
from .loop import picture_tensor
from .words import Look

__all__ = ["Latents", "depth_channel", "encode"]


def depth_channel(nearness: np.ndarray, size: int) -> np.ndarray:
    """(1, size / 8, size / 8) float32 conditioning of one square nearness map, by the library's own function."""
    flat = float(nearness.max()) <= float(nearness.min())
    if flat:
        return np.full((1, size // 8, size // 8), -1, np.float32)
    depth_map = DepthMap.from_array(nearness)
    return conditioning(depth_map, place(depth_map.size, (size, size)))[0].numpy()


class Latents:
    """latents (n, k, 4, s, s) float16 of deviation 1; depth (n, 2, 1, s, s) float16, as is and turned; looks."""

    def __init__(self, folder: Path) -> None:
        self.latents = np.load(folder / "latents.npy")
        self.depth = np.load(folder / "depth.npy")
        self.looks = [[Look(**look) for look in looks] for looks in json.loads((folder / "looks.json").read_text())]

    def __len__(self) -> int:
        return len(self.looks)


@torch.no_grad()
def encode(
    data: Path, weights: Path, folder: Path, *, size: int, crop: int = 0, scenes: int | None = None, device: str = "cpu"
) -> None:
    """Encode the first `scenes` scenes of `data` at `size` pixels, or one crop of each, and write them to `folder`."""
    samples = Dataset(data)
    count = min(scenes or len(samples), len(samples))
    looks = samples.pictures.shape[1]
    model = vae_stage.build().to(device).eval()
    model.load_state_dict(torch.load(weights, map_location=device), strict=False)
    folder.mkdir(parents=True, exist_ok=True)
    side = (crop or size) // 8
    latents = np.empty((count, looks, 4, side, side), np.float16)
    depth = np.empty((count, 2, 1, side, side), np.float16)
    for number in range(count):
        top, left = (8 * np.random.default_rng([size, number]).integers(0, size // 8 - side + 1, 2)).tolist()
        window = slice(top, top + 8 * side), slice(left, left + 8 * side)
        pictures = [
            cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)[window]
            for picture in samples.pictures[number]
        ]
        pictures = [picture[:, ::-1] if index % 2 else picture for index, picture in enumerate(pictures)]
        with torch.autocast(device, torch.bfloat16):
            mean = model.encode(picture_tensor(np.stack(pictures), device) * 2 - 1).mean
        latents[number] = (mean.float() * vae_stage.SCALE_FACTOR).cpu().numpy()
        channel = depth_channel(samples.nearness[number].astype(np.float32), size)
        channel = channel[:, top // 8 : top // 8 + side, left // 8 : left // 8 + side]
        depth[number] = channel, channel[..., ::-1]
    np.save(folder / "latents.npy", latents)
    np.save(folder / "depth.npy", depth)
    (folder / "looks.json").write_text(json.dumps([[asdict(look) for look in row] for row in samples.looks[:count]]))


def main() -> None:
    """Command line of this stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True, help="encoder.pt")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--crop", type=int, default=0, help="keep one square of this many pixels; 0: the whole picture")
    parser.add_argument("--scenes", type=int, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    sizes = {"size": given.size, "crop": given.crop, "scenes": given.scenes}
    encode(given.data, given.encoder, given.out, **sizes, device=given.device)


if __name__ == "__main__":
    main()
