"""How much depth counts: at which steps, where, and on which side of the guidance.

Up to 1 one formula does it: ``out = flat + s (deep - flat)``, where ``deep`` is what the UNet says with the depth
channel, ``flat`` with a flat one, and s is the strength where depth counts and 0 elsewhere. The UNet's answers are
mixed and not the channel itself, since half of a channel is not half of the depth. Above 1 it is the channel that is
stretched, from the farthest on: that keeps more of the depth and of the colours than answers beyond ``deep``, in one
pass. The measurements are in docs/control.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..errors import RequestError
from .adjust import Range

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CONTROL_RANGES", "FLAT", "MODES", "Control", "Rows"]

FLAT = -1.0
"""The depth channel of a flat map: everywhere the farthest."""

MODES = ("balanced", "prompt", "depth")

_WAIT = 0.2
"""For which share of its steps depth waits on ``prompt``."""
_OTHER_SIDE = 0.5
"""What of s is left for the negative prompt on ``depth``."""

CONTROL_RANGES = {"strength": Range(0.0, 2.0, 0.05), "start": Range(0.0, 1.0, 0.01), "end": Range(0.0, 1.0, 0.01)}
"""The allowed range of every number of ``Control``, for whoever draws the sliders."""


class Rows(NamedTuple):
    """What each of the N rows of a pass of the UNet is for.

    ``picture``: which picture of the batch, from 0. ``prompted``: whether it sees the prompt, or the negative one.
    """

    picture: Sequence[int]
    prompted: Sequence[bool]


@dataclass(frozen=True)
class Control:
    """How much depth counts, for one generation.

    ``strength``: 0 is no depth at all, 1 what the model was trained for; above, s stays 1 and the channel is stretched
    by it. ``start``, ``end``: from which share of the steps on it counts, and up to which. ``mode``: ``balanced`` is as
    said; on ``depth`` the negative prompt's s is half of the prompt's, so that guidance drives towards the depth; on
    ``prompt`` depth waits for the first fifth of its steps, in which the prompt decides what there is.
    ``region``: (1 or B, 1, h, w) float32 in [0, 1] on the CPU, at the latent's size, where depth counts, and in the
    cells around it; None: everywhere.

    Raises:
        RequestError: a number out of its range, ``start`` above ``end``, or an unknown mode.
    """

    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    mode: str = "balanced"
    region: Tensor | None = None

    def __post_init__(self) -> None:
        for name, allowed in CONTROL_RANGES.items():
            object.__setattr__(self, name, allowed.checked(name, getattr(self, name)))
        if self.start > self.end:
            raise RequestError(f"start is {self.start:g} and end is {self.end:g}; start has to be at most end.")
        if self.mode not in MODES:
            raise RequestError(f"mode is {self.mode!r}; it has to be one of {', '.join(MODES)}.")

    @property
    def is_identity(self) -> bool:
        """True when depth counts everywhere, at every step and once: what the model does by itself."""
        return (self.strength, self.start, self.end, self.mode) == (1, 0, 1, "balanced") and self.region is None

    def answer(self, asked: Callable[[Tensor], Tensor], channel: Tensor, rows: Rows, progress: float) -> Tensor:
        """What the UNet is taken to say in one pass: (N, C, h, w) as ``asked`` gives it.

        ``asked``: what the UNet says with a depth channel (N, 1, h, w). ``channel``: the generation's own, for some
        steps of some samplers of another size than the region, which is resized to it. ``progress``: the share of the
        steps that is done, in [0, 1). Asks twice only where depth counts in part.
        """
        import torch

        if self.is_identity:
            return asked(channel)
        # Looked at on the CPU: a GPU would have to be waited for at each step.
        share = self._share(rows, progress, channel.shape[2:])
        flat = torch.full_like(channel, FLAT)
        if self.strength > 1:
            channel = FLAT + self.strength * (channel - FLAT)
        # Where depth counts fully or not at all over the whole of a row, the row is asked with the one or the other.
        whole = (share == share[:, :, :1, :1]).all() and ((share == 0) | (share == 1)).all()
        if whole:
            return asked(torch.where((share == 1).to(channel.device), channel, flat))
        without = asked(flat)
        return without + share.to(without.device, without.dtype) * (asked(channel) - without)

    def _share(self, rows: Rows, progress: float, size: Sequence[int]) -> Tensor:
        """s of every row and pixel: (N, 1, h, w), or (N, 1, 1, 1) without a region; float32 on the CPU."""
        import torch

        begin = self.start + (_WAIT * (self.end - self.start) if self.mode == "prompt" else 0.0)
        s = min(self.strength, 1.0) if begin <= progress and (progress < self.end or self.end == 1) else 0.0
        on_other_side = s * (_OTHER_SIDE if self.mode == "depth" else 1.0)
        share = torch.tensor([s if prompted else on_other_side for prompted in rows.prompted])
        share = share.reshape(-1, 1, 1, 1)
        if self.region is None:
            return share
        region = self.region if len(self.region) == 1 else self.region[list(rows.picture)]
        if region.shape[2:] != size:
            region = torch.nn.functional.interpolate(region, tuple(size), mode="area")
        # A cell further: at its border depth would else be drawn into what knows of none, and be less inside too.
        return share * torch.nn.functional.max_pool2d(region, 3, stride=1, padding=1)
