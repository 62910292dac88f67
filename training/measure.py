"""The measurements of the model card: depth kept, colour obeyed, edges kept, and the estimator, on unseen scenes.

python -m training.measure --checkpoint lib_depth2img/assets/depth2img-small.safetensors --scenes 50 --seed 4242
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.standalone.agreement import rank_correlation
from lib_depth2img.standalone.generate import estimate_depth, generate
from lib_depth2img.standalone.loading import load_model
from lib_depth2img.standalone.parameters import Parameters

from .data import draw_sample
from .render import render
from .scenes import Scene, nearness
from .solids import SUBJECT
from .words import COLOURS, Look, caption

__all__ = ["Unseen", "depth_agreement", "edge_agreement", "named_colour_is_nearest", "unseen_scenes"]

GREY = Image.new("RGB", (256, 256), (128, 128, 128))


class Unseen:
    """A scene training never saw: its picture, exact nearness, look, and a prompt as people write them.

    A prompt always names colour and subject; material, place and light only sometimes, as the captions of training do.
    """

    def __init__(self, scene: Scene, look: Look) -> None:
        self.scene, self.look = scene, look
        self.picture = Image.fromarray(render(scene, look))
        self.nearness = nearness(scene.buffer.distance)
        self.depth_map = DepthMap.from_array(self.nearness)
        self.subject = scene.buffer.label == SUBJECT
        self.prompt = caption(look, np.random.default_rng(look.seed))


def unseen_scenes(count: int, seed: int, size: int = 256) -> list[Unseen]:
    """`count` scenes with depth of the stream `seed`, which must not be a training seed."""
    found: list[Unseen] = []
    number = 0
    while len(found) < count:
        scene, (look,) = draw_sample(seed, number, size, 1)
        number += 1
        if scene.family != "flat":
            found.append(Unseen(scene, look))
    return found


def depth_agreement(model: Any, picture: Image.Image, nearness_map: np.ndarray) -> float:
    """Rank correlation of the estimate on `picture` with a nearness map, at 64 x 64."""
    estimate = cv2.resize(estimate_depth(model, picture).values, (64, 64), interpolation=cv2.INTER_AREA)
    true = cv2.resize(nearness_map.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
    return rank_correlation(estimate, true)


def edge_agreement(picture: Image.Image, nearness_map: np.ndarray) -> float:
    """How much stronger the picture's edges are on the true depth's edges than elsewhere, in [0, 1].

    The chance that a pixel on one of the strongest 5 % of depth edges has a stronger colour edge than a pixel away from
    them (area under the curve); 0.5 is no relation. No estimator takes part.
    """
    colour = cv2.GaussianBlur(np.asarray(picture, np.float32), (0, 0), 1.5)
    depth = nearness_map.astype(np.float32)
    size = (depth.shape[1], depth.shape[0])
    colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
    squared = sum(cv2.Sobel(colour, cv2.CV_32F, *d) ** 2 for d in ((1, 0), (0, 1)))
    strength = np.sqrt(squared.sum(-1)).ravel()
    edges = np.sqrt(sum(cv2.Sobel(depth, cv2.CV_32F, *d) ** 2 for d in ((1, 0), (0, 1)))).ravel()
    on = edges >= np.quantile(edges, 0.95)
    ranks = strength.argsort().argsort()
    wins = ranks[on].sum() - on.sum() * (on.sum() - 1) / 2
    return float(wins / (on.sum() * (~on).sum()))


def _lab(colours: np.ndarray) -> np.ndarray:
    return cv2.cvtColor((colours.astype(np.float32) / 255).reshape(1, -1, 3), cv2.COLOR_RGB2LAB)[0]


def named_colour_is_nearest(picture: Image.Image, subject: np.ndarray, colour: str) -> bool:
    """Whether the mean colour of the subject's pixels is nearer to the named one than to any other, in CIELAB."""
    mean = np.asarray(picture)[subject].mean(0)
    away = np.linalg.norm(_lab(mean[None]) - _lab(np.array(list(COLOURS.values()))), axis=1)
    return list(COLOURS)[int(away.argmin())] == colour


def _summary(found: list[float]) -> dict[str, float]:
    values = np.asarray(found, float)
    return {"median": round(float(np.median(values)), 3), "mean": round(float(np.mean(values)), 3),
            "tenth percentile": round(float(np.quantile(values, 0.1)), 3)}  # fmt: skip


def measure(model: Any, scenes: list[Unseen], *, size: int, steps: int, cfg_scale: float) -> dict[str, Any]:
    """All measurements over `scenes`, starting from a grey picture at strength 1.0."""
    found: dict[str, list[float]] = {
        name: [] for name in ("depth", "flat", "other", "edges", "edges flat", "colour", "true colour", "estimator")
    }
    flat = DepthMap.from_array(np.zeros((8, 8), np.float32))
    for index, unseen in enumerate(scenes):
        other = scenes[(index + 1) % len(scenes)]
        parameters = Parameters(prompt=unseen.prompt, size=(size, size), denoising_strength=1.0, steps=steps,
                                cfg_scale=cfg_scale, seed=index)  # fmt: skip
        (with_depth,), (without,) = (generate(model, GREY, depth, parameters) for depth in (unseen.depth_map, flat))
        with_depth, without = (picture.resize((256, 256)) for picture in (with_depth, without))
        found["depth"].append(depth_agreement(model, with_depth, unseen.nearness))
        found["flat"].append(depth_agreement(model, without, unseen.nearness))
        found["other"].append(depth_agreement(model, with_depth, other.nearness))
        found["edges"].append(edge_agreement(with_depth, unseen.nearness))
        found["edges flat"].append(edge_agreement(without, unseen.nearness))
        found["colour"].append(named_colour_is_nearest(with_depth, unseen.subject, unseen.look.colour))
        found["true colour"].append(named_colour_is_nearest(unseen.picture, unseen.subject, unseen.look.colour))
        found["estimator"].append(depth_agreement(model, unseen.picture, unseen.nearness))
    return {name: _summary(values) for name, values in found.items()}


def main() -> None:
    """Command line of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg-scale", type=float, default=3.0)
    given = parser.parse_args()
    model = load_model(given.checkpoint)
    scenes = unseen_scenes(given.scenes, given.seed)
    for name, values in measure(model, scenes, size=given.size, steps=given.steps, cfg_scale=given.cfg_scale).items():
        print(json.dumps({name: values}))


if __name__ == "__main__":
    main()
