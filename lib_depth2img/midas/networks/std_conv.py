"""Weight-standardised convolution that standardises once instead of at every call.

timm's ``StdConv2dSame`` (layers/std_conv.py) computes mean and variance of its weight in every forward pass. At inference the
result never changes, and in half precision the variance of a half weight is where the network breaks; so it is computed once, in
float32, and kept for as long as the weight stays the same tensor with the same content.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FoldedStdConv2d", "fold_std_convs"]


class FoldedStdConv2d(nn.Conv2d):
    """(B, C, h, w) -> (B, C', ceil(h/stride), ceil(w/stride)), padded as TensorFlow's "same"; keys as ``nn.Conv2d``'s.

    The standardised weight is no parameter and no buffer: it is not saved, not loaded, and not moved, but made again when the
    host replaces, moves or casts the weight (model switch, lowvram, ``half()``).
    """

    def __init__(self, conv: nn.Conv2d, eps: float) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            stride=conv.stride,  # type: ignore[arg-type]
            groups=conv.groups,
            bias=conv.bias is not None,
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.eps = eps
        self._folded: tuple[object, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self._pad(x), self.standardised_weight(), self.bias, self.stride, 0, 1, self.groups)

    def standardised_weight(self) -> Tensor:
        """The weight with zero mean and unit variance per output channel, in the weight's dtype and on its device."""
        weight = self.weight
        state = (id(weight), weight.data_ptr(), weight._version, weight.device, weight.dtype)
        if self._folded is None or self._folded[0] != state:
            with torch.no_grad():
                flat = weight.float().flatten(1)
                variance, mean = torch.var_mean(flat, dim=1, correction=0, keepdim=True)
                folded = ((flat - mean) * torch.rsqrt(variance + self.eps)).view_as(weight).to(weight.dtype)
            self._folded = (state, folded.contiguous(memory_format=torch.channels_last))
        return self._folded[1]

    def _pad(self, x: Tensor) -> Tensor:
        rows, cols = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)
        )
        if rows == cols == 0:
            return x
        return F.pad(x, (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2))


def fold_std_convs(module: nn.Module) -> None:
    """Put a :class:`FoldedStdConv2d` in the place of every weight-standardised convolution of timm's in ``module``."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and type(child).__name__.startswith("StdConv2d"):
                setattr(parent, name, FoldedStdConv2d(child, child.eps))  # type: ignore[arg-type]
