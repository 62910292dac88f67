"""What every estimator makes of one picture with one set of weights, to be compared from version to version.

``python -m tests.versions.values FILE.npz`` writes it. Weights and picture come from NumPy's ``RandomState``, whose
numbers are promised never to change, and from the four operations alone: they are the same bits everywhere.
"""

from __future__ import annotations

import json
import platform
import sys
import zlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np

__all__ = ["BOUND", "PACKAGES", "differences", "read", "refused", "written_versions"]

BOUND = 1e-5
"""Of the range of a map: how far it may be from the reference's."""

PACKAGES = ("torch", "torchvision", "timm", "numpy", "safetensors", "Pillow", "opencv-python")

SIDE = 384
"""Of the picture, or the next multiple below that a network takes."""

LARGE = ("depth_anything_v2_base", "depth_anything_v2_large", "dpt_beit_large_512", "dpt_swin2_large_384")
"""Not among them: each is made of the same layers as a smaller one that is."""

_NEARNESS, _NAMES, _REFUSED, _VERSIONS = "nearness ", "names ", "refused ", "versions"

Written = Mapping[str, np.ndarray]


def differences(reference: Written, other: Written) -> tuple[dict[str, float], list[str]]:
    """Of each estimator the largest difference as a share of the reference's range; and all that is wrong.

    One that the other's timm is too old for is neither: which those are, :func:`refused` says.
    """
    largest: dict[str, float] = {}
    wrong: list[str] = []
    for entry in reference:
        if entry.partition(" ")[2] in refused(other):
            continue
        if entry.startswith(_NAMES):
            estimator = entry.removeprefix(_NAMES)
            wrong += _wrong_names(estimator, set(reference[entry]), set(other.get(entry, ())))
        elif entry.startswith(_NEARNESS):
            estimator = entry.removeprefix(_NEARNESS)
            expected, got = reference[entry], other.get(entry)
            if got is None or got.shape != expected.shape:
                wrong.append(f"{estimator}: no map of {expected.shape}")
                continue
            largest[estimator] = float(np.abs(got - expected).max() / np.ptp(expected))
            if not largest[estimator] <= BOUND:  # so that NaN is noticed
                wrong.append(f"{estimator}: differs by {largest[estimator]:.1e} of its range, more than {BOUND:.0e}")
    return largest, wrong


def _wrong_names(estimator: str, expected: set[str], got: set[str]) -> list[str]:
    found = (("missing", expected - got), ("left over", got - expected))
    return [f"{estimator}: {len(names)} {what} in its state dict, as {min(names)}" for what, names in found if names]


def refused(written: Written) -> dict[str, str]:
    """The estimators that could not be built, and what was said of each."""
    return {entry.removeprefix(_REFUSED): str(written[entry]) for entry in written if entry.startswith(_REFUSED)}


def read(path: Path) -> Written:
    """What this script wrote to ``path``."""
    with np.load(path) as file:
        return dict(file)


def written_versions(written: Written) -> dict[str, str]:
    """The version of Python and of each of ``PACKAGES`` that they were computed with."""
    versions: dict[str, str] = json.loads(str(written[_VERSIONS]))
    return versions


def _installed() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def _uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(f"{name} {shape}".encode()))
    return (low + (high - low) * random.random_sample(shape)).astype(np.float32)


def _weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Such that activations keep their size from layer to layer, and the last layer gives nearness above zero."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    low_high = _range(name, len(shape))
    if low_high is not None:
        return _uniform(name, shape, *low_high)
    deviation = 1 / np.sqrt(np.prod(shape[1:], dtype=np.float64))
    lowest = 0.0 if name.endswith(_LAST) else -1.0
    return _uniform(name, shape, lowest * np.sqrt(3) * deviation, np.sqrt(3) * deviation)


def _range(name: str, axes: int) -> tuple[float, float] | None:
    """From where to where; None for a matrix or a kernel, whose size says it."""
    if name.endswith(_LAST_OF_BRANCH) or _ends_a_branch(name):
        return 0.2, 0.3
    if name.endswith("logit_scale"):
        return 1.0, 2.0
    if name.endswith("running_var") or (axes == 1 and name.endswith("weight")):
        return 0.8, 1.2
    if axes <= 1:
        return -0.1, 0.1
    if name.endswith(("pos_embed", "cls_token", "relative_position_bias_table")):
        return -0.5, 0.5
    return None


def _ends_a_branch(name: str) -> bool:
    """Swin's norms come last; the layers it narrows by are no branches."""
    return ".layers." in name and name.endswith(("norm1.weight", "norm2.weight"))


_LAST_OF_BRANCH = ("norm3.weight", "bn3.weight", ".gamma", ".gamma_1", ".gamma_2")
"""So that a residual block adds a quarter of what it adds to. With as much of both, rounding grows from block to block,
and after 16 of them it is more than what a comparison of versions is to notice."""

_LAST = ("scratch.output_conv.4.weight", "scratch.head.3.weight", "scratch.output_conv2.2.weight")


def _picture(side: int) -> np.ndarray:
    """(1, 3, side, side) float32 in [-1, 1]: a slope, discs before it, and grain."""
    rows, cols = np.mgrid[0:side, 0:side] / side
    picture = np.stack([rows, 1 - rows, cols])
    for number in range(12):
        y, x, radius, *colour = _uniform(f"disc {number}", (6,), 0, 1)
        picture[:, (rows - y) ** 2 + (cols - x) ** 2 < (0.05 + 0.15 * radius) ** 2] = np.array(colour)[:, None]
    picture = 0.9 * picture + 0.1 * _uniform("grain", picture.shape, 0, 1)
    return (2 * picture - 1).astype(np.float32)[None]


def _write(path: Path) -> None:
    import torch

    from lib_depth2img.errors import EstimatorError
    from lib_depth2img.estimators.loading import build_network
    from lib_depth2img.estimators.presets import PRESETS, get_preset

    written: dict[str, np.ndarray] = {_VERSIONS: np.array(json.dumps(_installed()))}
    for name in (*(name for name in PRESETS if name not in LARGE), "small"):
        preset = get_preset(name)
        picture = torch.from_numpy(_picture(SIDE // preset.multiple * preset.multiple))
        try:
            network = preset.build()
        except EstimatorError as error:
            written[_REFUSED + name] = np.array(str(error))
            continue
        shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        weights = {key: torch.from_numpy(_weight(key, shape)) for key, shape in shapes.items()}
        with torch.no_grad():
            nearness = build_network(preset, weights)(picture)[0].numpy()
        if not nearness.std() > 0.05 * nearness.max():
            raise ValueError(f"{name}: the map is flat or not finite, so its comparison would say nothing")
        written[_NEARNESS + name] = nearness
        written[_NAMES + name] = np.array([f"{key} {shape}" for key, shape in shapes.items()])
    np.savez(path, **written)


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
