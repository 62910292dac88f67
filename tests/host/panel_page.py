"""What several tests do on the page of a real WebUI with this extension."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.webui.browser import Page

CHECKPOINTS = ":is(#setting_sd_model_checkpoint, .model_selection)"
"""The host's list of checkpoints above its tabs; Forge's has a class and no elem_id (main_entry.py:69)."""


def small_and_quick(page: Page) -> None:
    for name, value in (("steps", 2), ("width", 128), ("height", 128)):
        field = page.one(f"#img2img_{name} input[type=number]")
        page.driver.execute_script(
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('input', {bubbles: true}));"
            "arguments[0].dispatchEvent(new Event('blur'));",
            field,
            value,
        )


def type_into(page: Page, selector: str, text: str) -> None:
    page.until(lambda: page.seen(selector))
    box = page.one(selector)
    box.clear()
    box.send_keys(text)


def value_of(page: Page, name: str) -> str:
    return str(page.one(f"#depth2img_{name} input").get_attribute("value"))


def shown_in(page: Page, gallery: str) -> set[str]:
    """The pictures of a gallery, which it has more than once, in several sizes."""
    return {str(picture.get_attribute("src")) for picture in page.all(f"#{gallery} .thumbnail-item img")}


def infotext_of(path: Path) -> str:
    with Image.open(path) as saved:
        return str(saved.info["parameters"])
