"""What an estimator runs: a network of its own, or somebody else's live module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..devices import Precision, checked_device, checked_precision, empty_cache, without_autocast
from ..errors import EstimatorError
from .loading import WeightsSource, build_network

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from .presets import Preset

__all__ = ["BorrowedNetwork", "Manage", "Network", "OwnNetwork"]

Manage = Callable[["nn.Module", "torch.device"], Callable[[], AbstractContextManager[Any]]]
"""Takes in a network that lies in the CPU's memory; gives what is entered for each pass on that device."""


class Network(ABC):
    """A network and the device it computes on.

    ``key`` says whose weights they are, and ``precision`` what they compute in; both are part of the cache's keys.
    ``device``: where the network computes.
    ``if_not_finite`` and ``if_no_memory`` are sentences for the user: what helps in that case.
    """

    key: Hashable
    precision: str
    device: torch.device
    if_not_finite: str
    if_no_memory: str

    @property
    def loaded(self) -> bool:
        """True while this object holds weights in memory."""
        return False

    @abstractmethod
    def run(self, pictures: Tensor) -> np.ndarray:
        """One pass: (B, 3, h, w) float32 on the CPU -> (B, h, w) float32 nearness (near = high)."""

    def release(self) -> None:  # noqa: B027 - whoever holds nothing has nothing to do
        """Give back the memory that this object holds."""


class OwnNetwork(Network):
    """The network of ``preset`` with the weights of a file or a state dict, loaded on first use.

    ``manage``: see `Manage`; None: the network lies on the device from the first pass on.

    Raises:
        EstimatorError: the file cannot be opened.
        DeviceError: no such device or precision, or a precision that the device cannot do.
    """

    if_no_memory = "Free memory, or let it run on the CPU: --device cpu (in the WebUI: Settings, Depth2Img, Device)."

    def __init__(
        self,
        preset: Preset,
        weights: WeightsSource,
        *,
        device: str | torch.device,
        precision: Precision,
        manage: Manage | None = None,
    ) -> None:
        self.device = checked_device(device)
        self.precision = checked_precision(precision, self.device)
        self.key = _key_of(weights)
        self._preset, self._weights, self._manage = preset, weights, manage
        self._module: nn.Module | None = None
        self._pass: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.if_not_finite = (
            "Its weights are broken: install them again."
            if self.precision == "float32"
            else f"It computed in {self.precision}: let it compute in float32, by --precision float32 "
            "(in the WebUI: Settings, Depth2Img, Precision)."
        )

    @property
    def loaded(self) -> bool:
        return self._module is not None

    def run(self, pictures: Tensor) -> np.ndarray:
        """As ``Network``; the first call loads the weights.

        Raises:
            TensorFileError, WeightsError: as :func:`~.loading.build_network`.
        """
        import torch

        from .networks.building import cast_network

        dtype = getattr(torch, self.precision)
        if self._module is None:
            self._module = cast_network(build_network(self._preset, self._weights), dtype, self.device)
            if self._manage is None:
                self._module.to(self.device)
            else:
                self._pass = self._manage(self._module, self.device)
        with self._pass():
            return _nearness(self._module, pictures.to(self.device, dtype))

    def release(self) -> None:
        self._module, self._pass = None, nullcontext
        empty_cache(self.device)


class BorrowedNetwork(Network):
    """A network that belongs to somebody else, such as the depth stage of a loaded checkpoint.

    ``live``: gives the module for the length of one pass, asked anew each time, so that nothing of it is kept; it is
    called as a module with (B, 3, h, w) in its parameters' dtype and gives (B, 1, h, w) or (B, h, w) nearness.
    ``key``: says whose weights they are, for the cache. ``device``: where the input goes, which under lowvram is not
    where the weights lie between calls.
    """

    precision = "as loaded"
    if_not_finite = (
        "It is the checkpoint's own and computes as the checkpoint was loaded: load it in float32 (in the WebUI: "
        "--no-half), or choose another estimator."
    )
    if_no_memory = "Free memory, choose another estimator, or start the WebUI with --medvram or --lowvram."

    def __init__(
        self,
        live: Callable[[], AbstractContextManager[nn.Module]],
        *,
        key: Hashable,
        device: str | torch.device = "cpu",
    ) -> None:
        import torch

        self._live, self.key, self.device = live, key, torch.device(device)

    def run(self, pictures: Tensor) -> np.ndarray:
        with self._live() as module:
            dtype = next((parameter.dtype for parameter in module.parameters()), pictures.dtype)
            return _nearness(module, pictures.to(self.device, dtype))


def _nearness(module: nn.Module, pictures: Tensor) -> np.ndarray:
    """(B, 3, h, w) -> (B, h, w) float32; in the module's own precision even where the host samples under autocast."""
    import torch

    batch, _, height, width = pictures.shape
    with torch.no_grad(), without_autocast(pictures.device):
        nearness: Tensor = module(pictures)
    array: np.ndarray = nearness.float().reshape(batch, height, width).cpu().numpy()
    return array


def _key_of(weights: WeightsSource) -> Hashable:
    """What stands for the weights in the cache's keys: the file as it is now, or this very object."""
    if not isinstance(weights, str | Path):
        return object()
    path = Path(weights)
    try:
        status = path.stat()
    except OSError as error:
        raise EstimatorError(f"The weights {path} cannot be opened: {error.strerror}.") from error
    return str(path.resolve()), status.st_size, status.st_mtime_ns
