"""Bad input: one sentence that names the file, what was found, what was expected and what to do. Nothing is
allocated for it.
"""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import types
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lib_depth2img import DepthMap, read_depth_map, read_picture
from lib_depth2img.depth.io import arrays, bounds, pictures
from lib_depth2img.depth.io.files import MAX_PIXELS, encode_png, save_depth_map
from lib_depth2img.errors import DepthMapError, PictureError

READERS = [(read_picture, PictureError), (read_depth_map, DepthMapError)]
both = pytest.mark.parametrize(("read", "refusal"), READERS, ids=["picture", "depth map"])
HUGE = 200_000
MAP = DepthMap.from_array(np.random.default_rng(0).random((64, 48)).astype(np.float32))


def png_header(width: int, height: int, bits: int = 8, colour: int = 0) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">2I5B", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def tiff_header(width: int, height: int, samples: int = 1, bits: int = 16) -> bytes:
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, 2 if samples > 1 else 1),
        (273, 4, 8),
        (277, 3, samples),
    ]
    end = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    if samples > 1:
        entries = entries.replace(struct.pack("<HHII", 258, 3, 1, bits), struct.pack("<HHII", 258, 3, samples, end))
    return (
        b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + struct.pack("<H", bits) * samples
    )


def npy_header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def npz(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def bmp_header(width: int, height: int) -> bytes:
    information = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + information


def gif_header(width: int, height: int) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x08\0;"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + frame


BOMBS: dict[str, bytes] = {
    "png": png_header(HUGE, HUGE),
    "wide png": png_header(2**31 - 1, 1),
    "a little too large": png_header(8193, 8192),
    "16-bit colour png": png_header(HUGE, HUGE, bits=16, colour=2),
    "bmp": bmp_header(HUGE, HUGE),
    "tiff": tiff_header(HUGE, HUGE),
    "tiff of colours": tiff_header(HUGE, HUGE, samples=3),
    "gif": gif_header(65535, 65535),
    "pgm": b"P5 200000 200000 255\n",
}
MAP_BOMBS: dict[str, bytes] = {
    "npy": npy_header((HUGE, HUGE)),
    "npy of colours": npy_header((HUGE, HUGE, 3)),
    "npy of wide numbers": npy_header((8192, 8192, 4), "<f8"),
    "npz": npz("depth.npy", npy_header((HUGE, HUGE)) + b"\0" * 100_000),
    "pfm": b"Pf\n200000 200000\n-1\n",
    "pfm of colours": b"PF\n8193 8192\n-1\n",
}


def assert_small(read: Callable[[bytes], object], data: bytes, refusal: type[Exception], text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(refusal, match=text):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@both
@pytest.mark.parametrize("name", BOMBS)
def test_headers_of_too_many_pixels(name: str, read, refusal) -> None:
    assert_small(read, BOMBS[name], refusal, rf"\d+x\d+ pixels.*{MAX_PIXELS}.*Make it smaller")


@pytest.mark.parametrize("name", MAP_BOMBS)
def test_headers_of_too_many_numbers(name: str) -> None:
    assert_small(read_depth_map, MAP_BOMBS[name], DepthMapError, r"at most \d+")


def test_the_largest_is_still_read() -> None:
    data = zlib.compress(b"\0" * (8192 + 1) * 8192)
    header = png_header(8192, 8192)
    start = header.index(b"IDAT") - 4
    body = b"IDAT" + data
    png = header[:start] + struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body)) + header[-12:]
    assert read_depth_map(png).size == (8192, 8192)


@both
@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("empty.png", b"", r"empty \(0 bytes\)"),
        ("text.png", b"Hello, this is no picture.", "text.*Expected one of PNG"),
        ("noise.png", b"\xff\x00\x12\x13" * 9, "unknown kind.*ff 00 12 13.*Expected"),
        ("one.png", b"P", "text.*Expected one of PNG"),
        ("zip.png", b"PK\x05\x06" + b"\0" * 18, "unknown kind"),
        ("signature.png", b"\x89PNG\r\n\x1a\n", "PNG file cannot be decoded.*broken"),
        ("none.png", None, "cannot be read.*No such file.*Check the path"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, data: bytes | None, text: str, read, refusal) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(refusal, match=text) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")


@both
def test_a_folder_and_a_text_file_object(tmp_path: Path, read, refusal) -> None:
    with pytest.raises(refusal, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(refusal, match="binary mode"):
        read(io.StringIO("text"))
    with pytest.raises(refusal, match=r"NoneType cannot be read\..*path"):
        read(None)
    with pytest.raises(refusal, match=r"the given data: .*empty"):
        read(b"")


@both
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_truncated_pictures(kind: str, read, refusal) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48), dtype=np.uint8)).save(file, kind)
    data = file.getvalue()
    for part in (0.1, 0.5, 0.9):
        with pytest.raises(refusal, match=r"broken|unknown|text|cut off"):
            read(data[: int(len(data) * part)])


@pytest.mark.parametrize("suffix", [".npy", ".pfm", ".exr", ".tif"])
def test_truncated_maps(tmp_path: Path, suffix: str) -> None:
    save_depth_map(MAP, tmp_path / f"map{suffix}")
    data = (tmp_path / f"map{suffix}").read_bytes()
    for length in (len(data) // 8, len(data) // 2, len(data) - 1):
        with pytest.raises(DepthMapError, match=r"cut off|broken"):
            read_depth_map(data[:length])


def test_a_truncated_npz() -> None:
    file = io.BytesIO()
    np.savez(file, depth=MAP.values)
    with pytest.raises(DepthMapError, match="npz file is broken"):
        read_depth_map(file.getvalue()[:-30])


@pytest.mark.parametrize("colours", [1, 3])
def test_flipped_bits_of_a_png_are_refused(colours: int) -> None:
    """Pillow and OpenCV decode a PNG without a look at its checksums."""
    numbers = np.random.default_rng(0).integers(0, 65536, (12, 9), dtype=np.uint16)
    data = cv2.imencode(".png", numbers if colours == 1 else np.dstack([numbers] * 3))[1].tobytes()
    expected = read_depth_map(data).values
    np.testing.assert_array_equal(expected, numbers / np.float32(65535))
    for position in range(len(data) - 12):  # the end chunk
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(DepthMapError, match=r"broken|unknown kind"):
            read_depth_map(bytes(damaged))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_without_its_end_marker_is_read_and_one_without_pixels_is_not(mode: str, progressive: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, "JPEG", quality=90, progressive=progressive)
    data = file.getvalue()
    whole = np.asarray(read_picture(data))
    for missing in (1, 2):
        np.testing.assert_array_equal(np.asarray(read_picture(data[:-missing])), whole)
    if mode == "L":
        np.testing.assert_array_equal(read_depth_map(data[:-2]).values, read_depth_map(data).values)
    # A progressive picture that ends between two of its scans is whole, only coarser, and nothing tells.
    scans = {i for i in range(len(data)) if data.startswith(b"\xff\xda", i)} if progressive else set()
    for length in range(len(data) // 3, len(data) - 12, 3):
        if not any(scan - 40 <= length <= scan + 12 for scan in scans):
            with pytest.raises(PictureError, match=r"JPEG file cannot be decoded.*broken"):
                read_picture(data[:length])


@both
@pytest.mark.parametrize("brand", ["heic", "heix", "mif1", "avif", "avis"])
def test_pictures_of_phones_are_opened_or_named(brand: str, read, refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    kind = "AVIF" if brand.startswith("avi") else "HEIC"
    for name in ("AVIF", "HEIF"):
        monkeypatch.delitem(Image.OPEN, name, raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftyp" + brand.encode() + b"\0" * 12
    text = (
        rf"is {kind}, as phones write it.*Save it as JPEG or PNG, for example: magick photo\.{kind.lower()} photo\.png"
    )
    with pytest.raises(refusal, match=text) as caught:
        read(data)
    assert ("pip install pillow-heif" in str(caught.value)) is (kind == "HEIC")


def test_heic_is_opened_by_pillow_heif_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Opened:
        def __init__(self, *_: object) -> None:
            self.size = (1, 1)

        def load(self) -> None:
            raise OSError("opened")

    def register() -> None:
        Image.OPEN["HEIF"] = (Opened, lambda start: start[4:8] == b"ftyp")

    monkeypatch.setattr(Image, "OPEN", {key: value for key, value in Image.OPEN.items() if key != "HEIF"})
    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    read_picture(encode_png(MAP))
    assert "HEIF" not in Image.OPEN
    with pytest.raises(PictureError, match=r"HEIF file cannot be decoded \(opened\)"):
        read_picture(b"\0\0\0\x18ftypheic" + b"\0" * 12)


def test_heic_in_a_folder_is_a_picture_where_pillow_heif_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "EXTENSION", {**Image.registered_extensions()})
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", {kind: how for kind, how in Image.OPEN.items() if kind != "HEIF"})
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert ".heic" not in pictures.picture_suffixes()

    def register() -> None:
        Image.register_open("HEIF", lambda *_: None)
        Image.register_extension("HEIF", ".heic")

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    assert ".heic" in pictures.picture_suffixes()


def test_avif_is_opened_where_pillow_can() -> None:
    Image.init()
    if "AVIF" not in Image.SAVE:
        with pytest.raises(PictureError, match="is AVIF"):
            read_picture(b"\0\0\0\x18ftypavif" + b"\0" * 12)
        return
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 30, 60)).save(file, "AVIF")
    np.testing.assert_allclose(read_picture(file.getvalue()).getpixel((3, 3)), (200, 30, 60), atol=8)


def test_truncated_16_bit_colour() -> None:
    data = png_header(64, 64, bits=16, colour=2)
    try:
        read_depth_map(data)
    except DepthMapError:
        return
    pytest.fail("a PNG with one row out of 64 was read")


class RanError(Exception):
    """Raised by the pickle below when it is executed."""


def _run() -> None:
    raise RanError


class Bomb:
    def __reduce__(self) -> tuple:
        return _run, ()


@pytest.mark.parametrize("packed", [False, True])
def test_a_pickle_in_an_array_file_is_not_executed(packed: bool) -> None:
    file = io.BytesIO()
    objects = np.array([[Bomb()]], dtype=object)
    if packed:
        np.savez(file, depth=objects)
    else:
        np.save(file, objects)
    with pytest.raises(DepthMapError, match=r"type object; expected numbers"):
        read_depth_map(file.getvalue())


@pytest.mark.parametrize(
    ("shape", "dtype", "text"),
    [
        ((5,), "<f4", r"shape \(5,\)"),
        ((5, 40, 60), "<f4", r"shape \(5, 40, 60\), a stack of 5; .*out of a stack"),
        ((1, 5, 40, 60), "<f4", r"shape \(1, 5, 40, 60\), a stack of 5"),
        ((2, 1, 5, 5), "<f4", "shape"),
        ((0, 5), "<f4", "5x0 pixels"),
        ((5, 5), "<c8", "complex64"),
        ((5, 5), "<U3", "<U3"),
        ((5, 5), "<f4", "cut off: 0 bytes of numbers where its header promises 100"),
    ],
)
def test_array_files_of_something_else(shape: tuple[int, ...], dtype: str, text: str) -> None:
    for data in (npy_header(shape, dtype), npz("a.npy", npy_header(shape, dtype))):
        with pytest.raises(DepthMapError, match=text):
            read_depth_map(data)


@pytest.mark.parametrize("names", [("left", "right"), ("depth_a", "depth_b"), ("Depth", "depth_b")])
def test_npz_with_several_arrays_names_them(names: tuple[str, str]) -> None:
    file = io.BytesIO()
    np.savez(file, **dict.fromkeys(names, np.zeros((2, 2))))
    with pytest.raises(DepthMapError, match=rf"'{names[0]}', '{names[1]}'.*Save that one alone"):
        read_depth_map(file.getvalue())


def test_flipped_bits_of_an_npz_are_refused() -> None:
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, depth=MAP.values[:8, :8])
        data = file.getvalue()
        for position in range(len(data)):
            damaged = bytearray(data)
            damaged[position] ^= 1 << position % 8
            try:
                values = read_depth_map(bytes(damaged)).values
            except DepthMapError:
                continue
            np.testing.assert_array_equal(values, MAP.values[:8, :8])


@pytest.mark.parametrize("encode", [arrays.encode_npy, arrays.encode_pfm])
def test_more_numbers_than_the_header_promises_are_refused(encode: Callable[[np.ndarray], bytes]) -> None:
    data = encode(MAP.values)
    for more in (b"\0", data):
        with pytest.raises(DepthMapError, match=r"holds more than the 12288 bytes of numbers.*save one alone"):
            read_depth_map(data + more)


@pytest.mark.parametrize(
    "data",
    [b"Pf", b"Pf\n3\n", b"Pf\n3 2\n0\n" + b"\0" * 24, b"Pf\nthree 2\n-1\n", b"Pf\n3 2\nnan\n" + b"\0" * 24, b"PF text"],
)
def test_pfm_headers(data: bytes) -> None:
    with pytest.raises(DepthMapError, match="broken PFM header"):
        read_depth_map(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x93NUMPY",
        b"\x93NUMPY\x01\0\xff\xff",
        b"\x93NUMPY\x09\0" + b"\0" * 99,
        b"\x93NUMPY\x01\0\x04\0{}{}",
        b"\x93NUMPY\x01\0\x03\0{\0}",
        b"\x93NUMPY\x01\0\x02\0{(",
    ],
)
def test_npy_headers(data: bytes) -> None:
    with pytest.raises(DepthMapError, match=r"broken \.npy header"):
        read_depth_map(data)


def test_all_nan_files() -> None:
    with pytest.raises(DepthMapError, match=r"the given data: .*not one measurement"):
        read_depth_map(arrays.encode_npy(np.full((3, 3), np.nan, np.float32)))


def test_a_photo_as_a_depth_map_is_named(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    with pytest.raises(DepthMapError, match=r"photo\.png: .*coloured"):
        read_depth_map(path)


@both
def test_files_beyond_the_limit_are_not_read_whole(tmp_path: Path, monkeypatch, read, refusal) -> None:
    monkeypatch.setattr(bounds, "MAX_FILE_BYTES", 1000)
    path = tmp_path / "large.png"
    path.write_bytes(b"\0" * 5000)
    with pytest.raises(refusal, match="larger than 1000 bytes"):
        read(path)


@both
def test_every_flipped_byte_is_read_or_refused(read, refusal) -> None:
    for data in (encode_png(MAP.resized((6, 5))), encode_png(MAP.resized((6, 5)), colormap="grey"), tiff_header(3, 3)):
        for position in range(len(data)):
            damaged = bytearray(data)
            damaged[position] ^= 0xFF
            try:
                read(bytes(damaged))
            except refusal:
                continue
