"""Forge, lllyasviel's stable-diffusion-webui-forge, at dfdcbab6. Importing this imports nothing of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...checkpoint.contents import is_depth_checkpoint
from .forge_family import ForgeFamily, Recognition
from .forge_small_model import small_model
from .interface import Point, Selected

__all__ = ["Forge"]


class Forge(ForgeFamily):
    """What reForge has not, or in another way: loading and the canvas.

    Names of files and lines are Forge's. It loads what is selected when the next generation starts, and takes five
    channels for an inpainting model (huggingface_guess, model_list.py, BASE).
    """

    # It builds a checkpoint without Stability's code, so without a yaml.
    points: ClassVar[Mapping[Point, tuple[str, str]]] = {
        **{point: place for point, place in ForgeFamily.points.items() if point is not Point.CHECKPOINT_YAML},
        Point.CHECKPOINT_TENSORS: ("backend.loader", "preprocess_state_dict"),
    }
    memory = "backend.memory_management"
    patcher = "backend.patcher.base"
    stealth = "stealth_pnginfo_option"

    def __init__(self) -> None:
        super().__init__()
        self._canvas: str | None = None
        self.small_model = Recognition("huggingface_guess.model_list", small_model)

    def selected(self) -> Selected:
        info = self._selected_info()
        if info is None:
            return Selected(None, is_depth_model=False)
        return Selected(str(info.name), is_depth_checkpoint(Path(info.filename)))

    def checkpoint_file(self) -> Path:
        return Path(self._selected_info().filename)

    def batch_pictures(self, source: Any, suffixes: Collection[str]) -> list[str]:
        return super().batch_pictures(source, (*suffixes, ".avif"))  # img2img.py:24

    def init_image_of(self, component: Any, keywords: Mapping[str, Any]) -> str | None:
        """A canvas is a piece of HTML with the name, and then a text widget with the picture (canvas.py:155-157)."""
        name, kind = super().init_image_of(component, keywords), type(component).__name__
        if kind == "HTML":
            self._canvas = name
            return None
        if kind == "LogicalImage" and "logical_image_background" in (keywords.get("elem_classes") or ()):
            name, self._canvas = self._canvas, None
        return name

    @staticmethod
    def _selected_info() -> Any:
        """What the next generation loads (sd_models.py:491); nothing before the settings have been read."""
        from modules import sd_models

        return sd_models.model_data.forge_loading_parameters.get("checkpoint_info")
