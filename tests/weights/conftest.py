from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator

import pytest
from huggingface_hub import constants, file_download

from lib_depth2img.weights import download, sources
from lib_depth2img.weights.catalog import RAIL, CatalogFile, HubSource, UrlSource
from tests.weights.hub import Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub that the real client takes for huggingface.co; waits are short."""
    server = Hub()
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for module in (constants, file_download):  # which of them is asked depends on the client's version
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=module is constants)
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setattr(sources, "ANSWER_WITHIN", 2.0)
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
