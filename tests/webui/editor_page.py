"""The depth editor as a user has it, on plain gradio and in a real host."""

from __future__ import annotations

from pathlib import Path

from selenium.webdriver import ActionChains

from tests.webui.browser import Page

__all__ = ["Editor", "upload_map"]


def upload_map(page: Page, path: Path) -> None:
    """Give the panel a depth map of one's own."""
    page.choose("depth2img_source", "Depth map")
    page.until(lambda: page.seen("#depth2img_image"))
    page.upload("depth2img_image", path)
    page.until(lambda: page.all("#depth2img_preview .depth2img-preview"))


class Editor:
    """The dialog, driven in shares of the map."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def open(self) -> Editor:
        self.page.press("#depth2img_edit_button")
        self.page.until(lambda: self.page.seen("#depth2img_editor .depth2img-editor-overlay"))
        self.page.until(lambda: self.data("shown") is not None)
        return self

    def data(self, name: str) -> str | None:
        return self.page.one("#depth2img_editor").get_attribute(f"data-{name}")

    def choose(self, tool: str, **settings: float) -> None:
        self.page.press(f"#depth2img_editor label:has(input[value={tool}])")
        for name, value in settings.items():
            self.page.driver.execute_script(
                "const input = document.querySelector(`#depth2img_editor_${arguments[0]}`);"
                "input.value = arguments[1]; input.dispatchEvent(new Event('input'));",
                name,
                value,
            )

    def drag(self, *places: tuple[float, float], keys: str = "") -> None:
        """By places in the window: an element that is larger than its window has its centre elsewhere for a driver."""
        script = "const {x, y, width, height} = arguments[0].getBoundingClientRect(); return [x, y, width, height];"
        overlay = self.page.one(".depth2img-editor-overlay")
        left, top, width, height = self.page.driver.execute_script(script, overlay)
        spots = [(round(left + x * width), round(top + y * height)) for x, y in places]
        chain = ActionChains(self.page.driver, duration=10)
        if keys:
            chain.key_down(keys)
        self._move(chain, spots[0])
        chain.click_and_hold()
        for spot in spots[1:]:
            self._move(chain, spot)
        chain.release()
        if keys:
            chain.key_up(keys)
        chain.perform()

    @staticmethod
    def _move(chain: ActionChains, spot: tuple[int, int]) -> None:
        chain.w3c_actions.pointer_action.move_to_location(*spot)
        chain.w3c_actions.key_action.pause()

    def strokes(self, count: int) -> None:
        """Wait until the map with that many strokes is shown."""
        self.page.until(lambda: self.data("strokes") == str(count))
        self.settle()

    def settle(self) -> None:
        script = "const e = depth2imgEditor; return !e.waiting && !e.again && 'shown' in e.dialog.dataset;"
        self.page.until(lambda: self.page.driver.execute_script(script))

    def pixels(self) -> bytes:
        """What the page shows of the map."""
        script = "return document.querySelector('.depth2img-editor-map').toDataURL();"
        return str(self.page.driver.execute_script(script)).encode()

    def press(self, name: str) -> None:
        self.page.press(f"#depth2img_editor_do_{name}")

    def apply(self) -> None:
        """Make the edited map the panel's."""
        self.press("apply")
        self.page.until(lambda: not self.page.seen("#depth2img_editor"))
        self.page.until(lambda: self.page.all("#depth2img_edited [data-edited]"))
        self.page.until(lambda: self.page.one("#depth2img_source input[value='Depth map']").is_selected())
