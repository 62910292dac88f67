"""From a depth map and the sliders to what the panel shows: pictures, histogram, percentiles, warnings. No gradio."""

from __future__ import annotations

import dataclasses
import html
import io
import json
from dataclasses import dataclass

import numpy as np

from ...depth.adjust import Adjustments
from ...depth.colormap import colorize
from ...depth.depth_map import DepthMap
from ...depth.extent import Extent
from .data_url import as_data_url

__all__ = ["Preview", "PreviewMap", "render"]

SIDE = 512
"""Pixels of the longer side of what is shown, however large the map."""

PERCENTILES = (2.0, 98.0)
"""Far and near: what all but a few pixels lie between."""

CLIPPED_SHARE = 0.05
"""From here on, pixels at one end of the scale are worth a warning: a fiftieth is sky or one near leaf."""

NARROW_RANGE = 0.02
"""A unit map that uses less than this of its scale is mostly rounding steps once it is stretched."""

EXTREME_SHARE, EXTREME_RANGE = 0.01, 0.2
"""When all but this share of the pixels at either end share so little of the range, those few have taken the rest."""

_FAST_SIGMA = 12.0
"""A Gaussian wider than this many pixels costs more than all the rest, so such a map is shown at half size or less."""

_BINS = 64

_OUTDATED = (
    '<p class="depth2img-warning depth2img-outdated-note">The picture or the checkpoint has changed since this was '
    "estimated. Preview again.</p>"
)
"""Seen once depth2img.js finds that the init image is another one, or the checkpoint whose estimator this was."""


@dataclass(frozen=True)
class PreviewMap:
    """A depth map reduced once, so that moving a slider costs little.

    ``depth_map``: a unit map, its longer side at most ``SIDE``. ``scale``: its pixels per pixel of the full map.
    ``size``: (width, height) of the picture the map is for, which gives what is shown its proportions.
    ``holes``: the share of its pixels that held no measurement.
    ``used``: how much of its scale the full map uses, 1.0 for a map in arbitrary units unless it is flat.
    """

    depth_map: DepthMap
    scale: float
    size: tuple[int, int]
    used: float
    holes: float = 0.0

    @classmethod
    def of(cls, depth_map: DepthMap, size: tuple[int, int] | None = None, extent: Extent | None = None) -> PreviewMap:
        """The reduced map; ``size`` is the map's own where no picture says otherwise. ``extent``: scaled by it."""
        if extent is not None:
            depth_map = depth_map.within(extent)
        lowest, highest = (0.0, 1.0) if extent is not None and not depth_map.is_flat else depth_map.scaled().extent
        scale = min(1.0, SIDE / max(depth_map.size))
        small = depth_map.scaled().resized(_times(depth_map.size, scale))
        holes = depth_map.holes / depth_map.values.size
        return cls(small, scale, size or depth_map.size, highest - lowest, holes)

    def adjusted(self, adjustments: Adjustments) -> DepthMap:
        """The reduced map under the sliders, on the [0, 1] scale; a wide blur may have made it smaller still."""
        depth_map, sigma = self.reduced(adjustments.blur)
        return depth_map.adjusted(dataclasses.replace(adjustments, blur=sigma)).scaled()

    def reduced(self, sigma: float) -> tuple[DepthMap, float]:
        """The map to blur by ``sigma`` pixels of the full map, and the sigma in its own: small maps for wide blurs."""
        depth_map, sigma = self.depth_map, sigma * self.scale
        while sigma > _FAST_SIGMA and min(depth_map.size) > 1:
            depth_map, sigma = depth_map.resized(_times(depth_map.size, 0.5)), sigma / 2
        return depth_map, sigma


@dataclass(frozen=True)
class Preview:
    """What the panel shows: JPEG bytes in grey and in colour, percentiles on the sliders' scale, warnings."""

    grey: bytes
    coloured: bytes
    size: tuple[int, int]
    far: float
    near: float
    histogram: tuple[float, ...]
    adjustments: Adjustments
    warnings: tuple[str, ...]

    def to_html(self) -> str:
        """The preview as one piece of HTML; styles are in style.css."""
        pictures = "".join(
            f'<figure><img src="{as_data_url(jpeg, "jpeg")}" alt="{name}" '
            f'style="aspect-ratio: {self.size[0]} / {self.size[1]}"><figcaption>{caption}</figcaption></figure>'
            for name, caption, jpeg in (
                ("Depth map in grey, near is white", "As the model sees it: near is white", self.grey),
                ("Depth map in colour", "In colour: near is bright", self.coloured),
            )
        )
        sliders = html.escape(json.dumps(dataclasses.asdict(self.adjustments)))
        warnings = "".join(f'<p class="depth2img-warning">{html.escape(text)}</p>' for text in self.warnings)
        return (
            f'<div class="depth2img-preview" data-sliders="{sliders}" data-size="{self.size[0]} {self.size[1]}">'
            f"{_OUTDATED}"
            f'<div class="depth2img-pictures">{pictures}</div>'
            f"{_histogram_svg(self.histogram, self.adjustments)}"
            '<p class="depth2img-ends"><span>0 · farthest</span><span>nearest · 1</span></p>'
            f'<p class="depth2img-numbers">Before Far and Near, {PERCENTILES[1] - PERCENTILES[0]:g} % of the pixels '
            f"lie between {self.far:.2f} and {self.near:.2f}. What they cut off is shaded.</p>{warnings}</div>"
        )


def render(preview_map: PreviewMap, adjustments: Adjustments, *, colormap: str = "inferno") -> Preview:
    """The preview of a map under the sliders.

    Percentiles, histogram and clipping speak of the map before the levels, and after clip and invert: that is the scale
    on which Far and Near are set.
    """
    shown = preview_map.adjusted(adjustments)
    stretched = preview_map.depth_map.without_extremes(adjustments.clip).scaled().values
    before = 1.0 - stretched if adjustments.invert else stretched
    far, near = (float(value) for value in np.percentile(before, PERCENTILES))
    counts, _ = np.histogram(before, bins=_BINS, range=(0.0, 1.0))
    return Preview(
        grey=_jpeg(np.rint(shown.values * 255.0).astype(np.uint8)),
        coloured=_jpeg(colorize(shown, colormap)),
        size=preview_map.size,
        far=far,
        near=near,
        histogram=tuple(counts / max(1, counts.max())),
        adjustments=adjustments,
        warnings=(*_holes(preview_map.holes), *_warnings(before, adjustments, preview_map.used)),
    )


def _holes(share: float) -> tuple[str, ...]:
    if share == 0.0:
        return ()
    shown = f"{share:.1%}" if share >= 0.001 else "Less than 0.1%"
    return (f"Holes: {shown} of the map holds no measurement, and is taken for the farthest.",)


def _warnings(before: np.ndarray, adjustments: Adjustments, used: float) -> tuple[str, ...]:
    if used == 0.0:
        return ("Flat: the whole map has one depth, so it guides nothing.",)
    far_share, near_share = float((before <= adjustments.far).mean()), float((before >= adjustments.near).mean())
    if max(far_share, near_share) == 1.0:
        return ("Flat: no depth is left between Far and Near. Move them apart.",)
    warnings = []
    lowest, highest = np.quantile(before, (EXTREME_SHARE, 1.0 - EXTREME_SHARE))
    if highest - lowest < EXTREME_RANGE and adjustments.clip == 0.0 and used >= NARROW_RANGE:
        warnings.append(
            f"Stretched by a few: {1 - 2 * EXTREME_SHARE:.0%} of the pixels share {highest - lowest:.1%} of the range. "
            "Raise Cut off a little."
        )
    if used < NARROW_RANGE:
        warnings.append(
            f"Nearly flat: the map uses {used:.1%} of its scale. It is stretched to all of it, its rounding steps too."
        )
    if far_share >= CLIPPED_SHARE:
        where = "at or below Far" if adjustments.far > 0.0 else "at the far end of the map"
        warnings.append(f"Clipped: {far_share:.0%} lies {where} and has no depth of its own.")
    if near_share >= CLIPPED_SHARE:
        where = "at or above Near" if adjustments.near < 1.0 else "at the near end of the map"
        warnings.append(f"Clipped: {near_share:.0%} lies {where} and has no depth of its own.")
    return tuple(warnings)


def _times(size: tuple[int, int], factor: float) -> tuple[int, int]:
    width, height = (max(1, round(side * factor)) for side in size)
    return width, height


def _jpeg(picture: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90)
    return file.getvalue()


def _histogram_svg(heights: tuple[float, ...], adjustments: Adjustments) -> str:
    """Square roots, so that a small object beside a large sky is seen; what Far and Near cut off is shaded."""
    points = " ".join(
        f"{100 * (index + 0.5) / _BINS:.2f},{20 - 19 * height**0.5:.2f}" for index, height in enumerate(heights)
    )
    far, near = 100 * adjustments.far, 100 * adjustments.near
    return (
        '<svg class="depth2img-histogram" viewBox="0 0 100 20" preserveAspectRatio="none" role="img" '
        'aria-label="How many pixels are how near, far on the left">'
        f'<polygon points="0,20 {points} 100,20"/><rect x="0" y="0" width="{far:.2f}" height="20"/>'
        f'<rect x="{near:.2f}" y="0" width="{100 - near:.2f}" height="20"/></svg>'
    )
