"""A checkpoint and its yaml to Stability's own model, with this library's depth stage in it."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoint.small_model import register_architecture
from ..errors import CheckpointError
from ..weights.tensor_file import open_tensor_file, state_dict_names

if TYPE_CHECKING:
    import torch

__all__ = ["has_depth_stage", "load_model", "quiet"]

_BUNDLED = Path(__file__).resolve().parent.parent / "checkpoint" / "v2-midas-inference.yaml"
_FIRST_CONVOLUTION = "model.diffusion_model.input_blocks.0.0.weight"
_DEPTH_PREFIX = "depth_model."
_NEEDED = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
_SHOWN = 4


def load_model(checkpoint: Path, *, device: str | torch.device = "cpu") -> Any:
    """The ``LatentDepth2ImageDiffusion`` of `checkpoint`, float32, in evaluation mode, on `device`.

    ``checkpoint``: .safetensors or .ckpt; the yaml of the same name beside it is used, else the one of 512-depth-ema.
    Its tensors are read one at a time into the model, so a full-size one needs little more memory than its weights.
    ``has_depth_stage`` of the model says whether it brought an estimator. Nothing is downloaded.

    Raises:
        TensorFileError: the file is broken.
        CheckpointError: no depth-to-image checkpoint, names or shapes that do not fit the yaml, no `ldm` package.
    """
    import torch

    with open_tensor_file(checkpoint) as file:
        names = state_dict_names(file)
        _check_kind(checkpoint, names, {name: tuple(file[entry].shape) for name, entry in names.items()})
        model = _instantiate(_configuration(checkpoint))
        wanted = dict(model.state_dict(keep_vars=True))
        _check_names(checkpoint, names, wanted)
        with torch.no_grad():
            for name, entry in names.items():
                if name in wanted:
                    _copy(checkpoint, name, file.read(entry), wanted[name])
    model.has_depth_stage = any(name.startswith(_DEPTH_PREFIX) for name in names)
    model.cond_stage_model.device = device
    return model.eval().requires_grad_(False).to(device)


def has_depth_stage(model: Any) -> bool:
    """Whether the checkpoint that `model` came from brought weights for the depth stage."""
    return bool(model.has_depth_stage)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back what `ldm` prints, and the warnings of what it imports.

    Those that pass the filter are recorded and let go: Lightning puts filters of its own before this one.
    """
    with warnings.catch_warnings(record=True), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _configuration(checkpoint: Path) -> Any:
    from omegaconf import OmegaConf

    beside = checkpoint.with_suffix(".yaml")
    config = OmegaConf.load(beside if beside.is_file() else _BUNDLED)
    try:
        parameters = config.model.params
        # Both parts would fetch weights of their own, which the checkpoint replaces right after.
        parameters.cond_stage_config.params.version = None
        parameters.depth_stage_config.target = "lib_depth2img.estimators.stage.DepthStage"
    except AttributeError as error:
        raise CheckpointError(f"{beside.name} is not the yaml of a depth-to-image model: {error}.") from error
    return config.model


def _instantiate(config: Any) -> Any:
    try:
        with quiet():
            from ldm.util import instantiate_from_config
    except ImportError as error:
        raise CheckpointError(
            f"Stability's ldm package cannot be imported ({error}). Install it: "
            "pip install --no-deps stable-diffusion-sdkit==2.1.5, with what requirements-dev.txt names."
        ) from error
    with quiet():
        register_architecture()
        return instantiate_from_config(config)


def _check_kind(checkpoint: Path, names: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> None:
    missing = [prefix for prefix in _NEEDED if not any(name.startswith(prefix) for name in names)]
    if missing:
        raise CheckpointError(
            f"{checkpoint.name} has nothing under {', '.join(missing)}; expected a whole Stable Diffusion checkpoint, "
            "such as 512-depth-ema.ckpt."
        )
    channels = shapes.get(_FIRST_CONVOLUTION, (0, 0))[1]
    if channels != 5:
        raise CheckpointError(
            f"The UNet of {checkpoint.name} takes {channels} channels; a depth-to-image model takes 5. "
            "Use 512-depth-ema.ckpt or a fine-tune of it."
        )


def _check_names(checkpoint: Path, names: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    missing = [name for name in wanted if name.startswith(_NEEDED) and name not in names and not _derived(name)]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
        raise CheckpointError(
            f"{checkpoint.name} does not fit its yaml: {len(missing)} tensors are missing ({shown}). "
            f"Put the yaml it was made with beside it, as {checkpoint.with_suffix('.yaml').name}."
        )


def _derived(name: str) -> bool:
    """Buffers that a model makes itself, and that some checkpoints therefore leave out."""
    return name.endswith(("attn_mask", "num_batches_tracked", "position_ids"))


def _copy(checkpoint: Path, name: str, tensor: torch.Tensor, target: torch.Tensor) -> None:
    if tensor.shape != target.shape:
        raise CheckpointError(
            f"{checkpoint.name} does not fit its yaml: {name} is {tuple(tensor.shape)}, expected {tuple(target.shape)}."
        )
    target.copy_(tensor)
