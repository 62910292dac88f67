"""A lock of the operating system by a file's name, which ends with its process and leaves no file behind."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["FileLock"]

_HELD_ELSEWHERE = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """Held by one process, and in it by one object, at a time.

    The filelock package leaves its file in place or may take it from under somebody who waits, as its version goes.
    Here the file is removed by its holder only, and whoever has locked a file looks whether it still is the one of
    that name: between opening and locking it, the holder may have removed it, and a third may have made another.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False while somebody else has it.

        Raises:
            OSError: the folder cannot be written to, or its file system knows no locks.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _HELD_ELSEWHERE:
                return False
            raise
        if not self._is_named(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go of it and remove the file."""
        if self._descriptor is None:
            return
        if sys.platform != "win32":
            self._remove()
        os.close(self._descriptor)  # with it goes the lock
        self._descriptor = None
        if (
            sys.platform == "win32"
        ):  # which removes no file that anybody has open: neither ours before, nor another's now
            self._remove()

    def _remove(self) -> None:
        with suppress(OSError):
            self.path.unlink()

    def _is_named(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except OSError:
            return False
