"""How steady depth is over the frames of a film, and what that costs: the table of docs/steady.md.

    python benchmarks/steady.py [--size 256] [--seeds 3] [--strength 0.9] [--output FILE.json]

Clips of training's renderer, whose depth and motion are known, through the small estimator. Of each way, per clip:

rest: the mean change from frame to frame of pixels of which nothing has moved, in % of the clip's spread.
flow: the same along the true motion, of all pixels that are seen in both frames.
rank: the rank correlation with the true nearness, mean over the frames.
edges: the mean gradient where the truth has an edge, less what per-frame maps have, in %.
steepness: the same gradient in % of the truth's. More than 100 would be edges that are not there.

The spread is between the 5th and 95th percentile of the way's own maps: a way does not win by squeezing its maps.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.estimators.estimator import DepthEstimator
from lib_depth2img.sequences.cuts import Cuts
from lib_depth2img.sequences.steady import Steady
from training.clips import CLIPS, Frame, true_motion

DECAY = 0.75
"""Of the exponential average: what iw3 takes for its range, here of the maps themselves."""

MEASURES = ("rest", "flow", "rank", "edges", "steepness")
Way = Callable[[Sequence[Frame], Sequence[DepthMap], float], list[np.ndarray]]


def per_frame(_frames: Sequence[Frame], estimates: Sequence[DepthMap], _strength: float) -> list[np.ndarray]:
    return [estimate.scaled().values for estimate in estimates]


def averaged(_frames: Sequence[Frame], estimates: Sequence[DepthMap], _strength: float) -> list[np.ndarray]:
    maps = [estimate.scaled().values for estimate in estimates]
    found = maps[:1]
    for each in maps[1:]:
        found.append(DECAY * found[-1] + (1 - DECAY) * each)
    return found


def one_range(_frames: Sequence[Frame], estimates: Sequence[DepthMap], _strength: float) -> list[np.ndarray]:
    return _of_one_range(estimates, [True, *[False] * (len(estimates) - 1)])


def ours(frames: Sequence[Frame], estimates: Sequence[DepthMap], strength: float) -> list[np.ndarray]:
    pictures = [Image.fromarray(frame.picture) for frame in frames]
    steady, cuts = Steady(strength), Cuts()
    maps = [steady.following(*pair) for pair in zip(pictures, estimates, strict=True)]
    return _of_one_range(maps, [cuts.begins(picture) for picture in pictures])


def _of_one_range(maps: Sequence[DepthMap], begins: Sequence[bool]) -> list[np.ndarray]:
    """Each shot within its own lowest and highest."""
    shots = np.cumsum(begins)
    found = []
    for depth_map, shot in zip(maps, shots, strict=True):
        extents = [each.extent for each, other in zip(maps, shots, strict=True) if other == shot]
        found.append(depth_map.within((min(low for low, _ in extents), max(high for _, high in extents))).values)
    return found


WAYS: dict[str, Way] = {
    "per frame": per_frame,
    "exponential average": averaged,
    "one range": one_range,
    "ours": ours,
}


def measured(frames: Sequence[Frame], maps: Sequence[np.ndarray]) -> dict[str, float]:
    """The measures of one clip; ``edges`` is the gradient itself, of maps whose spread is 1."""
    spread, of_truth = _spread(maps), _spread([frame.nearness for frame in frames])
    full = [cv2.resize(each, frames[0].nearness.shape[::-1], interpolation=cv2.INTER_CUBIC) / spread for each in maps]
    rest, flow = [], []
    for number in range(1, len(frames)):
        if frames[number].first:
            continue
        there, seen = true_motion(frames[number - 1], frames[number])
        x, y = np.moveaxis(there.astype(np.float32), 2, 0)
        change = np.abs(cv2.remap(full[number], x, y, cv2.INTER_LINEAR) - full[number - 1])
        columns, rows = np.meshgrid(*(np.arange(side) for side in seen.shape[::-1]))
        still = seen & (np.hypot(there[..., 0] - columns, there[..., 1] - rows) < 0.05)
        flow.append(change[seen].mean())
        if still.mean() > 0.05:
            rest.append(change[still].mean())
    ranks = [
        spearmanr(frame.nearness[::2, ::2], each[::2, ::2], axis=None)[0]
        for frame, each in zip(frames, full, strict=True)
    ]
    edges = [_gradient(each)[_edges(frame.nearness)].mean() for frame, each in zip(frames, full, strict=True)]
    true = [_gradient(frame.nearness)[_edges(frame.nearness)].mean() / of_truth for frame in frames]
    return {
        "rest": 100 * float(np.mean(rest)) if rest else float("nan"),
        "flow": 100 * float(np.mean(flow)),
        "rank": float(np.mean(ranks)),
        "edges": float(np.mean(edges)),
        "steepness": 100 * float(np.mean(edges) / np.mean(true)),
    }


def _spread(maps: Sequence[np.ndarray]) -> float:
    return float(np.subtract(*np.percentile(np.stack(maps), (95, 5))))


def _gradient(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.hypot(cv2.Sobel(values, cv2.CV_32F, 1, 0), cv2.Sobel(values, cv2.CV_32F, 0, 1))
    return found


def _edges(nearness: np.ndarray) -> np.ndarray:
    """Where the truth jumps, two pixels wide on either side."""
    steep = (_gradient(nearness) > 0.3).astype(np.uint8)
    found: np.ndarray = cv2.dilate(steep, np.ones((5, 5), np.uint8)) > 0
    return found


def first_after_cut_is_alone(frames: Sequence[Frame], estimates: Sequence[DepthMap], strength: float) -> bool:
    """Whether the map of the first frame after the cut is the very estimate."""
    steady = Steady(strength)
    maps = [
        steady.following(Image.fromarray(frame.picture), each) for frame, each in zip(frames, estimates, strict=True)
    ]
    firsts = [number for number, frame in enumerate(frames) if frame.first]
    return all(np.array_equal(maps[number].values, estimates[number].values) for number in firsts)


def clip_results(name: str, size: int, seeds: int, strength: float) -> dict[str, dict[str, float]]:
    """Way by way the measures, mean over the seeds."""
    estimator = DepthEstimator("small", weights=SMALL_CHECKPOINT)
    each: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        frames = CLIPS[name](size, seed)
        estimates = [estimator.estimate([frame.picture])[0] for frame in frames]
        assert first_after_cut_is_alone(frames, estimates, strength), f"{name}: something was carried over the cut"
        for way, made in WAYS.items():
            each[way].append(measured(frames, made(frames, estimates, strength)))
    found = {
        way: {measure: float(np.mean([one[measure] for one in results])) for measure in MEASURES}
        for way, results in each.items()
    }
    base = found["per frame"]["edges"]
    for way in WAYS:
        found[way]["edges"] = 100 * (found[way]["edges"] / base - 1)
    return found


def main() -> None:
    """Measure all clips, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strength", type=float, default=0.9)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    results = {}
    print("| clip | way | rest % | flow % | rank | edges % | steepness % |\n|---|---|---|---|---|---|---|")
    for name in CLIPS:
        results[name] = clip_results(name, arguments.size, arguments.seeds, arguments.strength)
        for way, found in results[name].items():
            rest = "–" if np.isnan(found["rest"]) else f"{found['rest']:.2f}"
            others = f"{found['rank']:.3f} | {found['edges']:+.1f} | {found['steepness']:.0f}"
            print(f"| {name} | {way} | {rest} | {found['flow']:.2f} | {others} |", flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
