"""The yaml beside a checkpoint, by which the host and `ldm` know what to build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..replacing import replacing

__all__ = ["PAIR_YAML", "beside", "describes_depth_model", "pair_yaml", "read_yaml", "write_beside"]

PAIR_YAML = Path(__file__).with_name("v2-midas-inference.yaml")

MAX_YAML_BYTES = 1_000_000
DEFAULT_MIDAS = "dpt_hybrid"


def beside(checkpoint: str | Path) -> Path:
    """Where the host looks for a checkpoint's yaml: same name, other suffix (modules/sd_models_config.py:121-136)."""
    return Path(checkpoint).with_suffix(".yaml")


def pair_yaml(midas: str = DEFAULT_MIDAS) -> str:
    """The configuration of an SD2 depth model, for the depth estimation preset that is inside the checkpoint."""
    return PAIR_YAML.read_text("utf-8").replace(f'model_type: "{DEFAULT_MIDAS}"', f'model_type: "{midas}"')


def write_beside(checkpoint: str | Path, midas: str = DEFAULT_MIDAS) -> Path | None:
    """Write the depth model's yaml beside `checkpoint`; None, and nothing written, where one already lies there.

    Raises:
        OSError: the folder cannot be written to.
    """
    target = beside(checkpoint)
    if target.exists():
        return None
    with replacing(target) as part:
        part.write_text(pair_yaml(midas), encoding="utf-8")
    return target


def describes_depth_model(yaml: Path, context_dim: int | None = None, midas: str | None = None) -> bool:
    """Whether a yaml builds a five-channel depth model.

    context_dim: the width of cross-attention that it must have. midas: the preset whose weights are in the checkpoint,
    which would not load into a depth stage of another one. None leaves either open.
    """
    model = _at(read_yaml(yaml), "model")
    unet = _at(model, "params", "unet_config", "params")
    stage = _at(model, "params", "depth_stage_config")
    if not str(_at(model, "target")).endswith("LatentDepth2ImageDiffusion") or _at(unet, "in_channels") != 5:
        return False
    if context_dim is not None and _at(unet, "context_dim") != context_dim:
        return False
    stabilitys = str(_at(stage, "target")).endswith("MiDaSInference")
    return midas is None or not stabilitys or _at(stage, "params", "model_type") == midas


def read_yaml(yaml: Path) -> Any:
    """A yaml's plain containers, as data; None where it cannot be read, or is no model's: too large, no yaml."""
    from omegaconf import OmegaConf

    try:
        if yaml.stat().st_size > MAX_YAML_BYTES:
            return None
        return OmegaConf.to_container(OmegaConf.load(yaml))
    except Exception:  # noqa: BLE001  # whatever keeps it from being read, it describes nothing
        return None


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
