"""axe-core looks at the panel and the editor in a real WebUI, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.webui.axe import faults, unfold
from tests.webui.browser import Page
from tests.webui.editor_page import Editor


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_panel_and_editor_have_no_fault_of_ours(page: Page, photograph: Image.Image, tmp_path: Path, theme: str):
    page.url = f"{page.url}/?__theme={theme}"
    page.open()
    photograph.resize((128, 128)).save(tmp_path / "picture.png")
    page.upload("img2img_image", tmp_path / "picture.png")
    page.until(lambda: page.all("#img2img_image img, #img2img_image canvas"))
    unfold(page)
    assert faults(page, "#depth2img_panel") == []
    editor = Editor(page).open()
    assert faults(page, "#depth2img_editor") == []
    editor.choose("gradient")
    assert faults(page, "#depth2img_editor") == []
    editor.press("leave")
