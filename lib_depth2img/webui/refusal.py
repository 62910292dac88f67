"""How a refusal reaches the user: plain text in the UI, in the panel's words; status 422 from the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Depth2ImgError

__all__ = ["as_unprocessable", "in_words_for"]

UNPROCESSABLE = 422


@contextmanager
def as_unprocessable(*, in_panel: bool = False) -> Iterator[None]:
    """Let a refusal pass with the attributes that the host's API answers with (api/api.py:167-179).

    It reads them from the instance's ``vars``, so attributes of the class would not do. The UI shows ``str(error)``
    (call_queue.py:88). ``in_panel``: whoever asked sits before the panel.
    """
    try:
        yield
    except Depth2ImgError as error:
        shown = in_words_for(error, in_panel=in_panel)
        vars(shown).update(status_code=UNPROCESSABLE, detail=str(shown))
        if shown is error:
            raise
        raise shown from error


def in_words_for(error: Depth2ImgError, *, in_panel: bool) -> Depth2ImgError:
    """The same refusal, in the panel's words where the panel shows it; ``error`` itself where they are no others."""
    if not in_panel or error.in_panel == str(error):
        return error
    return type(error)(error.in_panel)
