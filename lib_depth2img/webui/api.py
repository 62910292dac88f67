"""Routes of this extension's own, under the same credentials as the host's API and in its documentation."""

from __future__ import annotations

import base64
from secrets import compare_digest
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Depends
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from .. import __version__
from ..checkpoint.pair import pair_installed
from ..depth.io.arrays import encode_npy
from ..depth.io.files import encode_png
from ..errors import RequestError
from ..request.fields import field_named
from ..request.request import Depth2ImgRequest
from .host_services import HostServices
from .hosts import host
from .refusal import as_unprocessable

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..depth.depth_map import DepthMap

__all__ = ["add_routes"]


def _of_table(name: str) -> Any:
    entry = field_named(name)
    return Field(default=entry.default, description=entry.hint)


class EstimatorEntry(BaseModel):
    """One estimator."""

    name: str
    ready: bool = Field(description="Whether it can run now: its weights are there.")
    note: str = Field(description="Where its weights are, or how to get them.")


class StatusResponse(BaseModel):
    """What is loaded and what is installed."""

    version: str
    checkpoint: str | None = Field(description="The loaded checkpoint, null while there is none.")
    is_depth_model: bool
    estimators: list[EstimatorEntry]
    pair_installed: bool = Field(description="Whether 512-depth-ema and its yaml are in the checkpoint folder.")


class DepthRequest(BaseModel):
    """A picture or several, and how their depth is wanted. The adjustments are those of the panel."""

    image: str | None = Field(default=None, description="One picture: base64 of the bytes of a file.")
    images: list[str] | None = Field(default=None, description="Several pictures; answered in `depth_maps`.")
    format: Literal["png", "npy"] = Field(
        default="png", description="A 16-bit grey PNG, or the bytes of a NPY file: (H, W) float32, as estimated."
    )
    estimator: str | None = Field(
        default=None, description="An estimator of the status; null: the one in the settings."
    )
    far: float = _of_table("far")
    near: float = _of_table("near")
    gamma: float = _of_table("gamma")
    blur: float = _of_table("blur")
    invert: bool = _of_table("invert")
    clip: float = _of_table("clip")
    range: list[float] | None = _of_table("range")
    resolution: int = _of_table("resolution")
    tiles: int = _of_table("tiles")

    class Config:
        extra = "allow"  # an unknown field is refused with the sentence that img2img would give


class DepthResponse(BaseModel):
    """The depth map of the picture, as large as the picture; high is near."""

    depth_map: str | None = Field(default=None, description="Of `image`: the bytes of a file in base64.")
    width: int | None = None
    height: int | None = None
    depth_maps: list[str] | None = Field(default=None, description="Of `images`, in their order.")
    estimator: str


def add_routes(_demo: Any, app: FastAPI) -> None:
    """Add the routes (``on_app_started``), where the host serves its API at all."""
    if not host.serves_api():
        return
    options: dict[str, Any] = {"tags": ["Depth2Img"]}
    if host.command_line().api_auth:
        options["dependencies"] = [Depends(_check_credentials)]
    router = APIRouter(**options)
    router.add_api_route("/depth2img/status", status, methods=["GET"], response_model=StatusResponse)
    router.add_api_route("/depth2img/depth", depth, methods=["POST"], response_model=DepthResponse)
    app.include_router(router)


def status() -> StatusResponse:
    """The loaded checkpoint, the estimators and whether their weights are there, and this extension's version."""
    services = HostServices()
    model = services.model()
    return StatusResponse(
        version=__version__,
        checkpoint=model.checkpoint,
        is_depth_model=model.is_depth_model,
        estimators=[
            EstimatorEntry(name=entry.name, ready=entry.ready, note=entry.note) for entry in services.estimators()
        ],
        pair_installed=pair_installed(host.checkpoint_folder()) is not None,
    )


def depth(body: DepthRequest) -> DepthResponse:
    """The depth map of a picture or of several, without generating anything. Waits behind running generations."""
    with as_unprocessable():
        services = HostServices()
        # Not by a method: that has another name in pydantic 2, which Forge has.
        fields = {name: value for name, value in body if name not in ("image", "images", "format")}
        fields["estimator"] = body.estimator or services.default_estimator()
        requests = [
            Depth2ImgRequest.from_mapping(fields | {"source": "image", "image": image}) for image in _pictures(body)
        ]
        pictures = [request.image.content for request in requests if request.image is not None]
        maps = [
            _encoded(depth_map.adjusted(request.adjustments, extent=request.extent), picture.size, body.format)
            for depth_map, picture, request in zip(
                services.estimate_all(pictures, fields["estimator"], requests[0].detail),
                pictures,
                requests,
                strict=True,
            )
        ]
    if body.image is None:
        return DepthResponse(depth_maps=maps, estimator=fields["estimator"])
    width, height = pictures[0].size
    return DepthResponse(depth_map=maps[0], width=width, height=height, estimator=fields["estimator"])


def _pictures(body: DepthRequest) -> list[str]:
    if (body.image is None) == (not body.images):
        raise RequestError("image: expected one in image, or one or more in images, and not both.")
    return body.images if body.image is None and body.images else [body.image or ""]


def _encoded(depth_map: DepthMap, size: tuple[int, int], kind: str) -> str:
    """A NPY holds what was estimated, in its own unit, unless it was adjusted; a PNG is on the [0, 1] scale."""
    data = encode_npy(depth_map.resized(size).values) if kind == "npy" else encode_png(depth_map.scaled().resized(size))
    return base64.b64encode(data).decode()


def _check_credentials(given: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008 - FastAPI's way of injecting
    """The host's own check (api/api.py:280) is bound to its Api object, which it keeps to itself."""
    users = dict(pair.split(":") for pair in host.command_line().api_auth.split(","))
    password = users.get(given.username)
    if password is None or not compare_digest(given.password.encode(), password.encode()):
        raise HTTPException(
            status_code=401, detail="Incorrect username or password", headers={"WWW-Authenticate": "Basic"}
        )
