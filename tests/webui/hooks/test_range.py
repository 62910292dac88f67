"""One range for the frames of a sequence, through generations of the host."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.depth.io.arrays import encode_npy
from lib_depth2img.errors import RequestError
from tests.webui.hooks.conftest import img2img
from tests.webui.hooks.stand_in import Host

FLOOR = np.linspace(20, 2, 64 * 64, dtype=np.float32).reshape(64, 64)
"""Metres."""


def of_metres(near: float) -> dict[str, object]:
    """A user's map of distances of a room that stands still, with something ``near`` in its corner."""
    distance = FLOOR.copy()
    distance[:8, :8] = near
    image = base64.b64encode(encode_npy(distance)).decode()
    return {"source": "depth_map", "image": image, "meaning": "distance"}


def channel_of(host: Host, request: dict[str, object]) -> np.ndarray:
    host.generate(img2img(host, Image.new("RGB", (256, 256)), request=request, width=256, height=256))
    assert host.concat is not None
    found: np.ndarray = host.concat[0, 0].numpy()
    return found


def test_maps_in_metres_give_equal_channels_where_nothing_moves(host: Host) -> None:
    frames = [of_metres(near) for near in (20.0, 0.3)]
    alone = [channel_of(host, frame)[8:] for frame in frames]
    ranged = [channel_of(host, frame | {"range": [0.25, 20]})[8:] for frame in frames]
    assert np.abs(alone[0] - alone[1]).max() > 0.5
    np.testing.assert_array_equal(ranged[0], ranged[1])


def test_the_range_is_what_minus_one_and_one_stand_for(host: Host) -> None:
    found = channel_of(host, of_metres(20.0) | {"range": [1, 40]})
    row = 1 / FLOOR[62:, -1].mean()  # the last cell's two samples
    assert (
        abs(found[-1, -1] - (2 * (row - 1 / 40) / (1 - 1 / 40) - 1)) < 0.02
    )  # of 2; a picture of its own range ends at 1


def test_adjustments_keep_to_the_range(host: Host) -> None:
    frames = [channel_of(host, of_metres(near) | {"range": [0.25, 20], "far": 0.1, "gamma": 1.5}) for near in (20, 0.3)]
    np.testing.assert_array_equal(frames[0][8:], frames[1][8:])


def test_the_infotext_names_it(host: Host) -> None:
    p = img2img(host, Image.new("RGB", (64, 64)), request=of_metres(20.0) | {"range": [0.25, 20]})
    host.generate(p)
    assert p.extra_generation_params["Depth2Img range"] == "0.25 to 20"


def test_a_map_outside_of_it_is_told(host: Host) -> None:
    p = img2img(host, Image.new("RGB", (64, 64)), request=of_metres(20.0) | {"range": [50, 60]})
    host.generate(p)
    assert any("lies outside of the range" in comment for comment in p.comments)


@pytest.mark.parametrize("bad", [[20, 0.25], [0, 20], "near", [1]])
def test_a_bad_one_is_refused_with_422(host: Host, bad: object) -> None:
    with pytest.raises(RequestError, match=r"^range: got ") as refused:
        host.generate(img2img(host, Image.new("RGB", (64, 64)), request=of_metres(20.0) | {"range": bad}))
    assert refused.value.status_code == 422
