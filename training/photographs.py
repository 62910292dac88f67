"""The small estimator on photographs, good or bad: a picture for the model card, and one number.

    python -m training.photographs --checkpoint lib_depth2img/assets/depth2img-small.safetensors \\
        --out docs/pictures/small-estimator-photographs.jpg

The photographs are those that scikit-image ships. Of one, half of a stereo pair of the Middlebury data set, the depth
is known (Scharstein et al., "High-resolution stereo datasets with subpixel-accurate ground truth", 2014).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
from PIL import Image

from lib_depth2img.depth.colormap import colorize
from lib_depth2img.standalone.agreement import rank_correlation
from lib_depth2img.standalone.generate import estimate_depth
from lib_depth2img.standalone.loading import load_model

__all__ = ["motorcycle_agreement", "sheet"]

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle", "camera")
_SIDE = 192


def _photograph(name: str) -> Image.Image:
    if name == "motorcycle":
        return Image.fromarray(skimage.data.stereo_motorcycle()[0])
    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def motorcycle_agreement(model: Any) -> float:
    """Rank correlation of the estimate with the known disparity, where that is known."""
    left, _right, disparity = skimage.data.stereo_motorcycle()
    known = np.isfinite(disparity) & (disparity > 0)
    estimate = cv2.resize(estimate_depth(model, Image.fromarray(left)).values, disparity.shape[::-1])
    return rank_correlation(estimate[known], disparity[known])


def sheet(model: Any) -> Image.Image:
    """The photographs in one row, and the colours of their nearness below."""
    paper = Image.new("RGB", (_SIDE * len(NAMES), 2 * _SIDE))
    for column, name in enumerate(NAMES):
        photograph = _photograph(name)
        depth = Image.fromarray(colorize(estimate_depth(model, photograph), "inferno"))
        for row, picture in enumerate((photograph, depth)):
            paper.paste(picture.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (column * _SIDE, row * _SIDE))
    return paper


def main() -> None:
    """Command line of the photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    model = load_model(given.checkpoint)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(model).save(given.out, quality=85)
    print(f"motorcycle: rank correlation {motorcycle_agreement(model):.2f}")


if __name__ == "__main__":
    main()
