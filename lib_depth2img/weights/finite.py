"""Whether weights are numbers at all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["is_finite"]


def is_finite(tensor: Tensor) -> bool:
    """Whether neither NaN nor inf is in a tensor of any type, on any device."""
    import torch

    if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
        return True
    # Half precision has no aminmax on a CPU, and 8 bit nowhere.
    own = tensor.dtype in (torch.float32, torch.float64, torch.bfloat16)
    low, high = (tensor if own else tensor.float()).aminmax()
    return math.isfinite(float(high) - float(low))  # both are NaN where one number is
