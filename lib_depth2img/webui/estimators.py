"""The estimators of a running host: the loaded checkpoint's own, and those with weights of their own."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoint.contents import contents_of_file
from ..errors import EstimatorError
from ..estimators.cache import DepthCache
from ..estimators.detail import AS_TRAINED, Detail
from ..estimators.estimator import DepthEstimator
from ..estimators.network import BorrowedNetwork
from ..estimators.presets import DEFAULT_PRESET, PRESETS
from . import settings
from .depth_stage import HostDepthStage, missing_weights, nothing_inside, verified_weights, weights_file
from .hosts import Point, host
from .ui.services import EstimatorStatus

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from ..depth.depth_map import DepthMap

__all__ = ["CHECKPOINT", "ESTIMATORS", "Estimators", "hook"]

CHECKPOINT = "checkpoint"
"""The estimator inside the loaded depth model."""

_MEGABYTE = 1 << 20


class Estimators:
    """Estimates with any estimator by name, behind one cache. Of the checkpoint's own, nothing is kept between calls.

    Safe from several threads; whoever calls it outside a generation holds the host's queue lock.
    """

    def __init__(self) -> None:
        self.cache = DepthCache()
        self._lock = threading.Lock()
        self._own: dict[tuple[str, ...], DepthEstimator] = {}

    def estimate(self, pictures: Sequence[Image.Image], name: str, detail: Detail = AS_TRAINED) -> list[DepthMap]:
        """One depth map for each picture, so finely.

        Raises:
            EstimatorError: the estimator's weights are not there, or it cannot run.
            TensorFileError: its weights' file is broken.
        """
        self.cache.max_bytes = settings.current().cache_megabytes * _MEGABYTE
        estimator = self._checkpoint() if name == CHECKPOINT else self._preset(name)
        with host.status(f"Estimating depth on {estimator.device}"):
            return estimator.estimate(pictures, detail)

    def statuses(self) -> list[EstimatorStatus]:
        """All estimators and whether they can run now; opens no file."""
        return [_checkpoint_status(), *(_preset_status(name) for name in PRESETS)]

    def after_generation(self) -> None:
        """Make room where the settings or --medvram and --lowvram ask for it; estimated maps stay in the cache."""
        if host.uses_low_memory() or not settings.current().keep_loaded:
            self.release()

    def release(self) -> None:
        """Let go of every network; estimated maps stay in the cache."""
        with self._lock:
            had_any = bool(self._own)
            self._own.clear()
        if had_any:
            host.free_memory()

    def _checkpoint(self) -> DepthEstimator:
        selected = host.selected()
        if not selected.is_depth_model:
            raise EstimatorError(
                f"The loaded checkpoint ({selected.name}) is no depth model, so it has no depth "
                f"estimator inside. Load a depth model, or choose one of the estimators {', '.join(PRESETS)}."
            )
        if not host.keeps_depth_stage:
            return self._from_checkpoint_file()
        model = host.loaded_model()
        network = BorrowedNetwork(_live_stage, key=_weights_key(model), device=_input_device(model))
        return DepthEstimator(_preset_of(model), weights=network, cache=self.cache)

    def _from_checkpoint_file(self) -> DepthEstimator:
        """The network inside the checkpoint's file, or Stability's from a file of its own, as ``HostDepthStage``."""
        file = host.checkpoint_file()
        preset = contents_of_file(file).midas
        if preset is not None:
            return self._kept(CHECKPOINT, preset, file)
        weights = weights_file(DEFAULT_PRESET)
        if weights is None:
            raise nothing_inside(DEFAULT_PRESET)
        return self._kept(DEFAULT_PRESET, DEFAULT_PRESET, weights)

    def _preset(self, name: str) -> DepthEstimator:
        return self._kept(name, name, verified_weights(name))

    def _kept(self, name: str, preset: str, weights: Path) -> DepthEstimator:
        """The estimator called ``name``, loaded anew when its file or the settings are others than the last time."""
        chosen = settings.current()
        device = "cpu" if chosen.device == "cpu" else str(host.compute_device())
        precision = "float32" if chosen.precision == "auto" and host.computes_in_float32() else chosen.precision
        key = (name, str(weights), device, precision)
        with self._lock:
            if key not in self._own:
                for other in [kept for kept in self._own if kept[0] == name]:  # with settings of before
                    del self._own[other]
                self._own[key] = DepthEstimator(
                    preset,
                    weights=weights,
                    device=device,
                    precision=precision,  # type: ignore[arg-type]
                    cache=self.cache,
                    manage=host.manage,
                )
            return self._own[key]


ESTIMATORS = Estimators()
"""Of the process: what was estimated outlives Reload UI."""


def hook() -> None:
    """Let go of networks when the host unloads its checkpoint (sd_models.py:1005), until ``host.undo``."""
    host.replace(Point.UNLOAD, _releasing)


def _releasing(original: Any) -> Any:
    @functools.wraps(original)
    def unload_model_weights(*args: Any, **keywords: Any) -> Any:
        ESTIMATORS.release()
        return original(*args, **keywords)

    return unload_model_weights


@contextlib.contextmanager
def _live_stage() -> Iterator[nn.Module]:
    """The loaded checkpoint's depth stage where it can compute, for the length of one pass.

    "Unload checkpoint" leaves the weights in the CPU's memory (sd_models.py:1005), half ones too, which no CPU computes
    with: they go to the device for the pass, and back. Under lowvram the host's hook moves them, and keeps books of it.
    """
    model = host.loaded_model()
    stage: nn.Module = model.depth_model
    if isinstance(stage, HostDepthStage):
        stage.prepare()
    lies, computes = _device_of(stage), _input_device(model)
    if lies == computes or host.under_lowvram(model):
        yield stage
        return
    stage.to(computes)
    try:
        yield stage
    finally:
        stage.to(lies)
        host.free_memory()  # which is what unloading was for


def _weights_key(model: Any) -> Hashable:
    """What stands for the weights of a loaded checkpoint: its file, as it was when it was first asked for.

    Noted on the stage, since the file may be moved, or its drive be gone, while the checkpoint is loaded; where it was
    gone from the start, the checkpoint as it is in memory stands for itself.
    """
    stage, file = model.depth_model, host.checkpoint_file()
    noted = getattr(stage, "weights_key", None)
    if noted is None or noted[0] != str(file):
        try:
            status = file.stat()
            noted = (str(file), status.st_size, status.st_mtime_ns)
        except OSError:
            noted = (str(file), object())
        stage.weights_key = noted
    return noted


def _preset_of(model: Any) -> str:
    """Which network a depth model has inside; one that was loaded before this extension was, has Stability's module."""
    preset = getattr(model.depth_model, "preset", None)
    return DEFAULT_PRESET if preset is None else str(preset.name)


def _input_device(model: Any) -> torch.device:
    """Where the depth stage computes: where it lies, or where the host computes if it only waits on the CPU."""
    lies = _device_of(model.depth_model)
    return host.compute_device() if lies.type == "cpu" or host.under_lowvram(model) else lies


def _device_of(stage: nn.Module) -> torch.device:
    return next(stage.parameters()).device


def _checkpoint_status() -> EstimatorStatus:
    selected = host.selected()
    if not selected.is_depth_model:
        return EstimatorStatus(CHECKPOINT, ready=False, note="No depth model is loaded.")
    return EstimatorStatus(CHECKPOINT, ready=True, note=f"The estimator inside {selected.name}.")


def _preset_status(name: str) -> EstimatorStatus:
    weights = weights_file(name)
    if weights is None:
        lacking = missing_weights(name)
        return EstimatorStatus(name, ready=False, note=str(lacking), in_panel=lacking.in_panel)
    return EstimatorStatus(name, ready=True, note=f"{PRESETS[name].title}, from {weights.name}.")
