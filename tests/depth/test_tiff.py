"""TIFF in every layout, written by tifffile, Pillow and OpenCV."""

from __future__ import annotations

import io
import logging
import lzma
import struct
import sys
import tracemalloc
import zlib
from contextlib import nullcontext

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from lib_depth2img import read_depth_map, read_picture
from lib_depth2img.depth.io import tiff as module
from lib_depth2img.errors import DepthMapError, PictureError

Y, X = np.mgrid[0:40, 0:60]
U16 = (1000 * X + 100 * Y + 500).astype(np.uint16)
METRES = (0.6 + 0.05 * X + 0.01 * Y).astype(np.float32)
UNIT = U16.astype(np.float32) / np.float32(65535)
NONE, JPEG, LERC, PACKBITS, LZW, DEFLATE, LZMA, ZSTD = 1, 7, 34887, 32773, 5, 8, 34925, 50000
UNUSED = 65000
ORDERS = pytest.mark.parametrize("order", ["<", ">"], ids=["II", "MM"])


def by_tifffile(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, metadata=None, **options)
    return file.getvalue()


def by_pillow(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "TIFF", **options)
    return file.getvalue()


def retagged(data: bytes, tags: dict[int, int]) -> bytes:
    """The file with other values in tags that it has."""
    file = io.BytesIO(data)
    with tifffile.TiffFile(file, mode="r+b") as tiff:
        for code, value in tags.items():
            tiff.pages[0].tags[code].overwrite(value)
        return file.getvalue()


def renumbered(data: bytes, old: int, new: int, order: str = "<", count: int = 1) -> bytes:
    """The file with a tag of shorts under another number, for those that tifffile does not let us write."""
    before, after = (struct.pack(f"{order}HHI", code, 3, count) for code in (old, new))
    assert data.count(before) == 1
    return data.replace(before, after)


def packed(raw: bytes, compression: int) -> bytes:
    """A strip as it is stored. tifffile alone writes but Deflate; libtiff inside Pillow knows LZW and PackBits."""
    if compression in (NONE, ZSTD, LERC):
        return raw
    if compression == DEFLATE:
        return zlib.compress(raw)
    if compression == LZMA:
        return lzma.compress(raw)
    name = {LZW: "tiff_lzw", PACKBITS: "packbits"}[compression]
    data = by_pillow(Image.frombytes("L", (len(raw), 1), raw), compression=name)
    tags = TiffImagePlugin.TiffImageFile(io.BytesIO(data), "").tag_v2
    return data[tags[273][0] : tags[273][0] + tags[279][0]]


def predicted(rows: np.ndarray, predictor: int) -> bytes:
    """(rows, columns, samples) as TIFF 6.0, section 14, and Adobe's Technical Note 3 have it."""
    if predictor == 1:
        return rows.tobytes()
    if predictor == 2:
        whole = rows.view(f"{rows.dtype.byteorder}u{rows.dtype.itemsize}")
        return np.diff(whole, axis=1, prepend=whole.dtype.type(0)).astype(whole.dtype).tobytes()
    height, width, samples = rows.shape
    planes = rows.astype(rows.dtype.newbyteorder(">")).view(np.uint8).reshape(height, width * samples, -1)
    row = np.ascontiguousarray(np.moveaxis(planes, 2, 1)).reshape(height, -1, samples)
    return np.diff(row, axis=1, prepend=np.uint8(0)).tobytes()


def stored(array: np.ndarray, *, compression: int, predictor: int = 1, order: str = "<", **options: object) -> bytes:
    """A TIFF of strips of 16 rows, of (H, W) or (H, W, samples), in a way that tifffile alone does not write."""
    array = array.astype(array.dtype.newbyteorder(order))
    rows = array.reshape(*array.shape[:2], -1)
    strips = [packed(predicted(rows[i : i + 16], predictor), compression) for i in range(0, len(rows), 16)]
    data = by_tifffile(
        iter(strips),  # type: ignore[arg-type]
        shape=array.shape,
        dtype=array.dtype,
        byteorder=order,
        compression=DEFLATE,
        rowsperstrip=16,
        extratags=[(UNUSED, 3, 1, predictor, True)],
        **options,
    )
    return retagged(renumbered(data, UNUSED, 317, order), {259: compression})


def test_the_right_numbers_of_the_kinds_that_programs_write() -> None:
    """../shared/cases: each was read as something else, or refused as broken."""
    alpha16, alpha32 = np.full_like(U16, 65535), np.ones_like(METRES)
    extra = {"extrasamples": ["unassalpha"]}
    u16 = [
        by_tifffile(U16, bigtiff=True, byteorder=">"),
        by_tifffile(np.dstack([U16, alpha16]), photometric="minisblack", **extra),
        by_tifffile(np.stack([U16] * 3), photometric="rgb", planarconfig="separate"),
        by_tifffile(65535 - U16, photometric="miniswhite", byteorder=">", compression="zlib", software="a program"),
    ]
    metres = [
        by_tifffile(METRES, byteorder=">"),
        by_tifffile(METRES, byteorder=">", compression="zlib", rowsperstrip=34),
        stored(METRES, compression=LZW, order=">"),
        by_tifffile(np.dstack([METRES, alpha32]), photometric="minisblack", **extra),
        by_tifffile(np.stack([METRES] * 3), photometric="rgb", planarconfig="separate"),
    ]
    for data in u16:
        depth_map = read_depth_map(data)
        assert depth_map.unit
        np.testing.assert_array_equal(depth_map.values, UNIT)
    for data in metres:
        depth_map = read_depth_map(data)
        assert not depth_map.unit
        np.testing.assert_array_equal(depth_map.values, METRES)
    half = read_depth_map(by_tifffile(UNIT.astype(np.float16)))
    np.testing.assert_array_equal(half.values, UNIT.astype(np.float16).astype(np.float32))


@ORDERS
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize("compression", [DEFLATE, LZMA, LZW, PACKBITS, NONE])
def test_every_number_predictor_and_compression(compression: int, predictor: int, dtype: str, order: str) -> None:
    numbers = (U16 // 256 if dtype == "u1" else U16 / 7 if dtype[0] == "f" else U16 // 2).astype(dtype)
    for array in (numbers, np.dstack([numbers] * 3)):
        photometric = "rgb" if array.ndim == 3 else "minisblack"
        data = stored(array, compression=compression, predictor=predictor, order=order, photometric=photometric)
        if (predictor == 3 and dtype[0] != "f") or (predictor > 1 and compression in (NONE, PACKBITS)):
            with pytest.raises(DepthMapError, match="stored as differences"):
                read_depth_map(data)
        else:
            expected = numbers.astype(np.float32) / np.float32({"u1": 255, "u2": 65535}.get(dtype, 1))
            np.testing.assert_array_equal(read_depth_map(data).values, expected)


@ORDERS
@pytest.mark.parametrize("tile", [(16, 16), (48, 32)])
@pytest.mark.parametrize("planar", [None, "contig", "separate"])
def test_tiles(planar: str | None, tile: tuple[int, int], order: str) -> None:
    options = {} if planar is None else {"photometric": "rgb", "planarconfig": planar}
    array = {None: U16, "contig": np.dstack([U16] * 3), "separate": np.stack([U16] * 3)}[planar]
    data = by_tifffile(array, tile=tile, byteorder=order, compression="zlib", **options)
    np.testing.assert_array_equal(read_depth_map(data).values, UNIT)


@pytest.mark.parametrize("bits", range(1, 17))
def test_numbers_of_few_bits_are_scaled_by_their_bits(bits: int) -> None:
    numbers = np.random.default_rng(bits).integers(0, 2**bits, (5, 7))
    single = (numbers[..., None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)
    rows = np.packbits(single.reshape(5, -1), axis=1) if bits % 8 else numbers.astype(f"<u{bits // 8}")
    data = by_tifffile(np.zeros((5, 7), np.uint16), compression="zlib", software="a program")
    page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
    body = zlib.compress(rows.tobytes())
    data = retagged(data, {258: bits, 273: len(data), 279: len(body)}) + body
    expected = (numbers / (2**bits - 1)).astype(np.float32)
    np.testing.assert_allclose(read_depth_map(data).values, expected, rtol=1e-6)
    white = retagged(data, {262: 0})
    np.testing.assert_allclose(read_depth_map(white).values, 1 - expected, atol=1e-6)
    assert page.bitspersample == 16


@pytest.mark.parametrize("bits", [12, 24])
def test_floats_of_odd_size_are_refused_by_name(bits: int) -> None:
    data = retagged(by_tifffile(METRES), {258: bits})
    with pytest.raises(DepthMapError, match=rf"of {bits}-bit samples of format IEEEFP.*tiffcp -c zip"):
        read_depth_map(data)


def test_the_depth_map_of_a_dng_is_grey() -> None:
    np.testing.assert_array_equal(read_depth_map(retagged(by_tifffile(U16), {262: 51177})).values, UNIT)


# --- white, alpha, planes


def test_white_is_zero_by_a_program_that_does_not_turn_the_numbers_is_refused() -> None:
    """ImageMagick's: FillOrder and PageNumber, no Software. It reads its own file turned around."""

    def marked(*numbers: int, **options: object) -> bytes:
        extra = [(UNUSED + number, 3, 1, 1, True) for number in numbers]
        data = by_tifffile(U16, extratags=extra, **options)
        for number in numbers:
            data = renumbered(data, UNUSED + number, number)
        return data

    white = {"photometric": "miniswhite"}
    with pytest.raises(DepthMapError, match=r"white is zero.*does not turn"):
        read_depth_map(marked(266, 297, **white, software=False))
    for data in (marked(266, 297, **white, software="a program"), marked(266, **white, software=False),
                 marked(297, **white, software=False)):  # fmt: skip
        np.testing.assert_allclose(read_depth_map(data).values, 1 - UNIT, atol=1e-6)
    np.testing.assert_array_equal(read_depth_map(marked(266, 297, software=False)).values, UNIT)


@pytest.mark.parametrize("dtype", ["f4", "i2", "u4"])
def test_white_is_zero_of_numbers_without_a_white_is_refused(dtype: str) -> None:
    with pytest.raises(DepthMapError, match="without a scale whose zero is white"):
        read_depth_map(by_tifffile(np.ones((4, 4), dtype), photometric="miniswhite"))


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("colours", [1, 3])
def test_where_alpha_is_0_is_the_farthest(colours: int, dtype: str) -> None:
    grey = (U16 // 257 if dtype == "u1" else U16).astype(dtype)
    alpha = np.where(Y < 5, 0, 9).astype(dtype)
    photometric = "rgb" if colours == 3 else "minisblack"
    data = by_tifffile(np.dstack([grey] * colours + [alpha]), photometric=photometric, extrasamples=["unassalpha"])
    depth_map = read_depth_map(data)
    assert depth_map.holes == 5 * 60
    plain = read_depth_map(by_tifffile(grey)).values
    np.testing.assert_array_equal(depth_map.values, np.where(Y < 5, plain[5:].min(), plain))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_8_bit_with_alpha_by_pillow(mode: str) -> None:
    grey = Image.fromarray((U16 // 257).astype(np.uint8))
    image = grey.convert(mode)
    image.putalpha(Image.fromarray(np.where(Y < 5, 0, 255).astype(np.uint8)))
    depth_map = read_depth_map(by_pillow(image))
    assert depth_map.holes == 5 * 60
    np.testing.assert_array_equal(depth_map.values[5:], (U16 // 257 / 255).astype(np.float32)[5:])


def test_what_is_no_alpha_is_none() -> None:
    other = np.zeros_like(U16)
    for extra in (["unspecified"], ["unspecified", "unassalpha"]):
        data = by_tifffile(np.dstack([U16, *[other] * len(extra)]), photometric="minisblack", extrasamples=extra)
        if len(extra) == 1:
            np.testing.assert_array_equal(read_depth_map(data).values, UNIT)
        else:
            with pytest.raises(DepthMapError, match="not one measurement"):
                read_depth_map(data)


def test_a_fourth_colour_that_is_not_declared_is_alpha() -> None:
    data = by_tifffile(
        np.dstack([U16] * 3 + [np.where(Y < 5, 0, 9).astype(np.uint16)]), photometric="rgb", extrasamples=["unassalpha"]
    )
    assert read_depth_map(renumbered(data, 338, UNUSED)).holes == 5 * 60


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_associated_alpha_is_divided_out(dtype: str) -> None:
    white = 65535 if dtype == "u2" else 1
    grey, alpha = np.array([[0.0, 0.4, 0.8]]), np.array([[1.0, 0.5, 0.0]])
    data = by_tifffile(
        (np.dstack([grey * alpha, alpha]) * white).round(6 if white == 1 else 0).astype(dtype),
        photometric="minisblack",
        extrasamples=["assocalpha"],
    )
    np.testing.assert_allclose(read_depth_map(data).values, [[0.0, 0.4, 0.0]], atol=1e-5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    data = by_tifffile(U16[:3, :4], extratags=[(274, 3, 1, orientation, True)])
    values = read_depth_map(data).values
    expected = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: np.transpose, 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90,
    }[orientation](UNIT[:3, :4])  # fmt: skip
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_allclose(np.asarray(read_picture(data))[..., 0] / 255, expected, atol=0.5 / 255)


# --- pages


def pages(*arrays: np.ndarray, **subfiletypes: int) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for i, array in enumerate(arrays):
            writer.write(array, subfiletype=subfiletypes.get(f"page{i}", 0), metadata=None)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pages((U16[:10, :15] // 256).astype(np.uint8), U16, page0=1),
        pages((U16[:10, :15] // 256).astype(np.uint8), U16),
        pages(U16, U16[::2, ::2], U16[::4, ::4]),
        pages(U16, np.zeros((80, 120), np.uint8), page1=1),
        retagged(pages(np.zeros((40, 60), np.uint8), U16, page0=1), {254: 4}),
    ],
    ids=["preview", "smaller", "pyramid", "larger but reduced", "mask"],
)
def test_the_full_page_is_taken(data: bytes) -> None:
    np.testing.assert_array_equal(read_depth_map(data).values, UNIT)


def test_a_page_that_is_a_picture_is_taken_too() -> None:
    file = io.BytesIO()
    small, large = (Image.fromarray((U16 // 257).astype(np.uint8)[::step, ::step]) for step in (4, 1))
    small.save(file, "TIFF", save_all=True, append_images=[large.convert("P")])
    np.testing.assert_array_equal(read_depth_map(file.getvalue()).values, (U16 // 257 / 255).astype(np.float32))


def test_several_full_pages_are_no_map_and_the_first_is_the_picture() -> None:
    data = pages(U16, U16 // 2)
    with pytest.raises(DepthMapError, match=r"holds 2 pages of 60x40; expected one map.*alone"):
        read_depth_map(data)
    np.testing.assert_allclose(np.asarray(read_picture(data))[..., 0], UNIT * 255, atol=0.51)
    volume = by_tifffile(np.zeros((4, 16, 16), np.uint16), volumetric=True, tile=(4, 16, 16), photometric="minisblack")
    for read, refusal in ((read_depth_map, DepthMapError), (read_picture, PictureError)):
        with pytest.raises(refusal, match="holds 4 pages of 16x16"):
            read(volume)


def test_too_many_pages_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAGES", 2)
    assert read_depth_map(pages(U16, U16[::2])).size == (60, 40)
    with pytest.raises(DepthMapError, match="holds 3 pages, too many"):
        read_depth_map(pages(U16, U16[::2], U16[::4]))


# --- what Pillow decodes, and what nobody does


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4", "group3"]
)
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16", "F"])
def test_pillows_are_read(mode: str, compression: str) -> None:
    grey = np.where(X % 16 < 8, 255, 0).astype(np.uint8) if mode == "1" else (U16 // 257).astype(np.uint8)
    image = {"I;16": lambda: Image.fromarray(U16), "F": lambda: Image.fromarray(METRES)}.get(
        mode, lambda: Image.fromarray(grey).convert(mode)
    )()
    if (compression.startswith("group") and mode != "1") or (compression == "jpeg" and mode not in ("L", "RGB")):
        return
    expected = {"I;16": UNIT, "F": METRES}.get(mode, (grey / 255).astype(np.float32))
    options = {"quality": 100} if compression == "jpeg" else {}
    values = read_depth_map(by_pillow(image, compression=compression, **options)).values
    np.testing.assert_allclose(values, expected, atol=4 / 255 if compression == "jpeg" else 1e-7, rtol=1e-6)


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize(
    "array", [U16, METRES, np.dstack([U16] * 3), (U16 // 257).astype(np.uint8)], ids=lambda a: f"{a.dtype}{a.ndim}"
)
def test_opencvs_are_read(array: np.ndarray, predictor: int, compression: int) -> None:
    how = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    if predictor == 3 and array.dtype != np.float32:
        return
    depth_map = read_depth_map(cv2.imencode(".tiff", array, how)[1].tobytes())
    white = {"uint16": 65535, "uint8": 255}.get(array.dtype.name, 1)
    np.testing.assert_array_equal(depth_map.values, (array if array.ndim == 2 else array[..., 0]) / np.float32(white))


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({259: LERC}, "compressed with LERC"),
        ({259: 34712}, "compressed with JPEG2000"),
        ({259: 55555}, "compressed with 55555"),
        ({262: 8}, "of the kind CIELAB"),
        ({262: 32844}, "of the kind LOGL"),
        ({UNUSED: 2}, "bits in reverse"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tags: dict[int, int], said: str) -> None:
    data = retagged(by_tifffile(U16, compression="zlib", extratags=[(UNUSED, 3, 1, 1, True)]), tags)
    with pytest.raises(DepthMapError, match=rf"The TIFF is .*{said}.*cannot be read here.*tiffcp -c zip"):
        read_depth_map(renumbered(data, UNUSED, 266))


def test_complex_numbers_are_refused_by_name() -> None:
    with pytest.raises(DepthMapError, match="of format COMPLEX"):
        read_depth_map(by_tifffile(U16.astype(np.complex64)))


def test_zstandard_is_read_or_refused_by_name() -> None:
    try:
        strip = packed_by_pillow_with_zstandard(U16.tobytes())
    except OSError:  # this Pillow does not know it
        with pytest.raises(DepthMapError, match=r"Zstandard compression cannot be undone.*tiffcp -c zip"):
            read_depth_map(stored(U16, compression=ZSTD))
        return
    data = by_tifffile(iter([strip]), shape=U16.shape, dtype=U16.dtype, compression=DEFLATE)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_depth_map(retagged(data, {259: ZSTD})).values, UNIT)


def packed_by_pillow_with_zstandard(raw: bytes) -> bytes:
    data = by_pillow(Image.frombytes("L", (len(raw), 1), raw), compression="zstd")
    tags = TiffImagePlugin.TiffImageFile(io.BytesIO(data), "").tag_v2
    return data[tags[273][0] : tags[273][0] + tags[279][0]]


def test_without_tifffile_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = by_tifffile(U16)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DepthMapError, match=r"A TIFF file needs the Python package tifffile.*pip install tifffile"):
        read_depth_map(data)


# --- pictures


@ORDERS
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_pictures_of_16_bit(planar: str, order: str) -> None:
    colours = np.stack([U16, U16 // 2, U16 // 3])
    array = colours if planar == "separate" else np.moveaxis(colours, 0, 2)
    data = by_tifffile(array, photometric="rgb", planarconfig=planar, byteorder=order, compression="zlib")
    picture = read_picture(data)
    assert picture.mode == "RGB"
    np.testing.assert_allclose(np.asarray(picture), np.moveaxis(colours, 0, 2) / 257, atol=0.51)


def test_transparency_of_16_bit_lies_over_white() -> None:
    alpha = np.where(Y < 5, 0, 65535).astype(np.uint16)
    for colours in (1, 3):
        photometric = "rgb" if colours == 3 else "minisblack"
        data = by_tifffile(np.dstack([U16] * colours + [alpha]), photometric=photometric, extrasamples=["unassalpha"])
        pixels = np.asarray(read_picture(data))
        assert (pixels[:5] == 255).all()
        np.testing.assert_allclose(pixels[5:, :, 2], U16[5:] / 257, atol=0.51)


def test_a_picture_of_numbers_without_a_scale_is_refused() -> None:
    with pytest.raises(PictureError, match="without a scale"):
        read_picture(by_tifffile(METRES, byteorder=">", compression="zlib"))


# --- broken, hostile


@ORDERS
def test_every_cut_is_refused(order: str) -> None:
    for data in (by_tifffile(U16[:9, :9], byteorder=order), stored(U16[:9, :9], compression=DEFLATE, order=order)):
        for length in range(4, len(data)):
            try:
                values = read_depth_map(data[:length]).values
            except DepthMapError:
                continue
            # tifffile writes the directory before the numbers, padded at the end.
            assert length > len(data) - 4
            np.testing.assert_array_equal(values, UNIT[:9, :9])


def test_flipped_bits_of_deflated_pixels_are_refused() -> None:
    data = by_tifffile(U16, compression="zlib")
    start = tifffile.TiffFile(io.BytesIO(data)).pages[0].dataoffsets[0]
    for position in range(start, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        try:
            values = read_depth_map(bytes(damaged)).values
        except DepthMapError:
            continue
        np.testing.assert_array_equal(values, UNIT)


def with_broken_tag(data: bytes, code: int) -> bytes:
    """Of a type that there is not: tifffile leaves it out with a line in its log."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        offset = file.pages[0].tags[code].offset
    return data[: offset + 2] + struct.pack("<H", 99) + data[offset + 4 :]


def tiff_with_every_tag(*, tiles: bool) -> bytes:
    layout: dict = {"tile": (16, 16)} if tiles else {"rowsperstrip": 16}
    extra = [(274, 3, 1, 1, True), (UNUSED, 3, 1, 1, True)]
    data = by_tifffile(np.stack([U16] * 4), photometric="rgb", planarconfig="separate", compression="zlib",
                       predictor=2, extrasamples=["unassalpha"], extratags=extra, **layout)  # fmt: skip
    return renumbered(data, UNUSED, 266)


@pytest.mark.parametrize("tiles", [False, True])
def test_a_broken_tag_that_matters_is_refused_without_a_word_in_the_log(tiles: bool, caplog) -> None:
    data = tiff_with_every_tag(tiles=tiles)
    np.testing.assert_array_equal(read_depth_map(data).values, UNIT)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        codes = {tag.code for tag in file.pages[0].tags} - {282, 283, 296, 305}  # resolution, software
    assert len(codes) >= 14
    for code in codes:
        with caplog.at_level(logging.DEBUG), pytest.raises(DepthMapError, match=rf"broken \(.*{code}|broken"):
            read_depth_map(with_broken_tag(data, code))
    half = by_tifffile(UNIT.astype(np.float16))
    with pytest.raises(DepthMapError, match=r"broken \(tag 339\)"):
        read_depth_map(with_broken_tag(half, 339))
    assert not caplog.records
    assert not logging.getLogger("tifffile").disabled


def test_a_broken_tag_that_does_not_matter_does_not(caplog: pytest.LogCaptureFixture) -> None:
    data = with_broken_tag(by_tifffile(U16, extratags=[(UNUSED, 3, 1, 7, True)]), UNUSED)
    np.testing.assert_array_equal(read_depth_map(data).values, UNIT)
    assert not caplog.records


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({278: 8}, "strips or tiles"),
        ({257: 41}, "belong"),
        ({256: 61}, "belong"),
        ({279: 4798}, "belong"),
        ({279: 0}, "0 bytes of numbers where 4800 belong"),
        ({273: 10**6}, "cut off"),
        ({277: 65535}, r"broken|too many"),
        ({256: 2**20, 257: 2**20}, "pixels"),
        ({256: 0}, "broken"),
    ],
)
def test_headers_that_do_not_fit_are_refused(tags: dict[int, int], said: str) -> None:
    with pytest.raises(DepthMapError, match=said):
        read_depth_map(retagged(by_tifffile(U16), tags))


@pytest.mark.parametrize("compression", [DEFLATE, LZMA, LZW, PACKBITS])
def test_no_more_is_unpacked_than_the_header_promises(compression: int) -> None:
    data = by_tifffile(
        iter([packed(b"\0" * 30_000_000, compression)]), shape=(4, 4), dtype=np.uint16, compression=DEFLATE
    )  # type: ignore[arg-type]
    data = retagged(data, {259: compression})
    expected = pytest.raises(DepthMapError, match="too many") if compression in (DEFLATE, LZMA) else nullcontext()
    tracemalloc.start()
    try:
        with expected:
            assert not read_depth_map(data).values.any()
        assert tracemalloc.get_traced_memory()[1] < 12_000_000  # LZMA's dictionary takes 8 MiB
    finally:
        tracemalloc.stop()


def test_a_last_strip_may_be_padded() -> None:
    strips = [zlib.compress(np.resize(U16[i : i + 16], (16, 60)).tobytes()) for i in range(0, 40, 16)]
    data = by_tifffile(iter(strips), shape=U16.shape, dtype=U16.dtype, compression=DEFLATE, rowsperstrip=16)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_depth_map(data).values, UNIT)


def test_too_many_samples_are_refused_before_they_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 40 * 60 * 2 * 3)
    assert read_depth_map(by_tifffile(np.dstack([U16] * 3), photometric="rgb")).size == (60, 40)
    with pytest.raises(DepthMapError, match="4 numbers for each pixel"):
        read_depth_map(by_tifffile(np.dstack([U16] * 4), photometric="rgb", extrasamples=["unassalpha"]))


# --- what says that a header is damaged


@pytest.mark.parametrize(
    ("tags", "rows"),
    [({256: 44}, 40), ({257: 32}, 40), ({257: 32, 278: 32}, 40)],
    ids=["narrower", "lower", "lower, in one strip"],
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_smaller_size_than_that_of_the_numbers_is_refused(tags: dict, rows: int, compression: str | None) -> None:
    data = by_tifffile(U16, compression=compression, rowsperstrip=rows)
    with pytest.raises(DepthMapError, match=r"belong|too many"):
        read_depth_map(retagged(data, tags))


def test_a_page_without_the_meaning_of_its_numbers_is_refused() -> None:
    data = by_tifffile(U16)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        offset = file.pages[0].tags[262].offset
    with pytest.raises(DepthMapError, match=r"broken \(tag 262\)"):
        read_depth_map(data[:offset] + struct.pack("<H", 65000) + data[offset + 2 :])


def test_numbers_in_the_place_of_the_directory_are_refused() -> None:
    with pytest.raises(DepthMapError, match="in the place of its directory"):
        read_depth_map(retagged(by_tifffile(U16), {273: 16}))


def test_a_next_page_beyond_the_file_is_refused() -> None:
    data = by_tifffile(U16)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        end = file.pages[0].offset + 2 + 12 * len(file.pages[0].tags)
    assert data[end : end + 4] == b"\0\0\0\0"
    with pytest.raises(DepthMapError, match="broken"):
        read_depth_map(data[:end] + struct.pack("<I", 2**30) + data[end + 4 :])


# --- several numbers for a pixel, and those that are none


def test_what_gdal_calls_no_data_is_a_hole() -> None:
    values = np.where(np.arange(60) < 3, -9999, UNIT).astype(np.float32)
    read = read_depth_map(by_tifffile(values, extratags=[(42113, "s", 0, "-9999 ", True)]))
    assert read.holes == 120
    np.testing.assert_array_equal(read.values[:, 3:], UNIT[:, 3:])
    assert (read.values[:, :3] == UNIT[:, 3:].min()).all()
    for text in ("nan", "none", "70000"):
        data = by_tifffile(U16, extratags=[(42113, "s", 0, text, True)])
        np.testing.assert_array_equal(read_depth_map(data).values, UNIT)


def test_a_clip_in_the_samples_of_a_pixel_is_refused_and_copies_are_one_map() -> None:
    options: dict = {"photometric": "minisblack", "planarconfig": "separate"}
    np.testing.assert_array_equal(read_depth_map(by_tifffile(np.stack([U16] * 3), **options)).values, UNIT)
    with pytest.raises(DepthMapError, match="3 different numbers for each pixel; expected one map"):
        read_depth_map(by_tifffile(np.stack([U16, U16, U16 // 2]), **options))
