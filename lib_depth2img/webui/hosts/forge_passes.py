"""The passes of Forge's UNet in one generation, with another answer than its own; nothing of the host is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...depth.control import Rows

if TYPE_CHECKING:
    from torch import Tensor

    from .interface import Answer

__all__ = ["answering"]

_WRAPPER = "model_function_wrapper"
_CONCAT = "c_concat"


@contextmanager
def answering(denoiser: Any, unet: Any, answer: Answer) -> Iterator[None]:
    """In it ``answer`` answers for the UNet, by Forge's own way to stand before it (patcher/base.py:147).

    ``denoiser``: the ``CFGDenoiser``, which counts the steps. ``unet``: the patcher that the step takes its model and
    options from. The wrapper of another extension stays in between.
    """
    options = unet.model_options
    before = options.get(_WRAPPER)
    unet.model_options = {**options, _WRAPPER: _wrapper(denoiser, answer, before)}
    try:
        yield
    finally:
        unet.model_options = options


def _wrapper(denoiser: Any, answer: Answer, before: Callable[..., Tensor] | None) -> Callable[..., Tensor]:
    """Called with the rows of one pass (sampling_function.py:270)."""

    def wrapped(apply_model: Callable[..., Tensor], said: Mapping[str, Any]) -> Tensor:
        x, parts = said["input"], said["cond_or_uncond"]  # 0 for a prompt, 1 for the negative one

        def with_channel(channel: Tensor) -> Tensor:
            given = {**said["c"], _CONCAT: channel}
            if before is not None:
                return before(apply_model, {**said, "c": given})
            return apply_model(x, said["timestep"], **given)

        pictures = len(x) // len(parts)
        rows = Rows(list(range(pictures)) * len(parts), [part == 0 for part in parts for _ in range(pictures)])
        return answer(with_channel, said["c"][_CONCAT], rows, denoiser.step / denoiser.total_steps)

    return wrapped
