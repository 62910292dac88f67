"""What the editor keeps and answers, without a page."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from lib_depth2img.depth.conditioning import conditioning
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.depth.edits import apply_strokes, edited, strokes_from_list
from lib_depth2img.depth.geometry import place
from lib_depth2img.errors import RequestError
from lib_depth2img.request.fields import FIELDS
from lib_depth2img.request.panel import PANEL_ORDER, panel_values
from lib_depth2img.request.request import Depth2ImgRequest
from lib_depth2img.webui.ui import editor
from lib_depth2img.webui.ui.editing import KEPT_STEPS, OPEN, AppliedMaps, Editing, OpenMaps
from lib_depth2img.webui.ui.editor_route import PATH, add_route, drawn
from tests.webui.page import StubServices

NOISE = DepthMap(np.random.default_rng(0).random((40, 60), dtype=np.float32), unit=True)


def stroke(index: int) -> dict[str, Any]:
    tool = ("nearer", "smooth", "set", "away")[index % 4]
    return {"tool": tool, "points": [[index % 7 / 7, index % 5 / 5]], "size": 0.2, "value": index % 10 / 10}


def test_steps_that_are_kept_change_nothing():
    """Drawn on, taken back far beyond what is kept, drawn on otherwise."""
    editing = Editing(NOISE, NOISE.size)
    drawn = [stroke(index) for index in range(KEPT_STEPS + 20)]
    for count in (1, 2, 30, len(drawn), len(drawn) - 3, len(drawn), 5, 0, 40):
        strokes = strokes_from_list(drawn[:count])
        np.testing.assert_array_equal(editing.values(strokes), apply_strokes(NOISE.values, strokes))
    other = strokes_from_list([*drawn[:10], stroke(99)])
    np.testing.assert_array_equal(editing.values(other), apply_strokes(NOISE.values, other))


def test_what_is_shown_is_small_and_what_is_saved_is_whole():
    large = DepthMap(np.tile(np.linspace(0, 1, 1200, dtype=np.float32), (900, 1)), unit=True)
    editing = Editing(large, large.size)
    strokes = strokes_from_list([stroke(2)])
    assert Image.open(io.BytesIO(editing.shown(strokes))).size == (512, 384)
    saved = np.asarray(Image.open(io.BytesIO(editing.png(strokes))))
    np.testing.assert_array_equal(saved, np.rint(edited(large, strokes).values * 65535))


def test_the_latest_maps_are_kept():
    maps = AppliedMaps(most=2)
    editing = Editing(NOISE, NOISE.size)
    first, second, third = (
        maps.add(editing, strokes_from_list([stroke(index)]), json.dumps([stroke(index)])) for index in range(3)
    )
    assert maps.get(first.sha256) is None
    assert maps.get(second.sha256) == second
    assert maps.get(third.sha256).strokes == json.dumps([stroke(2)])
    assert AppliedMaps(most_bytes=1).add(editing, (), "[]").path.is_file(), "the newest is kept however large"


def test_the_latest_open_maps_are_kept_and_only_who_has_the_token_gets_one():
    maps = OpenMaps(most=2)
    first, second, third = (maps.add(Editing(NOISE, NOISE.size)) for _ in range(3))
    assert maps.get(second) is not maps.get(third)
    maps.get(second)
    fourth = maps.add(Editing(NOISE, NOISE.size))
    assert maps.get(second) is not maps.get(fourth), "what was used last stays"
    for unknown in (first, third, "", second[:-1]):
        with pytest.raises(RequestError, match="Close it, and edit again"):
            maps.get(unknown)


@pytest.fixture
def handlers() -> editor._Handlers:
    return editor._Handlers(StubServices())  # type: ignore[arg-type]


@pytest.fixture
def token() -> str:
    return OPEN.add(Editing(NOISE, NOISE.size))


def error_in(answer: str) -> str:
    found = re.search(r'data-error="([^"]*)"', answer)
    assert found, answer
    return html.unescape(found[1])


def sent(token: str, *strokes: Any, **more: Any) -> str:
    return json.dumps({"token": token, "strokes": list(strokes), **more})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("", "The editor sent ''"),
        ("[]", "The editor sent '[]'"),
        ("[" * 100_000, "which is no list of strokes"),
        ('{"token": "TOKEN"}', "which is no list of strokes"),
        ('{"strokes": []}', "which is no list of strokes"),
        (sent("TOKEN", pick="ab"), "which is no list of strokes"),
        (sent("TOKEN", {"tool": "erase"}), "strokes[0]: got tool 'erase'"),
        (sent("TOKEN", *[stroke(2)] * 501), "got 501, expected at most 500. Apply the edit, and go on from there."),
        ("x" * (4 * 2**20 + 1), "The strokes are too much for one edit."),
        (sent("another"), "Close it, and edit again"),
    ],
)
def test_what_a_page_may_not_send_is_answered_in_a_sentence(handlers, token, message, expected):
    message = message.replace("TOKEN", token)
    assert expected in drawn(message)["error"]
    assert expected in error_in(handlers.apply(message)[0])
    assert expected in error_in(handlers.download(message)[0])


def test_the_map_and_the_value_that_was_picked_are_answered(token):
    answer = drawn(sent(token, stroke(2), pick=[0.51, 0.26]))
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["picture"].partition(",")[2]))))
    expected = apply_strokes(NOISE.values, strokes_from_list([stroke(2)]))
    np.testing.assert_array_equal(shown, np.rint(expected * np.float32(255)))
    assert answer["value"] == pytest.approx(expected[10, 30], abs=1e-5)
    assert drawn(sent(token))["value"] is None


def test_the_route_answers_the_page_and_bounds_what_it_takes(token):
    app = FastAPI()
    add_route(None, app)
    with TestClient(app) as client:
        assert client.post(PATH, content=sent(token)).json() == drawn(sent(token))
        assert "too much for one edit" in client.post(PATH, content=b"x" * (16 * 2**20)).json()["error"]
        assert "no list of strokes" in client.post(PATH, content=b"\xff\xfe").json()["error"]
        assert PATH not in client.get("/openapi.json").json()["paths"]


def test_only_what_was_applied_comes_back(handlers, token):
    answer, path, source, meaning, extent, note = handlers.apply(sent(token, stroke(2)))
    sha256 = re.search(r'data-applied="(\w+)"', answer)[1]
    assert handlers.restore(sha256) == (path, "Depth map", "near", "", note)
    assert (source, meaning, extent) == ("Depth map", "near", "")
    assert f'data-edited="{sha256}"' in note
    assert "1 stroke." in note
    for unknown in ("", "0" * 64, "../../etc/passwd"):
        assert all("value" not in update for update in handlers.restore(unknown))
    assert editor.note_of(b"another file") == editor.note_of(None) == ""


def test_a_map_under_a_range_is_edited_within_it_and_stays_in_it(handlers, tmp_path):
    """Metres: what lies at 1 and at 9 m keeps its distance to both ends, also when the edited map is taken further."""
    metres = np.full((40, 60), 9.0, np.float32)
    metres[:, :30] = 1.0
    np.save(tmp_path / "metres.npy", metres)
    told = {"source": "Depth map", "meaning": "far away", "range": "0.5 to 20"}
    shown = {entry.name: entry.shown(entry.panel_default) for entry in FIELDS} | told
    shown |= {"image": (tmp_path / "metres.npy").read_bytes(), "picture": None}
    answer, _ = handlers.open(*(shown[name] for name in PANEL_ORDER))
    token = re.search(r'data-token="([^"]+)"', answer)[1]
    nearness = (1 / np.array([1.0, 9.0]) - 1 / 20) / (1 / 0.5 - 1 / 20)
    assert "data-opened" in answer
    np.testing.assert_allclose(OPEN.get(token).base.values[0, [0, -1]], nearness, atol=1e-6)
    _, path, source, meaning, extent, _ = handlers.apply(sent(token))
    assert (source, meaning, extent) == ("Depth map", "near", "0 to 1")
    shown |= {"image": Path(path).read_bytes(), "meaning": meaning, "range": extent}
    again = panel_values([shown[name] for name in PANEL_ORDER])
    request = Depth2ImgRequest.from_mapping(again)
    channel = conditioning(request.image.content, place((60, 40), (64, 64)), extent=request.extent)
    np.testing.assert_allclose(channel[0, 0, 4, [1, -2]], 2 * nearness - 1, atol=1e-4)
