"""Biases of attention that go by how far apart two tokens of a grid lie, for BEiT and Swin V2."""

from __future__ import annotations

from torch import Tensor

__all__ = ["set_by_distance"]


def set_by_distance(bias: Tensor, of_distance: Tensor, grid: tuple[int, int]) -> None:
    """Set what attention adds for each pair of tokens on ``grid`` (h, w), counted row by row.

    ``bias``: (heads, h·w, h·w), which is written. ``of_distance``: (heads, 2h-1, 2w-1); in the middle that of a token
    with itself, above and left of it that with tokens below and right.
    """
    rows, cols = grid
    # What one token has with all others is a window of the mirrored values. Copied row by row of the grid it takes a
    # quarter of the time of looking up each pair, and lies as attention reads it.
    windows = of_distance.flip(1, 2).unfold(1, rows, 1).unfold(2, cols, 1)
    pairs = bias.unflatten(2, grid).unflatten(1, grid)
    for row in range(rows):
        pairs[:, row] = windows[:, rows - 1 - row].flip(1)
