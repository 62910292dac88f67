"""A request into a picture's generation parameters and back, through the host's own way of writing and parsing them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re

import gradio as gr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.request.fields import FIELDS, field_named
from lib_depth2img.request.kinds import Choice
from lib_depth2img.request.request import Depth2ImgRequest
from lib_depth2img.request.user_image import UserImage
from lib_depth2img.webui import infotext
from lib_depth2img.webui.ui.panel import _note_left, build_panel
from tests.webui.page import StubServices

MAP = UserImage(DepthMap(np.zeros((2, 2), np.float32), unit=True), "3fa9c1d2e4" + "0" * 54)

# Stands for modules/infotext_utils.py:16-18, 62-76 and 266-280 of the host, and for processing.py:830 (how it joins).
PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SIZE = re.compile(r"^(\d+)x(\d+)$")


def host_writes(parameters: dict[str, object]) -> str:
    def quote(value: object) -> object:
        return json.dumps(value, ensure_ascii=False) if re.search(r"[,\n:]", str(value)) else value

    return ", ".join(key if key == value else f"{key}: {quote(value)}" for key, value in parameters.items())


def host_parses(line: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in PARAMETER.findall(line):
        text = json.loads(value) if value[:1] == value[-1:] == '"' else value
        size = SIZE.match(text)
        found.update({f"{key}-1": size[1], f"{key}-2": size[2]} if size else {key: text})
    return found


AROUND = {"Steps": 20, "Sampler": "Euler a", "Size": "512x512", "Model": "a, b: c", "Version": "v1.10.1"}


def round_trip(request: Depth2ImgRequest) -> dict[str, object]:
    """The fields an infotext of the tabs restores, after the host has written and parsed it."""
    parameters: dict[str, object] = dict(AROUND)
    infotext.write(parameters, request, from_api=False)
    parsed = host_parses(host_writes(parameters))
    return {entry.name: infotext.read(entry, parsed) for entry in FIELDS if entry.infotext}


def test_defaults_write_nothing():
    assert infotext.describe(Depth2ImgRequest(), from_api=True) == {}
    in_tabs = Depth2ImgRequest(**{entry.name: entry.panel_default for entry in FIELDS})
    assert infotext.describe(in_tabs, from_api=False) == {}


def test_every_changed_field_is_written():
    request = Depth2ImgRequest(
        source="depth_map", image=MAP, estimator="dpt_large", far=0.1, near=0.95, gamma=1.25, blur=2.5, invert=True,
        only_masked="crop", from_noise=True, enabled=False, append_depth_map=True, save_depth_map=True,
    )  # fmt: skip
    assert infotext.describe(request, from_api=True) == {
        "Depth2Img enabled": "False",
        "Depth2Img source": "depth_map",
        "Depth2Img estimator": "dpt_large",
        "Depth2Img far": "0.1",
        "Depth2Img near": "0.95",
        "Depth2Img gamma": "1.25",
        "Depth2Img blur": "2.5",
        "Depth2Img invert": "True",
        "Depth2Img only masked": "crop",
        "Depth2Img from noise": "True",
        "Depth2Img append depth map": "True",
        "Depth2Img save depth map": "True",
        "Depth2Img image hash": "3fa9c1d2e4",
    }


@pytest.mark.parametrize("append", [True, False])
@pytest.mark.parametrize("from_api", [True, False])
def test_adding_the_map_is_written_where_it_is_not_what_was_to_be_expected(append, from_api):
    text = infotext.describe(Depth2ImgRequest(append_depth_map=append), from_api=from_api)
    assert text == ({} if append != from_api else {"Depth2Img append depth map": str(append)})


def test_the_hosts_parser_accepts_every_key():
    for key in infotext.KEYS:
        assert host_parses(f"Steps: 1, {key}: x, Seed: 2") == {"Steps": "1", key: "x", "Seed": "2"}


requests = st.builds(
    Depth2ImgRequest,
    enabled=st.booleans(),
    range=st.none()
    | st.tuples(st.floats(-9.0, 0.5), st.floats(0.51, 1e4)).map(lambda pair: tuple(round(each, 3) for each in pair)),
    estimator=st.sampled_from(field_named("estimator").values),
    far=st.floats(0.0, 0.5).map(lambda value: round(value, 3)),
    near=st.floats(0.51, 1.0).map(lambda value: round(value, 3)),
    gamma=st.floats(0.1, 10.0).map(lambda value: round(value, 3)),
    blur=st.floats(0.0, 64.0).map(lambda value: round(value, 3)),
    invert=st.booleans(),
    only_masked=st.sampled_from(["picture", "crop"]),
    from_noise=st.booleans(),
    append_depth_map=st.booleans(),
    save_depth_map=st.booleans(),
)


@given(requests)
def test_what_is_written_comes_back(request):
    restored = round_trip(request)
    assert restored == {name: getattr(request, name) for name in restored}


@pytest.mark.parametrize("name", ["a, b", "a: b", 'say "x", y', "512x512", "Depth2Img far: 0.5, x", "back\\slash"])
def test_values_with_commas_colons_and_quotes_survive(name, monkeypatch):
    """No estimator is called so; the table does not promise that none ever will be."""
    odd = dataclasses.replace(field_named("estimator"), choices=lambda: ((name, name),))
    line = host_writes({**AROUND, odd.infotext: name})
    assert infotext.read(odd, host_parses(line)) == name


def test_a_missing_key_means_the_default_and_so_does_nonsense():
    for entry in FIELDS:
        if entry.infotext:
            assert infotext.read(entry, {}) == entry.panel_default
            assert infotext.read(entry, {entry.infotext: "no such thing"}) == entry.panel_default
    assert infotext.read(field_named("far"), {"Depth2Img far": "7"}) == 0.0


@pytest.mark.parametrize("half", ["-1", "-2"])
def test_half_of_what_the_host_splits_is_nothing(half):
    """It makes two of 512x384 only (modules/infotext_utils.py:274)."""
    entry = field_named("only_masked")
    assert infotext.read(entry, {f"{entry.infotext}{half}": "512"}) == entry.panel_default
    assert infotext._find("key", {f"key{half}": "512"}) is None
    assert infotext._find("key", {"key-1": "512", "key-2": "384"}) == "512x384"


def test_writing_replaces_what_an_earlier_picture_left():
    parameters: dict[str, object] = {"Steps": 20}
    infotext.write(parameters, Depth2ImgRequest(far=0.3, invert=True), from_api=True)
    infotext.write(parameters, Depth2ImgRequest(near=0.7), from_api=True)
    assert parameters == {"Steps": 20, "Depth2Img near": "0.7"}
    infotext.forget(parameters)
    assert parameters == {"Steps": 20}


def pasted(line: str) -> dict[str, object]:
    """What the panel's widgets are set to when the line is pasted, by field name."""
    with gr.Blocks():
        panel = build_panel(StubServices())
    names = {id(widget): name for name, widget in panel.widgets.items()} | {id(panel.note): "note"}
    return {
        names[id(widget)]: function(host_parses(line))
        for widget, function in infotext.paste_functions(panel.widgets, panel.note)
    }


def test_pasting_restores_the_panel():
    request = Depth2ImgRequest(
        source="depth_map", image=MAP, far=0.2, invert=True, only_masked="crop", save_depth_map=True
    )
    values = pasted(host_writes({**AROUND, **infotext.describe(request, from_api=False)}))
    assert values["source"] == "Depth map"
    assert values["far"] == 0.2
    assert values["invert"] is True
    assert values["only_masked"] == "Crop"
    assert values["append_depth_map"] is False
    assert values["save_depth_map"] is True
    assert "3fa9c1d2e4" in values["note"]


def test_pasting_a_picture_of_anything_else_resets_the_panel():
    values = pasted(host_writes(AROUND))
    for entry in FIELDS:
        if entry.infotext:
            shown = entry.label_of(entry.default) if isinstance(entry, Choice) else entry.shown(entry.panel_default)
            assert values[entry.name] == shown
    assert values["note"] == ""


def test_the_note_does_not_trust_the_infotext():
    values = pasted('Steps: 20, Depth2Img image hash: <img src=x onerror="1">')
    assert "<img" not in values["note"]


def test_the_remark_about_a_file_goes_when_the_file_is_there():
    wanted = b"the very file"
    digest = hashlib.sha256(wanted).hexdigest()[:10]
    note = infotext._note({infotext.DIGEST_KEYS["image"]: digest})
    assert digest in note
    assert _note_left(b"another", None, None, note) == note
    assert _note_left(None, Image.new("L", (2, 2)), None, note) == note
    assert _note_left(wanted, Image.new("L", (2, 2)), None, note) == ""
    assert _note_left(wanted, None, None, None) == ""


def test_of_two_remarks_the_one_goes_whose_file_is_there():
    said = {key: hashlib.sha256(name.encode()).hexdigest()[:10] for name, key in infotext.DIGEST_KEYS.items()}
    note = infotext._note(said)
    assert all(digest in note for digest in said.values())
    left = _note_left(None, None, b"region", note)
    assert said["Depth2Img image hash"] in left
    assert said["Depth2Img region hash"] not in left
    assert _note_left(b"image", None, b"region", note) == ""


def test_the_remark_goes_for_a_picture_too():
    picture = Image.new("RGB", (3, 2), "red")
    request = Depth2ImgRequest.from_mapping({"source": "image", "image": picture})
    note = infotext._note(infotext.describe(request, from_api=False))
    assert note
    assert _note_left(None, picture, None, note) == ""
