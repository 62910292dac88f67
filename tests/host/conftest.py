"""A real WebUI, found at ``WEBUI_ROOT``, with this extension and without. Run by ``make test-webui`` only."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome
from skimage import data

from tests import small_checkpoint as small
from tests.host.server import WebUI, decode, encode, webui_class
from tests.webui.browser import Page, chromium

DEPTH, PLAIN, NO_MIDAS, FLAT = "depth.safetensors", "plain.safetensors", "nomidas.safetensors", "flat.safetensors"
BROKEN = "broken.safetensors"
MIDAS = "dpt_hybrid-midas-501f0c75.pt"

OVERRIDDEN = {
    "eta_noise_seed_delta": 0,
    "img2img_color_correction": False,
    "hypertile_enable_unet": False,
    "hypertile_max_tile_unet": 256,
    "token_merging_ratio": 0.0,
    "batch_cond_uncond": True,
    "samples_save": True,
}
"""Defaults of what tests override for one call: the host restores only what its config.json has (processing.py:823)."""

Starter = Callable[..., WebUI]


_NOT_RUN: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "half_precision: needs a torch with half precision on the WebUI's device")
    config.addinivalue_line("markers", "neighbours: needs other extensions' folders, named by NEIGHBOURS")
    config.addinivalue_line(
        "markers", "unknown: needs a WebUI that this extension does not know, named by UNKNOWN_ROOT"
    )
    config.addinivalue_line("markers", "two_hosts: needs a second WebUI, named by OTHER_ROOT")
    config.addinivalue_line("markers", "full_size: needs a depth model of full size, named by FULL_SIZE")
    config.addinivalue_line("markers", "not_on(hosts..., reason): about what those hosts have not, or do otherwise")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what this machine has not got the means for; the report's last lines say so."""
    _take_out(config, items, "half_precision", "half precision", _half_precision_lacks)
    _take_out(config, items, "neighbours", "neighbours", _neighbours_lack)
    _take_out(config, items, "unknown", "a host that is not known", _unknown_lacks)
    _take_out(config, items, "two_hosts", "two hosts", _second_host_lacks)
    _take_out(config, items, "full_size", "a checkpoint of full size", _full_size_lacks)
    _take_out_of_this_host(config, items)


def _take_out(
    config: pytest.Config, items: list[pytest.Item], marker: str, what: str, lacks: Callable[[], str | None]
) -> None:
    marked = [item for item in items if item.get_closest_marker(marker)]
    if not marked or (reason := lacks()) is None:
        return
    items[:] = [item for item in items if item not in marked]
    config.hook.pytest_deselected(items=marked)
    _NOT_RUN.append(f"{len(marked)} tests of {what} were not run: {reason}.")


def _take_out_of_this_host(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not any(item.get_closest_marker("not_on") for item in items):
        return
    host = webui_class(_root()).__name__
    reasons: dict[str, list[pytest.Item]] = {}
    for item in items:
        for mark in item.iter_markers("not_on"):
            *hosts, reason = mark.args
            if host in hosts:
                reasons.setdefault(reason, []).append(item)
                break
    for reason, marked in reasons.items():
        items[:] = [item for item in items if item not in marked]
        config.hook.pytest_deselected(items=marked)
        _NOT_RUN.append(f"{len(marked)} tests cannot apply to {host}: {reason}.")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _NOT_RUN:
        terminalreporter.write_line(line, yellow=True)


def _neighbours_lack() -> str | None:
    if os.environ.get("NEIGHBOURS"):
        return None
    return (
        "NEIGHBOURS is not set (the folders of ControlNet, ADetailer and the depthmap script, with "
        f"{os.pathsep!r} between them; WEBUI_PYTHON has to have what they need)"
    )


def _unknown_lacks() -> str | None:
    return (
        None if os.environ.get("UNKNOWN_ROOT") else "UNKNOWN_ROOT is not set (the folder of Forge Neo or Forge Classic)"
    )


def _second_host_lacks() -> str | None:
    return None if os.environ.get("OTHER_ROOT") else "OTHER_ROOT is not set (the folder of another WebUI with its venv)"


def _full_size_lacks() -> str | None:
    return (
        None
        if os.environ.get("FULL_SIZE")
        else "FULL_SIZE is not set (the file of a depth model, such as 512-depth-ema)"
    )


def _half_precision_lacks() -> str | None:
    """What keeps the WebUI's torch from half precision, or None."""
    code = (
        "import torch; "
        "device = 'cuda' if torch.cuda.is_available() else 'cpu'; "
        "torch.nn.LayerNorm(2, device=device).half()(torch.nn.Conv2d(1, 1, 1, device=device).half()"
        "(torch.zeros(1, 1, 2, 2, device=device).half()))"
    )
    found = subprocess.run([_python(), "-c", code], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        return None
    reason = found.stderr.strip().splitlines()[-1]
    return f"{_python()} says {reason} (WEBUI_PYTHON may name the interpreter of an environment with torch 2.4)"


def _root() -> Path:
    path = Path(os.environ.get("WEBUI_ROOT", "")).absolute()
    if not (path / "launch.py").is_file():
        pytest.fail(f"WEBUI_ROOT has to name a stable-diffusion-webui folder; it is {str(path)!r}.")
    return path


def _python() -> Path:
    path = Path(os.environ.get("WEBUI_PYTHON", _root() / "venv" / "bin" / "python"))
    if not path.is_file():
        pytest.fail(f"There is no {path}; set WEBUI_PYTHON to the WebUI's interpreter.")
    return path


@pytest.fixture(scope="session")
def root() -> Path:
    return _root()


@pytest.fixture(scope="session")
def python() -> Path:
    """The WebUI's own interpreter: ``WEBUI_PYTHON``, or that of its ``venv`` folder."""
    return _python()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A depth model, the same without MiDaS, one that sees no depth anywhere, an ordinary model, and a MiDaS file."""
    folder = tmp_path_factory.mktemp("checkpoints")
    small.register_clip(folder)
    small.save_depth_checkpoints(folder, complete=DEPTH, without_midas=NO_MIDAS, flat=FLAT, midas=MIDAS)
    config = small.plain_config()
    small.save(small.build(config), config, folder / PLAIN)
    return folder


@pytest.fixture(scope="session")
def start(root: Path, python: Path, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Start a WebUI of one's own; all are stopped at the end."""
    running: list[WebUI] = []

    def starter(
        name: str,
        *flags: str,
        extension: bool = True,
        settings: dict[str, Any] | None = None,
        swap: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        neighbours: Sequence[Path] = (),
        in_data: bool = False,
        other: Path | None = None,
    ) -> WebUI:
        folder, interpreter = (root, python) if other is None else (other, other / "venv" / "bin" / "python")
        webui = webui_class(folder)(tmp_path_factory.mktemp(name), root=folder, python=interpreter)
        for neighbour in neighbours:
            webui.link_extension(neighbour, neighbour.name)
        if in_data:
            webui.cwd = webui.data
        webui.bring_probe(checkpoints / f"{small.CLIP_ARCHITECTURE}.json")
        for checkpoint in (DEPTH, PLAIN, NO_MIDAS, FLAT):
            webui.add_checkpoint(checkpoints / checkpoint)
        (webui.data / "models" / "Stable-diffusion" / BROKEN).write_bytes(b"\xff" * 100)
        webui.add_midas(checkpoints / MIDAS)
        if extension:
            webui.link_extension()
        webui.write_settings(**OVERRIDDEN, sd_model_checkpoint=DEPTH, **settings or {})
        webui.swap(**swap or {})
        running.append(webui)
        webui.start(*flags, **environment or {})
        return webui

    yield starter
    for webui in running:
        webui.stop()


@pytest.fixture(scope="session")
def shared_webui(start: Starter) -> WebUI:
    return start("webui", "--no-half")


@pytest.fixture
def webui(shared_webui: WebUI) -> WebUI:
    """The WebUI with this extension, the depth model loaded."""
    shared_webui.select(DEPTH)
    return shared_webui


@pytest.fixture(scope="session")
def shared_bare(start: Starter) -> WebUI:
    return start("bare", "--no-half", extension=False)


@pytest.fixture
def bare(shared_bare: WebUI) -> WebUI:
    """The WebUI without this extension, the depth model loaded."""
    shared_bare.select(DEPTH)
    return shared_bare


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser window that holds the whole img2img tab."""
    started = chromium(tmp_path_factory.mktemp("chromium"))
    started.set_window_size(1600, 2200)
    yield started
    started.quit()


@pytest.fixture
def page(driver: Chrome, webui: WebUI) -> Iterator[Page]:
    """The img2img tab with the panel unfolded; afterwards the console has nothing against it."""
    shown = Page(driver, webui.url, patience=120.0)
    shown.open()
    yield shown
    assert shown.complaints() == []


@pytest.fixture(scope="session")
def photograph() -> Image.Image:
    """512x512 RGB."""
    return Image.fromarray(data.astronaut())


@pytest.fixture
def unseen(request: pytest.FixtureRequest) -> Image.Image:
    """A picture no other test uses, so that no depth map of it is in the cache."""
    random = np.random.default_rng(abs(hash(request.node.nodeid)))
    return Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).resize((128, 128), Image.BICUBIC)


def left_right(size: tuple[int, int], edge: float = 0.5) -> Image.Image:
    """A depth map, black (far) left of ``edge`` and white (near) right of it."""
    values = np.zeros(size[::-1], np.uint8)
    values[:, round(size[0] * edge) :] = 255
    return Image.fromarray(values)


def faults(log: str) -> list[str]:
    """The tracebacks in a WebUI's log that lead through this extension's files."""
    tracebacks: list[str] = re.findall(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*.*", log)
    return [traceback for traceback in tracebacks if re.search(r"extensions/depth2img|lib_depth2img", traceback)]


def infotexts(reply: dict[str, Any]) -> list[str]:
    found: list[str] = json.loads(reply["info"])["infotexts"]
    return found


def depth_map(picture: Image.Image, **fields: Any) -> dict[str, Any]:
    return {"source": "depth_map", "image": encode(picture)} | fields


def channel(webui: WebUI) -> np.ndarray:
    """(H/8, W/8): the depth of the first picture at the last step."""
    concat = webui.records()["concat"]
    assert concat.shape[1] == 1
    assert np.isfinite(concat).all()
    found: np.ndarray = concat[0, 0]
    return found


def picture_of(reply: Any) -> np.ndarray:
    assert reply.status_code == 200, reply.text
    return np.asarray(decode(reply.json()["images"][0])).astype(int)
