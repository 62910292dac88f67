"""The packages that only this room needs, asked for with one sentence where they are missing."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator

from ..errors import CheckpointError

__all__ = ["importing"]


@contextlib.contextmanager
def importing(package: str) -> Iterator[None]:
    """Import ``package`` in it: its warnings about its own dependencies are kept back, its failure is one sentence.

    diffusers fails in many ways with a torch or transformers that it was not made for, often with no ImportError.

    Raises:
        CheckpointError: it is missing, or cannot be imported.
    """
    with warnings.catch_warnings(record=True):  # recorded, since what is imported puts filters before this one
        warnings.simplefilter("ignore")
        try:
            yield
        except (ImportError, AttributeError, RuntimeError) as error:
            reason = re.split(r"\.\s|\n", str(error).strip(), maxsplit=1)[0].rstrip(".")
            raise CheckpointError(
                f"{package} cannot be imported ({reason}). Install what img2img needs: "
                "pip install 'sd-webui-depth2img[standalone]', or: pip install diffusers open-clip-torch scipy"
            ) from error
