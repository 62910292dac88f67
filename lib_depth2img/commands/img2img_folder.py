"""``img2img`` of a folder of pictures, or several: each as one alone would be, with the same prompt and noise."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..console import say
from ..errors import CheckpointError, Depth2ImgError, RequestError
from ..sequences.folders import is_folder, listed, targets_in
from ..sequences.own_maps import pair_clip
from ..sequences.pairs import Pairing, pair
from .generation import Generation, check_files, parameters_of, paths_of, write_picture
from .groups import Group, Item, Outcome, resumed
from .targets import pictures_for_folder, refuse_overwriting

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Make what is not there yet and print where it went; returns 0, or 2 when some of it could not be made."""
    if arguments.contact_sheet:
        raise RequestError("--contact-sheet shows one picture; name one, and a file for the sheet.")
    if arguments.seed == -1:
        raise RequestError("--seed -1 draws another one for each run, which could not go on then; name a seed.")
    Generation(arguments)  # options that do not fit each other are refused before the folder is looked at
    check_files(arguments)
    pictures = pictures_for_folder(arguments.pictures, arguments.output)
    items = _items(pictures, _pairing(arguments, pictures), arguments)
    read = [*pictures, *(item.depth_map for item in items), arguments.mask, arguments.depth_region]
    refuse_overwriting(
        [target for item in items for target in item.targets], [path for path in read if path is not None]
    )
    failures = resumed(arguments, _Pictures, [[item] for item in items], "sampling")
    if failures < len(items):
        print(arguments.output)
    return 2 if failures else 0


class _Pictures:
    """Makes what becomes of pictures, with a model that stays loaded."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from PIL import Image

        self._remarks: list[str] = []
        self._generation = Generation(arguments, self._remarks.append)
        parameters_of(arguments, Image.new("RGB", (1, 1)), self._generation.model)  # what is wrong with all of them

    def make(self, group: Group) -> Iterator[Outcome]:
        """One picture after the other."""
        for item in group:
            self._remarks.clear()
            error: Depth2ImgError | None = None
            try:
                self._make(item)
            except CheckpointError:
                raise
            except Depth2ImgError as found:
                error = found
            yield Outcome(item.picture, error, tuple(self._remarks))

    def _make(self, item: Item) -> None:
        given = self._generation.read(item.picture, item.depth_map, item.frame)
        results = self._generation.make(given)
        for target, result in zip(item.targets, results, strict=True):
            if not target.exists():
                write_picture(result, target, told=False)


def _pairing(arguments: argparse.Namespace, pictures: Sequence[Path]) -> Pairing:
    """The depth map of each picture, as in the Batch tab. What was assumed is said.

    Raises:
        RequestError: no folder and no clip of as many maps; a folder without a map for any of them, or, with
            ``--range``, for some.
    """
    folder = arguments.depth_map
    if folder is None:
        return Pairing(dict.fromkeys(pictures))
    if not is_folder(folder):
        return pair_clip(pictures, folder)
    pairing = pair(pictures, folder)
    missing = [picture for picture, depth_map in pairing.maps.items() if depth_map is None]
    if len(missing) == len(pictures):
        raise RequestError(
            f"{folder} holds no depth map of any picture. A map has the picture's name: for a.png it is a.png, "
            f"a_depth.png or a.npy. {pairing.remark}".rstrip()
        )
    if missing and arguments.range is not None:
        raise RequestError(
            f"No depth map in {folder} for {listed(missing)}, and --range is in the maps' unit, which estimates do not "
            "have. Add the maps, or leave --range out."
        )
    if pairing.remark:
        say(pairing.remark, to=sys.stderr)
    if missing:
        say(f"No depth map in {folder} for {listed(missing)}: estimated.", to=sys.stderr)
    return pairing


def _items(pictures: Sequence[Path], pairing: Pairing, arguments: argparse.Namespace) -> list[Item]:
    """Each picture with its files. Raises: RequestError where they go beside the pictures, or to one file."""
    if any(picture.resolve().parent == arguments.output.resolve() for picture in pictures):
        raise RequestError(
            f"{arguments.output} is the pictures' own folder; name another one for what is made of them."
        )
    count = min(max(arguments.batch_size, 1), 64)  # others are refused by Parameters, later
    return [
        Item(picture, tuple(paths_of(target, count)), pairing.maps[picture], pairing.frames.get(picture))
        for picture, target in targets_in(arguments.output, pictures, ".png", "pictures").items()
    ]
