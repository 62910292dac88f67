"""Depth maps and pictures from and to every kind of file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from lib_depth2img import Adjustments, DepthMap, read_depth_map, read_picture, save_depth_map
from lib_depth2img.depth.io.files import SUFFIXES, encode_png
from lib_depth2img.errors import DepthMapError, PictureError, RequestError

RAMP = np.linspace(0.0, 1.0, 48).reshape(6, 8)
ESTIMATE = DepthMap.from_array(np.random.default_rng(0).normal(1000, 300, (40, 52)).astype(np.float32))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_tifffile(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def png_of_16_bit(channels: np.ndarray, colour: int) -> bytes:
    """A PNG by the specification, for the kinds that neither Pillow nor OpenCV writes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = channels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)
    header = struct.pack(">2I5B", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("highest", [300, 32768, 65535], ids=["dark", "15 bit", "full"])
@pytest.mark.parametrize("kind", ["L", "LA", "RGB", "RGBA"])
def test_16_bit_png(kind: str, highest: int) -> None:
    grey = np.rint(RAMP * highest).astype(np.uint16)
    colours, alpha = (3 if "RGB" in kind else 1), kind.endswith("A")
    channels = np.dstack([grey] * colours + [np.full_like(grey, 65535)] * alpha)
    data = png_of_16_bit(channels, {"L": 0, "LA": 4, "RGB": 2, "RGBA": 6}[kind])
    depth_map = read_depth_map(data)
    assert depth_map.unit
    np.testing.assert_array_equal(depth_map.values, (grey / 65535).astype(np.float32))


@pytest.mark.parametrize("highest", [300, 32768, 65535], ids=["dark", "15 bit", "full"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_16_bit_tiff(highest: int, channels: int, byteorder: str, compression: str | None) -> None:
    grey = np.rint(RAMP * highest).astype(np.uint16)
    array = grey if channels == 1 else np.dstack([grey] * channels)
    data = by_tifffile(
        array, byteorder=byteorder, compression=compression, photometric="rgb" if channels == 3 else None
    )
    depth_map = read_depth_map(data)
    assert depth_map.unit
    np.testing.assert_array_equal(depth_map.values, (grey / 65535).astype(np.float32))


def test_16_bit_tiff_with_white_as_zero() -> None:
    grey = np.rint(RAMP * 65535).astype(np.uint16)
    values = read_depth_map(by_tifffile(grey, photometric="miniswhite")).values
    np.testing.assert_allclose(values, 1 - grey / 65535, atol=1e-6)


def test_8_bit_tiff_with_white_as_zero() -> None:
    grey = np.rint(RAMP * 255).astype(np.uint8)
    values = read_depth_map(by_tifffile(grey, photometric="miniswhite")).values
    np.testing.assert_allclose(values, 1 - grey / 255, atol=1e-6)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<i2", ">i2", "<i4", ">i4", "<u4"])
def test_tiff_of_numbers(dtype: str) -> None:
    numbers = np.rint(RAMP * 30000).astype(dtype)
    depth_map = read_depth_map(by_tifffile(numbers, byteorder=dtype[0]))
    assert not depth_map.unit
    np.testing.assert_array_equal(depth_map.values, numbers.astype(np.float32))


def test_tiff_of_large_unsigned_numbers() -> None:
    numbers = np.array([[1, 2**31, 2**32 - 256]], np.uint32)
    np.testing.assert_array_equal(read_depth_map(by_tifffile(numbers)).values, numbers.astype(np.float32))


def test_float_tiff_in_three_channels() -> None:
    numbers = (RAMP * 7).astype(np.float32)
    depth_map = read_depth_map(by_tifffile(np.dstack([numbers] * 3), photometric="rgb"))
    np.testing.assert_array_equal(depth_map.values, numbers)


@pytest.mark.parametrize("turned", [1, 3, 6])
def test_16_bit_colour_tiff_is_upright(turned: int) -> None:
    grey = np.arange(6, dtype=np.uint16).reshape(2, 3)
    data = by_tifffile(np.dstack([grey] * 3), photometric="rgb", extratags=[(274, 3, 1, turned, True)])
    expected = {1: grey, 3: grey[::-1, ::-1], 6: np.rot90(grey, -1)}[turned]
    np.testing.assert_array_equal(read_depth_map(data).values, (expected / 65535).astype(np.float32))


def test_big_tiff() -> None:
    grey = np.rint(RAMP * 65535).astype(np.uint16)
    assert read_depth_map(by_tifffile(grey, bigtiff=True)).extent == (0.0, 1.0)
    assert read_depth_map(by_tifffile(np.dstack([grey] * 3), bigtiff=True, photometric="rgb")).extent == (0.0, 1.0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG", "WEBP", "PPM", "GIF"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_8_bit_files(kind: str, mode: str) -> None:
    grey = np.tile(np.arange(40, 232, dtype=np.uint8), (16, 1))
    options = {"quality": 98} if kind in ("JPEG", "WEBP") else {}
    depth_map = read_depth_map(encoded(Image.fromarray(grey).convert(mode), kind, **options))
    assert depth_map.unit
    np.testing.assert_allclose(depth_map.values, grey / 255, atol=0 if not options else 6 / 255, rtol=1e-6)


def test_16_bit_pgm() -> None:
    data = b"P5\n4 1\n65535\n" + np.array([0, 300, 32768, 65535], ">u2").tobytes()
    np.testing.assert_allclose(read_depth_map(data).values, [[0, 300 / 65535, 32768 / 65535, 1]], rtol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_of_few_bits(bits: int) -> None:
    levels = 2**bits
    image = Image.fromarray(np.tile(np.arange(levels, dtype=np.uint8), (3, 1)))
    image.putpalette([round(level * 255 / (levels - 1)) for level in range(levels) for _ in range(3)])
    values = read_depth_map(encoded(image, bits=bits)).values
    np.testing.assert_allclose(values, np.tile(np.linspace(0, 1, levels), (3, 1)), atol=2e-3)


@pytest.mark.parametrize(
    ("header", "dtype"),
    [
        (b"Pf\n3 2\n-1.0\n", "<f4"),
        (b"Pf\n3 2\n1.0\n", ">f4"),
        (b"Pf\n3 2\n0.25\n", ">f4"),
        (b"Pf 3 2 -0.5 ", "<f4"),
        (b"Pf\r\n3 2\r\n-1\r\n", "<f4"),
        (b"Pf\r3 2\r-1e0\r", "<f4"),
    ],
)
@pytest.mark.parametrize("first", [0.0, 3.5873241e-43, 2.524355e-29], ids=["zero", "newline", "spaces"])
def test_pfm(header: bytes, dtype: str, first: float) -> None:
    """The first number may begin with what looks like the end of a line."""
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    rows[0, 0] = first
    np.testing.assert_array_equal(read_depth_map(header + rows.astype(dtype).tobytes()).values, rows[::-1])


@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_pfm_in_colour_kind(dtype: str) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    header = b"PF\n3 2\n" + (b"-1\n" if dtype == "<f4" else b"1\n")
    np.testing.assert_array_equal(
        read_depth_map(header + np.dstack([rows] * 3).astype(dtype).tobytes()).values, rows[::-1]
    )


def test_pfm_is_as_opencv_has_it(tmp_path: Path) -> None:
    path = str(tmp_path / "map.pfm")
    assert cv2.imwrite(path, ESTIMATE.values)
    np.testing.assert_array_equal(read_depth_map(path).values, ESTIMATE.values)
    save_depth_map(ESTIMATE, path)
    np.testing.assert_array_equal(cv2.imread(path, cv2.IMREAD_UNCHANGED), ESTIMATE.values)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "uint16", "int32", ">f4", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(dtype: str, order: str) -> None:
    array = np.asarray(np.rint(RAMP * 200).astype(dtype), order=order)
    file = io.BytesIO()
    np.save(file, array)
    depth_map = read_depth_map(file.getvalue())
    np.testing.assert_array_equal(depth_map.values, DepthMap.from_array(array).values)
    assert depth_map.unit == (dtype in ("uint8", "uint16", "bool"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["anything"], "anything"),
        (["arr_0", "other"], "arr_0"),
        (["mask", "depth", "arr_0"], "depth"),
        (["depth", "conf", "intrinsics"], "depth"),
        (["depth", "depth_conf"], "depth"),
        (["predicted_depth", "other"], "predicted_depth"),
        (["arr_0", "Depth_Map"], "Depth_Map"),
    ],
)
def test_npz(save, names: list[str], expected: str) -> None:
    file = io.BytesIO()
    save(file, **{name: RAMP[None] if name == expected else np.zeros((1, 3, 3)) for name in names})
    np.testing.assert_array_equal(read_depth_map(file.getvalue()).values, RAMP.astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 6, 8), (1, 1, 6, 8), (1, 6, 8, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_a_batch_of_one(shape: tuple[int, ...], order: str) -> None:
    file = io.BytesIO()
    np.save(file, np.asarray(RAMP.reshape(shape), order=order))
    np.testing.assert_array_equal(read_depth_map(file.getvalue()).values, RAMP.astype(np.float32))


def test_sources(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    save_depth_map(ESTIMATE, path)
    data = path.read_bytes()
    with path.open("rb") as file:
        from_file = read_depth_map(file)
        assert not file.closed
    digests = {read_depth_map(source).digest for source in (path, str(path), data, io.BytesIO(data))}
    assert digests == {from_file.digest}


def test_a_depth_cameras_file() -> None:
    """Millimetres in 16 bit with 0 where there is nothing: the farthest, and counted."""
    millimetres = (600 + 50 * np.arange(60) + 10 * np.arange(40)[:, None]).astype(np.uint16)
    holes = np.zeros((40, 60), bool)
    holes[10:20, 10:20] = True
    depth_map = read_depth_map(
        encoded(Image.fromarray(np.where(holes, 0, millimetres).astype(np.uint16))), meaning="distance"
    )
    assert depth_map.holes == 100
    np.testing.assert_allclose(depth_map.values[~holes], 65535 / millimetres[~holes], rtol=1e-6)
    assert (depth_map.values[holes] == depth_map.values.min()).all()


def test_distance() -> None:
    file = io.BytesIO()
    np.save(file, np.array([[1.0, np.inf], [4.0, 0.0]]))
    np.testing.assert_array_equal(read_depth_map(file.getvalue(), meaning="distance").values, [[1, 0.25], [0.25, 0.25]])


def test_meaning_is_checked_with_files_too() -> None:
    with pytest.raises(RequestError, match="meaning"):
        read_depth_map(encode_png(ESTIMATE), meaning="depth")  # type: ignore[arg-type]


# --- saving


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".png"])
def test_numbers_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"map{suffix.upper()}"
    save_depth_map(ESTIMATE, path)
    back = read_depth_map(path)
    np.testing.assert_array_equal(back.values, ESTIMATE.values)
    assert back.digest == ESTIMATE.digest
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_npy_is_the_bare_float32_array(tmp_path: Path) -> None:
    save_depth_map(ESTIMATE, tmp_path / "map.npy")
    array = np.load(tmp_path / "map.npy")
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, ESTIMATE.values)


def test_float_tiff_is_read_by_others(tmp_path: Path) -> None:
    save_depth_map(ESTIMATE, tmp_path / "map.tiff")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "map.tiff"), ESTIMATE.values)


@pytest.mark.parametrize("bits", [8, 16])
def test_png(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "map.png"
    save_depth_map(ESTIMATE, path, bits=bits)
    white = 2**bits - 1
    theirs = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert theirs.dtype == (np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_array_equal(theirs, np.rint(ESTIMATE.scaled().values * white))
    np.testing.assert_allclose(read_depth_map(path).values, ESTIMATE.scaled().values, atol=0.5 / white + 1e-7)
    assert path.read_bytes() == encode_png(ESTIMATE, bits=bits)


def test_16_bit_png_is_a_fixed_point() -> None:
    numbers = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    once = read_depth_map(encode_png(DepthMap.from_array(numbers)))
    np.testing.assert_array_equal(once.values, DepthMap.from_array(numbers).values)


def test_a_dark_map_is_saved_dark() -> None:
    dark = DepthMap.from_array(np.full((4, 4), 300, np.uint16))
    assert read_depth_map(encode_png(dark)).values[0, 0] == np.float32(300 / 65535)


@pytest.mark.parametrize("name", ["grey", "inferno", "turbo"])
def test_png_in_colour(name: str) -> None:
    with Image.open(io.BytesIO(encode_png(ESTIMATE, colormap=name))) as image:
        assert image.mode == "RGB"
    if name != "grey":
        with pytest.raises(DepthMapError, match="coloured"):
            read_depth_map(encode_png(ESTIMATE, colormap=name))


def test_an_old_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.npy"
    path.write_bytes(b"old")

    def no_room(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", no_room)
        with pytest.raises(DepthMapError, match="No space left"):
            save_depth_map(ESTIMATE, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    save_depth_map(ESTIMATE, path)
    assert read_depth_map(path).digest == ESTIMATE.digest


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_longest_name_there_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / ("x" * (255 - len(suffix)) + suffix)
    save_depth_map(ESTIMATE, path)
    assert read_depth_map(path).size == ESTIMATE.size
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DepthMapError, match=r"nowhere.map\.png cannot be written.*folder"):
        save_depth_map(ESTIMATE, tmp_path / "nowhere" / "map.png")


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("map.jpg", {}, r"\.jpg.*\.png"),
        ("map", {}, "nothing"),
        ("map.png", {"bits": 12}, "bits is 12"),
        ("map.png", {"colormap": "rainbow"}, "rainbow"),
        ("map.npy", {"colormap": "turbo"}, "colour"),
    ],
)
def test_saving_nonsense_is_refused(tmp_path: Path, name: str, options: dict, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        save_depth_map(ESTIMATE, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_adjusted_and_saved() -> None:
    saved = read_depth_map(encode_png(ESTIMATE.adjusted(Adjustments(invert=True))))
    np.testing.assert_allclose(saved.values, 1 - ESTIMATE.scaled().values, atol=1 / 65535)


# --- pictures


def test_pictures_are_rgb() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = read_picture(encoded(Image.fromarray(colours)))
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(picture), colours)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode: str) -> None:
    image = Image.new("RGBA", (3, 2), (10, 10, 10, 255))
    image.putpixel((0, 0), (10, 10, 10, 0))
    picture = read_picture(encoded(image.convert(mode)))
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.getpixel((1, 0)) == (10, 10, 10)


def test_half_transparency_is_the_hosts() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 4), dtype=np.uint8), "RGBA")
    background = Image.new("RGBA", image.size, "#ffffff")
    background.paste(image, mask=image)
    np.testing.assert_array_equal(np.asarray(read_picture(encoded(image))), np.asarray(background.convert("RGB")))


def test_16_bit_grey_pictures_are_not_cut() -> None:
    numbers = np.array([[0, 256 * 100, 65535]], np.uint16)
    values = np.asarray(read_picture(encoded(Image.fromarray(numbers))))
    np.testing.assert_allclose(values[0, :, 0], [0, 100, 255], atol=1)


def deep_png(grey: np.ndarray, exif: bytes) -> bytes:
    """Grey in 16-bit RGB, which Pillow cannot write, with an eXIf chunk, which OpenCV cannot."""
    colours = np.repeat(grey[..., None].astype(np.uint16) * 257, 3, axis=2)
    png = cv2.imencode(".png", colours)[1].tobytes()
    exif = exif.removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    start = png.index(b"IDAT") - 4
    return png[:start] + chunk + png[start:]


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "16-bit colour PNG"])
def test_exif_orientation(turned: int, kind: str) -> None:
    # Four corners of different grey; what each orientation does to them is in the EXIF specification (tag 0x0112).
    corners = np.kron(np.array([[10, 80], [150, 220]], np.uint8), np.ones((16, 24), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = turned
    if kind == "16-bit colour PNG":
        data = deep_png(corners, exif.tobytes())
    else:
        data = encoded(Image.fromarray(corners), kind, exif=exif)
    a, b, c, d = 10, 80, 150, 220
    expected = {
        1: [[a, b], [c, d]], 2: [[b, a], [d, c]], 3: [[d, c], [b, a]], 4: [[c, d], [a, b]],
        5: [[a, c], [b, d]], 6: [[c, a], [d, b]], 7: [[d, b], [c, a]], 8: [[b, d], [a, c]],
    }[turned]  # fmt: skip
    picture = np.asarray(read_picture(data))[..., 0]
    depth = read_depth_map(data).values
    assert picture.shape == depth.shape == ((48, 32) if turned > 4 else (32, 48))
    for values, white in ((picture, 1), (depth, 255)):
        h, w = values.shape
        found = values[[[h // 4], [3 * h // 4]], [w // 4, 3 * w // 4]] * float(white)
        np.testing.assert_allclose(found, expected, atol=2)


def test_a_picture_of_floats_is_refused() -> None:
    with pytest.raises(PictureError, match="without a scale"):
        read_picture(encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"))


# --- what each kind has of its own


@pytest.mark.parametrize("maximum", [100, 255, 1000, 4095, 65535])
@pytest.mark.parametrize("kind", ["P5", "P6"])
def test_raw_pgm_and_ppm_of_any_white(kind: str, maximum: int) -> None:
    values = np.random.default_rng(0).integers(0, maximum, (5, 7), endpoint=True)
    stored = np.dstack([values] * 3) if kind == "P6" else values
    header = f"{kind}\n# made by hand\n7 5\n{maximum}\n".encode()
    data = header + stored.astype("u1" if maximum < 256 else ">u2").tobytes()
    read = read_depth_map(data)
    np.testing.assert_array_equal(read.values, values.astype(np.float32) / np.float32(maximum))
    assert read.unit
    for damaged in (data[:-1], data + b"\0"):
        with pytest.raises(DepthMapError, match=r"cut off|more than"):
            read_depth_map(damaged)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"P5\n2 1\n9\n\x09\x0a", "numbers up to 10; its header says 9"),
        (b"P5\n2 1\n0\n\0\0", "broken PGM"),
        (b"P5 anything", "broken PGM"),
    ],
)
def test_pgm_that_does_not_fit_its_header(data: bytes, said: str) -> None:
    with pytest.raises(DepthMapError, match=said):
        read_depth_map(data)


def test_pfm_with_a_damaged_sign_is_refused() -> None:
    with pytest.raises(DepthMapError, match="broken PFM header"):
        read_depth_map(b"Pf\n1 1\n\r1.0\n\0\0\0\0")


@pytest.mark.parametrize("name", ["disparity", "disp", "pred", "depths", "inverse_depth"])
def test_the_array_of_a_npz_that_says_depth(name: str) -> None:
    values = np.random.default_rng(0).random((6, 8)).astype(np.float32)
    file = io.BytesIO()
    beside = {f"{name}_conf": values * 0, "depth_mask": values > 0.5, "depth_scale": np.float32(2), "K": np.eye(3)}
    np.savez(file, **{name: values}, **beside)
    np.testing.assert_array_equal(read_depth_map(file.getvalue()).values, values)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_an_animation_is_no_map_and_its_first_picture_is_one(kind: str) -> None:
    frames = [Image.fromarray(np.full((4, 6), level, np.uint8)) for level in (50, 200)]
    file = io.BytesIO()
    frames[0].convert("RGB").save(file, kind, save_all=True, append_images=[frames[1].convert("RGB")])
    with pytest.raises(DepthMapError, match=f"The {kind} file holds 2 pictures; expected one map"):
        read_depth_map(file.getvalue())
    assert read_picture(file.getvalue()).size == (6, 4)


def test_a_transparent_grey_of_a_16_bit_png_is_a_hole() -> None:
    values = np.array([[500, 1000, 60000]], np.uint16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    data, chunk = file.getvalue(), b"tRNS" + struct.pack(">H", 500)
    at = data.index(b"IDAT") - 4
    read = read_depth_map(data[:at] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at:])
    assert read.holes == 1
    np.testing.assert_array_equal(read.values, np.float32([[1000, 1000, 60000]]) / np.float32(65535))


@pytest.mark.parametrize("dtype", ["<i2", ">i4", "<i8", "<f4"])
def test_minus_one_is_no_distance(dtype: str) -> None:
    values = np.array([[-1, 500, 4000, 0]], dtype)
    file = io.BytesIO()
    np.save(file, values)
    read = read_depth_map(file.getvalue(), meaning="distance")
    assert read.holes == 2
    np.testing.assert_array_equal(read.values, np.float32([[1 / 4000, 1 / 500, 1 / 4000, 1 / 4000]]))


def test_jpeg_2000_of_16_bit_is_read_in_grey_and_refused_in_colours() -> None:
    values = np.arange(2400, dtype=np.uint16).reshape(40, 60) * 20
    how = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    grey, colours = (cv2.imencode(".jp2", array, how)[1].tobytes() for array in (values, np.dstack([values] * 3)))
    np.testing.assert_allclose(read_depth_map(grey).values, values / 65535, atol=1e-6)
    with pytest.raises(DepthMapError, match=r"3 channels of 16 bits, which would be cut\. Save"):
        read_depth_map(colours)
    assert read_picture(colours).size == (60, 40)
