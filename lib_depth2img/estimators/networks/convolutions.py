"""Convolutions that derive what they need from their weight once, instead of at every call.

At inference a weight never changes, so the work that depends on it alone is done on first use and kept for as long as
the weight is the same tensor with the same content. What is derived is no parameter and no buffer: it is not saved,
loaded or moved. When somebody moves or casts the weight (a model switch, lowvram, ``half()``) it is let go at once, so
that no memory stays behind on the device, and made again on the next use.

All of them are subclasses of ``nn.Conv2d`` with its state-dict keys.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...devices import fast_memory_format

__all__ = ["FoldedStdConv2d", "WinogradConv2d", "fold_std_convs"]


class _DerivedWeightConv2d(nn.Conv2d):
    _derived: tuple[object, Tensor] | None = None
    """(of which weight, the tensor derived from it)"""

    @abstractmethod
    def _derive(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """What this layer needs of its weight, in ``dtype`` and on the weight's device."""

    def derived(self, dtype: torch.dtype) -> Tensor:
        """The derived weight in ``dtype``, made on first use and whenever the weight has changed."""
        weight = self._weight_state()
        current = self._derived
        if current is None or current[0] != weight or current[1].dtype != dtype:
            with torch.no_grad():
                current = self._derived = (weight, self._derive(self.weight, dtype))
        return current[1]

    def _weight_state(self) -> object:
        weight = self.weight
        version = None if weight.is_inference() else weight._version
        return id(weight), weight.device, weight.dtype, weight.data_ptr(), version

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: bool, **kwargs: bool) -> _DerivedWeightConv2d:
        """Where ``to``, ``half`` and their like arrive; one that changes nothing keeps what is derived.

        What follows ``fn`` is ``recurse``, which torch has from 2.1 on.
        """
        super()._apply(fn, *args, **kwargs)
        if self._derived is not None and self._derived[0] != self._weight_state():
            self._derived = None
        return self

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles carry the weight only."""
        return {name: value for name, value in self.__dict__.items() if name != "_derived"}


class FoldedStdConv2d(_DerivedWeightConv2d):
    """Weight-standardised convolution: (B, C, h, w) -> (B, C', ceil(h/stride), ceil(w/stride)), padded as
    TensorFlow's "same".

    timm's ``StdConv2dSame`` (timm/layers/std_conv.py) computes mean and variance of the weight in every pass. Besides
    the time, that is where the network breaks in half precision; here it is done in float32 whatever the dtypes of
    weight and picture.
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

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self._pad(x), self.derived(x.dtype), self.bias, self.stride, groups=self.groups)

    def _derive(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        variance, mean = torch.var_mean(weight.float(), dim=(1, 2, 3), correction=0, keepdim=True)
        folded = ((weight.float() - mean) * torch.rsqrt(variance + self.eps)).to(dtype)
        return folded.contiguous(memory_format=fast_memory_format(weight.device))

    def _pad(self, x: Tensor) -> Tensor:
        rows, cols = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)
        )
        if rows == cols == 0:
            return x
        return F.pad(x, (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2))


class WinogradConv2d(_DerivedWeightConv2d):
    """3×3 convolution, stride 1, padding 1: (B, C, h, w) -> (B, C', h, w), channels-last in memory.

    In float32 on a CPU, oneDNN's direct convolution already runs at the machine's matrix-multiplication rate, so the
    way to be faster is to multiply less. Winograd's F(4×4, 3×3) (Lavin and Gray, arXiv:1509.09308) does a quarter of
    the multiplications: 6×6 tiles of the picture and the kernel are brought to 36 points each, multiplied there, and
    brought back to 4×4 results. Its rounding error is about 1e-5 of the largest value. Everywhere else (GPU, other
    dtypes, training, small layers) this is the ordinary convolution.
    """

    TILE = 4
    MIN_CHANNELS = 128  # below, moving the tiles costs more than the multiplications saved
    MIN_TILES = 36
    CHANNELS_PER_TILE = 8  # above, the kernel's 36 points are not worth the memory they take
    STRIP_TILES = 144  # tiles worked on at once: 36 × 144 × 256 floats stay in the cache

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self._worth_it(x):
            return self._winograd(x)
        return F.conv2d(x, self.weight, self.bias, padding=1)

    def _worth_it(self, x: Tensor) -> bool:
        tiles = -(-x.shape[-2] // self.TILE) * -(-x.shape[-1] // self.TILE)
        return (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not torch.is_grad_enabled()
            and min(self.weight.shape[:2]) >= self.MIN_CHANNELS
            and tiles >= max(self.MIN_TILES, self.in_channels / self.CHANNELS_PER_TILE)
        )

    def _derive(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """The kernel at its 36 points: (36, C, C')."""
        kernel, _, _ = _transforms()
        points = torch.einsum("ik,ockl,jl->ijco", kernel, weight.double(), kernel)
        return points.flatten(0, 1).to(dtype).contiguous()

    def _winograd(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows, cols = -(-height // self.TILE), -(-width // self.TILE)
        kernel = self.derived(x.dtype)
        _, forward, back = _transforms()
        # One row and column of zeros around the picture, and what the last tiles need beyond it: (B, H', W', C)
        margin = (1, cols * self.TILE - width + 1, 1, rows * self.TILE - height + 1)
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, *margin))
        out = x.new_empty(batch, rows, self.TILE, cols, self.TILE, self.out_channels)
        strip = max(1, self.STRIP_TILES // cols)
        for index in range(batch):
            tiles = padded[index].unfold(0, 6, self.TILE).unfold(1, 6, self.TILE)  # (rows, cols, C, 6, 6)
            for top in range(0, rows, strip):
                part = tiles[top : top + strip].permute(3, 4, 0, 1, 2).reshape(36, -1)
                points = torch.bmm((forward @ part).view(36, -1, channels), kernel)
                results = (back @ points.view(36, -1)).view(self.TILE, self.TILE, -1, cols, self.out_channels)
                out[index, top : top + strip] = results.permute(2, 0, 3, 1, 4)
        result = out.view(batch, rows * self.TILE, cols * self.TILE, self.out_channels)[:, :height, :width]
        if self.bias is not None:
            result += self.bias
        return result.permute(0, 3, 1, 2)


@lru_cache(maxsize=1)
def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Of F(4×4, 3×3): the kernel's (6, 3) in float64; the tile's (36, 36) and the result's (16, 36) in float32.

    The last two do both axes in one.
    """
    kernel = torch.tensor(
        [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64
    ) / torch.tensor([24], dtype=torch.float64)
    tile = torch.tensor(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        dtype=torch.float32,
    )
    result = torch.tensor(
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float32
    )
    return kernel, torch.kron(tile, tile), torch.kron(result, result)


def fold_std_convs(module: nn.Module) -> None:
    """Put a :class:`FoldedStdConv2d` in the place of every weight-standardised convolution of timm's in ``module``."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and type(child).__name__.startswith("StdConv2d"):
                setattr(parent, name, FoldedStdConv2d(child, child.eps))
