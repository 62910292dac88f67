"""Which depth map of a folder belongs to which picture, told from their names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..depth.io.clips import frames_in
from ..errors import RequestError

__all__ = ["MAP_SUFFIXES", "Pairing", "in_turn", "pair"]

MAP_SUFFIXES = (".npy", ".npz", ".exr", ".pfm", ".tiff", ".tif", ".png", ".pgm", ".webp", ".bmp", ".jpg", ".jpeg")
"""Of several maps for one picture the first kind in this order is taken: the one that keeps most of the depth."""

_NEVER_A_PICTURE = MAP_SUFFIXES[:4]

_ADDITIONS = (
    r"depth(?:[-_. ]?map)?(?:[-_. ]?(?:raw|metric|meters?|16|16[-_]?bit))?",
    r"disp(?:arity)?",
    r"d",
    r"pred",  # Marigold
    r"raw[-_]depth[-_]meter",  # Depth Anything, metric
    r"(?:dpt|midas|openvino|depth[-_]anything|zoe(?:depth)?|leres|marigold)(?:[-_]\w+)?",  # of its run.py: the model
    r"v\d{1,4}",
    r"\d{2,5}x\d{2,5}",
    r"(?:png|jpe?g|webp|tiff?|bmp)",  # photo.jpg.png
)
_ADDED = re.compile(rf"[-_. ]+(?:{'|'.join(_ADDITIONS)})$")
_COUNTED = re.compile(r"-\d{4}$")
"""The depthmap script counts the maps of one picture so; at the end of other names it is the number of a frame."""
_LEADING = re.compile(r"^depth(?:[-_. ]?map)?(?:[-_. ]+|(?=\d))")
_DEPTH = re.compile(r"(?<![a-z])(?:depth|disp|disparity|d|pred|dpt|midas)(?![a-z])")
_FRAME = re.compile(r"(\d+)$")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Pairing:
    """What `pair` found: the map of each picture, None where there is none, in the pictures' order.

    ``remark``: what was assumed, one sentence for the user, or "".
    ``frames``: for a picture whose map is one of many in a file, its number there, counted from 0.
    """

    maps: dict[Path, Path | None]
    remark: str = ""
    frames: dict[Path, int] = field(default_factory=dict)


def pair(pictures: Iterable[Path], folder: Path, *, root: Path | None = None) -> Pairing:
    """Find the depth map of each picture in ``folder`` and the folders inside it.

    ``root``: the folder that the pictures are in, with folders of its own: ``shot/0001.png`` goes with
    ``shot/0001.png`` of the maps. By whole names first, then without what programs add to a name (``_depth``,
    ``-dpt_beit_large_512``, ``-0000``, ``_pred``, ``.jpg``), then, in a sequence of frames, by the number at the end of
    the name. Upper and lower case, and accents however they are written, are the same. In the pictures' own folder only
    names that say depth and files that hold arrays count, since all else there are pictures. A sequence of maps counted
    from 0 beside as many pictures counted from 1 (or the other way round) is paired in its order, with a remark; so are
    the maps of a clip, a single file with as many of them as there are pictures.

    Raises:
        RequestError: the folder cannot be read.
    """
    shown = list(pictures)
    by_place: dict[Path, list[Path]] = defaultdict(list)
    for picture in shown:
        by_place[_place(picture, root)].append(picture)
    maps = _maps_by_place(folder, {os.path.realpath(picture) for picture in shown})
    found: dict[Path, Path | None] = dict.fromkeys(shown)
    remarks: list[str] = []
    frames: dict[Path, int] = {}
    for place, here in by_place.items():
        own = any(parent.resolve() == (folder / place).resolve() for parent in {picture.parent for picture in here})
        candidates = [each for each in maps.get(place, []) if not own or each.fits_beside_pictures]
        matched, remark = _matched(here, candidates)
        numbers, of_clip = _by_clip(here, matched, candidates)
        frames.update(numbers)
        found.update(matched)
        remarks += [remark, of_clip]
    if len(by_place) > 1 or Path() not in by_place:
        found.update(_from_flat_folder(found, maps.get(Path(), [])))
    return Pairing(found, next(filter(None, remarks), ""), frames)


@dataclass(frozen=True)
class _Map:
    path: Path

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of pictures that this may be the map of, the likeliest first."""
        names = list(_shorter(_normal(self.path.stem)))
        for name in tuple(names):
            names += [each for each in _shorter(_COUNTED.sub("", name)) if each not in names]
        return tuple(names)

    @cached_property
    def core(self) -> str:
        """The name without what programs add; a number at its end is a frame's."""
        return list(_shorter(_normal(self.path.stem)))[-1]

    @property
    def says_depth(self) -> bool:
        return bool(_DEPTH.search(_normal(self.path.stem).replace("_", " ")))

    @property
    def fits_beside_pictures(self) -> bool:
        return self.path.suffix.lower() in _NEVER_A_PICTURE or self.core != _normal(self.path.stem)

    @property
    def kind(self) -> int:
        return MAP_SUFFIXES.index(self.path.suffix.lower())


def _matched(pictures: Sequence[Path], maps: Sequence[_Map]) -> tuple[dict[Path, Path], str]:
    """Those of one folder, and a remark."""
    shifted = _in_order(pictures, maps)
    if shifted:
        return shifted, (
            "The depth maps are counted from another number than the pictures, and there are as many: they were paired "
            "in their order."
        )
    found = _by_name(pictures, maps)
    rest = [picture for picture in pictures if picture not in found]
    taken = set(found.values())
    return {**found, **_by_frame(pictures, rest, [each for each in maps if each.path not in taken])}, ""


def _by_name(pictures: Sequence[Path], maps: Sequence[_Map]) -> dict[Path, Path]:
    stems = {_normal(picture.stem) for picture in pictures}
    offers: dict[str, list[tuple[int, int, Path]]] = defaultdict(list)
    for each in maps:
        for additions, name in enumerate(each.names):
            if name in stems:  # the nearest picture has it, and no other
                offers[name].append((additions, each.kind, each.path))
                break
    found = {}
    for picture in pictures:
        for _, _, path in sorted(offers[_normal(picture.stem)])[:1]:
            found[picture] = path
    return found


def _by_frame(sequence: Sequence[Path], pictures: Sequence[Path], maps: Sequence[_Map]) -> dict[Path, Path]:
    """By the number at the end, where all pictures are frames of one sequence, and one sequence of maps has it."""
    before = _common_prefix(_normal(picture.stem) for picture in sequence)
    if before is None:
        return {}
    groups: dict[str, dict[int, list[_Map]]] = defaultdict(lambda: defaultdict(list))
    for each in maps:
        prefix, number = _frame(each.core)
        if number is not None and _NUMBER.findall(prefix) in ([], _NUMBER.findall(before)):
            groups[prefix][number].append(each)
    told = {prefix: group for prefix, group in groups.items() if any(_says_depth(group))} or groups
    found = {}
    for picture in pictures:
        number = _frame(_normal(picture.stem))[1]
        having = [group[number] for group in told.values() if number in group] if number is not None else []
        if len(having) == 1:
            found[picture] = min(having[0], key=lambda each: each.kind).path
    return found


def _in_order(pictures: Sequence[Path], maps: Sequence[_Map]) -> dict[Path, Path]:
    """Two sequences without a gap and as long, one counted from 0 and the other from 1."""
    frames = _sequence((_normal(picture.stem), picture) for picture in pictures)
    told = [each for each in maps if each.says_depth] or maps
    partners = _sequence((each.core, each.path) for each in told)
    if len(frames) < 2 or len(frames) != len(partners) or {min(frames), min(partners)} != {0, 1}:
        return {}
    return {frames[number]: partners[number - min(frames) + min(partners)] for number in frames}


def _by_clip(pictures: Sequence[Path], found: dict[Path, Path], maps: Sequence[_Map]) -> tuple[dict[Path, int], str]:
    """The numbers of the maps in the one clip there is, which is put into ``found``, and a remark."""
    if len(found) == len(pictures):
        return {}, ""
    clips = {each.path: count for each in maps if (count := frames_in(each.path))}
    if len(clips) != 1 or set(found.values()) - set(clips):
        return {}, ""
    ((path, count),) = clips.items()
    if count != len(pictures):
        return {}, f"{path.name} holds {count} maps for {len(pictures)} pictures, and was not paired with them."
    found.update(dict.fromkeys(pictures, path))
    remark = f"{path.name} holds {count} maps, as many as there are pictures: they were paired in their order."
    return in_turn(pictures), remark


def in_turn(pictures: Sequence[Path]) -> dict[Path, int]:
    """Each picture's place: by the numbers at the end where all names are the same before them."""
    names = {picture: _normal(picture.stem) for picture in pictures}
    if _common_prefix(names.values()) is not None:
        pictures = sorted(pictures, key=lambda picture: _frame(names[picture])[1] or 0)
    return {picture: number for number, picture in enumerate(pictures)}


def _sequence(named: Iterable[tuple[str, Path]]) -> dict[int, Path]:
    """Frame numbers and files, where they are one sequence without a gap; else nothing."""
    entries = list(named)
    if _common_prefix(name for name, _ in entries) is None:
        return {}
    numbers = {number: path for name, path in entries if (number := _frame(name)[1]) is not None}
    whole = len(numbers) == len(entries) == max(numbers) - min(numbers) + 1
    return numbers if whole else {}


def _common_prefix(names: Iterable[str]) -> str | None:
    """What stands before the number at the end, where that is the same in all names."""
    frames = [_frame(name) for name in names]
    prefixes = {prefix for prefix, _ in frames}
    numbered = bool(frames) and all(number is not None for _, number in frames)
    return prefixes.pop() if numbered and len(prefixes) == 1 else None


def _frame(name: str) -> tuple[str, int | None]:
    match = _FRAME.search(name)
    return (name[: match.start()], int(match[1])) if match else (name, None)


def _says_depth(group: dict[int, list[_Map]]) -> Iterator[bool]:
    return (each.says_depth for maps in group.values() for each in maps)


def _from_flat_folder(found: dict[Path, Path | None], maps: Sequence[_Map]) -> dict[Path, Path]:
    """Maps that lie in no folders of their own, for pictures of which no two have the same name."""
    stems = Counter(_normal(picture.stem) for picture in found)
    alone = [picture for picture, path in found.items() if path is None and stems[_normal(picture.stem)] == 1]
    return _by_name(alone, maps)


def _place(picture: Path, root: Path | None) -> Path:
    """The folder of a picture inside ``root``."""
    if root is None or root not in picture.parents:
        return Path()
    return picture.parent.relative_to(root)


def _maps_by_place(folder: Path, pictures: set[str]) -> dict[Path, list[_Map]]:
    """The files that may be maps, by their folder inside ``folder``; not the pictures themselves where these lie there.

    Names that begin with a dot are companions that other systems leave, such as macOS's ``._a.png``.
    """
    problems: list[OSError] = []
    maps: dict[Path, list[_Map]] = defaultdict(list)
    for inside, _, names in os.walk(folder, onerror=problems.append):
        for name in sorted(names):
            path = Path(inside, name)
            if name.startswith(".") or path.suffix.lower() not in MAP_SUFFIXES:
                continue
            each = _Map(path)
            if os.path.realpath(path) not in pictures or each.fits_beside_pictures:
                maps[Path(inside).relative_to(folder)].append(each)
    if problems and not maps:
        raise RequestError(f"The folder of depth maps {folder} cannot be read: {problems[0].strerror}.")
    return maps


def _shorter(name: str) -> Iterator[str]:
    """The name, and what is left of it as one addition after the other is taken off."""
    while name:
        yield name
        rest = _ADDED.sub("", name)
        rest = _LEADING.sub("", name) if rest == name else rest
        if rest == name:
            return
        name = rest


def _normal(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()
