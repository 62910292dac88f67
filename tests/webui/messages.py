"""What the program says where something is amiss: composed messages, each brought about by calling the code."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from lib_depth2img.depth.io.files import read_depth_map, read_picture
from lib_depth2img.errors import Depth2ImgError
from lib_depth2img.progress import Progress
from lib_depth2img.request.fields import FIELDS
from lib_depth2img.request.panel import BatchOptions
from lib_depth2img.request.user_image import decode_image
from lib_depth2img.webui import depth_stage
from lib_depth2img.webui.hooks.batch import BatchRun
from lib_depth2img.webui.ui import markup
from lib_depth2img.weights import download
from lib_depth2img.weights.catalog import CatalogFile, HubSource, Licence, UrlSource
from lib_depth2img.weights.inert_pickle import read_pickle
from lib_depth2img.weights.install import install, make_folder
from lib_depth2img.weights.tensor_file import open_tensor_file
from tests.webui.words import texts_in

__all__ = ["composed"]


def composed(folder: Path) -> Iterator[str]:
    """The messages; ``folder``: an empty one, which is filled."""
    cases = chain(
        _depth_maps(),
        _pictures(),
        _fields(),
        _batches(folder),
        _weights(folder),
        _downloads(folder),
        _missing_weights(),
    )
    for number, case in enumerate(cases):
        said = _said(case)
        assert said, f"nothing is wrong with case {number}"
        yield said
    yield from _progress()


def _said(case: Callable[[], object]) -> str:
    """What is said by an error, or by a text that comes back."""
    try:
        return str(case() or "")
    except Depth2ImgError as error:
        return error.in_panel


def _in_panel(data: bytes, source: str = "depth_map", meaning: Any = "nearness") -> Callable[[], object]:
    return lambda: decode_image(data, source, meaning) and ""


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def _tiff(values: np.ndarray, **settings: Any) -> bytes:
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, values, **settings)
    return file.getvalue()


def _exr(*names: str) -> bytes:
    import OpenEXR

    file = io.BytesIO()
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {name: np.ones((4, 6), np.float32) for name in names}).write(file)
    return file.getvalue()


def _png(size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, 9).save(file, "PNG")
    return file.getvalue()


def _depth_maps() -> Iterator[Callable[[], object]]:
    yield _in_panel(_exr("A.Z", "B.Z"))
    yield _in_panel(_exr("View.X", "View.Y", "View.Z", "Other.U", "Other.W"))
    yield _in_panel(_exr(*(f"Part{number}.{piece}" for number in range(12) for piece in "XYZ")))
    yield _in_panel(_exr("Z")[:200])
    yield _in_panel(_tiff(np.ones((8, 8, 3), np.uint16), photometric="cielab"))
    yield _in_panel(_tiff(np.ones((8, 8), np.complex64), photometric="minisblack"))
    yield _in_panel(_tiff(np.ones((8, 8), np.float32), photometric="miniswhite"))
    yield _in_panel(_tiff(np.ones((8, 8), np.uint16), photometric="minisblack")[:-9])
    yield _in_panel(_tiff(np.ones((2, 8, 8), np.uint16), photometric="minisblack"))
    yield _in_panel(_npy(np.ones((5, 8, 8), np.float32)))
    yield _in_panel(_npy(np.zeros((8, 8), np.float32)), meaning="distance")
    yield _in_panel(_npy(np.ones((8, 8), np.float32))[:-4])
    yield _in_panel(_png()[:-9])


def _pictures() -> Iterator[Callable[[], object]]:
    def heic() -> object:
        with mock.patch.dict(sys.modules, {"pillow_heif": None}), mock.patch.dict(Image.OPEN):
            Image.OPEN.pop("HEIF", None)
            return read_picture(struct.pack(">I4s4s", 24, b"ftyp", b"heic") + bytes(40))

    yield heic
    yield _in_panel(b"just a text, no picture", "image")
    yield _in_panel(b"\x01\x02\x03\x04 and more", "image")
    yield lambda: read_picture(Path("nowhere", "Dr. No.png"))
    yield lambda: read_depth_map(b"")


def _fields() -> Iterator[Callable[[], object]]:
    fields = {field.name: field for field in FIELDS}
    for name, value in (
        ("near", 7),
        ("invert", "perhaps"),
        ("tiles", 99),
        ("resolution", 7),
        ("mode", "both"),
        ("meaning", 5),
    ):
        yield lambda name=name, value=value: fields[name].check(value) and ""
    yield lambda: fields["range"].parse("from here to there") and ""
    yield lambda: fields["image"].parse("a text") and ""


def _batches(folder: Path) -> Iterator[Callable[[], object]]:
    maps = folder / "maps"
    maps.mkdir()
    pictures = [folder / f"{name}.png" for name in "abcdefgh"]
    for picture in pictures:
        picture.write_bytes(_png())
    (maps / "a.png").write_bytes(b"")
    (maps / "b.npy").write_bytes(_npy(np.ones((5, 8, 8), np.float32)))
    (folder / "c.png").write_bytes(b"no picture")

    def remark() -> object:
        run = BatchRun(BatchOptions(maps), pictures)
        for picture in pictures:
            run.reading(picture)
            run.values()
        run.unreadable(pictures[2], OSError(13, "Permission denied"))
        try:
            Image.open(io.BytesIO(b"no picture"))
        except OSError as error:
            run.unreadable(pictures[3], error)
        return run.remark

    yield remark
    yield lambda: BatchRun(BatchOptions(maps), pictures).announcement
    yield lambda: BatchRun(BatchOptions(maps, refuse_missing=True), pictures) and ""
    yield lambda: BatchRun(BatchOptions(maps, refuse_missing=True), pictures[:1]) and ""
    yield lambda: BatchRun(BatchOptions(folder / "nowhere"), pictures) and ""
    clips = folder / "clips"
    clips.mkdir()
    (clips / "clip.npy").write_bytes(_npy(np.ones((5, 8, 8), np.float32)))
    yield lambda: BatchRun(BatchOptions(clips), pictures).announcement
    yield lambda: BatchRun(BatchOptions(clips), pictures[:5]).announcement
    (maps / "c.png").write_bytes(_png())
    yield lambda: BatchRun(BatchOptions(maps, refuse_missing=True), pictures[2:3]) and ""


def _weights(folder: Path) -> Iterator[Callable[[], object]]:
    class Poison:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.getcwd, ()

    def opened(data: bytes) -> Callable[[], object]:
        path = folder / "weights.safetensors"

        def case() -> object:
            path.write_bytes(data)
            open_tensor_file(path)
            return ""

        return case

    def safetensors(header: object, body: bytes = b"") -> Callable[[], object]:
        text = json.dumps(header).encode()
        return opened(struct.pack("<Q", len(text)) + text + body)

    half = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}
    yield lambda: read_pickle(io.BytesIO(pickle.dumps(Poison()))) and ""
    yield lambda: read_pickle(io.BytesIO(pickle.dumps([1, 2, 3])[:-3])) and ""
    yield safetensors({"a": half, "b": half}, bytes(4))
    yield safetensors({"a": {**half, "shape": [3]}}, bytes(4))
    yield safetensors({"a": half}, bytes(8))
    yield safetensors([1])
    yield opened(struct.pack("<Q", 10**6) + b'{"a"')
    yield opened(b"<!DOCTYPE html><html>")
    yield lambda: open_tensor_file(folder / "not there.ckpt") and ""


def _downloads(folder: Path) -> Iterator[Callable[[], object]]:
    sources = (HubSource("some/repo", "x.ckpt"), UrlSource("http://127.0.0.1:1/x.ckpt"))
    wanted = CatalogFile("x.ckpt", 3_000_000, 3_000_000, "ab" * 32, sources, Licence("MIT", ""))
    unknown = CatalogFile("y.ckpt", None, 2_850_000_000, None, sources[1:], Licence("MIT", ""))
    (folder / "a file").write_bytes(b"")

    def failing(file: CatalogFile) -> object:
        with (
            mock.patch.object(download, "PAUSE", 0.0),
            mock.patch.dict(os.environ, {"HF_HUB_OFFLINE": "1", "no_proxy": "*"}),
        ):
            return install(file, folder / "downloads")

    yield lambda: failing(wanted)
    yield lambda: failing(unknown)
    yield lambda: make_folder(folder / "a file" / "in it")
    (folder / "other").mkdir()
    (folder / "other" / "x.ckpt").write_bytes(b"another")
    yield lambda: install(wanted, folder / "other")


def _missing_weights() -> Iterator[Callable[[], object]]:
    yield lambda: depth_stage.nothing_inside("dpt_hybrid").in_panel
    yield lambda: depth_stage.nothing_inside("tiny").in_panel
    yield lambda: depth_stage.missing_weights("dpt_large").in_panel


def _progress() -> Iterator[str]:
    for moment in (
        Progress("waiting", "x.ckpt", 0, None),
        Progress("asking", "x.ckpt", 0, None),
        Progress("downloading", "x.ckpt", 120_000_000, 2_850_000_000),
        Progress("downloading", "x.ckpt", 1_200_000_000, 2_850_000_000, 12e6, 100.0),
        Progress("verifying", "x.ckpt", 120_000_000, 2_850_000_000, 12e6, 100.0),
    ):
        yield from texts_in(markup.progress_bar(moment))
