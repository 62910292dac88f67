"""timm's weight-standardised convolution, its standardisation done once instead of at every call."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...devices import fast_memory_format

__all__ = ["FoldedStdConv2d", "fold_std_convs"]


class FoldedStdConv2d(nn.Conv2d):
    """Weight-standardised convolution: (B, C, h, w) -> (B, C', ceil(h/stride), ceil(w/stride)), padded as
    TensorFlow's "same". State-dict keys as ``nn.Conv2d``.

    timm's ``StdConv2dSame`` (timm/layers/std_conv.py) computes mean and variance of the weight in every pass. Besides
    the time, that is where the network breaks in half precision; here it is done in float32 whatever the dtypes of
    weight and picture.

    At inference a weight never changes, so the standardised ("folded") weight is made on first use and kept for as long
    as the weight is the same tensor with the same content. It is no parameter and no buffer: it is not saved, loaded or
    moved. When somebody moves or casts the weight (a model switch, lowvram, ``half()``) it is let go at once, so that
    no memory stays behind on the device, and made again on the next use.
    """

    _folded: tuple[object, Tensor] | None = None
    """(the state of the weight, the folded weight made of it)"""

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

    def forward(self, x: Tensor) -> Tensor:
        rows, cols = self._padding_of(x)
        if rows % 2 or cols % 2:  # TensorFlow's odd row or column of zeros comes last
            x = F.pad(x, (0, cols % 2, 0, rows % 2))
        return F.conv2d(
            x, self.folded(x.dtype), self.bias, self.stride, padding=(rows // 2, cols // 2), groups=self.groups
        )

    def folded(self, dtype: torch.dtype) -> Tensor:
        """The folded weight in ``dtype``, on the weight's device; made anew whenever the weight has changed."""
        state = self._weight_state()
        current = self._folded
        if current is None or current[0] != state or current[1].dtype != dtype:
            with torch.no_grad():
                current = self._folded = (state, self._fold(dtype))
        return current[1]

    def _fold(self, dtype: torch.dtype) -> Tensor:
        weight = self.weight.float()
        variance, mean = torch.var_mean(weight, dim=(1, 2, 3), correction=0, keepdim=True)
        folded = ((weight - mean) * torch.rsqrt(variance + self.eps)).to(dtype)
        return folded.contiguous(memory_format=fast_memory_format(weight.device))

    def _weight_state(self) -> object:
        weight = self.weight
        version = None if weight.is_inference() else weight._version
        return id(weight), weight.device, weight.dtype, weight.data_ptr(), version

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: bool, **kwargs: bool) -> FoldedStdConv2d:
        """Where ``to``, ``half`` and their like arrive; one that changes nothing keeps the folded weight.

        What follows ``fn`` is ``recurse``, which torch has from 2.1 on.
        """
        super()._apply(fn, *args, **kwargs)
        if self._folded is not None and self._folded[0] != self._weight_state():
            self._folded = None
        return self

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles carry the weight only."""
        return {name: value for name, value in self.__dict__.items() if name != "_folded"}

    def _padding_of(self, x: Tensor) -> tuple[int, int]:
        """Rows and columns of zeros that go around ``x``, both sides together."""
        rows, cols = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)
        )
        return rows, cols


def fold_std_convs(module: nn.Module) -> None:
    """Put a :class:`FoldedStdConv2d` in the place of every weight-standardised convolution of timm's in ``module``."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and type(child).__name__.startswith("StdConv2d"):
                setattr(parent, name, FoldedStdConv2d(child, child.eps))
