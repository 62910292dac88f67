"""Depth maps already estimated, the latest used first, within a bound of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from ..depth.depth_map import DepthMap

__all__ = ["DepthCache"]

DEFAULT_BYTES = 256 << 20  # about 450 ordinary pictures


class DepthCache:
    """A mapping from anything hashable to depth maps that forgets the least recently used. Safe from several threads.

    ``max_bytes``: of the maps' values, 0 to keep nothing; setting it forgets at once what is too much.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._maps: OrderedDict[Hashable, DepthMap] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def max_bytes(self) -> int:
        return self._max_bytes

    @max_bytes.setter
    def max_bytes(self, max_bytes: int) -> None:
        with self._lock:
            self._max_bytes = max_bytes
            self._shrink()

    def __len__(self) -> int:
        return len(self._maps)

    def get(self, key: Hashable) -> DepthMap | None:
        """The map kept under ``key``, or None."""
        with self._lock:
            found = self._maps.get(key)
            if found is not None:
                self._maps.move_to_end(key)
            return found

    def put(self, key: Hashable, depth_map: DepthMap) -> None:
        """Keep ``depth_map``; a map larger than the bound is not kept at all."""
        if depth_map.values.nbytes > self.max_bytes:
            return
        with self._lock:
            self._forget(key)
            self._maps[key] = depth_map
            self._bytes += depth_map.values.nbytes
            self._shrink()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._maps.clear()
            self._bytes = 0

    def _shrink(self) -> None:
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._maps)))

    def _forget(self, key: Hashable) -> None:
        forgotten = self._maps.pop(key, None)
        if forgotten is not None:
            self._bytes -= forgotten.values.nbytes
