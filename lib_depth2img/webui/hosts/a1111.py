"""What this extension asks of the host: the one place that knows where in ``modules.*`` it is found.

Every function looks the thing up when it is called. The host replaces its models, moves them to ``meta``
(sd_models.py:763) and reloads its own modules, so nothing of it is kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..settings import Settings, read_settings

if TYPE_CHECKING:
    import torch
    from PIL import Image

__all__ = [
    "api_enabled",
    "checkpoint_file",
    "checkpoint_folder",
    "checkpoint_name",
    "checkpoint_named",
    "checkpoint_sha256",
    "command_line",
    "compute_device",
    "computes_in_float32",
    "flattened",
    "free_memory",
    "init_picture",
    "is_depth_model",
    "loaded_model",
    "midas_folder",
    "option",
    "patch",
    "queue_lock",
    "refresh_checkpoints",
    "save_image",
    "selected_script",
    "settings",
    "status",
    "undo_patches",
    "uses_low_memory",
]

_KEY = "depth2img"

_patched: list[tuple[Any, str]] = []


def patch(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put ``make(what stands there)`` in the place of ``owner.name``; patching twice is the same as once."""
    from modules import patches

    if patches.original(_KEY, owner, name) is not None:
        patches.undo(_KEY, owner, name)
        _patched.remove((owner, name))
    patches.patch(_KEY, owner, name, make(getattr(owner, name)))
    _patched.append((owner, name))


def undo_patches() -> None:
    """Put back everything that ``patch`` replaced, the latest first."""
    from modules import patches

    while _patched:
        patches.undo(_KEY, *_patched.pop())


def loaded_model() -> Any:
    """The checkpoint in memory, or None; unlike ``shared.sd_model`` (shared_items.py:175) asking does not load one."""
    from modules import sd_models

    return sd_models.model_data.sd_model


def is_depth_model(model: Any) -> bool:
    """Whether the UNet of a loaded checkpoint takes depth; the host asks the same way (processing.py:380)."""
    from ldm.models.diffusion.ddpm import LatentDepth2ImageDiffusion

    return isinstance(model, LatentDepth2ImageDiffusion)


def checkpoint_name(model: Any) -> str | None:
    """The name of a loaded checkpoint as the host's dropdown shows it, None while there is none."""
    info = getattr(model, "sd_checkpoint_info", None)
    return None if info is None else str(info.name)


def checkpoint_file(model: Any) -> Path:
    """The file a loaded checkpoint came from (sd_models.py:523)."""
    return Path(model.sd_model_checkpoint)


def checkpoint_named(name: str | None) -> Any:
    """The host's ``CheckpointInfo`` that comes nearest to a name, or None."""
    from modules import sd_models

    return sd_models.get_closet_checkpoint_match(name)


def checkpoint_folder() -> Path:
    """Where checkpoints are put: ``--ckpt-dir`` where it is given, else the models folder."""
    from modules import sd_models, shared

    return Path(shared.cmd_opts.ckpt_dir or sd_models.model_path)


def checkpoint_sha256(file: Path, compute: Callable[[], str]) -> str:
    """The sha256 of a file in the checkpoint folder, computed once for as long as its size and time stay the same.

    It is noted where the host notes those of its checkpoints (hashes.py:22-64): neither reads what the other has read.
    """
    from modules import cache

    title, found = f"checkpoint/{file.name}", file.stat()  # sd_models.py:92
    facts = {"mtime": found.st_mtime, "size": found.st_size}
    with suppress(Exception):  # without the cache it only takes longer
        note = cache.cache("hashes").get(title) or {}
        noted = {"mtime": note.get("mtime"), "size": note.get("size", found.st_size)}  # the host itself notes no size
        if noted == facts:
            return str(note["sha256"])
    digest = compute()
    with suppress(Exception):
        cache.cache("hashes")[title] = {**facts, "sha256": digest}
    return digest


def midas_folder() -> Path:
    """Where the host keeps MiDaS weights (sd_models.py:552)."""
    from modules import paths

    return Path(paths.models_path) / "midas"


def refresh_checkpoints() -> None:
    """Look at the models folder again."""
    from modules import sd_models

    sd_models.list_models()


def compute_device() -> torch.device:
    """Where the host computes."""
    from modules import devices

    device: torch.device = devices.device
    return device


def computes_in_float32() -> bool:
    """Whether the user keeps the host from half precision: --no-half, --precision full (shared_init.py:31-33)."""
    import torch
    from modules import devices

    return torch.float32 in (devices.dtype, devices.dtype_inference)


def uses_low_memory() -> bool:
    """Whether the host runs under --medvram or --lowvram."""
    from modules import shared

    return bool(shared.cmd_opts.lowvram or shared.cmd_opts.medvram)


def free_memory() -> None:
    """Give what torch keeps but does not use back to the device."""
    from modules import devices

    devices.torch_gc()


def settings() -> Settings:
    """This extension's page of the settings, as it is now."""
    from modules import shared

    return read_settings(shared.opts)


def option(name: str) -> Any:
    """One of the host's own settings."""
    from modules import shared

    return getattr(shared.opts, name)


def command_line() -> Any:
    """The flags the host was started with."""
    from modules import shared

    return shared.cmd_opts


def api_enabled() -> bool:
    """Whether the host serves its API."""
    flags = command_line()
    return bool(flags.api or flags.nowebui)


def flattened(image: Image.Image) -> Image.Image:
    """A picture without transparency, over the background colour the host uses (processing.py:1677)."""
    from modules import images

    flat: Image.Image = images.flatten(image, option("img2img_background_color"))
    return flat


def init_picture(picture: Image.Image) -> Image.Image:
    """A picture of the img2img tab as a generation begins from it: turned, and flattened (img2img.py:188)."""
    from modules import images

    return flattened(images.fix_image(picture))


def save_image(picture: Image.Image, folder: str, *, in_subfolders: bool | None = None, **details: Any) -> None:
    """Save a PNG as the host saves its own pictures, under the name that its settings make (images.py:631).

    ``in_subfolders``: None for what the settings say. ``details``: seed, prompt, info, p and suffix. Raises: OSError.
    """
    from modules import images

    images.save_image(picture, folder, "", extension="png", save_to_dirs=in_subfolders, **details)


def selected_script(p: Any) -> Any:
    """The selectable script that runs this generation, or None (scripts.py:746-760)."""
    index = p.script_args[0] if p.scripts is not None and p.script_args else 0
    return p.scripts.selectable_scripts[index - 1] if index else None


def queue_lock() -> Any:
    """The lock that the host's generations wait for; not reentrant."""
    from modules import call_queue

    return call_queue.queue_lock


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show a few words over the progress bar meanwhile."""
    from modules import shared

    shared.state.textinfo, before = text, shared.state.textinfo
    try:
        yield
    finally:
        shared.state.textinfo = before
