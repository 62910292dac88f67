"""From a source in the catalogue to an address that bytes can be asked of, and what has to be sent along.

Hugging Face's own client is not needed for it: the catalogue knows which file it must be. What a user has told that
client holds here too: HF_ENDPOINT, HF_TOKEN or the token of ``huggingface-cli login``, HF_HUB_OFFLINE
(huggingface_hub/constants.py and utils/_auth.py). Proxies are the business of whoever asks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InstallError
from .catalog import HUB, CatalogFile, HubSource, UrlSource

__all__ = ["Remote", "SourceError", "locate"]

TRUE = frozenset({"1", "ON", "YES", "TRUE"})


class SourceError(InstallError):
    """This source cannot give the file; another one may."""


@dataclass(frozen=True)
class Remote:
    """Where to ask for a file of the catalogue, and the headers to send along."""

    file: CatalogFile
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


def locate(source: HubSource | UrlSource, file: CatalogFile) -> Remote:
    """Where `source` serves `file`; nothing is asked yet.

    Raises:
        SourceError: it is Hugging Face, and that may not be asked, or its address or the user's token is none.
    """
    if isinstance(source, UrlSource):
        return Remote(file, source.url)
    if _is_true("HF_HUB_OFFLINE") or _is_true("TRANSFORMERS_OFFLINE"):
        raise SourceError("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set, so Hugging Face is not asked")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    if not endpoint.startswith(("http://", "https://")):
        raise SourceError(f"HF_ENDPOINT is {endpoint!r}; expected is an address that starts with https://")
    token = _token()
    if not token.isascii():
        raise SourceError("the token for Hugging Face is none: it has letters that no token has")
    return Remote(file, endpoint + source.path, {"Authorization": f"Bearer {token}"} if token else {})


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in TRUE


def _token() -> str:
    """The user's token, or an empty text: from the environment, else from the file that logging in leaves."""
    if _is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        return ""
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or ""
    if not token:
        with suppress(OSError, ValueError, RuntimeError):  # there is none, it is no text, or the user has no home
            token = _token_file().read_text("utf-8")
    return "".join(token.split())


def _token_file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    return Path(os.path.expandvars(os.environ.get("HF_TOKEN_PATH") or f"{home}/token")).expanduser()
