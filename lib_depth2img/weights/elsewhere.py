"""Weights that other programs on the machine already have: found by name, taken by hash, and only ever read.

The folders are those of ControlNet (annotator/depth_anything_v2.py, and Forge's copy of it), of the depthmap script
(src/depthmap_generation.py) and of ComfyUI's nodes (ComfyUI-DepthAnythingV2, comfyui_controlnet_aux).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import WeightsError
from . import catalog
from .hashing import kept_sha256

__all__ = ["find", "refuse_other", "roots_of"]

FOLDERS = (
    "extensions/sd-webui-controlnet/annotator/downloads/depth_anything_v2",
    "extensions/sd-webui-controlnet/annotator/downloads/midas",
    "models/ControlNetPreprocessor/depth_anything_v2",
    "models/ControlNetPreprocessor/midas",
    "models/depth_anything_v2",
    "models/midas",
    "models/depthanything",
    "custom_nodes/comfyui_controlnet_aux/ckpts/depth-anything/Depth-Anything-V2-Small",
    "custom_nodes/comfyui_controlnet_aux/ckpts/depth-anything/Depth-Anything-V2-Base",
    "custom_nodes/comfyui_controlnet_aux/ckpts/depth-anything/Depth-Anything-V2-Large",
    "custom_nodes/comfyui_controlnet_aux/ckpts/lllyasviel/Annotators",
)
"""In the folder of a WebUI or of ComfyUI."""

_BESIDE = ("ComfyUI", "ComfyUI_windows_portable/ComfyUI")
"""Where ComfyUI is, from the folder that a WebUI lies in."""


_AROUND = tuple(Path(__file__).parents[4:5])
"""The folder of the WebUI whose extension this is, if it is one."""


def roots_of(folder: Path) -> list[Path]:
    """The folders that may be a WebUI's or ComfyUI's: ``folder``, the one this lies in, and what is beside them."""
    webuis = (folder, *_AROUND)
    return [*webuis, *(webui.resolve().parent / name for webui in webuis for name in _BESIDE)]


def find(estimator: str, roots: Iterable[Path]) -> Path | None:
    """A file in another program's folder that is called as the weights of ``estimator`` are; opens nothing.

    ``roots``: as :func:`roots_of` gives them. Whether it is what its name says, :func:`refuse_other` looks.
    """
    names = tuple(_names(estimator))
    places = (root / folder / name for root in roots for folder in FOLDERS for name in names)
    return next((place for place in places if place.is_file()), None)


def refuse_other(path: Path, estimator: str) -> None:
    """Raises: WeightsError when the file's sha256 is none of those that weights of ``estimator`` have."""
    digest = kept_sha256(path)
    known = catalog.file_with_sha256(digest)
    if known is None or known.estimator != estimator:
        raise WeightsError(
            f"{path.name} in {path.parent} is called like weights of {estimator} but is another file: its sha256 is "
            f"{digest}. Install the estimator's own, which are then used instead."
        )


def _names(estimator: str) -> Iterator[str]:
    for file in catalog.FILES:
        if file.estimator == estimator:
            yield from file.names
            for copy in file.copies:
                yield from copy.names
