"""Small pictures as they come in with a request."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def png16(width: int = 6, height: int = 4) -> bytes:
    values = np.arange(width * height, dtype=np.uint16).reshape(height, width) * 257 + 1
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def png_rgb(colour: tuple[int, int, int] = (200, 30, 60)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 3), colour).save(file, "PNG")
    return file.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png_of(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
