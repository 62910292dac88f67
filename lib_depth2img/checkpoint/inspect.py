"""Look into a checkpoint without loading it: headers only, whatever its size, and without importing torch, unless its
numbers are wanted too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..progress import Listener
from ..weights.tensor_file import TensorInfo, open_tensor_file
from . import configuration, faults
from .contents import Contents, contents_of, midas_preset, state_dict_infos

__all__ = ["Report", "depth_model_without_yaml", "inspect", "write_yaml_beside"]


@dataclass(frozen=True)
class Report:
    """What `inspect` found.

    tensors, tensor_bytes, dtypes: of the state dict, dtypes as bytes of each. leftovers: what else the file holds
    (training state). missing: of UNet and MiDaS, how many tensors they lack. yaml: the configuration beside it.
    yaml_fits: whether it builds a model these weights fit; None where there is none, or the file is no depth model.
    rounded_schedule: whether the noise schedule is too coarse for the WebUI. not_finite: names of tensors that are used
    and hold NaN or inf; None where the numbers were not looked at. verdict: all of it in one line.
    """

    path: str
    format: str
    file_bytes: int
    tensors: int
    tensor_bytes: int
    dtypes: dict[str, int]
    leftovers: int
    unet_channels: int | None
    stable_diffusion: str | None
    midas: str | None
    text_encoder: str | None
    vae: bool
    ema: bool
    missing: dict[str, int]
    rounded_schedule: bool
    not_finite: list[str] | None
    yaml: str | None
    yaml_fits: bool | None
    depth_model: bool
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        return asdict(self)


def inspect(path: str | Path, *, numbers: bool = False, listener: Listener | None = None) -> Report:
    """Read a checkpoint's (or any weights file's) header and say what it is.

    ``numbers``: look for NaN and inf too, which takes reading all of the file.

    Raises:
        TensorFileError: no weights file, a damaged one, or one whose pickle would run code.
    """
    path = Path(path)
    with open_tensor_file(path) as file:
        tensors = state_dict_infos(file)
        leftovers = len(file) - len(tensors) + len(file.extra)
        kind = file.format
    contents = contents_of(tensors)
    rounded = faults.rounded_schedule(tensors)
    not_finite = faults.not_finite_in(path, listener=listener) if numbers else None
    yaml = configuration.beside(path)
    yaml_there = yaml.is_file()
    fits = _fits(yaml, contents) if yaml_there and contents.is_depth_model else None
    dtypes: Counter[str] = Counter()
    for info in tensors.values():
        dtypes[info.dtype] += info.nbytes
    return Report(
        path=str(path),
        format=kind,
        file_bytes=path.stat().st_size,
        tensors=len(tensors),
        tensor_bytes=sum(info.nbytes for info in tensors.values()),
        dtypes=dict(dtypes.most_common()),
        leftovers=leftovers,
        unet_channels=contents.unet_channels,
        stable_diffusion=contents.stable_diffusion,
        midas=contents.midas,
        text_encoder=contents.text_encoder,
        vae=contents.vae,
        ema=contents.ema,
        missing=dict(contents.missing),
        rounded_schedule=rounded,
        not_finite=not_finite,
        yaml=str(yaml) if yaml_there else None,
        yaml_fits=fits,
        depth_model=contents.is_depth_model,
        verdict=_verdict(contents, tensors, fits, _warnings(rounded=rounded, not_finite=not_finite or [])),
    )


def depth_model_without_yaml(path: str | Path) -> bool:
    """Whether this is a Stable Diffusion 2 depth model with no yaml beside it, which the host may mistake.

    Raises:
        TensorFileError: see `inspect`.
    """
    return not configuration.beside(path).exists() and _contents(path).is_sd2_depth_model


def write_yaml_beside(path: str | Path) -> Path | None:
    """Give a Stable Diffusion 2 depth model its yaml; returns its path, or None where one lies there or none belongs.

    A yaml that is there is never overwritten, whether it fits or not.

    Raises:
        TensorFileError: see `inspect`.
        CheckpointError: the folder cannot be written to.
    """
    if configuration.beside(path).exists():
        return None
    contents = _contents(path)
    if not contents.is_sd2_depth_model:
        return None
    try:
        return configuration.write_beside(path, contents.midas or configuration.DEFAULT_MIDAS)
    except OSError as error:
        raise CheckpointError(f"The yaml for {path} cannot be written: {error.strerror}.") from error


def _contents(path: str | Path) -> Contents:
    with open_tensor_file(path) as file:
        return contents_of(state_dict_infos(file))


def _fits(yaml: Path, contents: Contents) -> bool:
    return configuration.describes_depth_model(yaml, contents.context_dim, contents.midas)


def _verdict(contents: Contents, tensors: dict[str, TensorInfo], yaml_fits: bool | None, warnings: list[str]) -> str:
    return " ".join([_parts(contents, tensors, yaml_fits, sound=not warnings), *warnings])


def _parts(contents: Contents, tensors: dict[str, TensorInfo], yaml_fits: bool | None, *, sound: bool) -> str:
    if contents.unet_channels is None:
        preset = midas_preset(tensors)
        return f"MiDaS weights ({preset}), not a checkpoint." if preset else "Not a Stable Diffusion checkpoint."
    if not contents.is_depth_model:
        version = f"Stable Diffusion {contents.stable_diffusion} " if contents.stable_diffusion else ""
        return (
            f"Not a depth model: a {version}checkpoint whose UNet takes {contents.unet_channels} channels instead of 5."
        )
    wants = [
        *faults.lacking(contents),
        *([] if contents.text_encoder else ["its text encoder"]),
        *([] if contents.vae else ["its VAE"]),
        *([] if yaml_fits else ["a yaml that fits" if yaml_fits is False else "a yaml beside it"]),
    ]
    midas = (
        f"with {contents.midas} inside"
        if contents.midas
        else "without MiDaS, so the host needs MiDaS weights of its own"
    )
    whole = "complete" if sound else "all its parts are there"
    return f"A depth model {midas}; {'it lacks ' + ' and '.join(wants) if wants else whole}."


def _warnings(*, rounded: bool, not_finite: list[str]) -> list[str]:
    warnings = []
    if rounded:
        warnings.append(f"Its noise schedule ({faults.SCHEDULE}) is rounded to bfloat16, which makes black pictures.")
    if not_finite:
        warnings.append(f"It holds {faults.described(not_finite)}: it is damaged. Get it again from its source.")
    return warnings
