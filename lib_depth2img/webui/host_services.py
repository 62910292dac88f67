"""``PanelServices`` on a running host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoint import small_model
from ..checkpoint.pair import install_pair
from ..errors import InstallError
from ..estimators.detail import AS_TRAINED, Detail
from ..replacing import replacing
from ..weights import catalog
from ..weights.download import as_install_error
from ..weights.install import install
from . import settings
from .depth_stage import weights_file
from .estimators import ESTIMATORS
from .hosts import host
from .ui.services import Download, EstimatorStatus, ModelStatus

if TYPE_CHECKING:
    from PIL import Image

    from ..depth.depth_map import DepthMap
    from ..progress import Progress

__all__ = ["HostServices", "download_file"]

_TITLES = {
    "ckpt": "Stable Diffusion 2 depth model",
    "safetensors": "Stable Diffusion 2 depth model, safetensors",
    "fp16": "Stable Diffusion 2 depth model, half precision",
}


class HostServices:
    """What the panel, the Extras tab and the API ask of the host.

    ``in_queue``: the caller already holds the host's queue lock, as the Extras tab does; the lock is not reentrant.
    """

    def __init__(self, *, in_queue: bool = False) -> None:
        self._in_queue = in_queue

    def model(self) -> ModelStatus:
        selected = host.selected()
        return ModelStatus(selected.name, selected.is_depth_model)

    def estimators(self) -> Sequence[EstimatorStatus]:
        return ESTIMATORS.statuses()

    def default_estimator(self) -> str:
        return settings.current().estimator

    def init_picture(self, picture: Image.Image) -> Image.Image:
        return host.init_picture(picture)

    def estimate(self, picture: Image.Image, estimator: str, detail: Detail = AS_TRAINED) -> DepthMap:
        return self.estimate_all([picture], estimator, detail)[0]

    def estimate_all(
        self, pictures: Sequence[Image.Image], estimator: str, detail: Detail = AS_TRAINED
    ) -> list[DepthMap]:
        """One depth map for each picture, as ``PanelServices.estimate``."""
        queue: Any = contextlib.nullcontext() if self._in_queue else host.lock()
        with queue:
            depth_maps = ESTIMATORS.estimate(pictures, estimator, detail)
            ESTIMATORS.after_generation()
        return depth_maps

    def downloads(self) -> Sequence[Download]:
        return [_download(file) for file in catalog.FILES if file.variant or file.estimator]

    def install(self, name: str, *, progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> str:
        return download_file(catalog.file_for(name), progress=progress, cancelled=cancelled)

    def add_trial_checkpoint(self) -> str:
        _copy_all([small_model.SMALL_CONFIG, small_model.SMALL_CHECKPOINT], host.checkpoint_folder())
        host.refresh_checkpoints()
        return host.title_of(small_model.SMALL_CHECKPOINT.name)


def download_file(
    file: catalog.CatalogFile, *, progress: Callable[[Progress], None], cancelled: Callable[[], bool] | None = None
) -> str:
    """Bring a file of the catalogue to where the host looks for it; one sentence on what was done.

    Raises:
        InstallError: it could not be brought in.
    """
    if file.variant:
        folder, digest_of = host.checkpoint_folder(), host.checkpoint_sha256
        path, _yaml = install_pair(file.variant, folder, progress=progress, cancelled=cancelled, digest_of=digest_of)
        host.refresh_checkpoints()
        return f"{path.name} is in {path.parent}, verified. Choose it as the checkpoint."
    path = install(file, host.midas_folder(), progress=progress, cancelled=cancelled)
    return f"{path.name} is in {path.parent}, verified. The estimator {file.estimator} can be used now."


def _download(file: catalog.CatalogFile) -> Download:
    if file.variant:
        title, path = _TITLES[file.variant], host.checkpoint_folder() / file.name
        installed = path.is_file()
    else:
        assert file.estimator is not None
        title, installed = f"Estimator {file.estimator}", weights_file(file.estimator) is not None
    return Download(
        name=file.name,
        title=title,
        nbytes=file.about_bytes,
        licence=str(file.licence),
        remark=file.remark,
        licence_url=file.licence.url,
        installed=installed,
    )


def _copy_all(sources: Sequence[Path], folder: Path) -> None:
    """Copy files of the extension's, each complete or not at all, and none where one of the names is another's.

    Raises:
        InstallError: a file is missing here, another file has its name there, or the folder cannot be written to.
    """
    for source in sources:
        if not source.is_file():
            raise InstallError(f"{source.name} is missing from the extension's folder; install the extension anew.")
    with as_install_error(folder, remedy="See that it can be, or choose another folder with --ckpt-dir."):
        missing = [source for source in sources if not _is_there(source, folder / source.name)]
        folder.mkdir(parents=True, exist_ok=True)
        for source in missing:
            with replacing(folder / source.name) as part:
                part.write_bytes(source.read_bytes())


def _is_there(source: Path, target: Path) -> bool:
    """Whether `target` is a copy of `source`; no where it is absent, or half a copy, which an older version may leave.

    Raises:
        InstallError: it is neither.
    """
    if not target.exists():
        return False
    ours = source.read_bytes()
    with target.open("rb") as file:
        there = file.read(len(ours) + 1)
    if not ours.startswith(there):
        raise InstallError(
            f"{target} is already there but is another file, expected {source.name} of this version of the extension. "
            "Move it away and try again."
        )
    return there == ours
