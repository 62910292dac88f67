"""The img2img Batch tab: a folder of depth maps, paired with the pictures by file name.

The host hands a script no file name (modules/img2img.py:61-72), so ``process_batch`` is wrapped while the extension
is loaded: the wrapper checks the pairing before the first picture and notes which file is being read.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import UnidentifiedImageError

from ...console import say
from ...depth.depth_map import Meaning
from ...depth.io.clips import read_frame
from ...depth.io.files import read_picture
from ...errors import Depth2ImgError, DepthMapError, RequestError
from ...estimators.detail import DETAIL
from ...request.panel import MISSING, BatchOptions, script_values
from ...request.request import Depth2ImgRequest
from ...request.user_image import UserImage, decode_image
from ...sequences.pairs import Pairing, pair
from ..hosts import Point, host
from .sequence import BatchSequence

if TYPE_CHECKING:
    from PIL import Image

    from ...depth.depth_map import DepthMap

__all__ = ["BatchRun", "described", "hook", "picture_values", "steadied"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
"""What the host's Batch tab takes from a folder (modules/img2img.py:24)."""

_RUN = "_depth2img_batch"


class BatchRun:
    """One press of Generate on the Batch tab.

    ``root``: the folder of the pictures, where they come from one. ``current``: the picture that is being generated
    from, None before the first. A picture or a map that cannot be read is passed over, or its depth estimated, and
    named in ``remark``; where the user refuses pictures without a map, the whole batch is refused before the first one.

    Raises:
        RequestError: the folder cannot be read; pictures lack a map, or a file cannot be read, and that is refused.
    """

    def __init__(
        self,
        options: BatchOptions,
        pictures: Iterable[str | Path],
        *,
        root: str | Path | None = None,
        request: Depth2ImgRequest | None = None,
    ) -> None:
        self._root = None if root is None else Path(root)
        shown = [Path(picture) for picture in pictures]
        pairing = Pairing(dict.fromkeys(shown))
        if options.folder is not None:
            pairing = pair(shown, options.folder, root=self._root)
        self._partners, self._frames, self._assumed = pairing.maps, pairing.frames, pairing.remark
        self._folder = options.folder
        self.current: Path | None = None
        self._missing: dict[Path, None] = {}  # a set that keeps its order
        self._unreadable: dict[str, str] = {}
        if options.refuse_missing and options.folder is not None:
            self._refuse()
        self.sequence = BatchSequence(options, request or Depth2ImgRequest())

    def reading(self, file: Any) -> None:
        """Note that the host reads ``file``: when it is one of the pictures, it is the current one."""
        if isinstance(file, (str, os.PathLike)) and Path(file) in self._partners:
            self.current = Path(file)

    def unreadable(self, file: Any, error: Exception) -> None:
        """Note that the host could not read ``file``, and why."""
        if isinstance(file, (str, os.PathLike)):
            self._unreadable[self._name(Path(file))] = f"passed over ({_reason(error)})"

    @property
    def partner(self) -> Path | None:
        """The depth map of the current picture, None where it has to be estimated."""
        return None if self.current is None else self._partners.get(self.current)

    def values(self, meaning: Meaning = "nearness") -> dict[str, Any]:
        """The current picture's map in the place of what the panel says about the source."""
        if self._folder is None:
            return self.sequence.values("nearness", estimated=True)
        if self.current is not None and self.partner is None:
            self._missing[self.current] = None
        if self.current is not None and self.partner is not None:
            frame = self._frames.get(self.current)
            try:
                depth_map = _depth_map(self.partner, frame, meaning)
            except RequestError as error:
                self._unreadable[self._name(self.partner, frame)] = f"estimated instead ({error})"
            else:
                own = self.sequence.values(meaning, estimated=False)
                return {"source": "depth_map", "image": depth_map, "meaning": meaning, **own}
        own = self.sequence.values("nearness", estimated=True)
        return {"source": "init_image", "image": None, "meaning": "nearness", **own}

    def measure(self, source: str, meaning: Meaning) -> None:
        """Look at all pictures, where one range was asked for. Raises: Depth2ImgError."""
        own_map = functools.partial(self._own_map, meaning=meaning)
        self.sequence.measure(self._partners, own_map, estimates=self._folder is not None or source == "init_image")

    def _own_map(self, picture: Path, meaning: Meaning) -> DepthMap | None:
        partner = self._partners[picture]
        if partner is None:
            return None
        try:
            found: DepthMap = _depth_map(partner, self._frames.get(picture), meaning).content
        except RequestError:
            return None
        return found

    @property
    def remark(self) -> str | None:
        """What to tell the user: which pictures so far had no map, and which files could not be read."""
        remarks = [self._assumed] if self._assumed else []
        if self._missing:
            remarks.append(f"No depth map in {self._folder} for {self._listed(self._missing)}: estimated.")
        remarks += [f"{name}: {what}." for name, what in self._unreadable.items()]
        return " ".join(remarks) or None

    @property
    def announcement(self) -> str:
        """What is known before the first picture: what was assumed, and which pictures have no map."""
        paired = self._folder is not None
        missing = [picture for picture, partner in self._partners.items() if partner is None and paired]
        lacking = f"No depth map in {self._folder} for {self._listed(missing)}." if missing else ""
        return " ".join(filter(None, (self._assumed, lacking)))

    def _refuse(self) -> None:
        missing = [picture for picture, partner in self._partners.items() if partner is None]
        if missing:
            raise RequestError(
                f"No depth map in {self._folder} for {self._listed(missing)}. A map has the picture's name: "
                f"for a.png it is a.png, a_depth.png or a.npy. Add the maps, or choose “{MISSING[0]}”."
            )
        for picture, partner in self._partners.items():
            assert partner is not None, "refused above"
            frame = self._frames.get(picture)
            self._refuse_unreadable(self._name(picture), functools.partial(read_picture, picture))
            self._refuse_unreadable(self._name(partner, frame), functools.partial(_depth_map, partner, frame))

    def _refuse_unreadable(self, name: str, read: Callable[[], object]) -> None:
        try:
            read()
        except Depth2ImgError as error:
            raise RequestError(
                f"{name}: {_sentence(_reason(error))} Mend or remove it, or choose “{MISSING[0]}”."
            ) from error

    def _listed(self, files: Collection[Path]) -> str:
        """The first few names, and how many more there are."""
        shown = ", ".join(self._name(file) for file in list(files)[:5])
        return shown if len(files) <= 5 else f"{shown} and {len(files) - 5} more"

    def _name(self, file: Path, frame: int | None = None) -> str:
        """The file's name with its folders inside the batch's: two called 0001.png are told apart.

        Uploads have none: each lies in a folder of gradio's, of which nobody knows. ``frame``: its number in a clip.
        """
        root = self._root if file in self._partners else self._folder
        name = file.relative_to(root).as_posix() if root is not None and root in file.parents else file.name
        return name if frame is None else f"{name}[{frame}]"


def picture_values(p: Any, *, meaning: Meaning = "nearness") -> dict[str, Any]:
    """What the batch that ``p`` belongs to says, by field name; nothing where none is paired. Raises: RequestError."""
    run: BatchRun | None = getattr(p, _RUN, None)
    return {} if run is None else run.values(meaning)


def steadied(p: Any, pictures: Sequence[Image.Image], depth_maps: list[DepthMap]) -> list[DepthMap]:
    """The estimates of one picture of the batch that ``p`` belongs to, made steady where that was asked for."""
    run: BatchRun | None = getattr(p, _RUN, None)
    if run is None:
        return depth_maps
    return [run.sequence.steadied(run.current, *each) for each in zip(pictures, depth_maps, strict=True)]


def described(p: Any) -> dict[str, Any]:
    """What the infotext says of the batch that ``p`` belongs to."""
    run: BatchRun | None = getattr(p, _RUN, None)
    return {} if run is None else run.sequence.described


def hook(panel_values: Callable[[Any], Sequence[Any]]) -> None:
    """Wrap the host's ``process_batch``; ``host.undo`` takes it back.

    ``panel_values``: from ``p`` to this extension's part of ``p.script_args``.
    """

    def wrapped(original: Any) -> Any:
        @functools.wraps(original)
        def process_batch(p: Any, source: Any, *args: Any, **settings: Any) -> Any:
            shown = panel_values(p)
            options = BatchOptions.from_panel(shown)
            if options.asks_nothing or not _may_use_depth(p):
                return original(p, source, *args, **settings)
            if options.folder is not None and host.command_line().hide_ui_dir_config:  # it opens none for the browser
                raise RequestError("No folder of depth maps is opened while the WebUI runs with --hide-ui-dir-config.")
            root = source if isinstance(source, str) else None
            request = _panel_request(shown)
            run = BatchRun(options, host.batch_pictures(source, PICTURES), root=root, request=request)
            if run.announcement:
                say(f"Depth2Img: {run.announcement}")
            said = script_values(shown)
            run.measure(said.get("source", "init_image"), said.get("meaning", "nearness"))
            setattr(p, _RUN, run)
            with host.watching_batch(run.reading, run.unreadable):
                processed = original(p, source, *args, **settings)
            if processed and run.remark:  # the host shows the comments of the first picture only (img2img.py:146)
                processed.comments = f"{processed.comments}{run.remark}\n"
            return processed

        return process_batch

    host.replace(Point.BATCH, wrapped)


def _panel_request(shown: Sequence[Any]) -> Depth2ImgRequest:
    """What the panel says of how depth is estimated. Raises: RequestError."""
    said = script_values(shown)
    return Depth2ImgRequest.from_mapping({name: said[name] for name in ("estimator", "clip", *DETAIL) if name in said})


def _may_use_depth(p: Any) -> bool:
    """The model is a depth model, or might become one: pairing must not touch the batches of other models."""
    return host.selected().is_depth_model or "sd_model_checkpoint" in p.override_settings


def _depth_map(path: Path, frame: int | None, meaning: Meaning = "nearness") -> UserImage:
    """Raises: RequestError."""
    try:
        content = path.read_bytes() if frame is None else read_frame(path, frame)
        return decode_image(content, "depth_map", meaning)
    except DepthMapError as error:
        raise RequestError(str(error)) from error
    except OSError as error:
        raise RequestError(f"it cannot be read: {error.strerror}") from error
    except RequestError as error:
        raise RequestError(error.in_panel) from error


def _reason(error: Exception) -> str:
    """Why a file cannot be read, without its path."""
    if isinstance(error, RequestError):
        return error.in_panel
    cause = error.__cause__ if isinstance(error, Depth2ImgError) and error.__cause__ else error
    if isinstance(cause, UnidentifiedImageError):
        return "it is no picture, or a broken one"
    if isinstance(cause, OSError) and cause.strerror:
        return f"it cannot be read: {cause.strerror}."
    return str(cause)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."
