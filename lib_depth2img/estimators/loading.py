"""Where the weights of an estimator come from, and whether they are the right ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Union

from ..errors import WeightsError
from ..weights import catalog
from ..weights.finite import is_finite
from ..weights.hashing import kept_sha256
from ..weights.tensor_file import open_tensor_file, state_dict_names

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .presets import Preset

__all__ = ["WeightsSource", "build_network", "load_weights"]

WeightsSource = Union[str, Path, "Mapping[str, Tensor]"]
"""A published file (.pt, .pth, .safetensors), a checkpoint with ``depth_model.*`` in it (.safetensors, .ckpt), or a
state dict."""

_log = logging.getLogger(__name__)

_PREFIXES = ("depth_model.model.", "model.", "")
"""Where the network's own names begin: in a checkpoint, in a depth stage, in a published file."""

_MARKS = ("pretrained.", "backbone.embeddings.")
"""How the names of an estimator's own weights begin: as all authors publish them, and as transformers does."""

_UNUSED = ("pretrained.model.head.", "num_batches_tracked")
"""Names that do not matter to the estimate: the classifier head, which some files lack, and a counter of BatchNorm."""

_DERIVED = (".relative_position_index", ".relative_coords_table", ".attn_mask", ".k_bias")
"""Ends of names of what follows from sizes alone: the timm of 2022 saved it, and the networks here compute it."""

_SHOWN = 2


def build_network(preset: Preset, source: WeightsSource) -> nn.Module:
    """The network of ``preset`` with the weights of ``source``, in evaluation mode, float as stored, on the CPU.

    Raises:
        TensorFileError: the file is broken or no weights file.
        WeightsError: names or shapes do not fit, the file is known to be another estimator's, or it holds NaN or inf.
    """
    from .networks.building import assign, without_weights

    weights = load_weights(source, preset)
    network = without_weights(preset.build)
    _check(network, weights, preset, _described(source))
    assign(network, weights)
    return network.requires_grad_(False).eval()


def load_weights(source: WeightsSource, preset: Preset) -> dict[str, Tensor]:
    """The network's state dict out of ``source``, names as the network has them; of a checkpoint only ``depth_model.*``
    is read.

    A ``.pt`` whose sha256 the catalogue knows must be ``preset``'s; an unknown one is logged as such and judged by
    its names.

    Raises:
        TensorFileError, WeightsError: as :func:`build_network`.
    """
    if isinstance(source, Mapping):
        prefix = _prefix(source, _described(source), preset)
        return preset.as_named(
            {name.removeprefix(prefix): tensor for name, tensor in source.items() if _is_own(name, prefix)}
        )
    path = Path(source)
    with open_tensor_file(path) as file:
        names = state_dict_names(file)
        prefix = _prefix(names, _described(source), preset)
        if prefix != _PREFIXES[0]:
            _check_origin(path, preset)
        return preset.as_named(
            {name.removeprefix(prefix): file.read(entry) for name, entry in names.items() if _is_own(name, prefix)}
        )


def _is_own(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and not name.endswith(_DERIVED)


def _prefix(names: Mapping[str, object], described: str, preset: Preset) -> str:
    for prefix in _PREFIXES:
        if any(name.startswith(prefix + mark) for name in names for mark in _MARKS):
            return prefix
    if any(name.startswith("model.diffusion_model.") for name in names):
        raise WeightsError(
            f"{described} is a checkpoint without MiDaS in it (no depth_model.*). Use a MiDaS file beside it: "
            f"python -m lib_depth2img install --estimator {preset.name} --to DIR fetches one."
        )
    raise WeightsError(
        f"{described} holds no estimator's weights; expected names that start with "
        f"{', '.join(_MARKS)} or {_PREFIXES[0]}"
    )


def _check_origin(path: Path, preset: Preset) -> None:
    digest = kept_sha256(path)
    known = catalog.file_with_sha256(digest)
    if known is None:
        _log.warning(
            "%s has a sha256 the catalogue does not know (%s); its names and shapes decide.", path.name, digest
        )
    elif known.estimator != preset.name:
        raise WeightsError(f"{path.name} is {known.name} by its sha256; expected weights of {preset.name}.")


def _check(network: nn.Module, weights: Mapping[str, Tensor], preset: Preset, described: str) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    missing = [name for name in expected if name not in weights and not any(part in name for part in _UNUSED)]
    left_over = [name for name in weights if name not in expected]
    misshaped = [
        f"{name} {tuple(weights[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
        for what, names in (("missing", missing), ("left over", left_over), ("of another shape", misshaped))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{described} does not fit {preset.name}; {'; '.join(problems)}. Choose the estimator the file is for."
        )
    broken = [name for name in expected if name in weights and not is_finite(weights[name])]
    if broken:
        raise WeightsError(
            f"{described} holds numbers that are not finite (NaN or inf) in {len(broken)} tensors of the estimator "
            f"({broken[0]}): it is damaged. Get it again from its source."
        )


def _described(source: WeightsSource) -> str:
    return "The state dict" if isinstance(source, Mapping) else Path(source).name
