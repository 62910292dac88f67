"""Random maps by tifffile, OpenEXR, NumPy, OpenCV and Pillow, in every layout they offer: what is read is what was
written. Cut off it is the same or refused. With flipped bits it is the same or refused as far as the format can tell:
PNG and NPZ hold checksums over all of the file, TIFF (Deflate, LZMA) and OpenEXR (ZIP) over the pixels. Where there are
none, a flipped bit of bare numbers changes that number and no other. What no format of these can tell is a header that
stays whole and says something else: another number type or byte order of the same size, white is zero, a window.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import OpenEXR
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lib_depth2img import read_depth_map
from lib_depth2img.errors import DepthMapError

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
WHITE = {"bool": 1, "uint8": 255, "uint16": 65535}
WHOLE = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "uint64", "int64")
FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class File:
    """``values``: (H, W) float32 as they are to be read, and whether every flipped bit of the file can be noticed."""

    data: bytes
    values: np.ndarray
    checked: bool = False


@st.composite
def grey(draw: st.DrawFn, dtypes: tuple[str, ...]) -> np.ndarray:
    height, width = draw(st.integers(1, 33)), draw(st.integers(1, 33))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if dtype.kind == "b":
        return random.random((height, width)) < 0.5
    if dtype.kind == "f":
        return random.normal(0, 100, (height, width)).astype(dtype)
    information = np.iinfo(dtype)
    return random.integers(information.min, information.max, (height, width), dtype=dtype, endpoint=True)


def as_read(values: np.ndarray, absent: np.ndarray | None = None) -> np.ndarray:
    scaled = values.astype(np.float32) / np.float32(WHITE.get(values.dtype.name, 1))
    return scaled if absent is None else np.where(absent, scaled[~absent].min(), scaled)


@st.composite
def with_alpha(draw: st.DrawFn, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An alpha of the values' type that is 0 at some pixels but not at all, and where it is."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    absent = random.random(values.shape) < 0.3
    absent[0, 0] = False
    return np.where(absent, 0, 1).astype(values.dtype), absent


@st.composite
def by_tifffile(draw: st.DrawFn) -> File:
    values = draw(grey((*WHOLE, *FLOATS)))
    options: dict[str, Any] = {
        "byteorder": draw(st.sampled_from("<>")),
        "bigtiff": draw(st.booleans()),
        "compression": draw(st.sampled_from([None, "zlib", "lzma"])),
        "photometric": "minisblack",
    }
    if draw(st.booleans()):
        options["tile"] = draw(st.sampled_from([(16, 16), (32, 16)]))
    else:
        options["rowsperstrip"] = draw(st.integers(1, 40))
    if options["compression"] and values.dtype.kind in "iu" and draw(st.booleans()):
        options["predictor"] = 2
    channels, absent = [values], None
    if draw(st.booleans()):
        channels, options["photometric"] = [values] * 3, "rgb"
    if draw(st.booleans()):
        alpha, absent = draw(with_alpha(values))
        channels, options["extrasamples"] = [*channels, alpha], ["unassalpha"]
    elif len(channels) == 1 and values.dtype.name in WHITE and draw(st.booleans()):
        options["photometric"] = "miniswhite"
        channels = [WHITE[values.dtype.name] - values]
    if len(channels) > 1:
        options["planarconfig"] = draw(st.sampled_from(["contig", "separate"]))
    array = (
        np.stack(channels, 0 if options.get("planarconfig") == "separate" else 2) if len(channels) > 1 else channels[0]
    )
    file = io.BytesIO()
    tifffile.imwrite(file, array, metadata=None, **options)
    return File(file.getvalue(), as_read(values, absent))


@st.composite
def by_openexr(draw: st.DrawFn) -> File:
    values = draw(grey(("float16", "float32", "uint32")))
    other = np.ones_like(values)
    compression = draw(st.sampled_from(["NO", "RLE", "ZIPS", "ZIP", "PIZ"]))
    header: dict[str, Any] = {
        "compression": getattr(OpenEXR, f"{compression}_COMPRESSION"),
        "type": OpenEXR.scanlineimage,
    }
    if draw(st.booleans()):
        header |= {"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()}
    path = draw(st.sampled_from(["", "Depth.", "View.Depth.", "WorldDepth."]))
    pieces = draw(st.sampled_from([("Z",), ("V",), ("R",), ("R", "G", "B"), ("Y",)])) if path else ("Z",)
    channels, absent = {f"{path}{piece}": values for piece in pieces}, None
    if draw(st.booleans()):
        channels[f"{path}A"], absent = draw(with_alpha(values))
    beside = draw(st.sampled_from([{}, dict.fromkeys("RGB", other), dict.fromkeys(["N.X", "N.Y", "N.Z"], other)]))
    file = io.BytesIO()
    if beside and draw(st.booleans()):
        parts = [OpenEXR.Part(dict(header), beside, "beauty"), OpenEXR.Part(dict(header), channels, "other")]
        OpenEXR.File(parts if draw(st.booleans()) else parts[::-1]).write(file)
    else:
        OpenEXR.File(header, {**channels, **beside}).write(file)
    return File(file.getvalue(), as_read(values, absent))


@st.composite
def by_numpy(draw: st.DrawFn) -> File:
    values = draw(grey(("bool", *WHOLE, *FLOATS)))
    array = values.astype(values.dtype.newbyteorder(draw(st.sampled_from("<>"))))
    array = np.asarray(array, order=draw(st.sampled_from("CF")))
    narrow = values.shape[1] in (1, 3, 4)  # (1, H, 3) is a row of colours
    shapes = [values.shape, (*values.shape, 1), (1, 1, *values.shape), *([] if narrow else [(1, *values.shape)])]
    array = array.reshape(draw(st.sampled_from(shapes)))
    file = io.BytesIO()
    save = draw(st.sampled_from([None, np.savez, np.savez_compressed]))
    if save is None:
        np.save(file, array)
    else:
        name = draw(st.sampled_from(["depth", "predicted_depth", "arr_0"]))
        save(file, **{name: array, "conf": np.ones(3), "intrinsics": np.eye(3)[None]})
    return File(file.getvalue(), as_read(values), checked=save is not None)


@st.composite
def by_opencv(draw: st.DrawFn) -> File:
    kind = draw(st.sampled_from([".png", ".tiff", ".bmp", ".pgm", ".pfm"]))
    dtypes = {".tiff": ("uint8", "uint16", "float32"), ".bmp": ("uint8",), ".pfm": ("float32",)}
    values = draw(grey(dtypes.get(kind, ("uint8", "uint16"))))
    array, absent = values, None
    if kind not in (".pgm", ".pfm") and draw(st.booleans()):
        array = np.dstack([values] * 3)
        if kind == ".png" and draw(st.booleans()):
            alpha, absent = draw(with_alpha(values))
            array = np.dstack([array, alpha])
    how = []
    if kind == ".tiff":
        how = [cv2.IMWRITE_TIFF_COMPRESSION, draw(st.sampled_from([1, 5, 8, 32773]))]
    elif kind == ".png":
        how = [cv2.IMWRITE_PNG_COMPRESSION, draw(st.integers(0, 9))]
    return File(cv2.imencode(kind, array, how)[1].tobytes(), as_read(values, absent), checked=kind == ".png")


@st.composite
def by_pillow(draw: st.DrawFn) -> File:
    kind = draw(st.sampled_from(["PNG", "TIFF", "BMP", "PPM", "WEBP"]))
    modes = {
        "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
        "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"],
        "BMP": ["1", "L", "P", "RGB"],
        "PPM": ["1", "L", "RGB"],
        "WEBP": ["RGB", "RGBA"],
    }
    mode = draw(st.sampled_from(modes[kind]))
    values = draw(grey(({"1": "bool", "I;16": "uint16", "F": "float32"}.get(mode, "uint8"),)))
    image, absent = Image.fromarray(values), None
    if mode not in ("1", "I;16", "F"):
        image = image.convert(mode)
    if mode.endswith("A"):
        alpha, absent = draw(with_alpha(values))
        image.putalpha(Image.fromarray(alpha))
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    if kind == "TIFF":
        options["compression"] = draw(st.sampled_from(["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return File(file.getvalue(), as_read(values, absent), checked=kind == "PNG")


WRITERS = pytest.mark.parametrize(
    "writer", [by_tifffile, by_openexr, by_numpy, by_opencv, by_pillow], ids=lambda writer: writer.__name__
)


@WRITERS
@FEW
@given(data=st.data())
def test_what_is_read_is_what_was_written(writer: Any, data: st.DataObject) -> None:
    file = data.draw(writer())
    np.testing.assert_array_equal(read_depth_map(file.data).values, file.values)


@WRITERS
@FEW
@given(data=st.data())
def test_a_file_that_is_cut_off_is_refused_or_all_there(writer: Any, data: st.DataObject) -> None:
    file = data.draw(writer())
    length = data.draw(st.integers(0, len(file.data) - 1))
    try:
        values = read_depth_map(file.data[:length]).values
    except DepthMapError:
        return
    np.testing.assert_array_equal(values, file.values)


@pytest.mark.parametrize("writer", [by_numpy, by_opencv, by_pillow], ids=lambda writer: writer.__name__)
@FEW
@given(data=st.data())
def test_a_flipped_bit_is_refused_where_there_are_checksums(writer: Any, data: st.DataObject) -> None:
    file = data.draw(writer().filter(lambda file: file.checked))
    damaged = bytearray(file.data)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        values = read_depth_map(bytes(damaged)).values
    except DepthMapError:
        return
    np.testing.assert_array_equal(values, file.values)


def _saved(save: Any, values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    save(file, values, **options)
    return file.getvalue()


def _saved_exr(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    header = {"compression": OpenEXR.NO_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": values}).write(file)
    return file.getvalue()


BARE = {
    "npy": lambda values: _saved(np.save, values),
    "pfm": lambda values: cv2.imencode(".pfm", values)[1].tobytes(),
    "tiff": lambda values: _saved(tifffile.imwrite, values, metadata=None),
    "tiles": lambda values: _saved(tifffile.imwrite, values, metadata=None, tile=(16, 16)),
    "exr": _saved_exr,
}


@pytest.mark.parametrize("kind", BARE)
@FEW
@given(values=grey(("float32",)), data=st.data())
def test_a_flipped_bit_of_a_bare_number_changes_that_number_alone(
    kind: str, values: np.ndarray, data: st.DataObject
) -> None:
    file = bytearray(BARE[kind](values))
    number = values.ravel()[data.draw(st.integers(0, values.size - 1))]
    position = file.rindex(number.tobytes()) + data.draw(st.integers(0, 3))
    file[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = read_depth_map(bytes(file)).values
    except DepthMapError:
        return
    assert read.shape == values.shape
    assert (read != values).sum() <= 1


@pytest.mark.parametrize("kind", ["npy", "pfm", "tiff"])
@FEW
@given(values=grey(("float32",)), data=st.data())
def test_no_flipped_bit_changes_the_size(kind: str, values: np.ndarray, data: st.DataObject) -> None:
    file = bytearray(BARE[kind](values))
    file[data.draw(st.integers(0, min(len(file) - 1, 300)))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(DepthMapError):
        assert read_depth_map(bytes(file)).size == values.shape[::-1]


@WRITERS
@FEW
@given(data=st.data())
def test_any_damage_is_read_or_refused(writer: Any, data: st.DataObject) -> None:
    """Whatever stands in the file: a map, or one sentence."""
    file = data.draw(writer())
    damaged = bytearray(file.data)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, min(len(damaged) - 1, 400)))
        damaged[position] = data.draw(st.integers(0, 255))
    said = ""
    try:
        read_depth_map(bytes(damaged))
    except DepthMapError as error:
        said = str(error)
    assert "\n" not in said
