"""The depth map that the panel's values ask for, before the sliders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ...depth.depth_map import DepthMap
from ...errors import RequestError
from ...request.panel import PANEL_ORDER, panel_values
from ...request.request import Depth2ImgRequest

if TYPE_CHECKING:
    from gradio.components import Component
    from PIL import Image

    from .services import PanelServices

__all__ = ["AskedDepth", "depth_of", "sending"]

# Only the picture of the open tab is sent; the others would be megabytes for nothing. gradio hands the outputs' values
# behind those of the inputs. `get_tab_index` is the host's (javascript/ui.js:93). A widget with a mask gives both, but
# the picture alone before it has drawn itself, which gradio cannot read (components/image.py:242-245): so the mask is
# one empty pixel.
_ONLY_OPEN_TAB = """(...values) => {
    const [first, masked] = [%d, %s];
    const end = first + masked.length;
    const open = masked.length > 1 ? get_tab_index('mode_img2img') : 0;
    const picture = values[first + open] ?? null;
    const mask = 'data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==';
    values.fill(null, first, end);
    if (picture && open < masked.length)
        values[first + open] = masked[open] ? {image: picture.image ?? picture, mask} : picture;
    return values.slice(0, end);
}"""


class AskedDepth(NamedTuple):
    """The request, its depth map before the sliders, and the (width, height) it is for.

    ``picture``: what the depth was estimated of, None for a map of the user's own.
    """

    request: Depth2ImgRequest
    depth_map: DepthMap
    size: tuple[int, int]
    picture: Image.Image | None

    @property
    def ranged(self) -> DepthMap:
        """The map within the range that was asked for; the map itself without one."""
        extent = self.request.extent
        return self.depth_map if extent is None else self.depth_map.within(extent)


def depth_of(services: PanelServices, values: Sequence[Any]) -> AskedDepth:
    """What the values of ``PANEL_ORDER`` ask for, behind which the pictures of the img2img tabs come.

    Raises:
        Depth2ImgError: a value out of range, no picture, or an estimator that cannot run.
    """
    request = Depth2ImgRequest.from_mapping(panel_values(values))
    if request.image is None:
        content = services.init_picture(_open_picture(values[len(PANEL_ORDER) :]))
    else:
        content = request.image.content
    if isinstance(content, DepthMap):
        return AskedDepth(request, content, content.size, None)
    return AskedDepth(request, services.estimate(content, request.estimator, request.detail), content.size, content)


def sending(init_images: Sequence[Component], *, before: int = 0) -> str | None:
    """The page's part of a click: over ``before`` values, those of ``PANEL_ORDER``, and those of ``init_images``."""
    if not init_images:
        return None
    masked = [getattr(picture, "tool", None) == "sketch" for picture in init_images]
    return _ONLY_OPEN_TAB % (before + len(PANEL_ORDER), json.dumps(masked))


def _open_picture(init_images: Sequence[Any]) -> Image.Image:
    """The init image of the open tab, as its widget has it. Raises: RequestError when there is none."""
    for value in init_images:
        picture: Image.Image | None = value["image"] if isinstance(value, dict) else value  # a dict from tool="sketch"
        if picture is not None:
            return picture
    raise RequestError("There is no init image in the open tab. Choose one, or another source of depth above.")
