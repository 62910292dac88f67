"""What the depth editor draws, and the route by which it is shown.

The route is this extension's own, since an event of gradio goes through all widgets of the page, which in Forge alone
took 0.3 s. It needs no --api, and no credentials: who has no token of an open map learns nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse

from ...depth.edits import MAX_CHARACTERS, Stroke, strokes_from_list
from ...errors import Depth2ImgError, RequestError
from .data_url import as_data_url
from .editing import OPEN, Editing

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["PATH", "Said", "add_route", "drawn"]

PATH = "/depth2img/editor"
"""depth2img_editor.js has it too."""


def add_route(_demo: Any, app: Starlette) -> None:
    """Add it to the page's own application (``on_app_started``)."""
    app.add_route(PATH, _draw, methods=["POST"])


@dataclass(frozen=True)
class Said:
    """What the page sent. ``text``: the strokes as JSON; ``pick``: a place whose value is asked for."""

    editing: Editing
    strokes: tuple[Stroke, ...]
    text: str
    pick: tuple[float, float] | None

    @classmethod
    def of(cls, sent: str) -> Said:
        """Raises: RequestError."""
        if len(sent) > MAX_CHARACTERS:
            raise RequestError("The strokes are too much for one edit. Apply it, and go on from there.")
        try:
            said = json.loads(sent)
            token, strokes, pick = str(said["token"]), said["strokes"], said.get("pick")
            place = None if pick is None else (float(pick[0]), float(pick[1]))
            return cls(OPEN.get(token), strokes_from_list(strokes), json.dumps(strokes), place)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            raise RequestError(f"The editor sent {sent[:60]!r}, which is no list of strokes. Edit again.") from error


def drawn(sent: str) -> dict[str, Any]:
    """The map with the strokes as the page shows it, and the value of the place that was asked for; or an error."""
    try:
        said = Said.of(sent)
    except Depth2ImgError as error:
        return {"error": error.in_panel}
    value = None if said.pick is None else round(said.editing.value_at(said.strokes, said.pick), 5)
    return {"picture": as_data_url(said.editing.shown(said.strokes), "png"), "value": value}


async def _draw(request: Request) -> JSONResponse:
    received = bytearray()
    async for chunk in request.stream():
        if len(received) <= MAX_CHARACTERS:  # more is refused; a client may send it to the end
            received += chunk
    return JSONResponse(await run_in_threadpool(drawn, received.decode("utf-8", "replace")))
