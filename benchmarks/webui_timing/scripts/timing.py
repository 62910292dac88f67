"""An extension only for ``webui_share.py``: seconds spent in the depth conditioning and in whole generations."""

from __future__ import annotations

import functools
import sys
import time
from typing import Any

from modules import processing, script_callbacks

SECONDS = {"conditioning": 0.0, "generation": 0.0}
_inside: list[str] = []


def timed(owner: Any, name: str, kind: str) -> None:
    """Add the time of ``owner.name`` to ``kind``, but once where it is called from another of that kind."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if kind in _inside:
            return original(*args, **kwargs)
        _inside.append(kind)
        start = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            SECONDS[kind] += time.perf_counter() - start
            _inside.remove(kind)

    setattr(owner, name, wrapped)


timed(processing, "process_images_inner", "generation")
timed(processing.StableDiffusionProcessing, "depth2img_image_conditioning", "conditioning")
if "lib_depth2img.webui.hooks.script" in sys.modules:
    script = sys.modules["lib_depth2img.webui.hooks.script"].Depth2ImgScript
    timed(script, "process", "conditioning")
    timed(script, "postprocess", "conditioning")
    timed(sys.modules["lib_depth2img.webui.hooks.override"].Generation, "image_conditioning", "conditioning")


def take() -> dict[str, float]:
    taken = dict(SECONDS)
    SECONDS.update(dict.fromkeys(SECONDS, 0.0))
    return taken


script_callbacks.on_app_started(lambda _demo, app: app.add_api_route("/timing", take, methods=["POST"]))
