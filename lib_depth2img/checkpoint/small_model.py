"""The small depth-to-image model: where it goes once trained (training/README.md), and its text architecture."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ARCHITECTURE", "SMALL_CHECKPOINT", "SMALL_CONFIG", "register_architecture"]

_ASSETS = Path(__file__).resolve().parent.parent / "assets"

SMALL_CHECKPOINT = _ASSETS / "depth2img-small.safetensors"
SMALL_CONFIG = SMALL_CHECKPOINT.with_suffix(".yaml")
ARCHITECTURE = "depth2img-small-text"


def register_architecture() -> None:
    """Make `ARCHITECTURE` known to open_clip, which the small model's yaml names; calling it again changes nothing."""
    import open_clip

    if ARCHITECTURE not in open_clip.list_models():
        open_clip.add_model_config(_ASSETS / f"{ARCHITECTURE}.json")
