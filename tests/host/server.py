"""Start the WebUI at ``WEBUI_ROOT``, with a data folder of its own and no way out to the network, and stop it again."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import requests
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PROBE = Path(__file__).parent / "probe"
FORGE_PROBE = Path(__file__).parent / "forge_probe"
NOT_INSTALLED = shutil.ignore_patterns(".*", "out", "__pycache__", "tests", "training")
FLAGS = ["--skip-prepare-environment", "--no-download-sd-model", "--skip-torch-cuda-test", "--use-cpu", "all", "--api"]
START_SECONDS = 600

NO_NETWORK = '''
"""Every connection that leaves this machine is refused and written down."""
import os
import socket

_connect = socket.socket.connect


def connect(self, address):
    here = ("127.0.0.1", "::1", "localhost", "0.0.0.0")
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in here:
        with open(os.environ["NETWORK_LOG"], "a") as log:
            log.write(f"{address}\\n")
        raise OSError(f"no network in this test: {address}")
    return _connect(self, address)


socket.socket.connect = connect
'''


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def encode(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def decode(text: str) -> Image.Image:
    picture = Image.open(io.BytesIO(base64.b64decode(text)))
    picture.load()
    return picture


class WebUI:
    """One running WebUI. ``data`` holds its models, extensions, settings and outputs; its own folder is only read."""

    asked_first = "/probe/state"
    probes: tuple[Path, ...] = (PROBE,)
    settings: ClassVar[Mapping[str, Any]] = {}
    """What it needs beside those of a test."""
    plot_options: tuple[Any, ...] = (False, True, False, True, False, False, False, 0, False)
    """Of the X/Y/Z plot, behind its axes: no legend, the pictures of the cells too, whatever seeds."""
    start_seconds = START_SECONDS

    def __init__(self, data: Path, *, root: Path, python: Path) -> None:
        self.data = data
        self.root = root.absolute()
        self.python = python
        self.cwd = self.root
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.log = data / "webui.log"
        self.network_log = data / "network.log"
        for folder in ("extensions", "models/Stable-diffusion", "models/midas", "guard"):
            (data / folder).mkdir(parents=True, exist_ok=True)
        (data / "guard" / "sitecustomize.py").write_text(NO_NETWORK)

    def bring_probe(self, *files: Path) -> None:
        """Put the probe among the extensions, with ``files`` beside its script."""
        folder = self.data / "extensions" / "probe"
        for probe in self.probes:
            shutil.copytree(probe, folder, dirs_exist_ok=True)
        for file in files:
            shutil.copyfile(file, folder / "scripts" / file.name)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def link_extension(self, folder: Path = ROOT, name: str = "depth2img") -> None:
        (self.data / "extensions" / name).symlink_to(folder)

    def remove_extension(self, name: str = "depth2img") -> None:
        (self.data / "extensions" / name).unlink()

    def add_checkpoint(self, checkpoint: Path) -> None:
        """Hard-link (or copy) a checkpoint and its yaml into the models folder."""
        for path in (checkpoint, checkpoint.with_suffix(".yaml")):
            if path.exists():
                self._place(path, self.data / "models" / "Stable-diffusion" / path.name)

    def bring(self, checkpoint: Path) -> None:
        """Put a checkpoint with its yaml into the models folder while the WebUI runs, and choose it."""
        if not (self.data / "models" / "Stable-diffusion" / checkpoint.name).exists():
            self.add_checkpoint(checkpoint)
        assert self.post("/sdapi/v1/refresh-checkpoints").status_code == 200
        self.select(checkpoint.name)

    def add_midas(self, weights: Path) -> None:
        self._place(weights, self.data / "models" / "midas" / weights.name)

    @staticmethod
    def _place(source: Path, target: Path) -> None:
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, target)

    def write_settings(self, **settings: Any) -> None:
        (self.data / "config.json").write_text(json.dumps({**self.settings, **settings}))

    def swap(self, **wanted: Any) -> None:
        """Other files to install than the published ones (probe/scripts/swap.py); to be said before the start."""
        (self.data / "swap.json").write_text(json.dumps(wanted))

    def start(self, *flags: str, **variables: str) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.data / "guard"),
            "NETWORK_LOG": str(self.network_log),
            "HF_HUB_OFFLINE": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "PYTHONUNBUFFERED": "1",  # the log is read while it is written
            "SD_WEBUI_RESTARTING": "1",
            **variables,
        }
        command = [str(self.python), str(self.root / "launch.py"), *self.own_flags(*flags), "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *flags], cwd=self.cwd, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.wait_until_up()

    def own_flags(self, *flags: str) -> list[str]:
        """What this WebUI is started with beside ``flags``; without its page it would listen to the whole network."""
        here = ["--server-name", "127.0.0.1"] if "--nowebui" in flags else []
        return [*FLAGS, *here, "--data-dir", str(self.data)]

    def started(self) -> int:
        """How often the WebUI has said that it is ready: once at start, once more after each Reload UI."""
        return self.log.read_text(errors="replace").count("Startup time:")

    def wait_until_up(self, starts: int = 1) -> None:
        """Wait for that line before the first request: the host cannot add its API to an app that has answered one."""
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline and self.process is not None and self.process.poll() is None:
            if self.started() >= starts and self._answers():
                return
            time.sleep(0.5)
        self.stop()
        raise AssertionError(f"the WebUI did not start:\n{self.log.read_text(errors='replace')[-4000:]}")

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}{self.asked_first}", timeout=120).status_code in (200, 401)
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.process = None

    def post(self, path: str, **body: Any) -> requests.Response:
        return requests.post(f"{self.url}{path}", json=body, timeout=600)

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=600, **options)

    def select(self, checkpoint: str) -> None:
        reply = self.post("/sdapi/v1/options", sd_model_checkpoint=checkpoint)
        assert reply.status_code == 200, reply.text

    def img2img(
        self, picture: Image.Image, *, depth2img: dict[str, Any] | None = None, **fields: Any
    ) -> requests.Response:
        """One small, quick generation; the probe's counts start at zero with it."""
        self.post("/probe/reset")
        body: dict[str, Any] = {
            "init_images": [encode(picture)],
            "prompt": "a house",
            "steps": 2,
            "width": 128,
            "height": 128,
            "seed": 1,
            "denoising_strength": 1.0,
            "sampler_name": "Euler",
        } | fields
        if depth2img is not None:
            body["alwayson_scripts"] = {"Depth2Img": {"args": [depth2img]}}
        return self.post("/sdapi/v1/img2img", **body)

    def records(self) -> dict[str, Any]:
        """The probe's counts; ``concat`` and ``noise`` as arrays (B,C,h,w) float32."""
        found: dict[str, Any] = self.get("/probe/records").json()
        for name in ("concat", "noise"):
            if found[name] is not None:
                found[name] = np.load(io.BytesIO(base64.b64decode(found[name])))
        return found

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/probe/state").json()
        return found


class Forge(WebUI):
    """Forge (a folder with ``modules_forge``). gradio 4 hands out no file that lies behind a link."""

    probes = (PROBE, FORGE_PROBE)

    def link_extension(self, folder: Path = ROOT, name: str = "depth2img") -> None:
        shutil.copytree(folder, self.data / "extensions" / name, ignore=NOT_INSTALLED)

    def remove_extension(self, name: str = "depth2img") -> None:
        shutil.rmtree(self.data / "extensions" / name)

    def own_flags(self, *flags: str) -> list[str]:
        own = [flag for flag in super().own_flags(*flags) if flag not in ("--use-cpu", "all")]
        allowed = [flag for path in (self.root, self.data) for flag in ("--gradio-allowed-path", str(path))]
        return [*own, "--always-cpu", *allowed]


class ReForge(WebUI):
    """reForge (``modules_forge`` and ``ldm_patched``). Its live preview asks the network for a network of its own."""

    probes = (PROBE, FORGE_PROBE)
    settings: ClassVar[Mapping[str, Any]] = {"live_previews_enable": False}
    plot_options = (False, False, False, 0, *WebUI.plot_options[1:])

    def own_flags(self, *flags: str) -> list[str]:
        return [*(flag for flag in super().own_flags(*flags) if flag not in ("--use-cpu", "all")), "--always-cpu"]


def webui_class(root: Path) -> type[WebUI]:
    """Who starts the WebUI in that folder."""
    if (root / "modules_forge").is_dir():
        return ReForge if (root / "ldm_patched").is_dir() else Forge
    return WebUI
