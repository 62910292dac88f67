"""Convert a checkpoint to .safetensors, halve it, drop what only training needs, add MiDaS."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from ..progress import Listener
from ..weights.layout import DTYPE_BYTES
from ..weights.tensor_file import TensorFile, TensorInfo, open_tensor_file, state_dict_names
from .contents import EMA, MIDAS, contents_of, midas_preset, state_dict_infos
from .inspect import write_yaml_beside
from .writing import PlannedTensor, check_target, write_checked

if TYPE_CHECKING:
    import torch

__all__ = ["Conversion", "convert", "is_needed", "is_schedule", "largest"]

TRAINING_ONLY = (EMA, "first_stage_model.loss.", "loss.", "optimizer")
FLOATS = frozenset({"bfloat16", "float16", "float32", "float64"})
HALF_LIMIT = 65520.0  # what is smaller is rounded to 65504, the largest float16
METADATA_KEY = "depth2img.convert"


@dataclass(frozen=True)
class Conversion:
    """What `convert` did: tensors and bytes written, tensors dropped by kind, tensors halved, which MiDaS was added."""

    out: Path
    tensors: int
    nbytes: int
    dropped: dict[str, int]
    halved: int
    midas_added: str | None
    notes: list[str] = field(default_factory=list)
    yaml: Path | None = None


def is_needed(name: str) -> bool:
    """Whether a tensor of a state dict is part of the model, and not of its training."""
    return not name.startswith(TRAINING_ONLY)


def is_schedule(name: str) -> bool:
    """Whether this is one of the noise schedule's buffers (betas, alphas_cumprod, …), which lie at the model's top."""
    return "." not in name


def convert(
    source: str | Path,
    out: str | Path,
    *,
    half: bool = False,
    add_midas: str | Path | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Conversion:
    """Write the checkpoint `source`, .ckpt or .safetensors, anew as `out`, which is a .safetensors.

    EMA copies, optimizer and other training leftovers are dropped. `half` makes all weights float16, except the noise
    schedule, of which the host too keeps the main part whole (modules/sd_models.py:482-486). `add_midas` names a MiDaS
    .pt, or a checkpoint with MiDaS inside, whose weights are added where there are none. One tensor is in memory at a
    time; the result is read back and compared before it takes its name, and gets its yaml if it is a Stable Diffusion 2
    depth model.

    Raises:
        TensorFileError: a file is no weights file, damaged, or its pickle would run code.
        CheckpointError: nothing to convert, `out` may not be written, a weight too large for float16, no disk space.
    """
    source, out = Path(source), Path(out)
    inputs = [source] if add_midas is None else [source, Path(add_midas)]
    check_target(out, *inputs, overwrite=overwrite)
    with ExitStack() as stack:
        file = stack.enter_context(open_tensor_file(source))
        tensors = {name: entry for name, entry in state_dict_names(file).items() if is_needed(name)}
        if not tensors:
            raise CheckpointError(f"{source.name} holds no tensors of a model; a checkpoint is expected.")
        parts = [(file, name, entry) for name, entry in tensors.items()]
        preset, notes = None, []
        inside = contents_of(state_dict_infos(file))
        if add_midas is not None and inside.midas and "MiDaS" not in inside.missing:
            notes.append("MiDaS was already inside and was left as it is.")
        elif add_midas is not None:
            midas = stack.enter_context(open_tensor_file(add_midas))
            entries, preset = _midas_entries(midas)
            whole = [part for part in parts if not part[1].startswith(MIDAS)]
            if len(whole) < len(parts):
                notes.append(f"{len(parts) - len(whole)} tensors of an incomplete MiDaS were replaced.")
            parts = whole + [(midas, name, entry) for name, entry in entries.items()]
        planned = [_planned(origin, name, entry, half=half) for origin, name, entry in parts]
        result = Conversion(
            out=out,
            tensors=len(planned),
            nbytes=sum(tensor.info.nbytes for tensor in planned),
            dropped=_dropped(file),
            halved=sum(half and _becomes_half(name, origin[entry]) for origin, name, entry in parts),
            midas_added=preset,
            notes=notes,
        )
        write_checked(out, planned, metadata=_metadata(file, result, half=half), listener=listener)
    return replace(result, yaml=write_yaml_beside(out))


def _becomes_half(name: str, info: TensorInfo) -> bool:
    return info.dtype in FLOATS - {"float16"} and not is_schedule(name)


def _planned(file: TensorFile, name: str, entry: str, *, half: bool) -> PlannedTensor:
    info = replace(file[entry], name=name)
    if not half or not _becomes_half(name, info):
        return PlannedTensor(info, lambda: file.read(entry))
    nbytes = info.nbytes // DTYPE_BYTES[info.dtype] * DTYPE_BYTES["float16"]
    return PlannedTensor(replace(info, dtype="float16", nbytes=nbytes), _halving(file, name, entry))


def _halving(file: TensorFile, name: str, entry: str) -> Callable[[], torch.Tensor]:
    def load() -> torch.Tensor:
        whole = file.read(entry)
        if HALF_LIMIT <= largest(whole) < math.inf:
            raise CheckpointError(
                f"{name} holds {largest(whole):g}, more than float16 can (65504). Convert without halving."
            )
        return whole.half()

    return load


def largest(tensor: torch.Tensor) -> float:
    """The largest magnitude in a float32, float64 or bfloat16 tensor, NaN if one is there; needs no memory."""
    import torch

    if not tensor.numel():
        return 0.0
    low, high = torch.aminmax(tensor)
    return float(torch.maximum(-low, high))


def _midas_entries(file: TensorFile) -> tuple[dict[str, str], str]:
    """MiDaS weights in `file`: their names in a checkpoint with the entries to read, and the preset they are for."""
    names = state_dict_names(file)
    for prefix in (MIDAS, "model.", ""):
        entries = {name.removeprefix(prefix): entry for name, entry in names.items() if name.startswith(prefix)}
        preset = midas_preset({name: file[entry] for name, entry in entries.items()})
        if preset is not None:
            return {MIDAS + name: entry for name, entry in entries.items()}, preset
    raise CheckpointError(
        f"{file.path.name} holds no MiDaS weights that are known here; expected is a MiDaS or DPT .pt."
    )


def _dropped(file: TensorFile) -> dict[str, int]:
    names = state_dict_names(file)
    groups = Counter(
        next(kind for kind in TRAINING_ONLY if name.startswith(kind)) for name in names if not is_needed(name)
    )
    outside = len(file) - len(names) + len(file.extra)
    return {**groups, **({"training state": outside} if outside else {})}


def _metadata(file: TensorFile, result: Conversion, *, half: bool) -> dict[str, str]:
    record = {"from": file.path.name, "half": half, "dropped": result.dropped, "midas_added": result.midas_added}
    return {"format": "pt", **file.metadata, METADATA_KEY: json.dumps(record)}
