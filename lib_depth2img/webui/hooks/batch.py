"""The img2img Batch tab: a folder of depth maps, paired with the pictures by file name.

The host hands a script no file name (modules/img2img.py:61-72), so ``process_batch`` is wrapped while the extension
is loaded: the wrapper checks the pairing before the first picture and notes which file is being read.
"""

from __future__ import annotations

import functools
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import RequestError
from ...request.fields import PANEL_ORDER
from ...request.request import Depth2ImgRequest
from ..hosts import a1111 as host

__all__ = ["BATCH_ORDER", "MISSING", "BatchOptions", "BatchRun", "MapFolder", "current_run", "hook"]

BATCH_ORDER = ("batch_folder", "batch_missing")
"""What the panel returns after ``PANEL_ORDER``."""

MISSING = ("Estimate it", "Refuse the batch")

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
"""What the host's Batch tab takes from a folder (modules/img2img.py:24)."""

MAP_SUFFIXES = (".npy", ".npz", ".exr", ".pfm", ".tiff", ".tif", ".png", ".pgm", ".webp", ".bmp", ".jpg", ".jpeg")
"""Of several maps for one picture the first kind in this order is taken: the one that keeps most of the depth."""

_RUN = "_depth2img_batch"
_MARK = re.compile(r"(?:^depth(?:[-_. ]?map)?[-_. ]+)|(?:[-_. ]+depth(?:[-_. ]?map)?$)")
_FRAME = re.compile(r"(\d+)\D*$")


@dataclass(frozen=True)
class _Map:
    path: Path
    marked: bool


class MapFolder:
    """The depth maps of one folder, found by a picture's name.

    ``a.png`` goes with ``a.*`` first, then with ``a_depth.*``, ``a-depth.*``, ``a_depthmap.*``, ``depth_a.*``; upper
    and lower case are the same. Failing that, with the only map of the same frame number (the last number in the
    name). In the pictures' own folder only marked names and files of bare numbers count, since all else there are
    pictures.

    Raises:
        RequestError: no such folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            files = sorted(path for path in folder.iterdir() if path.suffix.lower() in MAP_SUFFIXES)
        except OSError as error:
            raise RequestError(f"The folder of depth maps {folder} cannot be read: {error.strerror}.") from error
        self._by_name: dict[str, list[_Map]] = defaultdict(list)
        self._by_frame: dict[int, set[str]] = defaultdict(set)
        for path in files:
            stem = path.stem.casefold()
            name = _MARK.sub("", stem)
            self._by_name[stem].append(_Map(path, marked=False))
            if name != stem:
                self._by_name[name].append(_Map(path, marked=True))
            if frame := _FRAME.search(name):
                self._by_frame[int(frame[1])].add(name)

    def partner(self, picture: Path) -> Path | None:
        """The depth map of ``picture``, or None."""
        stem = picture.stem.casefold()
        own_folder = picture.parent.resolve() == self.folder.resolve()
        found = self._best(stem, own_folder)
        frame = _FRAME.search(stem)
        if found is None and frame and not own_folder:
            names = self._by_frame.get(int(frame[1]), set())
            found = self._best(next(iter(names)), own_folder) if len(names) == 1 else None
        return found

    def _best(self, name: str, own_folder: bool) -> Path | None:
        maps = self._by_name.get(name, [])
        if own_folder:
            maps = [each for each in maps if each.marked or each.path.suffix.lower() in MAP_SUFFIXES[:4]]
        ranked = sorted(maps, key=lambda each: (each.marked, MAP_SUFFIXES.index(each.path.suffix.lower())))
        return ranked[0].path if ranked else None


@dataclass(frozen=True)
class BatchOptions:
    """What the panel says about the Batch tab; ``folder`` None: maps are not paired."""

    folder: Path | None = None
    refuse_missing: bool = False

    @classmethod
    def from_panel(cls, values: Sequence[Any]) -> BatchOptions:
        """From the panel's values, of which those of ``BATCH_ORDER`` follow those of ``PANEL_ORDER``."""
        folder, missing = (*values[len(PANEL_ORDER) :], "", "")[:2]
        enabled = bool(values) and values[PANEL_ORDER.index("enabled")] is True
        name = folder.strip().strip('"') if isinstance(folder, str) and enabled else ""
        return cls(Path(name) if name else None, missing == MISSING[1])


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

    def request(self, values: Sequence[Any], *, base: Depth2ImgRequest | None = None) -> Depth2ImgRequest:
        """The panel's request with the current picture's map in place of the source. Raises: RequestError."""
        values = list(values)
        if self.current is not None and self.partner is None:
            self._estimated[self.current.name] = None
        values[PANEL_ORDER.index("source")] = "init_image" if self.partner is None else "depth_map"
        if self.partner is not None:
            values[PANEL_ORDER.index("image")] = _bytes_of(self.partner)
        return Depth2ImgRequest.from_panel(values, base=base)

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


def current_run(p: Any) -> BatchRun | None:
    """The batch that ``p`` belongs to, where depth maps are paired."""
    run: BatchRun | None = getattr(p, _RUN, None)
    return run


def hook(panel_values: Callable[[Any], Sequence[Any]]) -> None:
    """Wrap the host's ``process_batch``; ``host.undo_patches`` takes it back.

    ``panel_values``: from ``p`` to this extension's part of ``p.script_args``.
    """
    from modules import img2img

    def wrapped(original: Any) -> Any:
        @functools.wraps(original)
        def process_batch(p: Any, source: Any, *args: Any, **settings: Any) -> Any:
            options = BatchOptions.from_panel(panel_values(p))
            if options.folder is None or not _may_use_depth(p):
                return original(p, source, *args, **settings)
            if host.command_line().hide_ui_dir_config:  # the host opens no folder for the browser then
                raise RequestError("No folder of depth maps is opened while the WebUI runs with --hide-ui-dir-config.")
            run = BatchRun(options, _pictures_of(source))
            setattr(p, _RUN, run)
            with _watched(run):
                processed = original(p, source, *args, **settings)
            if processed and run.remark:  # the host shows the comments of the first picture only (img2img.py:146)
                processed.comments = f"{processed.comments}{run.remark}\n"
            return processed

        return process_batch

    host.patch(img2img, "process_batch", wrapped)


def _pictures_of(source: Any) -> list[str]:
    """The very names that ``process_batch`` reads (modules/img2img.py:23-26)."""
    from modules import util

    if isinstance(source, str):
        return list(util.walk_files(source, allowed_extensions=PICTURES))
    return [os.path.abspath(file.name) for file in source]  # noqa: PTH100 - as the host does


@contextmanager
def _watched(run: BatchRun) -> Iterator[None]:
    """While ``process_batch`` reads its pictures, ``run`` knows which."""
    from modules import img2img

    images = img2img.images
    img2img.images = _WatchedImages(images, run)
    try:
        yield
    finally:
        img2img.images = images


def _may_use_depth(p: Any) -> bool:
    """The model is a depth model, or might become one: pairing must not touch the batches of other models."""
    return host.is_depth_model(host.loaded_model()) or "sd_model_checkpoint" in p.override_settings


class _WatchedImages:
    """The host's ``modules.images`` as ``process_batch`` sees it, telling the run which file is read."""

    def __init__(self, images: Any, run: BatchRun) -> None:
        self._images, self._run = images, run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images, name)

    def read(self, file: Any, *args: Any, **settings: Any) -> Any:
        self._run.reading(file)
        return self._images.read(file, *args, **settings)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"The depth map {path} cannot be read: {error.strerror}.") from error
