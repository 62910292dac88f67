"""The WebUI that this extension runs in. No other room imports ``modules.*``."""

from __future__ import annotations

from .a1111 import A1111
from .forge import Forge
from .interface import Host, Point, Selected
from .known import UNKNOWN, is_forge, is_known, is_reforge
from .reforge import ReForge

__all__ = ["UNKNOWN", "Host", "Point", "Selected", "host", "is_known"]

host: Host = Forge() if is_forge() else ReForge() if is_reforge() else A1111()
