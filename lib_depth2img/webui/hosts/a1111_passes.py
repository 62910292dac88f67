"""The passes of v1.10.1's UNet in one generation, with another answer than its own; nothing of the host is imported.

Every sampler asks one ``CFGDenoiser``, once per step, and that asks the model for the rows of all prompts and of the
negative one, together or in parts, always in this order (sd_samplers_cfg_denoiser.py:165-272). Both belong to one
sampler of one generation, so what is bound to them goes with it, also when it is interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...depth.control import Rows
from ...errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from .interface import Answer

__all__ = ["answer_for_unet"]


_BOUND = ("forward", "update_inner_model")


def answer_for_unet(sampler: Any, answer: Answer) -> None:
    """Let ``answer`` answer in every pass of this sampler of the host; a second time replaces the first."""
    denoiser = sampler.model_wrap_cfg
    for name in _BOUND:
        vars(denoiser).pop(name, None)
        vars(denoiser.inner_model).pop(name, None)
    passes = _Passes(denoiser, answer)
    denoiser.forward, denoiser.update_inner_model = passes.step, passes.update_model
    passes.bind()


class _Passes:
    def __init__(self, denoiser: Any, answer: Answer) -> None:
        self._denoiser = denoiser
        self._answer = answer
        self._step, self._update = denoiser.forward, denoiser.update_inner_model
        self._asked: Callable[..., Tensor]
        self._rows = Rows((), ())
        self._begun = 0

    def bind(self) -> None:
        """Stand before the model, unless it takes nothing beside the latent."""
        model = self._denoiser.inner_model
        if model.inner_model.model.conditioning_key == "hybrid":
            self._asked = model.forward
            model.forward = self.model

    def update_model(self) -> None:
        """In the place of ``CFGDenoiser.update_inner_model``, when a refiner takes over."""
        self._update()
        self.bind()

    def step(self, x: Tensor, sigma: Tensor, uncond: Any, cond: Any, *args: Any, **keywords: Any) -> Tensor:
        """In the place of ``CFGDenoiser.forward``. ``cond.batch``: for each picture one entry per prompt of an AND."""
        prompts = [picture for picture, parts in enumerate(cond.batch) for _ in parts]
        pictures = list(range(len(x)))
        self._rows = Rows([*prompts, *pictures], [True] * len(prompts) + [False] * len(pictures))
        self._begun = 0
        found: Tensor = self._step(x, sigma, uncond, cond, *args, **keywords)
        return found

    def model(self, x: Tensor, sigma: Tensor, *, cond: Any, **keywords: Any) -> Tensor:
        """In the place of the model's ``forward``, for the next ``len(x)`` rows of the step."""
        begun, self._begun = self._begun, self._begun + len(x)
        if self._begun > len(self._rows.picture):
            raise RequestError(
                "Strength, steps and region of the depth cannot be kept: another extension asks the model more often "
                "than the WebUI does. Switch that extension off, or leave them as they are by default."
            )
        chosen = slice(begun, self._begun)
        rows = Rows(self._rows.picture[chosen], self._rows.prompted[chosen])
        (channel,) = cond["c_concat"]
        asked = self._asked

        def with_channel(other: Tensor) -> Tensor:
            return asked(x, sigma, cond={**cond, "c_concat": [other]}, **keywords)

        return self._answer(with_channel, channel, rows, self._denoiser.step / self._denoiser.total_steps)
