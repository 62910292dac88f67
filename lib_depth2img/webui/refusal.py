"""How a refusal reaches the user: plain text in the UI, status 422 from the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Depth2ImgError

__all__ = ["as_unprocessable"]

UNPROCESSABLE = 422


@contextmanager
def as_unprocessable() -> Iterator[None]:
    """Let a refusal pass with the attributes that the host's API answers with (api/api.py:167-179).

    It reads them from the instance's ``vars``, so attributes of the class would not do. The UI shows ``str(error)``
    (call_queue.py:88).
    """
    try:
        yield
    except Depth2ImgError as error:
        vars(error).update(status_code=UNPROCESSABLE, detail=str(error))
        raise
