"""The WebUI that this extension runs in. No other room imports ``modules.*``."""

from __future__ import annotations

from .a1111 import A1111
from .interface import Host, Point, Selected
from .known import UNKNOWN, is_known

__all__ = ["UNKNOWN", "Host", "Point", "Selected", "host", "is_known"]

host: Host = A1111()
