"""From a source in the catalogue to an address that bytes can be asked of."""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..errors import InstallError
from ..progress import Reporter
from .catalog import CatalogFile, HubSource, UrlSource

__all__ = ["Remote", "SourceError", "resolve"]

ASKING_THREAD = "depth2img-hub"
ANSWER_WITHIN = 15.0  # seconds for the hub to say what it has
SHA256 = re.compile(r"[0-9a-f]{64}")


class SourceError(InstallError):
    """This source cannot give the file; another one may."""


@dataclass(frozen=True)
class Remote:
    """Where to ask: the address, the headers to send, and the size in bytes as far as it is known before."""

    url: str
    nbytes: int | None
    headers: Mapping[str, str] = field(default_factory=dict)


def resolve(source: HubSource | UrlSource, file: CatalogFile, reporter: Reporter) -> Remote:
    """Find out where `source` serves `file` from; a Hugging Face one is asked whether it holds this very file.

    Raises:
        SourceError: it cannot be reached, does not hold the file, or announces another size or sha256.
        InstallCancelled: the user said so.
    """
    if isinstance(source, UrlSource):
        return Remote(source.url, file.nbytes)
    return _resolve_on_hub(source, file, reporter)


def _resolve_on_hub(source: HubSource, file: CatalogFile, reporter: Reporter) -> Remote:
    """The hub client knows the endpoint, the token, offline mode and proxies: all of these stay its business."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(source.repository, source.filename)
    facts = _ask_hub(url, reporter)
    announced = (facts.etag or "").lower()
    if SHA256.fullmatch(announced) and announced != file.sha256:
        raise SourceError(f"it holds another file of this name: sha256 {announced}, expected {file.sha256}")
    if file.nbytes is not None and facts.size not in (None, file.nbytes):
        raise SourceError(f"it announces {facts.size:,} bytes, the file has {file.nbytes:,}")
    return Remote(url, file.nbytes or facts.size, build_hf_headers())


def _ask_hub(url: str, reporter: Reporter) -> Any:
    """The file's metadata. The client retries for half a minute and cannot be interrupted, hence the thread."""
    from huggingface_hub import get_hf_file_metadata

    answers: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(get_hf_file_metadata(url))
        except Exception as error:  # noqa: BLE001  # handed to the waiting side; the client's classes change with its version
            answers.put(error)

    for handler in logging.getLogger("huggingface_hub").handlers:
        handler.addFilter(_not_from_asking)
    threading.Thread(target=ask, name=ASKING_THREAD, daemon=True).start()
    end = time.monotonic() + ANSWER_WITHIN
    while time.monotonic() < end:
        reporter.check()
        with suppress(queue.Empty):
            answer = answers.get(timeout=0.1)
            if isinstance(answer, Exception):
                raise SourceError(_first_line(answer)) from answer
            return answer
    raise SourceError(f"no answer within {ANSWER_WITHIN:.0f} s")


def _not_from_asking(record: logging.LogRecord) -> bool:
    """A log filter: the client's retries are several lines each, while the reason is in our own message, once."""
    return record.threadName != ASKING_THREAD


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
