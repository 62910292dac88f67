"""LoRA files, added to the weights while they are read.

Known are the names that WebUI users have, of kohya's trainer, with ldm's or diffusers' words for the layers behind
``lora_unet_`` and ``lora_te_``, and those of diffusers, old and new. A LoRA of a layer is ``up @ down * alpha / rank``.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoint.contents import UNET
from ..errors import CheckpointError
from ..weights.tensor_file import TensorFile, open_tensor_file

if TYPE_CHECKING:
    from torch import Tensor

    from .architecture import Architecture, Part

__all__ = ["Change", "changes_of"]

_log = logging.getLogger(__name__)

_ENDS = (
    r"\.lora_(?P<way>down|up)\.weight",  # kohya
    r"\.lora_(?P<letter>A|B)(\.default)?\.weight",  # peft, and diffusers with it
    r"(_lora|\.lora|\.lora_linear_layer)\.(?P<old_way>down|up)\.weight",  # diffusers before
    r"\.(?P<alpha>alpha)",
)
_NAMES = re.compile(rf"(?P<layer>.+?)(?:{'|'.join(_ENDS)})")
_ROLES = {"A": "down", "B": "up"}
_TEXT_LAYERS = {
    "attn.in_proj_weight": ("self_attn_q_proj", "self_attn_k_proj", "self_attn_v_proj"),
    "attn.out_proj.weight": ("self_attn_out_proj",),
    "mlp.c_fc.weight": ("mlp_fc1",),
    "mlp.c_proj.weight": ("mlp_fc2",),
}
"""open_clip's weights of a block, and the layers in each by the names of transformers, which LoRA files have."""
_SHOWN = 3


@dataclass(frozen=True)
class Change:
    """What a LoRA adds to some rows of a weight: ``scale * up @ down``, of shapes (rows, rank, …) and (rank, in, …)."""

    rows: slice
    up: Tensor
    down: Tensor
    scale: float

    def apply(self, weight: Tensor) -> None:
        """Add it to ``weight``, float32, in place."""
        part = weight[self.rows]
        part += (self.scale * (self.up.flatten(1) @ self.down.flatten(1))).reshape(part.shape)


@dataclass(frozen=True)
class _Target:
    """The weight of a layer by the checkpoint's name, and the layer's rows of it."""

    name: str
    shape: tuple[int, ...]
    rows: slice

    def fits(self, up: Tensor, down: Tensor) -> bool:
        """Whether ``up @ down`` has the shape of the rows."""
        count = len(range(self.shape[0])[self.rows])
        inside = math.prod(self.shape[1:])
        return up.shape[:2] == (count, len(down)) and up[0, 0].numel() == 1 and down[0].numel() == inside


def changes_of(loras: Iterable[tuple[Path, float]], architecture: Architecture) -> dict[str, list[Change]]:
    """What LoRA files, each with its weight, add to the tensors of a checkpoint, by their names in it.

    Layers that the model does not have are named in a warning.

    Raises:
        TensorFileError: a file is broken.
        CheckpointError: a file with nothing for this model, with layers of another size, or of a kind that is not LoRA.
    """
    targets = {**_unet_targets(architecture.unet), **_text_targets(architecture.text)}
    changes: dict[str, list[Change]] = {}
    for path, weight in loras:
        with open_tensor_file(path) as file:
            for target, change in _read(file, targets, weight):
                changes.setdefault(target.name, []).append(change)
    return changes


def _unet_targets(unet: Part) -> dict[str, _Target]:
    """Each layer by diffusers' and by ldm's name."""
    targets = {}
    for name, weight in unet.module.named_parameters():
        if weight.ndim > 1:
            target = _Target(unet.names[name], tuple(weight.shape), slice(None))
            for spelled in (name, target.name.removeprefix(UNET)):
                targets[_normal(f"unet.{spelled.removesuffix('.weight')}")] = target
    return targets


def _text_targets(text: Part) -> dict[str, _Target]:
    targets = {}
    for name, weight in text.module.named_parameters():
        _, _, block = name.partition("resblocks.")
        index, _, inside = block.partition(".")
        layers = _TEXT_LAYERS.get(inside, ())
        for number, layer in enumerate(layers):
            height = len(weight) // len(layers)
            rows = slice(number * height, (number + 1) * height)
            key = f"te_text_model_encoder_layers_{index}_{layer}"
            targets[key] = _Target(text.names[name], tuple(weight.shape), rows)
    return targets


def _normal(layer: str) -> str:
    """One spelling for a layer's name: kohya's without ``lora_``."""
    name = layer.replace(".processor.", ".").replace(".", "_").removeprefix("lora_")
    name = re.sub("^text_encoder_", "te_", name)
    name = re.sub("_to_out$", "_to_out_0", name)
    name = re.sub("_self_attn_to_(q|k|v|out)(_0)?$", r"_self_attn_\1_proj", name)  # of a text encoder, diffusers before
    return name if name.startswith(("unet_", "te_")) else f"unet_{name}"


def _read(file: TensorFile, targets: Mapping[str, _Target], weight: float) -> Iterator[tuple[_Target, Change]]:
    layers: dict[str, dict[str, str]] = {}
    unknown = []
    for name in file:
        found = _NAMES.fullmatch(name)
        layer = _normal(found["layer"] if found else name.split(".")[0])
        if layer not in targets:
            unknown.append(name)
        elif found is None:
            raise CheckpointError(f"{file.path.name} is no LoRA of the kind that is known here: it holds {name}.")
        else:
            role = found["way"] or found["old_way"] or found["alpha"] or _ROLES[found["letter"]]
            layers.setdefault(layer, {})[role] = name
    shown = ", ".join(unknown[:_SHOWN]) + (", …" if len(unknown) > _SHOWN else "")
    if not layers:
        raise CheckpointError(f"{file.path.name} holds no LoRA for this model; it holds {shown or 'nothing'}.")
    if unknown:
        _log.warning("%s: %d tensors are for no layer of this model: %s", file.path.name, len(unknown), shown)
    for layer, entries in layers.items():
        yield targets[layer], _change(file, layer, entries, targets[layer], weight)


def _change(file: TensorFile, layer: str, entries: Mapping[str, str], target: _Target, weight: float) -> Change:
    if not {"up", "down"} <= set(entries):
        raise CheckpointError(f"{file.path.name} is cut off: of {layer} it holds only {', '.join(entries.values())}.")
    up, down = (file.read(entries[role]).float() for role in ("up", "down"))
    if not target.fits(up, down):
        raise CheckpointError(
            f"{file.path.name} does not fit this model: {layer} is {tuple(up.shape)} by {tuple(down.shape)} for a "
            f"weight of {target.shape}. A LoRA of Stable Diffusion 2 is needed."
        )
    alpha = float(file.read(entries["alpha"])) if "alpha" in entries else len(down)
    return Change(target.rows, up, down, weight * alpha / len(down))
