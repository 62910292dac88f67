"""The img2img Batch tab: a folder of depth maps, paired with the pictures by file name.

The host hands a script no file name (modules/img2img.py:61-72), so ``process_batch`` is wrapped while the extension
is loaded: the wrapper checks the pairing before the first picture and notes which file is being read.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from ...errors import RequestError
from ...request.panel import MISSING, BatchOptions
from ...sequences.pairs import MapFolder
from ..hosts import Point, host

__all__ = ["BatchRun", "hook", "picture_values"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
"""What the host's Batch tab takes from a folder (modules/img2img.py:24)."""

_RUN = "_depth2img_batch"


class BatchRun:
    """One press of Generate on the Batch tab.

    ``current``: the picture that is being generated from, None before the first.

    Raises:
        RequestError: the folder cannot be read, or pictures lack a map and that is to be refused.
    """

    def __init__(self, options: BatchOptions, pictures: Iterable[str | Path]) -> None:
        assert options.folder is not None
        maps = MapFolder(options.folder)
        self._partners = {Path(picture): maps.partner(Path(picture)) for picture in pictures}
        self._folder = options.folder
        self.current: Path | None = None
        self._estimated: dict[str, None] = {}  # a set that keeps its order
        missing = [picture.name for picture, partner in self._partners.items() if partner is None]
        if missing and options.refuse_missing:
            raise RequestError(
                f"No depth map in {options.folder} for {_listed(missing)}. A map has the picture's name: "
                f"for a.png it is a.png, a_depth.png or a.npy. Add the maps, or choose “{MISSING[0]}”."
            )

    def reading(self, file: Any) -> None:
        """Note that the host reads ``file``: when it is one of the pictures, it is the current one."""
        if isinstance(file, (str, os.PathLike)) and Path(file) in self._partners:
            self.current = Path(file)

    @property
    def partner(self) -> Path | None:
        """The depth map of the current picture, None where it has to be estimated."""
        return None if self.current is None else self._partners.get(self.current)

    def values(self) -> dict[str, Any]:
        """The current picture's map in the place of what the panel says about the source. Raises: RequestError."""
        if self.current is not None and self.partner is None:
            self._estimated[self.current.name] = None
        if self.partner is None:
            return {"source": "init_image", "image": None}
        return {"source": "depth_map", "image": _bytes_of(self.partner)}

    @property
    def remark(self) -> str | None:
        """What to tell the user: for which pictures so far the depth had to be estimated."""
        if not self._estimated:
            return None
        return f"No depth map in {self._folder} for {_listed(self._estimated)}: estimated."


def _listed(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(list(names)[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def picture_values(p: Any) -> dict[str, Any]:
    """What the batch that ``p`` belongs to says, by field name; nothing where none is paired. Raises: RequestError."""
    run: BatchRun | None = getattr(p, _RUN, None)
    return {} if run is None else run.values()


def hook(panel_values: Callable[[Any], Sequence[Any]]) -> None:
    """Wrap the host's ``process_batch``; ``host.undo`` takes it back.

    ``panel_values``: from ``p`` to this extension's part of ``p.script_args``.
    """

    def wrapped(original: Any) -> Any:
        @functools.wraps(original)
        def process_batch(p: Any, source: Any, *args: Any, **settings: Any) -> Any:
            options = BatchOptions.from_panel(panel_values(p))
            if options.folder is None or not _may_use_depth(p):
                return original(p, source, *args, **settings)
            if host.command_line().hide_ui_dir_config:  # the host opens no folder for the browser then
                raise RequestError("No folder of depth maps is opened while the WebUI runs with --hide-ui-dir-config.")
            run = BatchRun(options, host.batch_pictures(source, PICTURES))
            setattr(p, _RUN, run)
            with host.watching_batch(run.reading):
                processed = original(p, source, *args, **settings)
            if processed and run.remark:  # the host shows the comments of the first picture only (img2img.py:146)
                processed.comments = f"{processed.comments}{run.remark}\n"
            return processed

        return process_batch

    host.replace(Point.BATCH, wrapped)


def _may_use_depth(p: Any) -> bool:
    """The model is a depth model, or might become one: pairing must not touch the batches of other models."""
    return host.selected().is_depth_model or "sd_model_checkpoint" in p.override_settings


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"The depth map {path} cannot be read: {error.strerror}.") from error
