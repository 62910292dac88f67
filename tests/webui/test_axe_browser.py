"""axe-core looks at the panel and the editor, light and dark: what it finds, screen readers and eyes would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.webui.axe import faults, unfold
from tests.webui.browser import Page
from tests.webui.editor_page import Editor


@pytest.fixture(params=["light", "dark"])
def previewed(request: pytest.FixtureRequest, page: Page, tmp_path: Path) -> Page:
    """The panel with everything of it unfolded."""
    Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).convert("RGB").save(tmp_path / "photo.png")
    page.url = f"{page.url}?__theme={request.param}"
    page.open()
    page.upload("img2img_image", tmp_path / "photo.png")
    page.until(lambda: page.all("#img2img_image img"))
    unfold(page)
    return page


def test_the_panel_has_no_fault(previewed: Page):
    assert faults(previewed, "#depth2img_panel") == []


def test_messages_have_no_fault(previewed: Page):
    previewed.slide("near", 0.2)
    previewed.slide("far", 0.6)
    previewed.until(lambda: previewed.all("#depth2img_preview .depth2img-error"))
    assert faults(previewed, "#depth2img_panel") == []
    previewed.services.is_depth_model = False
    previewed.driver.execute_script("callbacks.options.forEach((callback) => callback())")
    previewed.until(lambda: "no effect" in previewed.text("#depth2img_status"))
    assert faults(previewed, "#depth2img_status") == []


def test_the_editor_has_no_fault(previewed: Page):
    editor = Editor(previewed).open()
    assert faults(previewed, "#depth2img_editor") == []
    editor.choose("gradient")
    assert faults(previewed, "#depth2img_editor") == []


def test_a_fault_would_be_found(previewed: Page):
    previewed.driver.execute_script("document.querySelector('#depth2img_preview img').removeAttribute('alt')")
    assert [fault.split(":")[0] for fault in faults(previewed, "#depth2img_panel")] == ["image-alt"]
