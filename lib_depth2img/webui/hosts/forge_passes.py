"""The passes of Forge's UNet in one generation, with another answer than its own; nothing of the host is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...depth.control import Rows

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ANSWER", "answered"]

ANSWER = "depth2img_answer"
"""Where a ``CFGDenoiser``, which belongs to the sampler of one generation, has the ``Answer`` of it."""

_WRAPPER = "model_function_wrapper"
_CONCAT = "c_concat"


def answered(unet: Any, denoiser: Any) -> Any:
    """A clone of the patcher ``unet`` whose answers are those of ``denoiser``; ``unet`` itself when it is one already.

    That is Forge's own way to stand before a UNet (patcher/base.py:147): every generation begins with the patcher of
    before, so nothing has to be taken back. The wrapper of another extension stays in between.
    """
    before = unet.model_options.get(_WRAPPER)
    if getattr(before, ANSWER, None) is denoiser:
        return unet
    clone = unet.clone()
    clone.set_model_unet_function_wrapper(_wrapper(denoiser, before))
    return clone


def _wrapper(denoiser: Any, before: Callable[..., Tensor] | None) -> Callable[..., Tensor]:
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
        answer = getattr(denoiser, ANSWER)
        found: Tensor = answer(with_channel, said["c"][_CONCAT], rows, denoiser.step / denoiser.total_steps)
        return found

    setattr(wrapped, ANSWER, denoiser)
    return wrapped
