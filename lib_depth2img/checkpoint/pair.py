"""The model pair: 512-depth-ema with its yaml, installed into a folder and looked for there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import InstallError
from ..progress import Progress
from ..weights import catalog
from ..weights.download import as_install_error
from ..weights.install import DigestOf, computed, install, make_folder
from . import configuration

__all__ = ["install_pair", "pair_installed"]


def install_pair(
    variant_name: str,
    target_dir: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    digest_of: DigestOf = computed,
) -> tuple[Path, Path]:
    """Install the depth checkpoint ("ckpt", "safetensors" or "fp16") with its yaml; returns both paths.

    The yaml comes first: it is there too when the checkpoint has to be brought by hand. One that lies there is kept.

    Raises:
        InstallError: as `install`, and when the yaml that lies there is not this model's.
        InstallCancelled: as `install`.
    """
    file = catalog.variant(variant_name)
    target = Path(target_dir).expanduser() / file.name
    make_folder(target.parent)
    with as_install_error(target.parent, "cannot be written to"):
        yaml = configuration.write_beside(target) or configuration.beside(target)
    if not configuration.describes_depth_model(yaml):
        raise InstallError(
            f"{yaml} is already there but does not describe a depth model; a web page saved under the name looks like "
            "this. Move it away and start again: the right one is then written."
        )
    return install(file, target.parent, progress=progress, cancelled=cancelled, digest_of=digest_of), yaml


def pair_installed(target_dir: str | Path, variant_name: str | None = None) -> Path | None:
    """The checkpoint of a model pair that `install_pair` left in `target_dir`, yaml beside it; None if there is none.

    variant_name: of this form; None for any. A look at names, sizes and the yaml; `install` verifies the hash.
    """
    for file in catalog.FILES:
        path = Path(target_dir) / file.name
        wanted = file.variant is not None and variant_name in (None, file.variant)
        if (
            wanted
            and _looks_complete(path, file.nbytes)
            and configuration.describes_depth_model(configuration.beside(path))
        ):
            return path
    return None


def _looks_complete(path: Path, nbytes: int | None) -> bool:
    with suppress(OSError):  # what may not be looked at, or goes away meanwhile, is not there to be used either
        return path.is_file() and nbytes in (None, path.stat().st_size)
    return False
