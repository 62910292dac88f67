"""OpenEXR, against files written by the OpenEXR project's own package and against OpenCV."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib_depth2img import DepthMap, read_depth_map, save_depth_map
from lib_depth2img.depth.io import exr
from lib_depth2img.errors import DepthMapError

FILES = Path(__file__).parent / "exr"
Y, X = np.mgrid[0:20, 0:24]
NEAR = ((1 + X + 24 * Y) / 4).astype(np.float32)


@pytest.mark.parametrize(
    "name",
    [
        "z_half_zip", "z_float_zips", "z_float_none", "z_half_rle", "z_float_piz", "y_half_piz", "z_float_tiled",
        "rgbz_half_zip", "rgbz_half_piz", "grey_rgb_half_zip", "layers_half_zip", "depth_v_half_zip",
    ],
)  # fmt: skip
def test_depth_is_found_and_exact(name: str) -> None:
    depth_map = read_depth_map(FILES / f"{name}.exr")
    assert not depth_map.unit
    np.testing.assert_array_equal(depth_map.values, NEAR)


def test_a_data_window_lies_where_it_says() -> None:
    values = read_depth_map(FILES / "window_half_zip.exr").values
    np.testing.assert_array_equal(values[:17, 2:], NEAR[3:, :22])
    assert (values[17:] == values.min()).all()
    assert (values[:, :2] == values.min()).all()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("colour_rgb_half_zip", "coloured"),
        ("two_layers_half_zip", r"channels A\.Z, B\.Z.*Save the depth pass alone"),
        ("two_parts", "several parts.*single"),
        ("z_half_dwaa", "DWAA compression.*channel Z.*Save it as scan lines with ZIP"),
    ],
)
def test_what_cannot_be_read_is_refused(name: str, text: str) -> None:
    with pytest.raises(DepthMapError, match=text) as caught:
        read_depth_map(FILES / f"{name}.exr")
    assert f"{name}.exr" in str(caught.value)


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "OPENCV_IO_ENABLE_OPENEXR"
    monkeypatch.delenv(name, raising=False)
    read_depth_map(FILES / "z_float_piz.exr")
    assert name not in os.environ
    monkeypatch.setenv(name, "0")
    read_depth_map(FILES / "z_float_piz.exr")
    assert os.environ[name] == "0"


def test_opencv_with_exr_switched_off_for_good_is_a_refusal() -> None:
    # OpenCV decides at the first EXR file of the process, so this needs a process of its own.
    code = (
        "import sys, cv2, numpy as np\n"
        "try: cv2.imread(sys.argv[1], cv2.IMREAD_UNCHANGED)\n"
        "except cv2.error: pass\n"
        "from lib_depth2img import read_depth_map\n"
        "from lib_depth2img.errors import DepthMapError\n"
        "try: read_depth_map(sys.argv[1])\n"
        "except DepthMapError as error: print('refused:', error)\n"
        "print(read_depth_map(sys.argv[2]).size)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OPENCV_IO_ENABLE_OPENEXR"}
    result = subprocess.run(
        [sys.executable, "-c", code, FILES / "z_float_piz.exr", FILES / "z_float_zips.exr"],
        capture_output=True, text=True, check=True, env=environment, cwd=FILES.parents[2],
    )  # fmt: skip
    assert "refused:" in result.stdout
    assert "PIZ" in result.stdout
    assert "(24, 20)" in result.stdout


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


@pytest.mark.parametrize("kind", [cv2.IMWRITE_EXR_TYPE_HALF, cv2.IMWRITE_EXR_TYPE_FLOAT])
@pytest.mark.parametrize("compression", range(8))
def test_opencvs_are_read(tmp_path: Path, kind: int, compression: int, monkeypatch) -> None:
    monkeypatch.setenv("OPENCV_IO_ENABLE_OPENEXR", "1")
    path = str(tmp_path / "map.exr")
    how = [cv2.IMWRITE_EXR_TYPE, kind, cv2.IMWRITE_EXR_COMPRESSION, compression]
    assert cv2.imwrite(path, NEAR, how)
    # B44 packs each block of 4x4 half floats with losses.
    np.testing.assert_allclose(read_depth_map(path).values, NEAR, rtol=0.1 if compression in (6, 7) else 1e-6, atol=0)


def test_every_cut_is_refused() -> None:
    data = (FILES / "z_half_zip.exr").read_bytes()
    for length in range(4, len(data)):
        with pytest.raises(DepthMapError):
            read_depth_map(data[:length])


def test_every_flipped_byte_is_read_or_refused() -> None:
    data = (FILES / "rgbz_half_zip.exr").read_bytes()
    for position in range(4, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        try:
            read_depth_map(bytes(damaged))
        except DepthMapError:
            continue


@pytest.mark.parametrize(
    "window", [(0, 0, 199_999, 199_999), (0, 0, 2**31 - 1, 0), (-(2**31), 0, 2**31 - 1, 5), (5, 0, 0, 3)]
)
@pytest.mark.parametrize("which", [b"dataWindow", b"displayWindow"])
def test_windows_too_large_or_empty_are_refused(window: tuple[int, int, int, int], which: bytes) -> None:
    data = bytearray(exr.encode_exr(NEAR))
    position = data.index(which + b"\0box2i\0") + len(which) + 7 + 4
    data[position : position + 16] = struct.pack("<4i", *window)
    with pytest.raises(DepthMapError, match="pixels"):
        read_depth_map(bytes(data))


def test_no_more_is_unpacked_than_the_header_promises() -> None:
    data = bytearray(exr.encode_exr(np.zeros((4, 4), np.float32)))
    block = zlib.compress(b"\0" * 50_000_000)
    header_end = next(i for i in range(len(data)) if struct.unpack_from("<Q", data, i) == (i + 8,))
    damaged = data[:header_end] + struct.pack("<Q", header_end + 8) + struct.pack("<2i", 0, len(block)) + block
    tracemalloc.start()
    assert read_depth_map(bytes(damaged)).size == (4, 4)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
