"""What the preview says about a map: pictures, percentiles, warnings; and that the sliders cost little."""

from __future__ import annotations

import html
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.depth.adjust import Adjustments
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.webui.ui.preview_map import SIDE, PreviewMap, render

AS_IT_IS = Adjustments()
ROOT = Path(__file__).parents[2]


def ramp(width: int = 256, height: int = 64, *, unit: bool = True) -> DepthMap:
    """Far on the left, near on the right."""
    values = np.tile(np.linspace(0.0, 1.0, width, dtype=np.float32), (height, 1))
    return DepthMap(values, unit=unit)


def grey_of(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("L")).astype(float)


def test_the_pictures_show_the_map():
    preview = render(PreviewMap.of(ramp()), AS_IT_IS)
    grey = grey_of(preview.grey)
    assert grey.shape == (64, 256)
    assert np.abs(grey[32] - np.linspace(0, 255, 256)).max() < 6
    coloured = np.asarray(Image.open(io.BytesIO(preview.coloured)))
    assert coloured.shape == (64, 256, 3)
    assert coloured[32, -8].astype(int).sum() > 3 * coloured[32, 8].astype(int).sum()
    assert np.ptp(coloured[32, 128]) > 60, "the middle of a colour map is colourful"


@pytest.mark.parametrize(
    ("adjustments", "expected"),
    [
        (Adjustments(invert=True), lambda x: 1 - x),
        (Adjustments(far=0.25, near=0.75), lambda x: np.clip((x - 0.25) / 0.5, 0, 1)),
        (Adjustments(gamma=2.0), lambda x: x**0.5),
        (Adjustments(blur=4.0), lambda x: x),
    ],
)
def test_the_sliders_act_on_what_is_shown(adjustments, expected):
    grey = grey_of(render(PreviewMap.of(ramp()), adjustments).grey)[32]
    wanted = 255 * expected(np.linspace(0, 1, len(grey)))
    assert np.abs(grey - wanted)[8:-8].max() < 8


def test_percentiles_are_on_the_sliders_scale():
    values = np.full((100, 100), 0.5, np.float32)
    values[:10] = 0.2
    values[-10:] = 0.9
    preview = render(PreviewMap.of(DepthMap(values, unit=True)), AS_IT_IS)
    assert (preview.far, preview.near) == pytest.approx((0.2, 0.9))
    inverted = render(PreviewMap.of(DepthMap(values, unit=True)), Adjustments(invert=True, far=0.3))
    assert (inverted.far, inverted.near) == pytest.approx((0.1, 0.8))


def test_a_few_odd_pixels_do_not_move_the_percentiles():
    values = np.full((100, 100), 0.5, np.float32)
    values[0, :50], values[-1, :50] = 0.0, 1.0
    preview = render(PreviewMap.of(DepthMap(values, unit=True)), AS_IT_IS)
    assert (preview.far, preview.near) == pytest.approx((0.5, 0.5))


def test_an_ordinary_map_needs_no_warning():
    assert render(PreviewMap.of(ramp()), AS_IT_IS).warnings == ()
    assert render(PreviewMap.of(ramp(unit=False)), AS_IT_IS).warnings == ()


@pytest.mark.parametrize("unit", [True, False])
def test_a_flat_map_is_said_to_be_flat(unit):
    (warning,) = render(PreviewMap.of(DepthMap(np.full((8, 8), 0.3, np.float32), unit=unit)), AS_IT_IS).warnings
    assert warning.startswith("Flat: the whole map has one depth")


def test_levels_that_leave_nothing_are_said_to_make_it_flat():
    values = np.tile(np.linspace(0.2, 0.4, 64, dtype=np.float32), (8, 1))
    for levels in (Adjustments(far=0.5), Adjustments(near=0.1)):
        (warning,) = render(PreviewMap.of(DepthMap(values, unit=True)), levels).warnings
        assert warning.startswith("Flat: no depth is left between Far and Near")


def test_a_map_that_uses_little_of_its_scale_is_nearly_flat():
    """As one that was saved with 8 bits of a 16-bit scale."""
    values = np.tile(np.linspace(0.0, 255 / 65535, 64, dtype=np.float32), (8, 1))
    warnings = render(PreviewMap.of(DepthMap(values, unit=True)), AS_IT_IS).warnings
    assert warnings[0].startswith("Nearly flat: the map uses 0.4% of its scale")


@pytest.mark.parametrize(
    ("adjustments", "warning"),
    [
        (Adjustments(far=0.3), "Clipped: 30% lies at or below Far"),
        (Adjustments(near=0.8), "Clipped: 20% lies at or above Near"),
        (Adjustments(far=0.02, near=0.98), None),
    ],
)
def test_what_the_levels_cut_off_is_said(adjustments, warning):
    warnings = render(PreviewMap.of(ramp(1000, 4)), adjustments).warnings
    assert [text.partition(" and has")[0] for text in warnings] == ([warning] if warning else [])


def test_a_map_that_came_clipped_is_said_to_be():
    values = np.clip(np.tile(np.linspace(-0.5, 1.5, 200, dtype=np.float32), (4, 1)), 0, 1)
    warnings = render(PreviewMap.of(DepthMap(values, unit=True)), AS_IT_IS).warnings
    assert [re.sub(r" and has.*", "", text) for text in warnings] == [
        "Clipped: 25% lies at the far end of the map",
        "Clipped: 25% lies at the near end of the map",
    ]


def test_a_large_map_is_shown_small_and_keeps_its_proportions():
    large = PreviewMap.of(ramp(2048, 1024))
    assert large.depth_map.size == (SIDE, SIDE // 2)
    assert large.scale == pytest.approx(0.25)
    assert large.size == (2048, 1024)


def test_an_estimate_is_shown_in_the_pictures_proportions():
    preview = render(PreviewMap.of(ramp(384, 384), (1920, 1080)), AS_IT_IS)
    assert "aspect-ratio: 1920 / 1080" in preview.to_html()


def test_blur_is_in_pixels_of_the_map_and_not_of_what_is_shown():
    step = np.zeros((1024, 1024), np.float32)
    step[:, 512:] = 1.0
    grey = grey_of(render(PreviewMap.of(DepthMap(step, unit=True)), Adjustments(blur=16.0)).grey)
    row = grey[grey.shape[0] // 2] / 255
    width = np.count_nonzero((row > 0.16) & (row < 0.84)) * 1024 / len(row)
    assert width == pytest.approx(2 * 16, rel=0.2), "one sigma to each side of an edge is 16 % to 84 %"


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (2, 4000)])
def test_odd_shapes_are_shown(shape):
    values = np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    for adjustments in (AS_IT_IS, Adjustments(blur=64.0)):
        assert "<img" in render(PreviewMap.of(DepthMap(values, unit=True)), adjustments).to_html()


def test_the_html_carries_pictures_numbers_and_the_sliders_it_answers():
    adjustments = Adjustments(far=0.1, near=0.9, gamma=1.5, blur=2.0, invert=True)
    page = render(PreviewMap.of(ramp()), adjustments).to_html()
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert "96 % of the pixels lie between 0.02 and 0.98" in page
    sliders = json.loads(html.unescape(re.search(r'data-sliders="([^"]*)"', page)[1]))
    assert sliders == {"far": 0.1, "near": 0.9, "gamma": 1.5, "blur": 2.0, "invert": True, "clip": 0.0}
    assert re.search(r'<rect x="0" y="0" width="10.00"', page)
    assert re.search(r'<rect x="90.00" y="0" width="10.00"', page)


def test_what_a_few_pixels_take_is_said_and_cut_off():
    values = np.tile(np.linspace(1.0, 2.0, 200, dtype=np.float32), (100, 1))
    values[0, 0] = 1e6  # a particle before the lens
    preview_map = PreviewMap.of(DepthMap(values, unit=False))
    assert any("98% of the pixels share 0.0% of the range. Raise Cut off" in line for line in shown(preview_map))
    cut = render(preview_map, Adjustments(clip=0.01))
    assert not any("Stretched by a few" in line for line in cut.warnings)
    assert cut.far == pytest.approx(0.01, abs=0.01)
    assert cut.near == pytest.approx(0.99, abs=0.01)
    assert not any("Stretched" in line for line in render(PreviewMap.of(ramp()), AS_IT_IS).warnings)


def test_holes_of_a_depth_camera_are_counted():
    millimetres = np.full((40, 60), 1500, np.uint16)
    millimetres[10:20] = 900
    millimetres[:, 10:16] = 0
    (line,) = (
        text for text in shown(PreviewMap.of(DepthMap.from_array(millimetres, meaning="distance"))) if "Holes" in text
    )
    assert line == "Holes: 10.0% of the map holds no measurement, and is taken for the farthest."
    assert not any("Holes" in text for text in shown(PreviewMap.of(ramp())))


def shown(preview_map: PreviewMap) -> tuple[str, ...]:
    return render(preview_map, AS_IT_IS).warnings


@pytest.mark.parametrize("blur", [0.0, 11.0, 30.0, 64.0])
def test_moving_a_slider_is_cheap(blur):
    """0.01 to 0.03 s on two cores; the bound is for a machine that is busy with other things."""
    noise = np.random.default_rng(0).random((512, 512), dtype=np.float32)
    preview_map = PreviewMap.of(DepthMap(noise, unit=False))
    render(preview_map, AS_IT_IS)
    start = time.perf_counter()
    render(preview_map, Adjustments(far=0.1, near=0.8, gamma=1.3, blur=blur, invert=True)).to_html()
    assert time.perf_counter() - start < 1.0


def test_downloads_of_one_map_are_one_file_and_nothing_stays_behind(tmp_path: Path):
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from lib_depth2img.webui.ui.downloads import downloadable\n"
        "paths = [downloadable(data) for data in (b'one', b'two', b'one')]\n"
        "assert [path.read_bytes() for path in paths] == [b'one', b'two', b'one']\n"
        "assert {path.name for path in paths} == {'depth-map.png'}\n"
        "print(len(set(paths)))\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "TEMP": str(tmp_path), "GRADIO_ANALYTICS_ENABLED": "False"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("depth2img")] == []
