"""A request in a picture's generation parameters, and back into the panel.

The host joins ``key: value`` with commas, quotes values with commas, colons or newlines as JSON, and splits a value
that looks like 512x512 into ``key-1`` and ``key-2`` (modules/infotext_utils.py:16-18, 62-76, 274). No value written
here needs that, but one that does comes back whole.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import RequestError
from ..request.fields import FIELDS
from ..request.kinds import Field, text_of
from ..request.request import Depth2ImgRequest

__all__ = ["DIGEST_KEYS", "KEYS", "describe", "forget", "paste_functions", "read", "write"]

DIGEST_KEYS = {"image": "Depth2Img image hash", "region": "Depth2Img region hash"}
"""By field the key of the sha256 prefix of the user's file; the file itself cannot be put into an infotext."""

_FILES = {"image": "a file", "region": "a region"}

_WRITTEN = tuple(entry for entry in FIELDS if entry.infotext)

KEYS = (*(entry.infotext for entry in _WRITTEN if entry.infotext), *DIGEST_KEYS.values())


def describe(request: Depth2ImgRequest, *, from_api: bool) -> dict[str, str]:
    """Every field that is not at its default, by infotext key, and the digests of the user's files.

    ``from_api``: the request's defaults were the API's and not the tabs', which differ in ``append_depth_map``.
    """
    changed = {}
    for entry in _WRITTEN:
        value = getattr(request, entry.name)
        if entry.infotext and value != (entry.default if from_api else entry.panel_default):
            changed[entry.infotext] = text_of(value)
    for name, key in DIGEST_KEYS.items():
        file = getattr(request, name)
        if file is not None:
            changed[key] = file.digest
    return changed


def write(parameters: dict[str, Any], request: Depth2ImgRequest, *, from_api: bool) -> None:
    """Put the request into ``p.extra_generation_params``; what the picture before it left there goes first."""
    forget(parameters)
    parameters.update(describe(request, from_api=from_api))


def forget(parameters: dict[str, Any]) -> None:
    """Take out what ``write`` has put in; a batch hands the same parameters on from picture to picture."""
    for key in KEYS:
        parameters.pop(key, None)


def read(entry: Field, parameters: Mapping[str, Any]) -> Any:
    """The field's value in parsed generation parameters; the panel's default when it is missing or makes no sense."""
    assert entry.infotext is not None
    text = _find(entry.infotext, parameters)
    if text is None:
        return entry.panel_default
    try:
        return entry.parse(text)
    except RequestError:
        return entry.panel_default


def paste_functions(widgets: Mapping[str, Any], note: Any) -> list[tuple[Any, Callable[[Mapping[str, Any]], Any]]]:
    """(widget, function) pairs for ``Script.infotext_fields``.

    ``widgets``: by the names of the fields. ``note``: says what an infotext asks for and the panel cannot bring back.

    Functions and not keys, because the host leaves a widget as it was when its key is missing (infotext_utils.py:500).
    """
    pairs: list[tuple[Any, Callable[[Mapping[str, Any]], Any]]] = [
        (widgets[entry.name], _shown(entry)) for entry in _WRITTEN
    ]
    return [*pairs, (note, _note)]


def _shown(entry: Field) -> Callable[[Mapping[str, Any]], Any]:
    """What the panel shows for the field."""

    def function(parameters: Mapping[str, Any]) -> Any:
        return entry.shown(read(entry, parameters))

    return function


def _note(parameters: Mapping[str, Any]) -> str:
    notes = []
    for name, key in DIGEST_KEYS.items():
        digest = _find(key, parameters)
        if digest is not None:
            shown = html.escape(digest)
            notes.append(
                f'<p class="depth2img-note" data-digest="{shown}">That picture was made with {_FILES[name]} of your '
                f"own, which an infotext cannot hold: choose it again (its sha256 begins with {shown}).</p>"
            )
    return "".join(notes)


def _find(key: str, parameters: Mapping[str, Any]) -> str | None:
    if key in parameters:
        return str(parameters[key])
    if f"{key}-1" in parameters and f"{key}-2" in parameters:
        return f"{parameters[f'{key}-1']}x{parameters[f'{key}-2']}"
    return None
