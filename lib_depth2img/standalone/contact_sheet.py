"""One sheet: the picture, its depth, and results over several strengths, without depth above and with depth below."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..depth.colormap import colorize
from ..depth.depth_map import DepthMap
from ..progress import Listener, Progress
from . import pictures
from .agreement import rank_correlation
from .generate import estimate_depth, generate
from .packages import importing

if TYPE_CHECKING:
    from PIL import Image

    from .loading import Model
    from .parameters import Parameters

__all__ = ["STRENGTHS", "Row", "Sheet", "contact_sheet", "stacked"]

STRENGTHS = (0.4, 0.6, 0.8, 1.0)

_GAP = 6
_LINE = 18
_PAPER = (250, 250, 250)
_INK = (20, 20, 20)


@dataclass(frozen=True)
class Row:
    """Results of one row, and for each the rank correlation of its estimated depth with the picture's."""

    title: str
    results: list[Image.Image]
    agreement: list[float]

    def __str__(self) -> str:
        values = "  ".join(
            f"{strength:.1f}: {value:+.2f}" for strength, value in zip(STRENGTHS, self.agreement, strict=True)
        )
        return f"{self.title}: agreement of depth with the picture's at strength {values}"


@dataclass(frozen=True)
class Sheet:
    """The drawn sheet and its rows."""

    image: Image.Image
    rows: list[Row]


def contact_sheet(
    model: Model,
    picture: Image.Image,
    depth_map: DepthMap,
    parameters: Parameters,
    *,
    run: Callable[..., list[Image.Image]] = generate,
    progress: Listener | None = None,
) -> Sheet:
    """Results for ``STRENGTHS``: a row on a flat map, which is plain img2img, and a row on ``depth_map``.

    ``parameters.denoising_strength`` and ``batch_size`` are not looked at. ``run``: `generate`, or something that takes
    the same arguments (with adjustments or a mask already in it).

    Raises:
        CheckpointError: there is no scipy, or the checkpoint brought no depth stage.
    """
    with importing("scipy"):  # before the work rather than after it
        import scipy.stats  # noqa: F401

    shown = pictures.crop_and_resize(picture, parameters.size)
    before = estimate_depth(model, shown).values
    flat = DepthMap.from_array(np.zeros((8, 8), np.float32))
    rows = []
    total, done = 2 * len(STRENGTHS), 0
    for title, depth in (("img2img, no depth", flat), ("depth-to-image", depth_map)):
        results = []
        for strength in STRENGTHS:
            one = dataclasses.replace(parameters, denoising_strength=strength, batch_size=1)
            results += run(model, picture, depth, one)
            done += 1
            if progress is not None:
                progress(Progress("sampling", "", done, total, unit="picture"))
        after = [estimate_depth(model, result).values for result in results]
        rows.append(Row(title, results, [rank_correlation(before, values) for values in after]))
    return Sheet(_drawn(shown, _as_picture(depth_map, parameters.size, picture), rows, parameters.prompt), rows)


def stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """Sheets below one another."""
    from PIL import Image

    paper = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), _PAPER)
    top = 0
    for sheet in sheets:
        paper.paste(sheet, (0, top))
        top += sheet.height
    return paper


def _as_picture(depth_map: DepthMap, size: tuple[int, int], picture: Image.Image) -> Image.Image:
    from PIL import Image

    grey = Image.fromarray(colorize(depth_map, "grey"))
    return pictures.crop_and_resize(grey.resize(picture.size, Image.Resampling.BICUBIC), size)


def _drawn(shown: Image.Image, depth: Image.Image, rows: Sequence[Row], prompt: str) -> Image.Image:
    from PIL import Image, ImageDraw

    width, height = shown.size
    columns = 1 + len(STRENGTHS)
    paper = Image.new("RGB", (columns * (width + _GAP) + _GAP, 2 * (height + _LINE + _GAP) + _LINE + _GAP), _PAPER)
    draw = ImageDraw.Draw(paper)
    draw.text((_GAP, 3), prompt, fill=_INK)
    for index, (row, left, label) in enumerate(zip(rows, (shown, depth), ("the picture", "its depth"), strict=True)):
        top = _LINE + index * (height + _LINE + _GAP)
        labels = [f"{row.title}, {s:.1f}: {a:+.2f}" for s, a in zip(STRENGTHS, row.agreement, strict=True)]
        for column, (tile, text) in enumerate(zip([left, *row.results], [label, *labels], strict=True)):
            x = _GAP + column * (width + _GAP)
            draw.text((x, top + 3), text, fill=_INK)
            paper.paste(tile, (x, top + _LINE))
    return paper
