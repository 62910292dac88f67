"""A file widget that gives the bytes of what was uploaded, and of nothing else on the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

__all__ = ["UploadedFile"]


class UploadedFile(gr.File):
    """``gr.File`` of type "binary", so that a 16-bit map arrives as it is in the file.

    gradio 3.41.2 opens whatever path the browser names (components/file.py, ``process_single_file``); this one opens
    only what lies in its own upload folder.
    """

    is_template = True  # the browser knows it as "file" (gradio/blocks.py, Block.get_block_name)

    def __init__(self, **settings: Any) -> None:
        super().__init__(type="binary", file_count="single", **settings)

    def preprocess(self, x: Any) -> bytes | None:
        """The bytes, or None. Raises: ``gr.Error`` for a path outside the upload folder."""
        if isinstance(x, list):
            x = x[0] if x else None
        if x and x.get("is_file") and Path(self.DEFAULT_TEMP_DIR).resolve() not in Path(x["name"]).resolve().parents:
            raise gr.Error("Depth2Img reads only files that were uploaded in the panel.")
        data: bytes | None = super().preprocess(x)
        return data
