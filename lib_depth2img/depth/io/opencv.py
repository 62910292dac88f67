"""OpenCV's decoder, with everything it does to the process undone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["decoded"]

_EXR = "OPENCV_IO_ENABLE_OPENEXR"
_lock = threading.Lock()


def decoded(data: bytes) -> np.ndarray | None:
    """The pixels of a picture file as they are stored: (H, W) or (H, W, 3 or 4), BGR; None when OpenCV cannot."""
    import cv2

    with _lock, _exr_switched_on(), _silence():
        try:
            pixels: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            return None
    return pixels


@contextmanager
def _exr_switched_on() -> Iterator[None]:
    """OpenCV asks for this variable at its first EXR file; other code and child processes do not get to see it."""
    before = os.environ.get(_EXR)
    os.environ[_EXR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_EXR]
        else:
            os.environ[_EXR] = before


@contextmanager
def _silence() -> Iterator[None]:
    """OpenCV writes several lines to standard error for a broken file; the refusal says it in one."""
    import cv2

    # OpenCV 5 has it at another place than OpenCV 4.
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # type: ignore[attr-defined]
    before = set_level(0)
    try:
        yield
    finally:
        set_level(before)
