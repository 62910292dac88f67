"""A file widget that gives the bytes of what was uploaded, and of nothing else on the server."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import gradio as gr

__all__ = ["UploadedFile"]


class UploadedFile(gr.File):
    """``gr.File`` of type "binary", so that a 16-bit map arrives as it is in the file.

    gradio 3.41.2 opens whatever path the browser names (components/file.py, ``process_single_file``); this one opens
    only what lies in its own upload folder. gradio 4 looks at the path itself (processing_utils.py,
    ``async_move_files_to_cache``).
    """

    is_template = True  # the browser knows it as "file" (gradio/blocks.py, Block.get_block_name)
    webui_do_not_create_gradio_pyi_thank_you = True  # Forge's word for gradio 4 (modules/gradio_extensions.py:101)

    @functools.wraps(gr.File.__init__)  # type: ignore[misc]  # gradio 4 tells the browser what the signature names
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"type": "binary", "file_count": "single"})

    def preprocess(self, x: Any) -> bytes | None:
        """The bytes, or None. Raises: ``gr.Error`` for a path outside the upload folder."""
        if isinstance(x, list):
            x = x[0] if x else None
        if isinstance(x, dict):
            self._check(x)
        data: bytes | None = super().preprocess(x)
        return data

    def _check(self, x: dict[str, Any]) -> None:
        if x.get("is_file") and Path(self.DEFAULT_TEMP_DIR).resolve() not in Path(x["name"]).resolve().parents:
            raise gr.Error("Depth2Img reads only files that were uploaded in the panel.")
