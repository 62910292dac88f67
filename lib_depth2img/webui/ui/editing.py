"""What the editor of one page has open, and what was applied by any: maps, strokes and pictures of them. No gradio."""

from __future__ import annotations

import hashlib
import io
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from ...depth.depth_map import DepthMap
from ...depth.edits import Stroke, edited
from ...depth.extent import Extent
from ...depth.io.files import encode_png
from ...errors import RequestError
from .downloads import downloadable
from .preview_map import PreviewMap

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["APPLIED", "OPEN", "Applied", "AppliedMaps", "Editing", "OpenMaps"]

KEPT_STEPS = 32
"""Maps of the last strokes that are kept, so that undo need not begin from the first one."""


class Editing:
    """One map in the editor of one page.

    For the eye the strokes are made on the map as the preview has it, 512 pixels at most; on the map itself once they
    are applied. Safe from several threads.

    ``base``: the map without strokes. ``size``: (width, height) of the picture it is for. ``strokes``: those that it
    was opened with, as JSON. ``picture``: what may be shown beneath, as JPEG. ``extent``: what the map is to be scaled
    by, None for its own lowest and highest.
    """

    def __init__(
        self,
        base: DepthMap,
        size: tuple[int, int],
        *,
        strokes: str = "[]",
        picture: Image.Image | None = None,
        extent: Extent | None = None,
    ) -> None:
        self.base, self.size, self.strokes, self.extent = base, size, strokes, extent
        self.picture = None if picture is None else _jpeg(picture)
        self._small = PreviewMap.of(base).depth_map
        self._steps: list[tuple[Stroke, np.ndarray | None]] = []
        self._lock = threading.Lock()

    def values(self, strokes: Sequence[Stroke]) -> np.ndarray:
        """(h, w) float32: the reduced map with the strokes made. Only what is new since the last call is made."""
        with self._lock:
            same = 0
            while same < min(len(strokes), len(self._steps)) and strokes[same] == self._steps[same][0]:
                same += 1
            while same > 0 and self._steps[same - 1][1] is None:
                same -= 1
            del self._steps[same:]
            values = self._steps[-1][1] if self._steps else self._small.values
            assert values is not None
            for stroke in strokes[same:]:
                values = stroke.apply(values)
                self._steps.append((stroke, values))
            for index in range(len(self._steps) - KEPT_STEPS):
                self._steps[index] = (self._steps[index][0], None)
            return values

    def shown(self, strokes: Sequence[Stroke]) -> bytes:
        """The reduced map with the strokes as an 8-bit PNG, quickly packed."""
        from PIL import Image

        file = io.BytesIO()
        grey = np.rint(self.values(strokes) * np.float32(255.0)).astype(np.uint8)
        Image.fromarray(grey).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def value_at(self, strokes: Sequence[Stroke], place: tuple[float, float]) -> float:
        """The nearness at a place (shares of width and height)."""
        values = self.values(strokes)
        height, width = values.shape
        column, row = (int(share * side) for share, side in zip(place, (width, height), strict=True))
        return float(values[min(max(row, 0), height - 1), min(max(column, 0), width - 1)])

    @property
    def nbytes(self) -> int:
        """What it holds in memory, nearly."""
        return self.base.values.nbytes + (1 + KEPT_STEPS) * self._small.values.nbytes

    def png(self, strokes: Sequence[Stroke]) -> bytes:
        """The whole map with the strokes made, as a 16-bit PNG."""
        return encode_png(edited(self.base, strokes), bits=16)


@dataclass(frozen=True)
class Applied:
    """A map that was applied: its file, and what it was made of, so that it can be edited further."""

    sha256: str
    path: Path
    base: DepthMap
    size: tuple[int, int]
    strokes: str
    extent: Extent | None

    @property
    def nbytes(self) -> int:
        """What it holds in memory, nearly."""
        return self.base.values.nbytes


_Kept = TypeVar("_Kept", Applied, Editing)


class _Latest(Generic[_Kept]):
    """What was used last, by a key: at most ``most``, and ``most_bytes`` but for the newest. For several threads."""

    def __init__(self, most: int, most_bytes: int = 512 * 2**20) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: str, kept: _Kept) -> None:
        with self._lock:
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and (len(self._kept) > self._most or self._bytes() > self._most_bytes):
                self._kept.popitem(last=False)

    def get(self, key: str) -> _Kept | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _bytes(self) -> int:
        return sum({id(each.base): each.nbytes for each in self._kept.values()}.values())


class OpenMaps:
    """What is open in the editors of all pages, by a token that only the page knows which has opened it.

    The latest ``most`` are kept, and of large maps fewer. Safe from several threads.
    """

    def __init__(self, most: int = 64) -> None:
        self._maps = _Latest[Editing](most)

    def add(self, editing: Editing) -> str:
        """The token, from now on."""
        token = secrets.token_urlsafe(16)
        self._maps.put(token, editing)
        return token

    def get(self, token: str) -> Editing:
        """The map of that token. Raises: RequestError when it is not open here."""
        editing = self._maps.get(token)
        if editing is None:
            raise RequestError(
                "The editor has lost its map, since the WebUI was started anew, or many maps were opened since. "
                "Close it, and edit again."
            )
        return editing


class AppliedMaps:
    """What was applied, by the sha256 of its file: Reload UI and another look at it find it again.

    The latest ``most`` are kept, and of large maps fewer. Safe from several threads.
    """

    def __init__(self, most: int = 16, most_bytes: int = 512 * 2**20) -> None:
        self._maps = _Latest[Applied](most, most_bytes)

    def add(self, editing: Editing, strokes: Sequence[Stroke], text: str) -> Applied:
        """Apply the strokes (``text``: the same as JSON) to the map that is edited."""
        png = editing.png(strokes)
        sha256 = hashlib.sha256(png).hexdigest()
        applied = Applied(sha256, downloadable(png), editing.base, editing.size, text, editing.extent)
        self._maps.put(sha256, applied)
        return applied

    def get(self, sha256: str) -> Applied | None:
        """The map of that file, or None."""
        return self._maps.get(sha256)


OPEN = OpenMaps()
APPLIED = AppliedMaps()
"""Both are of the process, so they outlive Reload UI."""


def _jpeg(picture: Image.Image) -> bytes:
    small = picture.copy()
    small.thumbnail((1024, 1024))
    file = io.BytesIO()
    small.convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()
