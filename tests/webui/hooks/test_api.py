"""This extension's own routes on a FastAPI app, with the host's exception handler behind them."""

from __future__ import annotations

import base64
import io
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from PIL import Image

from lib_depth2img import __version__
from lib_depth2img.webui import api, estimators, host_services
from lib_depth2img.webui.host_services import HostServices
from tests.webui.hooks.conftest import halves
from tests.webui.hooks.stand_in import Host

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient


def handle_exception(_request: Request, error: Exception) -> JSONResponse:
    """modules/api/api.py:167-179."""
    body = {"error": type(error).__name__, "detail": vars(error).get("detail", ""), "errors": str(error)}
    return JSONResponse(status_code=vars(error).get("status_code", 500), content=body)


@pytest.fixture
def client(host: Host, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(host_services, "ESTIMATORS", estimators.ESTIMATORS)
    return served(host)


def served(_host: Host) -> TestClient:
    app = FastAPI()
    app.add_exception_handler(Exception, handle_exception)
    api.add_routes(None, app)
    return TestClient(app, raise_server_exceptions=False)


def encoded(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def decoded(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_status(host: Host, client: TestClient) -> None:
    status = client.get("/depth2img/status").json()
    assert status["version"] == __version__
    assert status["checkpoint"] == "depth.safetensors"
    assert status["is_depth_model"] is True
    assert status["pair_installed"] is False
    ready = {entry["name"]: entry["ready"] for entry in status["estimators"]}
    assert ready["checkpoint"]
    assert not ready["dpt_hybrid"]


def test_no_reply_tells_where_the_hosts_folders_are(host: Host, client: TestClient) -> None:
    picture = encoded(halves((64, 64)))
    midas = host.folder / "models" / "midas"
    asked = [{"image": picture, "estimator": "dpt_large"}, {"image": picture, "estimator": "midas_v21_small"}]
    midas.mkdir(parents=True)
    (midas / "midas_v21_small-70d6b9c8.pt").write_bytes(b"no weights")
    replies = [client.get("/depth2img/status"), *(client.post("/depth2img/depth", json=each) for each in asked)]
    assert [reply.status_code for reply in replies] == [200, 422, 422]
    assert "are not in models/midas; install them" in replies[0].text
    for reply in replies:
        assert str(host.folder) not in reply.text
        assert host.folder.name not in reply.text


def test_status_while_nothing_is_loaded(host: Host, client: TestClient) -> None:
    host.load(None)
    status = client.get("/depth2img/status").json()
    assert status["checkpoint"] is None
    assert status["is_depth_model"] is False


def test_depth_by_the_checkpoints_estimator_without_a_depth_model_is_refused(
    host: Host, client: TestClient, plain_model: Any
) -> None:
    host.load(plain_model, host.folder / "plain.safetensors")
    reply = client.post("/depth2img/depth", json={"image": encoded(halves((8, 8))), "estimator": "checkpoint"})
    assert reply.status_code == 422
    assert "plain.safetensors) is no depth model" in reply.json()["detail"]


def test_depth_has_sixteen_bits_and_the_pictures_size(host: Host, client: TestClient) -> None:
    gradient = Image.linear_gradient("L").resize((90, 120)).convert("RGB")
    reply = client.post("/depth2img/depth", json={"image": encoded(gradient)}).json()
    assert (reply["width"], reply["height"], reply["estimator"]) == (90, 120, "checkpoint")
    values = decoded(reply["depth_map"])
    assert values.shape == (120, 90)
    assert values[0].max() < 2000
    assert values[-1].min() > 63000
    inverted = client.post("/depth2img/depth", json={"image": encoded(gradient), "invert": True}).json()
    assert np.abs(65535 - decoded(inverted["depth_map"]).astype(int) - values).max() <= 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"image": "bm90aGluZw=="}, "image"),
        ({"image": "/etc/passwd"}, "image"),
        ({"image": encoded(halves((8, 8))), "gamma": 0}, "gamma"),
        ({"image": encoded(halves((8, 8))), "gama": 1}, "gama"),
        ({"image": encoded(halves((8, 8))), "estimator": "magic"}, "estimator"),
        ({"image": encoded(halves((8, 8))), "estimator": "dpt_large"}, "install --estimator dpt_large"),
    ],
    ids=["undecodable", "path", "range", "unknown", "estimator", "not there"],
)
def test_refusals_are_422_with_a_reason(client: TestClient, body: dict[str, Any], said: str) -> None:
    reply = client.post("/depth2img/depth", json=body)
    assert reply.status_code == 422
    assert said in reply.json()["detail"]


def test_no_body_is_422_too(client: TestClient) -> None:
    assert client.post("/depth2img/depth", json={}).status_code == 422


def test_it_waits_for_a_running_generation(host: Host, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = host.modules.call_queue.queue_lock
    estimate, held = host_services.ESTIMATORS.estimate, []

    def noting(*arguments: Any) -> Any:
        held.append((lock.locked(), generating.is_set()))
        return estimate(*arguments)

    generating = threading.Event()
    monkeypatch.setattr(host_services.ESTIMATORS, "estimate", noting)
    with lock:
        generating.set()
        caller = threading.Thread(
            target=client.post, args=("/depth2img/depth",), kwargs={"json": {"image": encoded(halves((8, 8)))}}
        )
        caller.start()
        caller.join(0.5)
        generating.clear()
    caller.join(60)
    assert held == [(True, False)], "it estimates once the generation is over, and keeps the next one out meanwhile"
    assert not lock.locked()


class TestSeveralPictures:
    def test_each_has_its_map_in_order(self, host: Host, client: TestClient) -> None:
        pictures = [halves((32, 16), edge) for edge in (0.25, 0.75)]
        reply = client.post("/depth2img/depth", json={"images": [encoded(picture) for picture in pictures]}).json()
        maps = [decoded(text) for text in reply["depth_maps"]]
        assert [each.shape for each in maps] == [(16, 32)] * 2
        assert maps[0].mean() > maps[1].mean()
        assert reply["depth_map"] is None

    def test_numbers_as_estimated(self, host: Host, client: TestClient) -> None:
        body = {"images": [encoded(halves((32, 16)))], "format": "npy"}
        (text,) = client.post("/depth2img/depth", json=body).json()["depth_maps"]
        values = np.load(io.BytesIO(base64.b64decode(text)))
        assert (values.shape, values.dtype) == ((16, 32), np.float32)
        assert values.max() > 1.5, "not on the scale of a picture"

    @pytest.mark.parametrize("body", [{}, {"images": []}, {"image": "a", "images": ["b"]}])
    def test_one_way_of_saying_it(self, client: TestClient, body: dict[str, Any]) -> None:
        reply = client.post("/depth2img/depth", json=body)
        assert reply.status_code == 422
        assert "one in image, or one or more in images" in reply.json()["detail"]


def test_inside_a_generation_it_does_not(host: Host, client: TestClient) -> None:
    with host.modules.call_queue.queue_lock:
        assert HostServices(in_queue=True).estimate(halves((8, 8)).convert("RGB"), "checkpoint").size == (384, 384)


def test_the_hosts_credentials(host: Host) -> None:
    host.modules.shared.cmd_opts.api_auth = "ada:one,bob:two"
    client = served(host)
    assert client.get("/depth2img/status").status_code == 401
    for credentials in (("ada", "two"), ("eve", "one"), ("ada", "")):
        assert client.get("/depth2img/status", auth=credentials).status_code == 401
    assert client.get("/depth2img/status", auth=("bob", "two")).status_code == 200
    assert client.post("/depth2img/depth", json={"image": ""}).status_code == 401


def test_no_routes_without_the_hosts_api(host: Host) -> None:
    host.modules.shared.cmd_opts.api = False
    assert served(host).get("/depth2img/status").status_code == 404


def test_documented(client: TestClient) -> None:
    """Also in the host's /docs, where a client's author looks first."""
    document = client.get("/openapi.json").json()
    schemas, paths = document["components"]["schemas"], document["paths"]
    assert [name for name, field in schemas["DepthRequest"]["properties"].items() if not field.get("description")] == []
    answered = schemas["DepthResponse"]["properties"]
    assert all(answered[name]["description"] for name in ("depth_map", "depth_maps"))
    assert paths["/depth2img/depth"]["post"]["summary"]
    assert paths["/depth2img/status"]["get"]["responses"]["200"]
