"""A headless browser on a page of plain gradio; nothing of it asks anybody outside this machine."""

from __future__ import annotations

import importlib
import os
import socket
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from selenium import webdriver

from tests.webui.browser import Page, chromium

if TYPE_CHECKING:
    from tests.webui.page import StubServices

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gradio 3.41.2 imports names that its own dependencies have since deprecated
    importlib.import_module("gradio")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    from tests.webui.page import ROOT

    started = chromium(tmp_path_factory.mktemp("chromium"))
    scripts = (ROOT / "tests" / "webui" / "host_page.js", ROOT / "javascript" / "depth2img.js")
    source = "\n".join(script.read_text(encoding="utf-8") for script in scripts)
    started.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    yield started
    started.quit()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def _served() -> Iterator[tuple[str, StubServices]]:
    from tests.webui.page import StubServices, build_page

    services = StubServices()
    blocks, _panel = build_page(services)
    blocks.queue(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app, url, _share = blocks.launch(
            server_name="127.0.0.1",
            server_port=_free_port(),
            prevent_thread_lock=True,
            show_api=False,
            quiet=True,
            inbrowser=False,
        )

    async def close_client() -> None:
        await blocks._queue.queue_client.aclose()  # gradio leaves it open

    app.router.on_shutdown.append(close_client)
    yield url, services
    blocks.close(verbose=False)


@pytest.fixture
def page(driver: webdriver.Chrome, _served: tuple[str, StubServices]) -> Page:
    """The page, not opened yet, with services as they are at first."""
    url, services = _served
    services.__init__()  # type: ignore[misc]
    return Page(driver, url, services)
