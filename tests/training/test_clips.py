"""The films that steadiness is measured on: what they say of their motion is true of their pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.clips import CLIPS, true_motion


@pytest.fixture(scope="module")
def clips():
    return {name: CLIPS[name](64, 1) for name in ("moving object", "moving camera", "cut")}


def test_what_is_not_touched_stays(clips):
    frames = clips["moving object"]
    there, seen = true_motion(frames[0], frames[1])
    columns, rows = np.meshgrid(np.arange(64), np.arange(64))
    still = np.hypot(there[..., 0] - columns, there[..., 1] - rows) < 0.05
    room = frames[0].owner == -1
    assert still[room].all()
    assert not still[frames[0].owner == 1].any()
    assert seen[room].mean() > 0.95


@pytest.mark.parametrize("name", ["moving object", "moving camera"])
def test_along_the_motion_a_point_keeps_its_place_in_the_world(clips, name):
    """The later frame's own texture coordinates say where in the world each of its pixels lies."""
    first, second = clips[name][3], clips[name][4]
    there, seen = true_motion(first, second)
    x, y = np.moveaxis(there.astype(np.float32), 2, 0)
    found = np.stack(
        [
            cv2.remap(np.ascontiguousarray(axis), x, y, cv2.INTER_LINEAR)
            for axis in np.moveaxis(second.buffer.texture, 2, 0)
        ],
        axis=2,
    )
    inside = seen & (cv2.erode(seen.astype(np.uint8), np.ones((5, 5))) > 0)
    off = np.linalg.norm(found - first.buffer.texture, axis=2)[inside]
    assert np.median(off) < 0.02
    assert np.percentile(off, 90) < 0.1


def test_a_scene_begins_at_the_start_and_at_the_cut(clips):
    assert [number for number, frame in enumerate(clips["cut"]) if frame.first] == [0, 12]
    assert [number for number, frame in enumerate(clips["moving camera"]) if frame.first] == [0]
