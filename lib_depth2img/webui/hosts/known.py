"""Whether this extension knows the host it was put into, asked before anything else of it is looked at."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["UNKNOWN", "is_known"]

UNKNOWN = (
    "Depth2Img does nothing in this WebUI. It works in AUTOMATIC1111's stable-diffusion-webui (v1.10.1) and its AMD "
    "fork, and leaves other hosts alone; there, ControlNet's depth models are the way to give a picture's depth."
)


def is_known() -> bool:
    """Whether the host is AUTOMATIC1111's or one that has the same inside.

    Forge and its children have ``modules_forge`` and load checkpoints in another way; SD.Next has no ``ldm``; Forge
    Classic has one without the depth model.
    """
    if find_spec("modules_forge") is not None:
        return False
    try:
        from ldm.models.diffusion.ddpm import LatentDepth2ImageDiffusion  # noqa: F401
    except ImportError:
        return False
    return True
