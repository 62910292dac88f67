"""DepthMap: every type and mode is scaled by its type, never by its content."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps

from lib_depth2img import Adjustments, DepthMap
from lib_depth2img.errors import Depth2ImgError, DepthMapError, RequestError

RAMP = np.linspace(0.0, 1.0, 48).reshape(6, 8)


def ramp(dtype: str, white: float) -> np.ndarray:
    return np.rint(RAMP * white).astype(dtype)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (ramp("uint8", 255), ramp("uint8", 255) / 255),
        (ramp("uint8", 100), ramp("uint8", 100) / 255),
        (ramp("uint16", 65535), ramp("uint16", 65535) / 65535),
        (ramp("uint16", 300), ramp("uint16", 300) / 65535),
        (ramp("uint16", 32768), ramp("uint16", 32768) / 65535),
        (ramp(">u2", 65535), ramp("uint16", 65535) / 65535),
        (RAMP > 0.5, (RAMP > 0.5).astype(float)),
    ],
    ids=["uint8", "dark 8 bit", "uint16", "dark 16 bit", "15 bit", "big-endian", "bool"],
)
def test_picture_types_are_scaled_by_their_type(array: np.ndarray, expected: np.ndarray) -> None:
    depth_map = DepthMap.from_array(array)
    assert depth_map.unit
    assert depth_map.values.dtype == np.float32
    np.testing.assert_array_equal(depth_map.values, expected.astype(np.float32))


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint32", "uint64"]
)
def test_numbers_stay_as_they_are(dtype: str) -> None:
    array = ramp(dtype, 100)
    depth_map = DepthMap.from_array(array)
    assert not depth_map.unit
    np.testing.assert_array_equal(depth_map.values, array.astype(np.float32))
    assert depth_map.scaled().unit
    assert depth_map.scaled().extent == (0.0, 1.0)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535), ("float32", 7)])
def test_grey_in_several_channels_is_the_grey(channels: int, dtype: str, white: float) -> None:
    grey = ramp(dtype, white)
    array = np.repeat(grey[..., None], channels, axis=2)
    if channels == 4:
        array[..., 3] = white
    np.testing.assert_array_equal(DepthMap.from_array(array).values, DepthMap.from_array(grey).values)


def test_a_list_of_lists_will_do() -> None:
    assert DepthMap.from_array([[0.0, 1.0], [2.0, 3.0]]).size == (2, 2)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"])
def test_8_bit_modes(mode: str) -> None:
    grey = ramp("uint8", 200)
    image = Image.fromarray(grey).convert("RGB") if mode in ("CMYK", "YCbCr") else Image.fromarray(grey)
    depth_map = DepthMap.from_image(image.convert(mode))
    assert depth_map.unit
    np.testing.assert_allclose(depth_map.values, grey / 255, atol=1.01 / 255 if mode == "YCbCr" else 1e-6)


def test_mode_1() -> None:
    mask = RAMP > 0.5
    depth_map = DepthMap.from_image(Image.fromarray(mask))
    np.testing.assert_array_equal(depth_map.values, mask.astype(np.float32))


@pytest.mark.parametrize("highest", [300, 32768, 65535])
@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_modes(mode: str, highest: int) -> None:
    numbers = ramp("uint16", highest)
    if mode == "I":
        image = Image.fromarray(numbers.astype(np.int32))
    else:
        packed = numbers.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
        image = Image.frombytes(mode, numbers.shape[::-1], packed)
    assert image.mode == mode
    depth_map = DepthMap.from_image(image)
    assert depth_map.unit
    np.testing.assert_array_equal(depth_map.values, (numbers / 65535).astype(np.float32))


@pytest.mark.parametrize("numbers", [[[0, 70000]], [[-1, 5]]])
def test_mode_i_beyond_16_bit_is_refused(numbers: list[list[int]]) -> None:
    with pytest.raises(DepthMapError, match=r"numbers from .* 0 to 65535.*float"):
        DepthMap.from_image(Image.fromarray(np.array(numbers, np.int32)))


def opened_tiff(array: np.ndarray, **options: object) -> Image.Image:
    file = io.BytesIO()
    tifffile.imwrite(file, array, metadata=None, **options)
    return Image.open(file)


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint32"])
def test_a_tiff_opened_by_pillow_knows_its_numbers(dtype: str) -> None:
    numbers = np.array([[0, 5, 2**15 - 1]], dtype)
    depth_map = DepthMap.from_image(opened_tiff(numbers))
    assert not depth_map.unit
    np.testing.assert_array_equal(depth_map.values, numbers.astype(np.float32))


def test_a_tiff_opened_by_pillow_beyond_31_bit() -> None:
    numbers = np.array([[1, 2**31, 2**32 - 256]], np.uint32)
    np.testing.assert_array_equal(DepthMap.from_image(opened_tiff(numbers)).values, numbers.astype(np.float32))


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_a_tiff_opened_by_pillow_knows_its_white(photometric: str) -> None:
    numbers = ramp("uint16", 65535)
    depth_map = DepthMap.from_image(opened_tiff(numbers, photometric=photometric))
    assert depth_map.unit
    expected = numbers / 65535 if photometric == "minisblack" else 1 - numbers / 65535
    np.testing.assert_allclose(depth_map.values, expected, atol=1e-6)


def test_mode_f_is_numbers() -> None:
    depth_map = DepthMap.from_image(Image.fromarray((RAMP * 40 - 3).astype(np.float32)))
    assert not depth_map.unit
    assert depth_map.extent == pytest.approx((-3, 37))


def test_16_bit_png_through_pillow_keeps_its_bits() -> None:
    numbers = ramp("uint16", 300)
    file = io.BytesIO()
    Image.fromarray(numbers).save(file, "PNG")
    with Image.open(file) as image:
        np.testing.assert_array_equal(DepthMap.from_image(image).values, (numbers / 65535).astype(np.float32))
        np.testing.assert_array_equal(DepthMap.from_image(image.copy()).values, (numbers / 65535).astype(np.float32))


def test_transparent_pixels_are_the_farthest() -> None:
    grey = np.full((4, 4), 200, np.uint8)
    grey[0, 0], grey[0, 1] = 50, 255
    alpha = np.full((4, 4), 255, np.uint8)
    alpha[0, 1] = 0
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    values = DepthMap.from_image(image).values
    assert values[0, 1] == values[0, 0] == np.float32(50 / 255)
    np.testing.assert_array_equal(DepthMap.from_array(np.dstack([grey, grey, grey, alpha])).values, values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e30, -1e30])
def test_nearness_without_measurement_is_the_farthest(bad: float) -> None:
    array = np.array([[2.0, bad], [7.0, 3.0]], np.float32)
    np.testing.assert_array_equal(DepthMap.from_array(array).values, [[2.0, 2.0], [7.0, 3.0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -1.0, 3.4e38, 1e-44, 1e30, 1e-30])
def test_distance_without_measurement_is_the_farthest(bad: float) -> None:
    array = np.array([[2.0, bad], [4.0, 0.5]], np.float32)
    depth_map = DepthMap.from_array(array, meaning="distance")
    np.testing.assert_array_equal(depth_map.values, [[0.5, 0.25], [0.25, 2.0]])
    assert not depth_map.unit


def test_numbers_just_within_the_largest_are_measurements() -> None:
    largest = float(np.nextafter(np.float32(1e30), np.float32(0)))
    assert DepthMap.from_array(np.array([[1.0, largest]])).holes == 0
    assert DepthMap.from_array(np.array([[1.0, largest]]), meaning="distance").holes == 0


def test_holes_are_counted() -> None:
    numbers = np.array([[2.0, np.nan, 0.0], [-1.0, 4.0, 1e30]], np.float32)
    assert DepthMap.from_array(numbers).holes == 2
    assert DepthMap.from_array(numbers, meaning="distance").holes == 4
    assert DepthMap.from_array(np.ones((2, 2))).holes == 0
    transparent = np.full((2, 3, 4), 90, np.uint8)
    transparent[0, :2, 3] = 0
    assert DepthMap.from_array(transparent).holes == 2


def test_holes_of_a_depth_camera() -> None:
    """0 and 65535 in 16 bit: both the farthest, neither a surface. 65535 of nearness is the nearest."""
    millimetres = np.array([[0, 600, 65535], [1200, 65535, 4000]], np.uint16)
    depth_map = DepthMap.from_array(millimetres, meaning="distance")
    assert depth_map.holes == 3
    farthest = depth_map.values.min()
    np.testing.assert_array_equal(depth_map.values == farthest, (millimetres == 0) | (millimetres == 65535))
    assert DepthMap.from_array(millimetres).holes == 0
    assert DepthMap.from_array(millimetres.astype(np.float32), meaning="distance").holes == 1


def test_the_count_of_holes_stays_with_the_map() -> None:
    depth_map = DepthMap.from_array(np.array([[1.0, np.nan], [2.0, 3.0]]))
    for other in (depth_map.scaled(), depth_map.adjusted(Adjustments(gamma=2.0)), depth_map.turned(6)):
        assert other.holes == 1
    assert DepthMap.from_array(np.array([[1.0, np.nan]])).scaled().holes == 1
    assert depth_map.resized((5, 5)).holes == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_is_as_pillow_turns(orientation: int) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    image = Image.fromarray(values)
    image.getexif()[0x0112] = orientation
    turned = DepthMap(values, unit=False).turned(orientation)
    np.testing.assert_array_equal(turned.values, np.asarray(ImageOps.exif_transpose(image)))


def test_distance_in_a_picture() -> None:
    millimetres = np.array([[0, 1000], [2000, 4000]], np.uint16)
    near = DepthMap.from_image(Image.fromarray(millimetres), meaning="distance").scaled().values
    np.testing.assert_allclose(near, [[0.0, 1.0], [1 / 3, 0.0]], atol=1e-6)


@pytest.mark.parametrize("meaning", ["nearness", "distance"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nothing_measured_is_refused(meaning: str, bad: float) -> None:
    with pytest.raises(DepthMapError, match="not one measurement"):
        DepthMap.from_array(np.full((3, 3), bad), meaning=meaning)


def test_all_zero_distance_is_refused_and_all_zero_nearness_is_flat() -> None:
    with pytest.raises(DepthMapError, match="0 or negative"):
        DepthMap.from_array(np.zeros((3, 3), np.uint8), meaning="distance")
    assert DepthMap.from_array(np.zeros((3, 3), np.uint8)).is_flat


def test_float64_too_large_for_float32_does_not_warn() -> None:
    assert DepthMap.from_array(np.array([[1.0, 1e300]])).is_flat


@pytest.mark.parametrize(
    "shape",
    [(), (1,), (5,), (0, 5), (5, 0), (2, 5, 6), (4, 4, 2), (4, 4, 5), (1, 2, 4, 5), (2, 1, 4, 4), (1, 1, 1, 4, 4)],
)
def test_other_ranks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DepthMapError, match=rf"shape {re.escape(str(shape))}.*\(H, W\)"):
        DepthMap.from_array(np.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 6, 8), (1, 1, 6, 8), (1, 6, 8, 1), (6, 8, 1)])
def test_a_batch_of_one_is_the_one(shape: tuple[int, ...]) -> None:
    array = RAMP.astype(np.float32)
    np.testing.assert_array_equal(DepthMap.from_array(array.reshape(shape)).values, array)


def test_a_batch_of_one_in_grey_colours() -> None:
    array = np.repeat(ramp("uint8", 255)[None, ..., None], 3, axis=3)
    np.testing.assert_array_equal(DepthMap.from_array(array).values, DepthMap.from_array(ramp("uint8", 255)).values)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_row_of_colours_is_a_row(channels: int) -> None:
    assert DepthMap.from_array(np.full((1, 7, channels), 9, np.uint8)).size == (7, 1)


@pytest.mark.parametrize("columns", [2, 5])
def test_a_narrow_batch_of_one(columns: int) -> None:
    assert DepthMap.from_array(np.full((1, 7, columns), 9, np.uint8)).size == (columns, 7)


@pytest.mark.parametrize("array", [np.zeros((2, 2), complex), np.array([["a", "b"]]), np.array([[None, 1]], object)])
def test_other_types_are_refused(array: np.ndarray) -> None:
    with pytest.raises(DepthMapError, match="numbers"):
        DepthMap.from_array(array)


def test_what_is_no_array_is_refused() -> None:
    with pytest.raises(DepthMapError, match="cannot be taken as an array"):
        DepthMap.from_array([[1.0, 2.0], [3.0]])
    with pytest.raises(DepthMapError, match="cannot be taken as an array"):
        DepthMap.from_array(torch.zeros(2, 2, requires_grad=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("refusal", [TypeError, RuntimeError, ValueError])
def test_a_tensor_on_another_device_is_refused(refusal: type[Exception]) -> None:
    class Elsewhere(torch.Tensor):
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise refusal("can't convert cuda:0 device type tensor to numpy")

    tensor = torch.zeros(2, 2).as_subclass(Elsewhere)
    with pytest.raises(DepthMapError, match=r"Elsewhere cannot be taken as an array \(can't convert cuda:0.*Convert"):
        DepthMap.from_array(tensor)  # type: ignore[arg-type]


def test_a_picture_that_turns_out_broken_is_refused() -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(file, "PNG")
    with Image.open(io.BytesIO(file.getvalue()[:2000])) as image, pytest.raises(DepthMapError, match="decoded"):
        DepthMap.from_image(image)


def test_colours_below_full_transparency_do_not_count() -> None:
    array = np.full((4, 4, 4), 100, np.uint8)
    array[0, 0] = 7, 7, 7, 255
    array[1:3] = 255, 0, 255, 0
    assert DepthMap.from_array(array).extent == (np.float32(7 / 255), np.float32(100 / 255))


def test_an_unknown_meaning_is_refused() -> None:
    with pytest.raises(RequestError, match=r"disparity.*nearness"):
        DepthMap.from_array(RAMP, meaning="disparity")  # type: ignore[arg-type]


COLOURS = {
    name: getattr(cv2, f"COLORMAP_{name.upper()}") for name in ("turbo", "inferno", "magma", "viridis", "jet", "plasma")
}


@pytest.mark.parametrize("name", COLOURS)
def test_coloured_depth_is_refused(name: str) -> None:
    grey = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    coloured = cv2.applyColorMap(grey, COLOURS[name])[..., ::-1]
    for picture in (Image.fromarray(coloured), Image.fromarray(coloured).convert("P")):
        with pytest.raises(DepthMapError, match=r"coloured picture.*save the grey"):
            DepthMap.from_image(picture)
    with pytest.raises(DepthMapError, match="coloured"):
        DepthMap.from_array(coloured.astype(np.float32) / 255)
    with pytest.raises(DepthMapError, match="coloured"):
        DepthMap.from_array(coloured.astype(np.uint16) * 257)


def test_a_photo_is_refused() -> None:
    from skimage import data

    with pytest.raises(DepthMapError, match="photo"):
        DepthMap.from_array(data.astronaut())


@pytest.mark.parametrize("quality", [10, 50, 95])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_grey_saved_in_colour_with_losses_is_accepted(quality: int, kind: str) -> None:
    y, x = np.mgrid[0:96, 0:128]
    grey = (127 + 90 * np.sin(x / 9) * np.cos(y / 13) + (x > 60) * 30).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).convert("RGB").save(file, kind, quality=quality)
    with Image.open(file) as image:
        values = DepthMap.from_image(image).values
    assert np.abs(values - grey / 255).mean() < 0.05


@pytest.mark.parametrize(("apart", "grey"), [(16, True), (17, False)])
def test_how_far_channels_of_grey_may_be_apart(apart: int, grey: bool) -> None:
    array = np.full((4, 4, 3), 100, np.uint8)
    array[..., 1] += apart
    assert _is_grey(array) is grey


@pytest.mark.parametrize(("coloured", "grey"), [(1, True), (2, False)])
def test_how_many_pixels_of_grey_may_be_coloured(coloured: int, grey: bool) -> None:
    array = np.full((10, 10, 3), 100, np.uint8)
    array[0, :coloured, 0] = 255
    assert _is_grey(array) is grey


def _is_grey(array: np.ndarray) -> bool:
    try:
        DepthMap.from_array(array)
    except DepthMapError:
        return False
    return True


def test_channels_one_level_apart_are_grey() -> None:
    grey = ramp("uint8", 200)
    depth_map = DepthMap.from_array(np.dstack([grey, grey + 1, grey + 2]))
    np.testing.assert_allclose(depth_map.values, (grey + 1) / 255, atol=1e-6)


def test_the_map_cannot_be_changed_from_outside() -> None:
    array = RAMP.astype(np.float32)
    depth_map, direct = DepthMap.from_array(array), DepthMap(array, unit=True)
    array[:] = 5
    assert depth_map.extent == direct.extent == (0.0, 1.0)
    with pytest.raises(ValueError, match="read-only"):
        depth_map.values[0, 0] = 1


@pytest.mark.parametrize("made", [lambda a: a.T, lambda a: a[:, ::2], lambda a: np.broadcast_to(a[:1], a.shape)])
def test_any_layout_becomes_contiguous_and_read_only(made: Callable[[np.ndarray], np.ndarray]) -> None:
    values = made(np.random.default_rng(0).random((6, 8)).astype(np.float32))
    values.flags.writeable = False
    depth_map = DepthMap(values, unit=False)
    assert depth_map.values.flags.c_contiguous
    assert not depth_map.values.flags.writeable
    np.testing.assert_array_equal(depth_map.values, values)


def test_a_read_only_array_is_taken_as_it_is() -> None:
    values = np.ones((3, 4), np.float32)
    values.flags.writeable = False
    assert DepthMap(values, unit=False).values is values


@pytest.mark.parametrize(
    "values",
    [RAMP, RAMP.astype(np.float32)[0], np.full((2, 2), np.nan, np.float32), [[1.0]], np.zeros((0, 3), np.float32)],
)
def test_the_constructor_takes_nothing_else(values: object) -> None:
    with pytest.raises(DepthMapError):
        DepthMap(values, unit=False)  # type: ignore[arg-type]


def test_digest() -> None:
    depth_map = DepthMap.from_array(np.arange(6, dtype=np.float32).reshape(2, 3))
    # Made once with coreutils' sha256sum over the same bytes: it must hold between versions, for caches and records.
    assert depth_map.digest == "d48fde5417ecb91225baf9c707de50bd31cd136b8c40bfa3a78496be088336fa"
    assert DepthMap(depth_map.values.copy(order="F"), unit=False).digest == depth_map.digest
    others = [
        DepthMap(depth_map.values, unit=True),
        DepthMap(depth_map.values.reshape(3, 2), unit=False),
        DepthMap(depth_map.values + 1, unit=False),
    ]
    assert len({depth_map.digest, *(other.digest for other in others)}) == 4


def test_scaled() -> None:
    numbers = DepthMap.from_array(np.array([[-3e29, 0.0], [1e29, 3e29]]))
    np.testing.assert_allclose(numbers.scaled().values, [[0, 0.5], [2 / 3, 1]], atol=1e-6)
    flat = DepthMap.from_array(np.full((2, 2), 7.0)).scaled()
    assert flat.unit
    assert flat.extent == (0.0, 0.0)
    unit = DepthMap.from_array(ramp("uint8", 100))
    assert unit.scaled() is unit


def test_scaled_tiny_differences() -> None:
    values = np.array([[1e-44, 2e-44]], np.float32)
    assert DepthMap.from_array(values).scaled().extent == (0.0, 1.0)


@pytest.mark.parametrize("size", [(64, 48), (31, 50), (17, 100), (33, 12)])
def test_resized_equals_torch(size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random((24, 32)).astype(np.float32)
    resized = DepthMap.from_array(values).resized(size)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=size[::-1], mode="bicubic", align_corners=False
    )[0, 0]
    assert resized.size == size
    np.testing.assert_allclose(resized.values, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("size", [(8, 6), (10, 7), (5, 3), (1, 1)])
def test_resized_much_smaller_is_the_area_average(size: tuple[int, int]) -> None:
    values = np.random.default_rng(1).random((24, 32)).astype(np.float32)
    expected = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(DepthMap.from_array(values).resized(size).values, expected, atol=1e-5)


@pytest.mark.parametrize(("count", "wanted"), [(30, 11), (30, 13)])
def test_the_last_box_counts_its_samples_once(count: int, wanted: int) -> None:
    assert wanted * (count / wanted) < count
    assert DepthMap.from_array(np.full((1, count), 3.0)).resized((wanted, 1)).extent == (3.0, 3.0)


def test_resized_keeps_what_it_can() -> None:
    checker = DepthMap.from_array(np.indices((8, 8)).sum(0) % 2 == 0)
    assert checker.resized((8, 8)) is checker
    larger = checker.resized((37, 41))
    assert larger.unit
    assert larger.extent[0] >= 0
    assert larger.extent[1] <= 1
    flat = DepthMap.from_array(np.full((50, 60), 0.1))
    for size in ((300, 40), (7, 9), (61, 49)):
        assert flat.resized(size).extent == flat.extent


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (5,), (5.5, 5), 7, (True, 5)])
def test_resized_to_nonsense_is_refused(size: object) -> None:
    with pytest.raises(RequestError, match="width, height"):
        DepthMap.from_array(RAMP).resized(size)  # type: ignore[arg-type]


def test_every_refusal_is_of_the_tree() -> None:
    assert issubclass(DepthMapError, Depth2ImgError)
    assert issubclass(RequestError, Depth2ImgError)
