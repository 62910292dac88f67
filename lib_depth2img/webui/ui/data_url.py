"""Bytes as an address that a page shows."""

from __future__ import annotations

import base64

__all__ = ["as_data_url"]


def as_data_url(data: bytes, kind: str) -> str:
    """``kind`` is png or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
