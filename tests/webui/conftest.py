"""A headless browser on a page of plain gradio. gradio is told to ask nobody outside this machine for anything."""

from __future__ import annotations

import os
import warnings

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gradio 3.41.2 imports names that its own dependencies have since deprecated
    import gradio  # noqa: F401
