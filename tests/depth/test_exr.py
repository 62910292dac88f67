"""OpenEXR: which channel is the depth, against files written by the format's own library and by OpenCV."""

from __future__ import annotations

import io
import struct
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest

from lib_depth2img import DepthMap, read_depth_map, save_depth_map
from lib_depth2img.depth.io import exr
from lib_depth2img.depth.io.files import check_target
from lib_depth2img.errors import DepthMapError

FILES = Path(__file__).parent / "exr"
Y, X = np.mgrid[0:20, 0:24]
NEAR = ((1 + X + 24 * Y) / 4).astype(np.float32)
NOISE = np.random.default_rng(0).random((20, 24)).astype(np.float32)
COLOURS = {name: np.roll(NOISE, i) for i, name in enumerate("RGB")}
LOSSLESS = ("NO", "RLE", "ZIPS", "ZIP", "PIZ")
LOSSY = ("PXR24", "B44", "B44A", "DWAA", "DWAB")


def written(*parts: dict[str, np.ndarray], names: tuple[str, ...] = (), **header: object) -> bytes:
    """An OpenEXR file by the library: a part for each set of channels."""
    file = io.BytesIO()
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **header}
    if len(parts) == 1:
        OpenEXR.File(header, parts[0]).write(file)
    else:
        OpenEXR.File([OpenEXR.Part(dict(header), p, n) for p, n in zip(parts, names, strict=True)]).write(file)
    return file.getvalue()


def layer(name: str, channels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}.{channel}": values for channel, values in channels.items()}


BEAUTY = {**COLOURS, "A": np.full_like(NOISE, 0.5)}
NORMAL = layer("View.Normal", dict(zip("XYZ", COLOURS.values(), strict=True)))
GREY = dict.fromkeys("RGB", NOISE)


@pytest.mark.parametrize(
    "name",
    [
        "z_half_zip", "z_float_zips", "z_float_none", "z_half_rle", "z_float_piz", "y_half_piz", "z_float_tiled",
        "rgbz_half_zip", "rgbz_half_piz", "grey_rgb_half_zip", "layers_half_zip", "depth_v_half_zip", "z_half_dwaa",
    ],
)  # fmt: skip
def test_depth_is_found_and_exact(name: str) -> None:
    depth_map = read_depth_map(FILES / f"{name}.exr")
    assert not depth_map.unit
    np.testing.assert_array_equal(depth_map.values, NEAR)


@pytest.mark.parametrize("storage", [OpenEXR.scanlineimage, OpenEXR.tiledimage], ids=["lines", "tiles"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint32"])
@pytest.mark.parametrize("compression", LOSSLESS + LOSSY)
def test_every_compression(compression: str, dtype: str, storage: object) -> None:
    values = np.rint(NEAR * 4).astype(dtype)
    tiles = {"tiles": OpenEXR.TileDescription()} if storage == OpenEXR.tiledimage else {}
    data = written({"Z": values}, compression=getattr(OpenEXR, f"{compression}_COMPRESSION"), type=storage, **tiles)
    tolerance = 0 if compression in LOSSLESS else 0.1
    np.testing.assert_allclose(read_depth_map(data).values, values.astype(np.float32), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "depth",
    [
        {"Z": NEAR}, {"z": NEAR}, {"depth": NEAR}, {"Depth": NEAR}, {"ZDepth": NEAR}, {"SceneDepth": NEAR},
        {"Depth.Z": NEAR}, {"Depth.V": NEAR}, {"Depth.R": NEAR}, {"Depth.Y": NEAR}, {"Depth.depth": NEAR},
        {"View.Depth.Z": NEAR}, {"Render.Z": NEAR}, {"Z.R": NEAR}, {"zbuffer.R": NEAR},
        layer("Depth", dict.fromkeys("RGB", NEAR)), layer("View.depth", dict.fromkeys("RGB", NEAR)),
        layer("FinalImageMovieRenderQueue_WorldDepth", {"R": NEAR, "G": 0 * NEAR, "B": 0 * NEAR, "A": 0 * NEAR + 1}),
        {"View.Depth.Z": NEAR, "View.Denoising Depth.Z": NOISE}, {"Depth.Z": NEAR, "Mist.Z": NOISE},
        {"Z": NEAR, "other.Z": NOISE},
    ],
    ids="+".join,
)  # fmt: skip
@pytest.mark.parametrize("beside", [BEAUTY, layer("View.Combined", BEAUTY), NORMAL, GREY], ids=lambda b: next(iter(b)))
def test_what_says_depth_is_taken_beside_anything(depth: dict, beside: dict) -> None:
    np.testing.assert_array_equal(read_depth_map(written({**beside, **depth})).values, NEAR)


@pytest.mark.parametrize(
    "channels",
    [
        {"Y": NEAR}, {"R": NEAR}, {"anything": NEAR}, {"A": NEAR}, {"X": NEAR}, {"View.AO.X": NEAR}, {"Mist.V": NEAR},
        dict.fromkeys("RGB", NEAR), layer("Image", dict.fromkeys("RGB", NEAR)),
        {"Y": NEAR, "A": np.ones_like(NEAR)}, {"R": NEAR, "A": np.ones_like(NEAR)},
    ],
    ids="+".join,
)  # fmt: skip
def test_what_is_alone_in_the_file_needs_no_name(channels: dict) -> None:
    np.testing.assert_array_equal(read_depth_map(written(channels)).values, NEAR)


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (
            {**layer("View.Combined", BEAUTY), **NORMAL},
            r"View\.Combined\.A, .*View\.Normal\.Z; none of them says depth",
        ),
        ({**layer("View.Combined", GREY), **NORMAL}, "none of them says depth"),
        ({**GREY, **NORMAL}, "none of them says depth"),
        (dict(zip("XYZ", COLOURS.values(), strict=True)), "X, Y, Z; none"),
        ({"R": NOISE, "G": NOISE}, "G, R; none"),
        ({"Y": NOISE, "RY": NOISE, "BY": NOISE}, "BY, RY, Y; none"),
        ({"A.Z": NEAR, "B.Z": NEAR}, r"A\.Z, B\.Z; more than one of them says depth.*Save the depth pass alone"),
        ({"left.Depth.Z": NEAR, "right.Depth.Z": NEAR}, "more than one"),
        ({"depth": NEAR, "Depth.V": NEAR}, "more than one"),
        ({f"id{i:03}.R": NOISE for i in range(50)}, r"id029\.R and 20 more; none"),
        ({f"id{i:03}.R": NOISE for i in range(30)}, r"id028\.R, id029\.R; none"),
        (COLOURS, "coloured"),
        (layer("Depth", COLOURS), "coloured"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_without_one_depth_it_is_refused_with_its_channels_named(channels: dict, said: str) -> None:
    with pytest.raises(DepthMapError, match=said):
        read_depth_map(written(channels))


def test_the_name_of_the_file_is_said() -> None:
    with pytest.raises(DepthMapError, match=r"two_layers_half_zip\.exr: .*A\.Z, B\.Z"):
        read_depth_map(FILES / "two_layers_half_zip.exr")


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ((BEAUTY, {"Z": NEAR}), ("beauty", "depth")),
        (({"Z": NEAR}, BEAUTY), ("depth", "beauty")),
        ((BEAUTY, {"V": NEAR}), ("View.Combined", "View.Depth")),
        ((BEAUTY, {"Y": NEAR}), ("rgba", "depth")),
        ((BEAUTY, {"depth.Z": NEAR}, {"N.X": NOISE, "N.Y": NOISE, "N.Z": NOISE}), ("a", "b", "c")),
        (({**BEAUTY, "Z": NOISE}, {"Z": NEAR}), ("beauty", "depth")),
    ],
)
def test_the_part_that_says_depth_is_taken(parts: tuple[dict, ...], names: tuple[str, ...]) -> None:
    np.testing.assert_array_equal(read_depth_map(written(*parts, names=names)).values, NEAR)


def test_parts_that_say_nothing_or_the_same_are_refused() -> None:
    with pytest.raises(DepthMapError, match=r"a\.Z, b\.Z; more than one"):
        read_depth_map(FILES / "two_parts.exr")
    with pytest.raises(DepthMapError, match=r"one\.Y, two\.Y; none"):
        read_depth_map(written({"Y": NEAR}, {"Y": NEAR}, names=("one", "two")))


def test_where_alpha_is_0_is_the_farthest() -> None:
    sky = np.ones_like(NEAR)
    sky[:5] = 0
    white = np.where(sky > 0, NEAR, 1000)
    for channels in (dict.fromkeys("RGB", white), {"Y": white}, {"Z": white, **COLOURS}, layer("Depth", {"R": white})):
        path = "Depth." if "Depth.R" in channels else ""
        depth_map = read_depth_map(written({**channels, f"{path}A": sky}))
        assert depth_map.holes == 5 * 24
        np.testing.assert_array_equal(depth_map.values, np.where(sky > 0, NEAR, NEAR[5:].min()))


def test_the_alpha_of_another_layer_and_one_that_nobody_wrote_do_not_count() -> None:
    nothing = np.zeros_like(NEAR)
    for channels in ({"Depth.Z": NEAR, **COLOURS, "A": nothing}, {"Z": NEAR, **COLOURS, "A": nothing}):
        np.testing.assert_array_equal(read_depth_map(written(channels)).values, NEAR)
    with pytest.raises(DepthMapError, match="not one measurement"):
        read_depth_map(written({**GREY, "A": nothing}))


def test_a_sky_of_1e10_is_the_farthest_distance() -> None:
    metres = np.where(Y < 5, np.float32(1e10), NEAR)
    depth_map = read_depth_map(written({"ViewLayer.Depth.Z": metres}), meaning="distance")
    np.testing.assert_array_equal(depth_map.values, 1 / metres)
    assert depth_map.scaled().values[:5].max() < 1e-6


def test_a_data_window_lies_where_it_says() -> None:
    values = read_depth_map(FILES / "window_half_zip.exr").values
    assert values.shape == (20, 24)
    np.testing.assert_array_equal(values[:17, 2:], NEAR[3:, :22])
    assert (values[17:] == values.min()).all()
    assert (values[:, :2] == values.min()).all()


@pytest.mark.parametrize(("left", "top"), [(0, 0), (-3, 2), (5, -4), (-30, 40), (23, 19), (0, 7)])
def test_a_window_anywhere(left: int, top: int) -> None:
    window = (np.array([left, top], np.int32), np.array([left + 23, top + 19], np.int32))
    display = (np.array([0, 0], np.int32), np.array([30, 22], np.int32))
    channels = {"Z": NEAR} if left else dict.fromkeys("RGB", NEAR)
    data = written(channels, dataWindow=window, displayWindow=display)
    expected = np.full((23, 31), np.nan)
    for (y, x), value in np.ndenumerate(NEAR):
        if 0 <= y + top < 23 and 0 <= x + left < 31:
            expected[y + top, x + left] = value
    if np.isnan(expected).all():
        with pytest.raises(DepthMapError, match="not one measurement in the map of 31x23"):
            read_depth_map(data)
    else:
        holes = np.isnan(expected)
        depth_map = read_depth_map(data)
        assert depth_map.holes == holes.sum()
        np.testing.assert_array_equal(depth_map.values, np.where(holes, np.nanmin(expected), expected))


def test_channels_of_fewer_pixels_and_deep_data_are_refused() -> None:
    half = OpenEXR.Channel("Depth.Z", NEAR, 2, 2)
    with pytest.raises(DepthMapError, match=r"Depth\.Z .*fewer numbers than the picture has pixels"):
        read_depth_map(written({**BEAUTY, "Depth.Z": half}))
    deep = np.empty((2, 3), object)
    for place in np.ndindex(2, 3):
        deep[place] = np.ones(2, np.float32)
    with pytest.raises(DepthMapError, match=r"deep data.*Save it flat"):
        read_depth_map(written({"Z": deep}, type=OpenEXR.deepscanline, compression=OpenEXR.ZIPS_COMPRESSION))


def test_texts_of_a_header_need_not_be_unicode() -> None:
    data = written({"Z": NEAR}, owner="Müller12", hostComputer="xx")
    data = data.replace("Müller12".encode(), b"M\xfcller 12").replace(b"\2\0\0\0xx", b"\2\0\0\0\xd6\xd0")
    np.testing.assert_array_equal(read_depth_map(data).values, NEAR)
    with pytest.raises(DepthMapError, match=r"name that is not UTF-8 \(b'Z\\xfcb'\)"):
        read_depth_map(written({"Zab": NEAR}).replace(b"Zab\0", b"Z\xfcb\0"))


# --- the library


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (None, "needs the Python package OpenEXR, which is not here.*pip install OpenEXR"),
        ("3.4.17", r"needs version 3\.5 or newer.*here is 3\.4\.17.*Renew it: pip install --upgrade OpenEXR"),
        ("1.3.9", r"here is 1\.3\.9"),
    ],
)
def test_without_the_library_one_sentence_says_so(
    module: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = None if module is None else types.SimpleNamespace(__version__=module)
    monkeypatch.setitem(sys.modules, "OpenEXR", old)
    with pytest.raises(DepthMapError, match=said):
        read_depth_map(FILES / "z_half_zip.exr")
    with pytest.raises(DepthMapError, match=said):
        check_target(tmp_path / "map.exr")
    with pytest.raises(DepthMapError, match=said):
        save_depth_map(DepthMap.from_array(NEAR), tmp_path / "map.exr")
    assert list(tmp_path.iterdir()) == []
    save_depth_map(DepthMap.from_array(NEAR), tmp_path / "map.npy")


@pytest.mark.parametrize("version", ["3.5.0", "3.10.1", "4.0.0"])
def test_newer_versions_are_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenEXR, "__version__", version)
    assert read_depth_map(FILES / "z_half_zip.exr").size == (24, 20)


@pytest.mark.parametrize("size", [(1, 1), (24, 20), (7, 33), (300, 16)])
@pytest.mark.parametrize("noisy", [False, True])
def test_ours_is_read_by_opencv(tmp_path: Path, size: tuple[int, int], noisy: bool, monkeypatch) -> None:
    monkeypatch.setenv("OPENCV_IO_ENABLE_OPENEXR", "1")
    values = (
        np.random.default_rng(0).random(size[::-1]) if noisy else np.add.outer(np.arange(size[1]), np.zeros(size[0]))
    )
    depth_map = DepthMap.from_array(values.astype(np.float32))
    save_depth_map(depth_map, tmp_path / "map.exr")
    theirs = cv2.imread(str(tmp_path / "map.exr"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(theirs, depth_map.values)
    np.testing.assert_array_equal(read_depth_map(tmp_path / "map.exr").values, depth_map.values)


def test_ours_is_one_channel_of_float() -> None:
    with OpenEXR.File(io.BytesIO(exr.encode_exr(NEAR)), True) as file:
        assert list(file.channels()) == ["Y"]
        assert file.channels()["Y"].pixels.dtype == np.float32


@pytest.mark.parametrize("kind", [cv2.IMWRITE_EXR_TYPE_HALF, cv2.IMWRITE_EXR_TYPE_FLOAT])
@pytest.mark.parametrize("compression", range(8))
def test_opencvs_are_read(tmp_path: Path, kind: int, compression: int, monkeypatch) -> None:
    monkeypatch.setenv("OPENCV_IO_ENABLE_OPENEXR", "1")
    path = str(tmp_path / "map.exr")
    how = [cv2.IMWRITE_EXR_TYPE, kind, cv2.IMWRITE_EXR_COMPRESSION, compression]
    assert cv2.imwrite(path, NEAR, how)
    # B44 packs each block of 4x4 half floats with losses.
    np.testing.assert_allclose(read_depth_map(path).values, NEAR, rtol=0.1 if compression in (6, 7) else 1e-6, atol=0)


# --- broken, hostile


def test_every_cut_is_refused(capsys: pytest.CaptureFixture) -> None:
    for data in ((FILES / "z_half_zip.exr").read_bytes(), written(BEAUTY, {"Z": NEAR}, names=("a", "b"))):
        for length in range(4, len(data), 7):
            with pytest.raises(DepthMapError, match="broken"):
                read_depth_map(data[:length])
    assert capsys.readouterr().out == ""


def test_what_another_thread_prints_meanwhile_is_not_lost(capsys: pytest.CaptureFixture, monkeypatch) -> None:
    def chatty(*arguments: object) -> object:
        print("from elsewhere")
        return genuine(*arguments)

    genuine = OpenEXR.File
    monkeypatch.setattr(OpenEXR, "File", chatty)
    read_depth_map(FILES / "z_half_zip.exr")
    assert set(capsys.readouterr().out.split("\n")) == {"from elsewhere", ""}


def test_a_line_that_is_missing_is_refused() -> None:
    data = written({"Z": NEAR}, compression=OpenEXR.ZIPS_COMPRESSION)
    table = next(i for i in range(len(data)) if struct.unpack_from("<Q", data, i) == (i + 8 * 20,))
    offsets = list(struct.unpack_from("<20Q", data, table))
    offsets[7] = offsets[8]
    with pytest.raises(DepthMapError, match="broken"):
        read_depth_map(data[:table] + struct.pack("<20Q", *offsets) + data[table + 160 :])


def test_every_flipped_byte_is_read_or_refused() -> None:
    data = (FILES / "rgbz_half_zip.exr").read_bytes()
    for position in range(4, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        try:
            read_depth_map(bytes(damaged))
        except DepthMapError:
            continue


def test_flipped_bits_of_packed_pixels_are_refused() -> None:
    data = written({"Z": NEAR})
    start = next(i for i in range(len(data)) if struct.unpack_from("<Q", data, i) == (i + 16,)) + 16
    for position in range(start, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        try:
            values = read_depth_map(bytes(damaged)).values
        except DepthMapError:
            continue
        np.testing.assert_array_equal(values, NEAR)


@pytest.mark.parametrize(
    "window", [(0, 0, 199_999, 199_999), (0, 0, 2**31 - 1, 0), (-(2**31), 0, 2**31 - 1, 5), (5, 0, 0, 3)]
)
@pytest.mark.parametrize("which", [b"dataWindow", b"displayWindow"])
def test_windows_too_large_or_empty_are_refused(
    window: tuple[int, int, int, int], which: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse_to_unpack(monkeypatch)
    data = bytearray(written({"Z": NEAR}))
    position = data.index(which + b"\0box2i\0") + len(which) + 7 + 4
    data[position : position + 16] = struct.pack("<4i", *window)
    with pytest.raises(DepthMapError, match=r"pixels|broken"):
        read_depth_map(bytes(data))


def test_all_passes_of_a_4k_picture_fit() -> None:
    assert 3840 * 2160 * 4 * 64 <= exr.MAX_UNPACKED <= 2**31


def test_the_size_of_a_window_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exr, "MAX_UNPACKED", 24 * 20 * 4)
    read_depth_map(FILES / "window_half_zip.exr")
    monkeypatch.setattr(exr, "MAX_UNPACKED", 24 * 20 * 4 - 1)
    with pytest.raises(DepthMapError, match="may hold 1920 bytes"):
        read_depth_map(FILES / "window_half_zip.exr")


def test_too_many_channels_are_refused_before_they_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exr, "MAX_UNPACKED", 24 * 20 * 4 * 4)
    read_depth_map(written({**COLOURS, "Z": NEAR}))
    _refuse_to_unpack(monkeypatch)
    for data in (written({**BEAUTY, "Z": NEAR}), written(BEAUTY, {"Z": NEAR}, names=("a", "b"))):
        with pytest.raises(DepthMapError, match=r"may hold 9600 bytes .*at most 7680 .*depth pass alone"):
            read_depth_map(data)


def _refuse_to_unpack(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = OpenEXR.File

    def header_only(*arguments: object) -> object:
        if isinstance(arguments[0], io.BytesIO):
            assert arguments[2] is True, "the pixels were unpacked"
        return genuine(*arguments)

    monkeypatch.setattr(OpenEXR, "File", header_only)


@pytest.mark.parametrize("name", [b"dataWindow", b"displayWindow", b"compression", b"channels"])
def test_a_header_that_lacks_what_the_library_would_make_up_is_refused(name: bytes) -> None:
    data = bytearray(written({"Z": NEAR}))
    position = data.index(name + b"\0")
    data[position] ^= 1
    with pytest.raises(DepthMapError, match="broken"):
        read_depth_map(bytes(data))


@pytest.mark.parametrize("mode", [1, 2], ids=["mipmap", "ripmap"])
def test_of_smaller_copies_the_full_size_is_taken(mode: int) -> None:
    """The library's Python part writes no levels, so the bytes are put together as the format's page has them."""
    np.testing.assert_array_equal(read_depth_map(tiled_with_levels(NEAR, mode)).values, NEAR)


def tiled_with_levels(values: np.ndarray, mode: int) -> bytes:
    """https://openexr.com/en/latest/OpenEXRFileLayout.html: uncompressed tiles of 16x16."""

    def attribute(name: str, kind: str, content: bytes) -> bytes:
        return f"{name}\0{kind}\0".encode() + struct.pack("<i", len(content)) + content

    height, width = values.shape
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = b"\x76\x2f\x31\x01" + struct.pack("<i", 2 | 0x200)
    header += attribute("channels", "chlist", b"Z\0" + struct.pack("<iB3xii", 2, 0, 1, 1) + b"\0")
    header += attribute("compression", "compression", b"\0")
    header += attribute("dataWindow", "box2i", window) + attribute("displayWindow", "box2i", window)
    header += attribute("lineOrder", "lineOrder", b"\0")
    header += attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    header += attribute("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0))
    header += attribute("screenWindowWidth", "float", struct.pack("<f", 1))
    header += attribute("tiles", "tiledesc", struct.pack("<2IB", 16, 16, mode)) + b"\0"
    across, down, both = (side.bit_length() for side in (width, height, max(width, height)))
    levels = [(n, n) for n in range(both)] if mode == 1 else [(x, y) for y in range(down) for x in range(across)]
    chunks = []
    for x, y in levels:
        level = values[:: 1 << y, :: 1 << x][: max(1, height >> y), : max(1, width >> x)]
        for top in range(0, level.shape[0], 16):
            for left in range(0, level.shape[1], 16):
                tile = level[top : top + 16, left : left + 16].astype("<f4").tobytes()
                chunks.append(struct.pack("<5i", left // 16, top // 16, x, y, len(tile)) + tile)
    starts = np.cumsum([len(header) + 8 * len(chunks), *map(len, chunks[:-1])])
    return header + starts.astype("<u8").tobytes() + b"".join(chunks)
