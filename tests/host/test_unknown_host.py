"""A child of Forge that this extension does not know: it is left alone, and its page comes up as without."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lib_depth2img.webui.hosts.known import UNKNOWN
from tests.host.conftest import faults
from tests.host.server import ROOT, WebUI
from tests.webui.browser import Page, chromium

pytestmark = pytest.mark.unknown

FOLDER = "depth2img-of-the-tests"
SENTENCE = UNKNOWN.split(".")[0]
NOT_INSTALLED = shutil.ignore_patterns(".*", "out", "__pycache__")


class Forge(WebUI):
    """It serves only what lies in its own folder (gradio 4), so its settings alone are kept in ``data``."""

    asked_first = "/internal/ping"
    start_seconds = 180  # its process stays where its page fails

    def own_flags(self, *_: str) -> list[str]:
        kept = ["--ui-settings-file", self.data / "config.json", "--ui-config-file", self.data / "ui-config.json"]
        ready = ["--skip-prepare-environment", "--no-download-sd-model", "--skip-torch-cuda-test"]
        return [*ready, "--always-cpu", "--api", *map(str, kept)]


@pytest.fixture(scope="module")
def root() -> Path:
    path = Path(os.environ["UNKNOWN_ROOT"]).absolute()
    if not (path / "modules_forge").is_dir():
        pytest.fail(f"UNKNOWN_ROOT has to name a folder of a child of Forge that is not known; it is {str(path)!r}.")
    return path


@pytest.fixture(scope="module")
def python(root: Path) -> Path:
    path = Path(os.environ.get("UNKNOWN_PYTHON", root / "venv" / "bin" / "python")).absolute()
    if not path.is_file():
        pytest.fail(f"There is no {path}; set UNKNOWN_PYTHON to its interpreter.")
    return path


@pytest.fixture(scope="module")
def installed(root: Path) -> Iterator[Path]:
    """A copy of this extension among Forge's: gradio 4 writes into the folders of extensions."""
    folder = root / "extensions" / FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    others = [path.parent for path in (root / "extensions").glob("*/lib_depth2img")]
    if others:
        pytest.fail(f"{others[0]} is this extension too. Take it out of UNKNOWN_ROOT for the test.")
    try:
        yield shutil.copytree(ROOT, folder, ignore=NOT_INSTALLED)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def forge(root: Path, python: Path, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    assert installed.is_dir()
    running = Forge(tmp_path_factory.mktemp("forge"), root=root, python=python)
    try:
        running.start(SD_WEBUI_CACHE_DIR=str(running.data / "cache"))
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def page(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    driver = chromium(tmp_path_factory.mktemp("chromium"))
    try:
        shown = Page(driver, forge.url, patience=120.0)
        show(shown)
        yield shown
    finally:
        driver.quit()


def show(page: Page) -> None:
    page.driver.get("about:blank")
    page.driver.get_log("browser")
    page.driver.get(page.url)
    page.until(lambda: page.all("#txt2img_generate") and page.all("#img2img_generate"))
    page.until(lambda: page.driver.execute_script("return executedOnLoaded"))  # script.js: extensions have been told
    assert [text for text in page.complaints() if "depth2img" in text.lower()] == []


def test_one_sentence_and_no_traceback_of_ours(forge: Forge) -> None:
    log = forge.log.read_text(errors="replace")
    assert log.count(SENTENCE) == 1
    assert UNKNOWN in log
    assert faults(log) == []


def test_the_page_comes_up(forge: Forge, page: Page) -> None:
    assert requests.get(forge.url, timeout=60).status_code == 200
    for tab in ("txt2img", "img2img"):
        assert len(page.all(f"#{tab}_generate")) == 1


def test_nothing_of_it_is_there(forge: Forge, page: Page) -> None:
    scripts = forge.get("/sdapi/v1/scripts").json()
    assert scripts["img2img"], "the host lists its own"
    assert "depth2img" not in str(scripts).lower()
    assert page.all("[id*=depth2img]") == []
    extras = page.one("#tab_extras").get_attribute("textContent").lower()
    assert "upscale" in extras, "the tab is there"
    assert "depth map" not in extras
    assert "depth2img" not in extras


def test_reload_ui(forge: Forge, page: Page) -> None:
    """By the button in the settings; the host may wait for ever for the connections of a page that stays open."""
    page.driver.execute_script("arguments[0].click()", page.one("#settings_restart_gradio"))
    page.until(lambda: "Restarting UI" in forge.log.read_text(errors="replace"))
    page.driver.get("about:blank")
    forge.wait_until_up(2)
    show(page)
    assert forge.log.read_text(errors="replace").count(SENTENCE) == 2
    assert faults(forge.log.read_text(errors="replace")) == []


def test_nothing_is_installed(root: Path, python: Path, installed: Path) -> None:
    """As the host runs it before it starts (modules/launch_utils.py), in an environment in which nothing is there."""
    bare = "import launch, runpy; launch.is_installed = lambda _: False; runpy.run_path({!r})"
    refusing = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PYTHONPATH": str(root)}
    words = [python, "-c", bare.format(str(installed / "install.py"))]
    env = {**os.environ, **refusing}
    run = subprocess.run(words, check=False, cwd=root, env=env, capture_output=True, text=True, timeout=180)
    assert run.returncode == 0, run.stderr
    assert "Depth2Img" not in run.stdout + run.stderr, "it neither installs anything nor fails to"


def test_nothing_is_written_into_the_extension(installed: Path, page: Page) -> None:
    """gradio 4 describes components in ``.pyi`` files beside them; the page is there, so it would have."""
    assert page.all("#img2img_generate")
    assert list(installed.rglob("*.pyi")) == []
