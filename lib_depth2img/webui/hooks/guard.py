"""Text-to-image on a depth model ends before any sampling, with one sentence.

There is no picture to take depth from, and the host would feed nine channels to a UNet of five. ``p.init`` is where
all ways come together before sampling, also those of scripts that make a ``p`` of their own without script callbacks.
That is why this is a patch of the class and not of one ``p``.
"""

from __future__ import annotations

import functools
from typing import Any

from ...checkpoint.contents import is_depth_checkpoint
from ...errors import RequestError
from ..hosts import Point, host
from ..refusal import as_unprocessable

__all__ = ["hook", "refuse_depth_refiner", "refuse_txt2img"]


def hook() -> None:
    """Guard the host's txt2img; ``host.undo`` takes the guard off."""
    host.replace(Point.TXT2IMG_INIT, _guarded_init)
    host.replace(Point.TXT2IMG_CONDITIONING, _guarded_conditioning)


def refuse_txt2img(p: Any) -> None:
    """Refuse when a depth model would be sampled from: the loaded one, the refiner or that of the hires pass.

    Raises:
        RequestError: it would.
    """
    _refuse_selected()
    _refuse_named(p.refiner_checkpoint, "the refiner")
    if p.enable_hr:
        _refuse_named(p.hr_checkpoint_name, "the checkpoint of the hires pass")


def refuse_depth_refiner(p: Any) -> None:
    """Refuse a depth model as the refiner of an img2img that began without one: there is no depth channel to hand on.

    Raises:
        RequestError: it is one.
    """
    if not host.selected().is_depth_model and _is_depth_checkpoint(p.refiner_checkpoint):
        raise RequestError(
            f"{p.refiner_checkpoint} is a depth model and cannot refine what another checkpoint began. "
            "Choose it as the checkpoint instead, with any refiner."
        )


def _guarded_init(original: Any) -> Any:
    @functools.wraps(original)
    def init(p: Any, *args: Any, **settings: Any) -> Any:
        with as_unprocessable():
            refuse_txt2img(p)
        return original(p, *args, **settings)

    return init


def _guarded_conditioning(original: Any) -> Any:
    """For a depth model that came in after ``init``, by whatever way."""

    @functools.wraps(original)
    def txt2img_image_conditioning(p: Any, *args: Any, **settings: Any) -> Any:
        with as_unprocessable():
            _refuse_selected()
        return original(p, *args, **settings)

    return txt2img_image_conditioning


def _refuse_selected() -> None:
    selected = host.selected()
    if selected.is_depth_model:
        raise RequestError(
            f"{selected.name} is a depth model: it makes pictures from the depth of another picture, so "
            "it has no txt2img. Use img2img, or choose another checkpoint."
        )


def _refuse_named(name: str | None, what: str) -> None:
    if _is_depth_checkpoint(name):
        raise RequestError(
            f"{name} ({what}) is a depth model: it makes pictures from the depth of another picture, so it has no "
            "place in txt2img. Choose another checkpoint for it."
        )


def _is_depth_checkpoint(name: str | None) -> bool:
    path = host.file_of(name)
    return path is not None and is_depth_checkpoint(path)
