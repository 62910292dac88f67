"""Files that hold the maps of many frames: each frame is what NumPy has there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib_depth2img import read_depth_map
from lib_depth2img.depth.io.clips import frames_in, read_frame
from lib_depth2img.errors import DepthMapError

CLIP = np.random.default_rng(0).random((5, 12, 9)).astype(np.float32)


def saved(path: Path, array: np.ndarray, **others: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        np.savez_compressed(path, depths=array, **others)
    return path


@pytest.mark.parametrize("name", ["clip.npy", "clip.npz", "clip.NPZ"])
@pytest.mark.parametrize("shape", [(5, 12, 9), (5, 1, 12, 9), (5, 12, 9, 1)])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<u2"])
def test_each_frame_is_what_was_written(tmp_path: Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
    array = (CLIP * 1000).astype(dtype)
    with (tmp_path / name).open("wb") as file:
        if name.endswith("npy"):
            np.save(file, array.reshape(shape))
        else:
            np.savez_compressed(file, depths=array.reshape(shape), fps=np.float32(24))
    assert frames_in(tmp_path / name) == 5
    for index in (3, 0, 4):
        np.testing.assert_array_equal(read_frame(tmp_path / name, index), array[index])


@pytest.mark.parametrize(
    "array",
    [CLIP[0], CLIP[:1], CLIP[..., :3], CLIP[..., :1], np.asfortranarray(CLIP), CLIP[:, None, None], CLIP.astype("U4")],
    ids=["one", "one of one", "colours", "grey", "columns first", "five axes", "text"],
)
def test_what_is_no_clip_holds_none(tmp_path: Path, array: np.ndarray) -> None:
    assert frames_in(saved(tmp_path / "map.npy", array)) == 0
    with pytest.raises(DepthMapError):
        read_frame(tmp_path / "map.npy", 0)


def test_other_files_hold_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.npz").write_bytes(b"PK")
    (tmp_path / "c.npy").write_bytes(b"")
    for name in ("a.png", "b.npz", "c.npy", "none.npz"):
        assert frames_in(tmp_path / name) == 0
    with pytest.raises(DepthMapError, match=r"cannot be read .*No such file"):
        read_frame(tmp_path / "none.npz", 0)


@pytest.mark.parametrize("name", ["clip.npy", "clip.npz"])
def test_a_clip_that_is_cut_off_or_damaged_is_refused(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, CLIP)
    data = path.read_bytes()
    path.write_bytes(data[:-100] if name.endswith("npy") else data[:500] + bytes(64) + data[564:])
    with pytest.raises(DepthMapError, match=r"cut off|cannot be read|broken"):
        read_frame(path, 4)


def test_a_frame_beyond_the_last_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "clip.npz", CLIP)
    for index in (-1, 5):
        with pytest.raises(DepthMapError, match=f"holds 5 maps; there is no map {index}"):
            read_frame(path, index)


def test_a_clip_is_not_one_map(tmp_path: Path) -> None:
    with pytest.raises(DepthMapError, match=r"shape \(5, 12, 9\), a stack of 5.*Take one map out"):
        read_depth_map(saved(tmp_path / "clip.npz", CLIP))
