"""Make a depth model of a fine-tune: depth model + (fine-tune - base), tensor by tensor.

The depth model was itself trained on from the base, so what a fine-tune has learnt on top of the base can be added to
it: "add difference" merging, with the UNet's first convolution handled, where four input channels meet five.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Container, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import CheckpointError
from ..progress import Listener
from ..weights.tensor_file import TensorFile, open_tensor_file, state_dict_names
from .contents import INPUT_CONVOLUTION, Contents, contents_of
from .convert import FLOATS, is_needed, is_schedule, largest
from .inspect import write_yaml_beside
from .writing import PlannedTensor, check_target, write_checked

if TYPE_CHECKING:
    import torch

__all__ = ["Transplant", "transplant"]

METADATA_KEY = "depth2img.transplant"
UNRELATED = 0.5  # |A - B| / |B| beyond which A was hardly tuned from B


@dataclass(frozen=True)
class Transplant:
    """What `transplant` did.

    added: tensors that got the fine-tune's difference, by module. kept: the depth model's own, by module. skipped: the
    fine-tune's, each with the reason. change: |fine-tune - base| / |base| over all that was added. warnings: what looks
    wrong, in plain words.
    """

    out: Path
    added: dict[str, int]
    kept: dict[str, int]
    skipped: dict[str, str]
    change: float
    warnings: list[str] = field(default_factory=list)
    yaml: Path | None = None


@dataclass
class _Sums:
    """Squares of what was seen while adding, for `Transplant.change`."""

    difference: float = 0.0
    base: float = 0.0

    @property
    def change(self) -> float:
        return math.sqrt(self.difference / self.base) if self.base else 0.0


class _Model:
    """One of the three checkpoints: its file, and its state dict without what only training needs."""

    def __init__(self, role: str, file: TensorFile) -> None:
        self.role = role
        self.file = file
        self.entries = {name: entry for name, entry in state_dict_names(file).items() if is_needed(name)}
        self.infos = {name: file[entry] for name, entry in self.entries.items()}
        self.contents: Contents = contents_of(self.infos)

    def __str__(self) -> str:
        return f"the {self.role} {self.file.path.name}"

    def read(self, name: str) -> torch.Tensor:
        return self.file.read(self.entries[name])


class _Models(NamedTuple):
    tuned: _Model
    original: _Model
    target: _Model


def transplant(
    *,
    fine_tune: str | Path,
    base: str | Path,
    depth: str | Path,
    out: str | Path,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Transplant:
    """Write ``depth + (fine_tune - base)`` as `out` for every weight all three share; the rest is the depth model's.

    `fine_tune` and its `base` are ordinary Stable Diffusion 2 models (four channels), `base` the one that the fine-tune
    started from; `depth` is a depth model (five). Sums are made in float32 and stored in the depth model's dtype. The
    first convolution's four latent channels get the difference, its depth channel stays. Noise schedule and EMA copies
    are left out of it. Whether a model predicts noise or v is not written in it: a 768-v fine-tune does not belong on
    512-depth-ema.

    Raises:
        TensorFileError: a file is no weights file, damaged, or its pickle would run code.
        CheckpointError: the models are of the wrong kind or of different versions, share nothing, `out` may not be
            written, or a sum leaves the range of the depth model's dtype.
    """
    out = Path(out)
    paths = {"fine-tune": Path(fine_tune), "base": Path(base), "depth model": Path(depth)}
    check_target(out, *paths.values(), overwrite=overwrite)
    with ExitStack() as stack:
        models = _Models(*(_Model(role, stack.enter_context(open_tensor_file(path))) for role, path in paths.items()))
        _check_kinds(models)
        names = list(models.target.infos)
        added = dict.fromkeys(name for name in names if _fits(name, models))
        if not added:
            raise CheckpointError(f"Nothing can be added: {' and '.join(map(str, models))} share no weights.")
        sums = _Sums()
        planned = [_adding(name, models, sums) if name in added else _keeping(name, models.target) for name in names]
        result = Transplant(
            out=out,
            added=_by_module(added),
            kept=_by_module(name for name in names if name not in added),
            skipped=_skipped(models, added),
            change=0.0,
        )
        write_checked(out, planned, metadata=_metadata(models, result), listener=listener)
    return replace(result, change=sums.change, warnings=_warnings(sums), yaml=write_yaml_beside(out))


def _check_kinds(models: _Models) -> None:
    tuned, original, target = models
    if not target.contents.is_depth_model:
        raise CheckpointError(_wrong_kind(target, 5))
    if tuned.contents.is_depth_model or tuned.contents.midas:
        raise CheckpointError(f"{tuned.file.path.name} is a depth model already; nothing needs to be added to one.")
    for model in (tuned, original):
        if model.contents.unet_channels != 4:
            raise CheckpointError(_wrong_kind(model, 4))
    versions = {model.contents.context_dim for model in models}
    if len(versions) > 1:
        found = ", ".join(f"{model}: {_version(model)}" for model in models)
        raise CheckpointError(f"The models are of different versions and cannot be added ({found}).")


def _wrong_kind(model: _Model, channels: int) -> str:
    found = model.contents.unet_channels
    got = "has no UNet with the names of Stability's code" if found is None else f"has a UNet of {found} input channels"
    wanted = "a depth model's 5" if channels == 5 else "an ordinary model's 4"
    return f"{model.file.path.name} {got}; as {model.role} a checkpoint with {wanted} is needed."


def _version(model: _Model) -> str:
    version = model.contents.stable_diffusion
    return f"Stable Diffusion {version}" if version else f"a UNet of context width {model.contents.context_dim}"


def _fits(name: str, models: _Models) -> bool:
    """Whether a tensor of the depth model can take the difference."""
    if is_schedule(name) or not all(name in model.infos for model in models):
        return False
    infos = [model.infos[name] for model in models]
    shapes = {(info.shape[0], *info.shape[2:]) if name == INPUT_CONVOLUTION else info.shape for info in infos}
    return len(shapes) == 1 and all(info.dtype in FLOATS for info in infos)


def _keeping(name: str, target: _Model) -> PlannedTensor:
    return PlannedTensor(replace(target.infos[name], name=name), lambda: target.read(name))


def _adding(name: str, models: _Models, sums: _Sums) -> PlannedTensor:
    def load() -> torch.Tensor:
        import torch

        # In place and one after another: the largest tensor takes 0.2 GB, and no more than two such are alive at once.
        difference = models.tuned.read(name).to(torch.float32)
        base = models.original.read(name).to(torch.float32)
        sums.base += float(torch.linalg.vector_norm(base)) ** 2
        difference -= base
        del base
        sums.difference += float(torch.linalg.vector_norm(difference)) ** 2
        depth = models.target.read(name)
        dtype = depth.dtype
        total = depth.to(torch.float32)
        del depth
        latent = total[:, : difference.shape[1]] if name == INPUT_CONVOLUTION else total
        latent += difference
        if not largest(total) <= torch.finfo(dtype).max:  # NaN is not either
            raise CheckpointError(f"The sum for {name} is not finite as {dtype}: one of the models is broken.")
        del difference, latent
        return total.to(dtype)

    return replace(_keeping(name, models.target), load=load)


def _skipped(models: _Models, added: Container[str]) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for name in models.tuned.infos:
        if name in added or is_schedule(name):
            continue
        if name not in models.target.infos:
            reasons[name] = "not in the depth model"
        elif name not in models.original.infos:
            reasons[name] = "not in the base"
        else:
            reasons[name] = "of another shape or not a float"
    return reasons


def _by_module(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(name.split(".")[0] if not is_schedule(name) else "noise schedule" for name in names))


def _warnings(sums: _Sums) -> list[str]:
    if not sums.difference:
        return ["The fine-tune and the base are the same: the result is the depth model unchanged."]
    if sums.change > UNRELATED:
        return [
            f"The fine-tune differs from the base by {sums.change:.0%} of its weights: it was probably not made from "
            "it, and the result will be of no use."
        ]
    return []


def _metadata(models: _Models, result: Transplant) -> dict[str, str]:
    record = {
        **{model.role: model.file.path.name for model in models},
        "formula": "depth model + (fine-tune - base)",
        "added": result.added,
        "kept": result.kept,
        "skipped": result.skipped,
    }
    return {"format": "pt", METADATA_KEY: json.dumps(record)}
