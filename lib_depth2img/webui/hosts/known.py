"""Which host this extension was put into, asked before anything of it is hooked."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["UNKNOWN", "is_forge", "is_known", "is_reforge"]

UNKNOWN = (
    "Depth2Img does nothing in this WebUI. It works in AUTOMATIC1111's stable-diffusion-webui (v1.10.1), its AMD fork, "
    "Forge and reForge, and leaves other hosts alone; there, ControlNet's depth models are the way to give a picture's "
    "depth."
)


def is_forge() -> bool:
    """Whether the host is Forge.

    Its children have ``modules_forge`` too. Forge Neo took the engine for Stable Diffusion 2 out
    (backend/diffusion_engine/sd20.py); ersatzForge has it, but manages memory in another way.
    """
    forge = ("modules_forge", "backend.diffusion_engine.sd20", "huggingface_guess.model_list")
    return all(map(_has, forge)) and _defines("backend.memory_management", "cleanup_models")


def is_reforge() -> bool:
    """Whether the host is reForge.

    It has what Forge was made of before (``ldm_patched``), in the newer order of folders, and Stability's depth model.
    Forge Classic has an ``ldm`` without that model.
    """
    reforge = ("modules_forge.forge_loader", "ldm_patched.modules.text_encoders.sd2_clip")
    return all(map(_has, reforge)) and _has_depth_model()


def is_known() -> bool:
    """Whether this extension can do anything here: in Forge, reForge, AUTOMATIC1111's host, or one with its inside.

    Other children of Forge load checkpoints in other ways; SD.Next has no ``ldm``.
    """
    if _has("modules_forge"):
        return is_forge() or is_reforge()
    return _has_depth_model()


def _has_depth_model() -> bool:
    try:
        from ldm.models.diffusion.ddpm import LatentDepth2ImageDiffusion  # noqa: F401
    except ImportError:
        return False
    return True


def _defines(module: str, function: str) -> bool:
    """Whether that is said in the module's source; it is not imported, since nothing is touched in an unknown host."""
    spec = find_spec(module) if _has(module) else None
    if spec is None or spec.origin is None:
        return False
    return f"\ndef {function}(" in Path(spec.origin).read_text(encoding="utf-8", errors="replace")


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False
