"""Weights in the folders of ControlNet, ComfyUI and the depthmap script."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from lib_depth2img.errors import WeightsError
from lib_depth2img.weights import catalog, elsewhere
from lib_depth2img.weights.catalog import Copy

SMALL = "depth_anything_v2_small"
PUBLISHED = "depth_anything_v2_vits.pth"
HALF = "depth_anything_v2_vits_fp16.safetensors"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def catalogued(monkeypatch) -> None:
    """The catalogue with files of a few bytes in the place of the small estimator's."""
    files = tuple(
        replace(file, sha256=sha256(b"published"), copies=(Copy((HALF,), sha256(b"half")),))
        if file.estimator == SMALL
        else file
        for file in catalog.FILES
    )
    monkeypatch.setattr(catalog, "FILES", files)


def put(root: Path, place: str, content: bytes) -> Path:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("place", "content"),
    [
        (f"extensions/sd-webui-controlnet/annotator/downloads/depth_anything_v2/{PUBLISHED}", b"published"),
        (f"models/depth_anything_v2/{PUBLISHED}", b"published"),
        (f"models/ControlNetPreprocessor/depth_anything_v2/{HALF}", b"half"),
        (f"../ComfyUI/models/depthanything/{HALF}", b"half"),
        (
            "../ComfyUI/custom_nodes/comfyui_controlnet_aux/ckpts/depth-anything/Depth-Anything-V2-Small/" + PUBLISHED,
            b"published",
        ),
    ],
)
def test_they_are_found_where_those_programs_put_them(catalogued, tmp_path, place, content):
    webui = tmp_path / "stable-diffusion-webui"
    webui.mkdir()
    assert elsewhere.find(SMALL, elsewhere.roots_of(webui)) is None
    path = put(webui, place, content)
    found = elsewhere.find(SMALL, elsewhere.roots_of(webui))
    assert found is not None
    assert found.samefile(path)
    elsewhere.refuse_other(found, SMALL)
    assert elsewhere.find("depth_anything_v2_base", elsewhere.roots_of(webui)) is None
    assert path.read_bytes() == content


def test_another_file_of_that_name_is_not_taken(catalogued, tmp_path):
    path = put(tmp_path, f"models/depth_anything_v2/{PUBLISHED}", b"a fine-tune")
    with pytest.raises(
        WeightsError, match=rf"{PUBLISHED} in .* is another file: its sha256 is {sha256(b'a fine-tune')}"
    ):
        elsewhere.refuse_other(path, SMALL)
    with pytest.raises(WeightsError, match="is called like weights of dpt_hybrid"):
        elsewhere.refuse_other(put(tmp_path, "dpt.pt", b"published"), "dpt_hybrid")


def test_the_command_takes_them_and_says_so(catalogued, tmp_path, monkeypatch, capsys):
    from lib_depth2img.commands import depth

    asked = argparse.Namespace(weights=None, estimator=SMALL)
    monkeypatch.chdir(tmp_path)
    path = put(tmp_path, f"models/depth_anything_v2/{PUBLISHED}", b"published")
    assert depth.weights_of(asked).samefile(path)
    assert PUBLISHED in capsys.readouterr().err
    own = put(tmp_path, f"models/midas/{PUBLISHED}", b"anything")
    assert depth.weights_of(asked).samefile(own), "an installed one comes first"
