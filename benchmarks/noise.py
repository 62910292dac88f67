"""How much painted films flicker with fixed noise and with noise that moves along: the table of docs/steady.md.

    python benchmarks/noise.py [--size 256] [--seeds 1] [--steps 6] [--device cpu] [--output FILE.json] [CLIP …]

Clips of training's renderer, whose depth and motion are known, painted by the small model with their true depth. Of
each kind of noise and denoising strength, per clip, in grey levels of 255:

flow: the mean change from frame to frame along the true motion, of all pixels that are seen in both frames.
later: the same from a frame to the one half a second later, which tells whether what is painted stays on its thing.
rest: as flow, of pixels of which nothing has moved.

The film's own change, which is its grain, light and aliasing, is given beside them; and with ``--noise`` nothing is
painted: the correlation of the noise itself along the true motion, from frame to frame and half a second later.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.sequences.noise import CarriedNoise
from lib_depth2img.standalone.generate import generate
from lib_depth2img.standalone.loading import Model, load_model
from lib_depth2img.standalone.parameters import Parameters
from lib_depth2img.standalone.sampling import noise_of
from training.clips import CLIPS, Frame, true_motion

PROMPT = "a blue wooden box in a green field, golden light"
STRENGTHS = (0.6, 1.0)
NOISES = ("fixed", "flow")
LATER = 12
MEASURES = ("flow", "later", "rest")


def painted(model: Model, frames: Sequence[Frame], parameters: Parameters, noise: str) -> list[np.ndarray]:
    """The pictures of a clip, each (h, w, 3) uint8."""
    found = []
    carried: CarriedNoise | None = None
    shot = -1
    for frame in frames:
        if frame.first:
            shot, carried = shot + 1, None
        if noise == "flow" and carried is None:
            seed = parameters.seed + shot
            whole = noise_of(torch.Generator().manual_seed(seed), parameters.latent_shape).numpy()
            carried = CarriedNoise(whole, frame.picture, seed)
        elif carried is not None:
            carried.follow(frame.picture)
        given = None if carried is None else torch.from_numpy(carried.whole)[None]
        depth_map = DepthMap(frame.nearness.astype(np.float32), unit=True)
        picture = Image.fromarray(frame.picture)
        (made,) = generate(model, picture, depth_map, parameters, extent=(0.0, 1.0), noise=given)
        found.append(np.asarray(made))
    return found


def noises(frames: Sequence[Frame], seed: int) -> list[np.ndarray]:
    """The noise of each frame of a clip that moves along, over the picture: (h, w, 4) float32."""
    side = frames[0].picture.shape[0] // 8
    found = []
    for number, frame in enumerate(frames):
        if frame.first:
            whole = noise_of(torch.Generator().manual_seed(seed + number), (4, side, side)).numpy()
            carried = CarriedNoise(whole, frame.picture, seed)
        else:
            carried.follow(frame.picture)
        found.append(carried.whole.transpose(1, 2, 0).repeat(8, 0).repeat(8, 1))
    return found


def kept(frames: Sequence[Frame], shown: Sequence[np.ndarray], away: int) -> float:
    """The correlation of noise along the true motion, between frames that are so far from each other."""
    found = []
    for number in range(away, len(frames)):
        if any(frame.first for frame in frames[number - away + 1 : number + 1]):
            continue
        there, seen = true_motion(frames[number - away], frames[number])
        x, y = np.moveaxis(there.astype(np.float32), 2, 0)
        after = cv2.remap(shown[number], x, y, cv2.INTER_NEAREST)
        found.append(np.corrcoef(after[seen].ravel(), shown[number - away][seen].ravel())[0, 1])
    return float(np.mean(found)) if found else float("nan")


def measured(frames: Sequence[Frame], pictures: Sequence[np.ndarray]) -> dict[str, float]:
    """The measures of one clip."""
    found: dict[str, list[float]] = {measure: [] for measure in MEASURES}
    for away in (1, LATER):
        for number in range(away, len(frames)):
            if any(frame.first for frame in frames[number - away + 1 : number + 1]):
                continue
            there, seen = true_motion(frames[number - away], frames[number])
            x, y = np.moveaxis(there.astype(np.float32), 2, 0)
            after = cv2.remap(pictures[number].astype(np.float32), x, y, cv2.INTER_LINEAR)
            change = np.abs(after - pictures[number - away]).mean(axis=2)
            found["flow" if away == 1 else "later"].append(float(change[seen].mean()))
            columns, rows = np.meshgrid(*(np.arange(side) for side in seen.shape[::-1]))
            still = seen & (np.hypot(there[..., 0] - columns, there[..., 1] - rows) < 0.05)
            if away == 1 and still.mean() > 0.05:
                found["rest"].append(float(change[still].mean()))
    return {measure: float(np.mean(values)) if values else float("nan") for measure, values in found.items()}


def clip_results(model: Model, name: str, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """By strength and noise the measures, mean over the seeds; under ``film`` those of the clip itself."""
    each: dict[str, list[dict[str, float]]] = {}
    for seed in range(arguments.seeds):
        frames = CLIPS[name](arguments.size, seed)
        each.setdefault("film", []).append(measured(frames, [frame.picture for frame in frames]))
        for strength in STRENGTHS:
            parameters = Parameters(
                prompt=PROMPT,
                size=(arguments.size, arguments.size),
                denoising_strength=strength,
                steps=arguments.steps,
                cfg_scale=3.0,
                seed=seed,
            )
            for noise in NOISES:
                made = measured(frames, painted(model, frames, parameters, noise))
                each.setdefault(f"{strength:g} {noise}", []).append(made)
    return {
        way: {measure: float(np.mean([one[measure] for one in found])) for measure in MEASURES}
        for way, found in each.items()
    }


def main() -> None:
    """Paint all clips, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--noise", action="store_true", help="paint nothing")
    parser.add_argument("clips", nargs="*", default=list(CLIPS), metavar="CLIP")
    arguments = parser.parse_args()
    if arguments.noise:
        print("| clip | noise | from frame to frame | half a second later |\n|---|---|---|---|")
        for name in arguments.clips:
            frames = CLIPS[name](arguments.size, 0)
            moved = noises(frames, 0)
            for kind, shown in (("fixed", [moved[0]] * len(frames)), ("flow", moved)):
                print(f"| {name} | {kind} | {kept(frames, shown, 1):.2f} | {kept(frames, shown, LATER):.2f} |")
        return
    model = load_model(SMALL_CHECKPOINT, device=torch.device(arguments.device))
    results = {}
    print("| clip | way | flow | later | rest |\n|---|---|---|---|---|")
    for name in arguments.clips:
        results[name] = clip_results(model, name, arguments)
        for way, found in results[name].items():
            cells = ["–" if np.isnan(found[measure]) else f"{found[measure]:.2f}" for measure in MEASURES]
            print(f"| {name} | {way} | {' | '.join(cells)} |", flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
