from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator

import pytest

from lib_depth2img.weights import download
from lib_depth2img.weights.catalog import RAIL, CatalogFile, HubSource, UrlSource
from tests.weights.hub import Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A running hub in place of huggingface.co, and a user of whom it knows nothing; waits are short."""
    server = Hub()
    proxies = [name for kind in ("http_proxy", "https_proxy", "all_proxy") for name in (kind, kind.upper())]
    for name in (
        *proxies,
        *(name for name in os.environ if name.startswith(("HF_", "HUGGING_FACE_", "TRANSFORMERS_"))),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setattr(download, "PAUSE", 0.01)
    yield server
    server.close()


@pytest.fixture(scope="session")
def body() -> bytes:
    """Three megabytes that no two offsets of which look alike."""
    return random.Random(5).randbytes(3_000_000)


@pytest.fixture
def catalogued(body: bytes) -> Callable[..., CatalogFile]:
    """Make a catalogue entry for `body` with the given sources."""

    def make(*places: HubSource | UrlSource, nbytes: int | None = len(body)) -> CatalogFile:
        return CatalogFile(
            name="model.ckpt",
            nbytes=nbytes,
            about_bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            sources=places or (HubSource("some/repo", "model.ckpt"),),
            licence=RAIL,
        )

    return make
