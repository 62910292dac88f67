"""Loading: the depth stage the host builds becomes this project's, and a five-channel checkpoint gets its yaml.

Here too a checkpoint is looked at for what would give black pictures: the host fills what is missing with zeros, and
takes NaN as it comes.

``LatentDepth2ImageDiffusion`` builds its depth stage by name (ldm ddpm.py:1695), so what stands under that name is
what is built; the host's automatic download (sd_models.py:542-582) hangs on Stability's loader, which is then never
called.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoint import configuration, faults
from ..checkpoint.contents import contents_of
from ..errors import CheckpointError, EstimatorError
from ..estimators.loading import build_network
from ..estimators.presets import DEFAULT_PRESET
from ..estimators.stage import DepthStage
from ..weights import catalog, elsewhere
from .hosts import Point, host

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "HostDepthStage",
    "hook",
    "missing_weights",
    "nothing_inside",
    "refuse_damaged",
    "verified_weights",
    "weights_file",
]

_log = logging.getLogger(__name__)

_damaged: dict[Path, str] = {}
"""What is wrong with the depth models that were loaded and are not whole, by their files."""


class HostDepthStage(DepthStage):
    """The depth stage as the host loads it: weights that did not come with the checkpoint are brought at first use.

    The host fills what a checkpoint lacks with zeros (sd_disable_initialization.py:189-191) and says nothing. Its FP8
    setting rounds the convolutions to eight bits (sd_models.py:502-512), which ruins the estimate. Both are put right
    here, at first use, so that a checkpoint always loads.

    ``weights_key``: a place for whoever keeps estimates to note whose weights these are; empty again when the host
    loads others into the same module (sd_models.py:984).
    """

    def __init__(self, model_type: str = DEFAULT_PRESET) -> None:
        super().__init__(model_type)
        self._filled = False
        self.weights_key: Hashable = None
        self._register_load_state_dict_pre_hook(self._look)

    def _look(self, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        self._filled = any(name.startswith(f"{prefix}model.") for name in state_dict)
        self.weights_key = None

    def prepare(self) -> HostDepthStage:
        """Bring the weights where they are missing or rounded; returns itself.

        Raises:
            EstimatorError: there are none; the text names the command that installs them.
            TensorFileError: the file there is broken or another estimator's.
        """
        if not self._filled or _is_fp8(self.model):
            self.model = self._replacement()
            self._filled = True
        return self

    def forward(self, x: Tensor) -> Tensor:
        """As ``DepthStage``; this is where the host comes in when it does without this extension's conditioning."""
        return DepthStage.forward(self.prepare(), x)

    def _replacement(self) -> nn.Module:
        like = next(parameter for parameter in self.model.parameters() if not _is_fp8_dtype(parameter.dtype))
        source = host.checkpoint_file() if self._filled else self._weights_file()
        _log.info("Depth2Img: the depth stage takes its weights from %s.", source)
        return build_network(self.preset, source).to(like.device, like.dtype)

    def _weights_file(self) -> Path:
        file = weights_file(self.preset.name)
        if file is None:
            raise nothing_inside(self.preset.name)
        return file


def weights_file(preset: str) -> Path | None:
    """A preset's weights: in the host's MiDaS folder, under any name they are published by, or in another program's
    folder; None where there are none.
    """
    file = next((file for file in catalog.FILES if file.estimator == preset), None)
    if file is None:
        return None
    own = (host.midas_folder() / name for name in file.names)
    return next((path for path in own if path.is_file()), None) or elsewhere.find(
        preset, elsewhere.roots_of(host.midas_folder().parents[1])
    )


def verified_weights(preset: str) -> Path:
    """As :func:`weights_file`; what lies in another program's folder is taken only if it is what its name says.

    Raises:
        EstimatorError: there are none.
        WeightsError: there is another file of that name.
    """
    weights = weights_file(preset)
    if weights is None:
        raise missing_weights(preset)
    if weights.parent != host.midas_folder():
        elsewhere.refuse_other(weights, preset)
    return weights


def missing_weights(preset: str) -> EstimatorError:
    """What to do about the weights of a preset; it goes to API clients too, so it names no folder of here."""
    if preset not in catalog.ESTIMATORS:
        return EstimatorError(
            f"The weights of {preset} come inside a checkpoint only; choose the estimator “checkpoint” with that one."
        )
    return EstimatorError(
        f"The weights of {preset} ({catalog.estimator_file(preset).name}) are not in models/midas; install "
        f"them in the Depth2Img panel or with: python -m lib_depth2img install --estimator {preset} "
        f"--to models/midas",
        in_panel=f"The weights of {preset} are not installed. Get them below: “Get a depth model”.",
    )


def nothing_inside(preset: str) -> EstimatorError:
    """What to do about a checkpoint without a depth stage where the weights of ``preset`` are not there either."""
    lacking, inside = missing_weights(preset), "The checkpoint has no depth estimator inside."
    return EstimatorError(f"{inside} {lacking}", in_panel=f"{inside} {lacking.in_panel}")


def refuse_damaged() -> None:
    """Raises: CheckpointError where the checkpoint in use was found damaged when it was loaded."""
    said = _damaged.get(host.checkpoint_file()) if _damaged else None
    if said is not None:
        raise CheckpointError(said)


def hook() -> None:
    """Replace what the host builds, and look on where it looks for the yaml; ``host.undo`` puts it back."""
    host.replace(Point.DEPTH_STAGE, lambda _: HostDepthStage)
    host.replace(Point.CHECKPOINT_YAML, _finding)
    host.replace(Point.CHECKPOINT_TENSORS, _examining)


def _finding(original: Any) -> Any:
    @functools.wraps(original)
    def find_checkpoint_config(state_dict: Any, info: Any) -> Any:
        if info is not None:
            _examine(state_dict, Path(info.filename))
        found = None if info is None else _depth_config(state_dict, Path(info.filename))
        return original(state_dict, info) if found is None else str(found)

    return find_checkpoint_config


def _examining(original: Any) -> Any:
    @functools.wraps(original)
    def tensors(state_dict: Any) -> Any:
        _examine(state_dict, host.checkpoint_file())
        return original(state_dict)

    return tensors


def _depth_config(state_dict: Any, checkpoint: Path) -> Path | None:
    """The yaml for a five-channel SD2 checkpoint that has no fitting one; None where the host finds it itself.

    The host knows a depth model by DPT-Hybrid inside it (sd_models_config.py:88), so it takes a fine-tune that was
    saved without for a four-channel model, and fails. Nothing is written beside the checkpoint but the yaml of one with
    another network inside, which no file that comes along describes.
    """
    contents = contents_of(state_dict)
    yaml = configuration.beside(checkpoint)
    if not contents.is_sd2_depth_model or configuration.describes_depth_model(yaml):
        return None
    if yaml.exists():
        _log.warning("Depth2Img: %s does not describe this depth model and is not used; remove it.", yaml)
        return configuration.PAIR_YAML
    if contents.midas == DEFAULT_PRESET:
        return None
    if contents.midas is None or not host.keeps_depth_stage:  # which network is inside, its own file says
        return configuration.PAIR_YAML
    try:
        return configuration.write_beside(checkpoint, contents.midas)
    except OSError as error:
        _log.warning("Depth2Img: no yaml could be written beside %s (%s).", checkpoint, error.strerror)
        return configuration.PAIR_YAML


def _examine(state_dict: Any, checkpoint: Path) -> None:
    """Note what is wrong with a depth model, and say it; the rounded noise schedule is put right.

    Without a schedule in the checkpoint, the model keeps the one that its yaml describes, or the host's own.
    """
    contents = contents_of(state_dict)
    _damaged.pop(checkpoint, None)
    if not contents.is_depth_model:
        return
    if faults.rounded_schedule(state_dict):
        _log.warning(
            "Depth2Img: the noise schedule in %s is rounded to bfloat16; an exact one is used.", checkpoint.name
        )
        del state_dict[faults.SCHEDULE]
    lacks, broken = faults.lacking(contents), faults.not_finite_of(state_dict)
    said = [f"it lacks {part}" for part in lacks] + ([f"it holds {faults.described(broken)}"] if broken else [])
    if said:
        _damaged[checkpoint] = (
            f"{checkpoint.name}: {'; '.join(said)}. It would make black or meaningless pictures: get the file again."
        )
        _log.warning("Depth2Img: %s", _damaged[checkpoint])


def _is_fp8(module: nn.Module) -> bool:
    return any(_is_fp8_dtype(parameter.dtype) for parameter in module.parameters())


def _is_fp8_dtype(dtype: Any) -> bool:
    return "float8" in str(dtype)
