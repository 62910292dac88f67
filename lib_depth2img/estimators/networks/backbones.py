"""Backbones of timm's, of whatever version the machine has.

Importing this imports no timm.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from ...errors import EstimatorError

__all__ = ["OLDEST", "backbone", "drop_buffers"]

OLDEST = {"dinov2": "0.9.0", "beit": "0.5.4", "swinv2": "0.6.5"}
"""The first timm that knows a family of backbones; the other families are as old as any timm a host brings."""


def backbone(*names: str, **changes: Any) -> nn.Module:
    """The network of the first of ``names`` that this timm knows: it has been called otherwise from time to time.

    ``changes``: of its architecture, as timm takes them.

    Raises:
        EstimatorError: this timm is too old for it.
    """
    import timm

    for name in names:
        if timm.is_model(name):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="torch.meshgrid")  # of timm's code of before 2023
                network: nn.Module = timm.create_model(name, pretrained=False, **changes)
            return network
    oldest = next((version for family, version in OLDEST.items() if family in names[0]), "1.0")
    raise EstimatorError(
        f"This estimator needs timm {oldest} or newer for {names[0]}, and timm {timm.__version__} is installed: update "
        "timm if no other extension forbids it, or choose an estimator of MiDaS 2.1 or 3.0, which run with any timm."
    )


def drop_buffers(network: nn.Module) -> None:
    """Take away what timm derives from the sizes a network was built for, and keeps beside the weights.

    Some versions save it and some do not, and none of it is read by an attention that goes by the picture's size.
    """
    for module in network.modules():
        module._buffers.clear()
