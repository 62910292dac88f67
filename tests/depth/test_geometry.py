"""A depth map lands where the host puts the picture: both carry their own coordinates, and those are compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from lib_depth2img import DepthMap, ResizeMode, place
from lib_depth2img.depth.geometry import only_masked_box, sample
from lib_depth2img.errors import RequestError

Size = tuple[int, int]

sides = st.integers(1, 160)
canvas_sides = st.integers(1, 20).map(lambda cells: cells * 8)
grid_sides = st.integers(1, 200)
sizes = st.tuples(sides, sides)
canvases = st.tuples(canvas_sides, canvas_sides)


def host_resize(mode: int, picture: Image.Image, canvas: Size) -> Image.Image:
    """What the WebUI's images.resize_image does without an upscaler, said again; NaN where it stays black."""
    lanczos = Image.Resampling.LANCZOS
    width, height = canvas
    if mode == 0:
        return picture.resize(canvas, lanczos)
    ratio, picture_ratio = width / height, picture.width / picture.height
    as_wide = (width, picture.height * width // picture.width)
    as_high = (picture.width * height // picture.height, height)
    fitted = as_wide if (ratio > picture_ratio if mode == 1 else ratio < picture_ratio) else as_high
    assume(min(fitted) > 0)
    small = picture.resize(fitted, lanczos)
    left, top = width // 2 - fitted[0] // 2, height // 2 - fitted[1] // 2
    result = Image.new("F", canvas, float("nan"))
    result.paste(small, (left, top))
    if mode == 2 and ratio < picture_ratio and top > 0:
        first, last = small.crop((0, 0, fitted[0], 1)), small.crop((0, fitted[1] - 1, *fitted))
        result.paste(first.resize((width, top)), (0, 0))
        result.paste(last.resize((width, top)), (0, top + fitted[1]))
    if mode == 2 and ratio > picture_ratio and left > 0:
        first, last = small.crop((0, 0, 1, fitted[1])), small.crop((fitted[0] - 1, 0, *fitted))
        result.paste(first.resize((left, height)), (0, 0))
        result.paste(last.resize((left, height)), (left + fitted[0], 0))
    return result


def ramps(picture: Size, grid: Size) -> tuple[np.ndarray, np.ndarray]:
    """The picture's own coordinates x and y at the centres of ``grid``: two (H, W) float32 arrays."""
    x = (np.arange(grid[0]) + 0.5) * (picture[0] / grid[0])
    y = (np.arange(grid[1]) + 0.5) * (picture[1] / grid[1])
    both = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return both[0], both[1]


def assert_same_coordinates(
    picture: Size, canvas: Size, grid: Size, host: tuple[np.ndarray, np.ndarray], *, resize_mode: int = 0, crop=None
) -> None:
    placement = place(picture, canvas, resize_mode=resize_mode, crop=crop)
    for axis, (ramp, theirs) in enumerate(zip(ramps(picture, grid), host, strict=True)):
        axis_map = (placement.x, placement.y)[axis]
        known = np.isfinite(theirs)
        assert known.mean() > 0.4

        # Half a pixel of the picture or the canvas, whichever is the coarser.
        pixel = max(1.0, axis_map.scale)
        ours = axis_map(np.arange(canvas[axis]) + 0.5).reshape((1, -1) if axis == 0 else (-1, 1))
        assert np.abs(ours - theirs)[known].max() <= 0.5 * pixel + 1e-3

        # The kernel itself (a = -0.75) bends a straight line by up to 0.05 samples, and by 0.1 where the picture ends.
        sampled = sample(DepthMap.from_array(ramp), placement, canvas)
        assert sampled.shape == canvas[::-1]
        pixel = max(pixel, picture[axis] / grid[axis])
        assert np.abs(sampled - theirs)[known].max() <= 0.6 * pixel + 1e-3


@settings(max_examples=250, deadline=None)
@given(
    picture=sizes, canvas=canvases, grid=st.none() | st.tuples(grid_sides, grid_sides), mode=st.sampled_from([0, 1, 2])
)
def test_resize_modes_land_where_the_host_puts_the_picture(
    picture: Size, canvas: Size, grid: Size | None, mode: int
) -> None:
    host = tuple(np.asarray(host_resize(mode, Image.fromarray(ramp), canvas)) for ramp in ramps(picture, picture))
    assert_same_coordinates(picture, canvas, grid or picture, host, resize_mode=mode)  # type: ignore[arg-type]


@st.composite
def crops(draw: st.DrawFn) -> tuple[Size, tuple[int, int, int, int]]:
    picture = draw(sizes)
    x1, y1 = draw(st.integers(0, picture[0] - 1)), draw(st.integers(0, picture[1] - 1))
    return picture, (x1, y1, draw(st.integers(x1 + 1, picture[0])), draw(st.integers(y1 + 1, picture[1])))


@settings(max_examples=250, deadline=None)
@given(
    cropped=crops(),
    canvas=canvases,
    grid=st.none() | st.tuples(grid_sides, grid_sides),
    mode=st.sampled_from(ResizeMode),
)
def test_only_masked_lands_where_the_host_puts_the_crop(
    cropped, canvas: Size, grid: Size | None, mode: ResizeMode
) -> None:
    picture, box = cropped
    host = tuple(
        np.asarray(host_resize(2, Image.fromarray(ramp).crop(box), canvas)) for ramp in ramps(picture, picture)
    )
    assert_same_coordinates(picture, canvas, grid or picture, host, resize_mode=mode, crop=box)  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(picture=st.tuples(st.integers(32, 300), st.integers(32, 300)), canvas=canvases)
def test_latent_upscale_lands_where_the_latent_lands(picture: Size, canvas: Size) -> None:
    placement = place(picture, canvas, resize_mode=ResizeMode.LATENT_UPSCALE)
    cells = (picture[0] // 8, picture[1] // 8)
    latent_size = (canvas[0] // 8, canvas[1] // 8)
    for axis, ramp in enumerate(ramps(picture, picture)):
        latent = ramp[: cells[1] * 8, : cells[0] * 8].reshape(cells[1], 8, cells[0], 8).mean((1, 3))
        resized = torch.nn.functional.interpolate(
            torch.from_numpy(latent)[None, None], size=latent_size[::-1], mode="bilinear"
        )[0, 0].numpy()
        ours = sample(DepthMap.from_array(ramp), placement, latent_size)
        # Bilinear holds still over the outer half of the first and last cell; the map does not.
        cell = 8 * max(1.0, cells[axis] / latent_size[axis])
        assert np.abs(ours - resized).max() <= 0.5 * cell + 1e-3


@settings(max_examples=150, deadline=None)
@given(grid=st.tuples(grid_sides, grid_sides), size=sizes, seed=st.integers(0, 99))
def test_a_plain_resize_is_torchs_bicubic(grid: Size, size: Size, seed: int) -> None:
    values = np.random.default_rng(seed).random(grid[::-1]).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=size[::-1], mode="bicubic", align_corners=False
    )[0, 0].numpy()
    # The picture's own size does not matter: the map covers all of it.
    ours = sample(DepthMap.from_array(values), place((37, 91), size), size)
    np.testing.assert_allclose(ours, expected, atol=1e-4)  # torch rounds its coordinates to float32


@pytest.mark.parametrize("grid", [(384, 384), (672, 384), (384, 512), (2000, 384)])
@pytest.mark.parametrize("canvas", [(64, 64), (512, 512), (1024, 768)])
def test_an_estimators_grid_is_never_averaged(grid: Size, canvas: Size) -> None:
    values = np.random.default_rng(0).random(grid[::-1]).astype(np.float32)
    size = (canvas[0] // 8, canvas[1] // 8)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=size[::-1], mode="bicubic", align_corners=False
    )[0, 0].numpy()
    ours = sample(DepthMap.from_array(values), place((640, 480), canvas), size)
    np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_a_much_finer_map_is_averaged() -> None:
    noise = np.random.default_rng(0).random((4096, 4096)).astype(np.float32)
    ours = sample(DepthMap.from_array(noise), place((4096, 4096), (512, 512)), (64, 64))
    assert ours.std() < 0.5 * noise.std()


def test_the_shape_of_a_flat_map_stays_flat() -> None:
    for level in (0.1, 1 / 3, 1234.567, -5e-20):
        flat = DepthMap.from_array(np.full((1999, 1777), level))
        ours = sample(flat, place((512, 640), (512, 512), resize_mode=2), (64, 64))
        assert np.ptp(ours) == 0
        assert ours[0, 0] == np.float32(level)


def test_resize_and_fill_repeats_the_edge() -> None:
    wide = DepthMap.from_array(np.arange(100, dtype=np.float32).repeat(200).reshape(100, 200))
    ours = sample(wide, place((200, 100), (400, 400), resize_mode=2), (400, 400))
    assert (ours[:101] == ours[100]).all()
    assert (ours[299:] == ours[299]).all()
    assert ours[100, 0] < ours[101, 0] < ours[200, 0]


def test_a_box_beyond_the_picture_repeats_the_edge() -> None:
    ramp, _ = ramps((100, 100), (100, 100))
    ours = sample(DepthMap.from_array(ramp), place((100, 100), (128, 128), crop=(-50, 0, 50, 100)), (128, 128))
    assert np.abs(ours[:, :62] - 0.5).max() <= 0.5
    assert ours[0, -1] == pytest.approx(49.6, abs=0.1)


FACTS = [
    # picture, masked box, padding, canvas, box: computed by the WebUI's own modules/masking.py (v1.10.1)
    ((512, 512), (100, 120, 228, 152), 0, (512, 512), (100, 72, 228, 200)),
    ((512, 512), (100, 120, 228, 152), 32, (512, 512), (68, 40, 260, 232)),
    ((640, 480), (600, 10, 640, 50), 16, (512, 512), (574, 0, 640, 66)),
    ((640, 480), (0, 0, 640, 20), 8, (768, 512), (0, 0, 640, 426)),
    ((300, 700), (5, 650, 25, 699), 4, (512, 768), (0, 646, 36, 700)),
    ((64, 64), (63, 63, 64, 64), 0, (512, 512), (63, 63, 64, 64)),
    ((101, 57), (10, 3, 90, 50), 7, (512, 256), (0, 0, 101, 57)),
    ((512, 512), (100, 120, 231, 152), 0, (512, 512), (100, 71, 231, 202)),
    ((512, 512), (200, 120, 233, 261), 3, (640, 512), (125, 117, 308, 264)),
]


@pytest.mark.parametrize(("picture", "masked", "padding", "canvas", "expected"), FACTS)
@pytest.mark.parametrize("dtype", ["uint8", "bool"])
def test_only_masked_box(picture: Size, masked, padding: int, canvas: Size, expected, dtype: str) -> None:
    mask = np.zeros(picture[::-1], dtype)
    mask[masked[1] : masked[3], masked[0] : masked[2]] = 1
    assert only_masked_box(mask, padding, canvas) == expected


def test_a_blank_mask_has_no_box() -> None:
    assert only_masked_box(np.zeros((9, 9), np.uint8), 4, (512, 512)) is None


def test_a_mask_of_another_rank_is_refused() -> None:
    with pytest.raises(RequestError, match=r"\(H, W\)"):
        only_masked_box(np.zeros((9, 9, 3), np.uint8), 4, (512, 512))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"picture_size": (0, 5)}, "picture size"),
        ({"canvas_size": (512, 0)}, "canvas size"),
        ({"canvas_size": (512.0, 512)}, "canvas size"),
        ({"resize_mode": 4}, "resize mode is 4.*0 .just_resize"),
        ({"resize_mode": "Just resize"}, "resize mode"),
        ({"crop": (5, 5, 5, 9)}, "crop box"),
        ({"crop": (100, 0, 120, 10)}, "crop box"),
        ({"crop": (-9, 0, 0, 10)}, "crop box"),
        ({"crop": (0, 0, 10)}, "crop box"),
        ({"picture_size": (3, 5000), "resize_mode": 2}, "long"),
        ({"picture_size": (5, 5), "resize_mode": 3}, "latent upscale"),
    ],
)
def test_nonsense_is_refused(arguments: dict, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        place(**{"picture_size": (100, 80), "canvas_size": (512, 512), **arguments})


def test_the_hosts_numbers() -> None:
    assert [mode.value for mode in ResizeMode] == [0, 1, 2, 3]
    assert place((5, 5), (8, 8), resize_mode=2) == place((5, 5), (8, 8), resize_mode=ResizeMode.RESIZE_AND_FILL)
