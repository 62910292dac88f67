"""A headless browser on a page of plain gradio; nothing of it asks anybody outside this machine."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from selenium import webdriver

from tests.webui.browser import Page, chromium, run_panel_scripts

if TYPE_CHECKING:
    from tests.webui.page import StubServices

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gradio 3.41.2 imports names that its own dependencies have since deprecated
    importlib.import_module("gradio")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    started = chromium(tmp_path_factory.mktemp("chromium"))
    run_panel_scripts(started)
    yield started
    started.quit()


@pytest.fixture(scope="session")
def _served() -> Iterator[tuple[str, StubServices]]:
    from tests.webui.page import StubServices, served

    services = StubServices()
    with served(services) as url:
        yield url, services


@pytest.fixture
def page(driver: webdriver.Chrome, _served: tuple[str, StubServices]) -> Page:
    """The page, not opened yet, with services as they are at first."""
    url, services = _served
    services.__init__()  # type: ignore[misc]
    return Page(driver, url, services)
