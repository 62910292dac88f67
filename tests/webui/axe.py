"""axe-core in a page: what it finds, screen readers and eyes would."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import axe_core_python

from tests.webui.browser import Page

__all__ = ["faults", "unfold"]

AXE = Path(os.environ.get("AXE", Path(axe_core_python.__file__).with_name("axe.min.js")))
"""``AXE`` may name a newer one (npm pack axe-core)."""

_RUN = """
    const [selector, done] = arguments;
    axe.run(selector, {resultTypes: ["violations"]}).then(({violations}) => done(
        violations.flatMap(({id, nodes}) => nodes.map((node) => `${id}: ${node.html.slice(0, 200)}`))));
"""

OF_GRADIO = (
    'class="primary',  # its theme's colours for a primary button
    "lg primary",
    'aria-allowed-role: <input role="listbox"',  # gradio 4's dropdown
    "duplicate-id: ",  # gradio 3 gives the id of its HTML to two elements, one in the other
)
"""What gradio draws and we do not touch."""


def faults(page: Page, selector: str) -> list[str]:
    """What axe finds within the element, but for what gradio draws."""
    page.driver.execute_script(AXE.read_text(encoding="utf-8"))
    page.driver.set_script_timeout(120)
    found: list[Any] = page.driver.execute_async_script(_RUN, selector)
    return [fault for fault in found if not any(words in fault for words in OF_GRADIO)]


def unfold(page: Page) -> None:
    """Show everything that the panel has, the preview of a picture that is there too."""
    page.press("#depth2img_preview_button")
    page.until(lambda: page.all("#depth2img_preview .depth2img-numbers"))
    for box in ("mask", "control", "install"):
        page.press(f"#depth2img_{box} > .label-wrap")
    page.until(lambda: page.seen("#depth2img_strength") and page.seen("#depth2img_mask_shown img"))
    page.until(lambda: page.one("#depth2img_far input[type=number]").get_attribute("aria-label") == "Far")
