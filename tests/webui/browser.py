"""A page in a headless browser, as a user has it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from tests.webui.page import StubServices

Found = TypeVar("Found")

ROOT = Path(__file__).resolve().parents[2]


FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=900,1800",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)

_ANSWER = """
    const [name, value, done] = arguments;
    const slider = document.querySelector(`#depth2img_${name} input[type=range]`);
    const preview = document.querySelector("#depth2img_preview");
    performance.clearResourceTimings();
    const start = performance.now();
    const observer = new MutationObserver(async () => {
        const shown = preview.querySelector("[data-sliders]");
        if (!shown || Math.abs(JSON.parse(shown.dataset.sliders)[name] - value) > 1e-6) return;
        observer.disconnect();
        await Promise.all([...shown.querySelectorAll("img")].map((picture) => picture.decode()));
        const end = performance.now();
        const calls = performance.getEntriesByType("resource").filter((entry) => entry.name.endsWith("/run/predict"));
        done([Math.max(...calls.map((call) => call.duration)), end - start]);
    });
    observer.observe(preview, {subtree: true, childList: true});
    slider.value = value;
    slider.dispatchEvent(new Event("input", {bubbles: true}));
"""


def chromium(folder: Path) -> webdriver.Chrome:
    """A browser of its own, with its files under ``folder``; it reaches this machine only."""
    os.environ["SE_OFFLINE"], os.environ["SE_AVOID_STATS"] = "true", "true"
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromedriver = shutil.which("chromedriver")
    return webdriver.Chrome(options=options, service=Service(chromedriver) if chromedriver else None)


def run_panel_scripts(driver: webdriver.Chrome) -> None:
    """Run depth2img.js, and what it calls of the host's page, on every page that is opened from now on."""
    scripts = (ROOT / "tests" / "webui" / "host_page.js", *sorted((ROOT / "javascript").glob("*.js")))
    source = "\n".join(script.read_text(encoding="utf-8") for script in scripts)
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})


class Answer(NamedTuple):
    """Milliseconds by the page's own clock: of the request that a slider makes, and until the preview is drawn."""

    request: float
    drawn: float

    def __str__(self) -> str:
        return f"{self.drawn:.0f} ms, {self.request:.0f} of them for the request"


class Page:
    """The page as a user has it: what is seen, clicked, chosen, dragged.

    ``patience``: seconds to wait for anything; a busy machine is slow, not broken.
    """

    def __init__(
        self, driver: webdriver.Chrome, url: str, services: StubServices | None = None, patience: float = 30.0
    ) -> None:
        self.driver, self.url, self.patience = driver, url, patience
        self._services = services

    @property
    def services(self) -> StubServices:
        """What answers behind the panel; not there with a real host."""
        assert self._services is not None
        return self._services

    def open(self, *, panel: bool = True) -> None:
        """Load the page afresh, and unfold the panel."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(self.url)
        self.until(lambda: self.all("#txt2img_generate") and self.all("#depth2img_status [data-asked=true]"))
        if panel:
            self.tab("tabs", "img2img")
            self.press("#depth2img_panel > .label-wrap")
            self.until(lambda: self.seen("#depth2img_source"))

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def seen(self, selector: str) -> bool:
        return any(element.is_displayed() for element in self.all(selector))

    def text(self, selector: str) -> str:
        return " ".join(element.text for element in self.all(selector)).strip()

    def until(self, condition: Callable[[], Found]) -> Found:
        wait = WebDriverWait(self.driver, self.patience, 0.02, ignored_exceptions=[StaleElementReferenceException])
        try:
            found: Found = wait.until(lambda _driver: condition())
        except TimeoutException as error:
            error.msg = f"The preview says: {self.text('#depth2img_preview')!r}; the console: {self.complaints()}"
            raise
        return found

    def press(self, selector: str) -> None:
        element = self.until(lambda: [each for each in self.all(selector) if each.is_displayed()])[0]
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def tab(self, group: str, name: str) -> None:
        def pressed() -> bool:
            """gradio 4 draws the row anew while it is looked at. Forge writes Img2img."""
            buttons = self.all(f"#{group} > .tab-nav button")
            next(button for button in buttons if button.text.casefold() == name.casefold()).click()
            return True

        self.until(pressed)

    def choose(self, radio: str, label: str) -> None:
        labels = self.all(f"#{radio} label")
        next(each for each in labels if each.text == label).click()

    def choose_from(self, dropdown: str, value: str) -> None:
        """``dropdown``: its elem_id, or a selector."""
        box = dropdown if dropdown.startswith(":") else f"#{dropdown}"
        self.press(f"{box} input")
        options = self.until(lambda: [each for each in self.all(f"{box} ul li") if value in each.text])
        options[0].click()

    def upload(self, widget: str, path: Path) -> None:
        self.one(f"#{widget} input[type=file]").send_keys(str(path))

    def slide(self, name: str, value: float) -> None:
        self.driver.execute_script(
            "const slider = document.querySelector(`#depth2img_${arguments[0]} input[type=range]`);"
            "slider.value = arguments[1];"
            "slider.dispatchEvent(new Event('input', {bubbles: true}));",
            name,
            value,
        )

    def answer(self, name: str, value: float) -> Answer:
        """Move a slider, and wait until the preview of it is drawn."""
        self.driver.set_script_timeout(self.patience)
        return Answer(*self.driver.execute_async_script(_ANSWER, name, value))

    def complaints(self) -> list[str]:
        """What the console holds against the page, but for what gradio says of itself.

        It asks for fonts outside, which are blocked; gradio 4 says the rest of Forge's page without this extension too.
        """
        entries: list[dict[str, Any]] = self.driver.get_log("browser")
        ours = [str(entry["message"]) for entry in entries if entry["level"] in ("SEVERE", "WARNING")]
        outside = ("https://fonts.googleapis.com", "https://cdnjs.cloudflare.com")
        gradio_4 = (
            "Attempted to select a non-interactive or hidden tab.",
            "Too many arguments provided for the endpoint.",
            "Method not implemented.",  # its own client closes the stream of an upload
            "AbortError: signal is aborted without reason",  # likewise; we abort nothing without a reason
        )
        return [text for text in ours if not any(words in text for words in (*outside, *gradio_4))]
