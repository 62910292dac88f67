"""An installation in a process of its own, and what it leaves in its folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).parents[2]

CHILD = """
import sys
from lib_depth2img.weights.catalog import RAIL, CatalogFile, HubSource
from lib_depth2img.weights.install import install
from lib_depth2img.errors import InstallError
digest, size, folder = sys.argv[1:]
file = CatalogFile("model.ckpt", int(size), int(size), digest, (HubSource("some/repo", "model.ckpt"),), RAIL)
try:
    print(install(file, folder))
except InstallError as error:
    print(error)
    sys.exit(2)
"""


def child(hub_url: str, body: bytes, folder: Path, *, limit: str = "", **environment: str) -> subprocess.Popen[str]:
    """The installation in a process of its own, which finds the hub by HF_ENDPOINT."""
    code = f"{limit}\n{CHILD}"
    command = [sys.executable, "-c", code, hashlib.sha256(body).hexdigest(), str(len(body)), str(folder)]
    variables = {**os.environ, "HF_ENDPOINT": hub_url, "no_proxy": "127.0.0.1", **environment}
    return subprocess.Popen(command, cwd=REPO, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def part_of(folder: Path) -> Path:
    return next(iter(folder.glob("*.part")), folder / "none.part")


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)
