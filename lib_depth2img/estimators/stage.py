"""The module that a checkpoint calls its depth stage: ``depth_model`` of a ``LatentDepth2ImageDiffusion``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..devices import without_autocast
from .presets import DEFAULT_PRESET, get_preset

__all__ = ["DepthStage"]


class DepthStage(nn.Module):
    """Stands where Stability's ``MiDaSInference`` stands (ldm/modules/midas/api.py:134-170): same keys, same
    argument, same call.

    ``model_type``: the name of a preset, from the yaml's ``depth_stage_config``. Built without reading or fetching
    any weights; they come with the checkpoint, under ``depth_model.model.``.

    Raises:
        EstimatorError: no preset of that name.
    """

    def __init__(self, model_type: str = DEFAULT_PRESET) -> None:
        super().__init__()
        self.preset = get_preset(model_type)
        self.model = self.preset.build().eval()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) normalised pictures of any float dtype -> (B, 1, h, w) float32 nearness (near = high), >= 0.

        h and w are multiples of what the preset says. Computed in the weights' own precision, also under autocast:
        the last layer and the standardisation of weights need their float32.
        """
        dtype = next(parameter.dtype for parameter in self.model.parameters())
        with without_autocast(x.device):
            nearness: Tensor = self.model(x.to(dtype))
        return nearness.unsqueeze(1)

    def train(self, mode: bool = True) -> DepthStage:  # noqa: ARG002 - nn.Module's signature
        """Stay in evaluation mode, as Stability's does: batch statistics of one picture would ruin the estimate."""
        return super().train(False)
