"""Pictures that become files of a folder, in groups that are made together: one after the other, or by workers."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..console import ProgressBar, say
from ..errors import Depth2ImgError, RequestError
from ..progress import Phase, Progress
from ..replacing import replacing
from ..sequences.folders import listed
from ..sequences.spread import Attempts
from ..sequences.work import Work, asked_of, stamp
from .targets import make_folders
from .workers import Workers

__all__ = ["Group", "Item", "Maker", "Outcome", "forget", "go_through", "made", "resumed"]

_SOURCES = "sources.json"
"""The note of what files were made from."""

ROWS = 4
"""For each worker, or more, so that none waits long for another at the end."""


@dataclass(frozen=True)
class Item:
    """A picture, the files that become of it, and its own depth map: a file, or number ``frame`` of a clip."""

    picture: Path
    targets: tuple[Path, ...]
    depth_map: Path | None = None
    frame: int | None = None

    @property
    def is_there(self) -> bool:
        """Whether all its files are."""
        return all(target.exists() for target in self.targets)

    @property
    def source(self) -> str:
        """The stamps of the files that it is made from, which change with them; empty where one cannot be asked."""
        stamps = [stamp(path) for path in (self.picture, self.depth_map) if path is not None]
        return ", ".join(stamps) if all(stamps) else ""


Group = Sequence[Item]


@dataclass(frozen=True)
class Outcome:
    """A picture that is through, with what was wrong with it, and what the user should know."""

    picture: Path
    error: Depth2ImgError | None = None
    remarks: tuple[str, ...] = ()


class Maker(Protocol):
    """Makes the files of pictures, with a model that stays loaded."""

    def make(self, group: Group) -> Iterator[Outcome]:
        """Those of a group; each picture with what is wrong with it alone. Raises: Depth2ImgError, which ends all."""


def made(maker: Maker, groups: Iterable[Group]) -> Iterator[Outcome]:
    """What becomes of one group after the other."""
    for group in groups:
        yield from maker.make(group)


def resumed(
    arguments: argparse.Namespace,
    maker: Callable[[argparse.Namespace], Maker],
    groups: Sequence[Group],
    phase: Phase,
    *,
    row: int = 1,
) -> int:
    """Make what is not there yet, with ``--ray`` by workers; gives how many pictures could not be made.

    ``row``: groups that a worker is sent at once, at most. Ray takes some 20 ms for it.

    Raises:
        RequestError: the folder holds files of another command, or there is no such cluster.
        Depth2ImgError: whatever ends all.
    """
    sources = {item: source for group in groups for item in group if (source := item.source)}
    changed = _changed(_place(arguments.output, arguments.command), sources)
    missing = [group for group in groups if not all(item.is_there and item not in changed for item in group)]
    count, left = (sum(map(len, each)) for each in (groups, missing))
    workers = Workers(arguments) if arguments.ray and missing else None
    try:
        work = _work(arguments, groups)
        _note_sources(work, sources, changed)
        if workers is not None:
            outcomes = _by_workers(workers, maker, missing, work, row)
        else:
            outcomes = made(maker(arguments), missing) if missing else iter(())
        failures = go_through(outcomes, count, phase, there=count - left, quiet=arguments.quiet)
    finally:
        if workers is not None:
            workers.close()
    work.finish(count - failures, keep_note=True)
    return failures


def go_through(
    outcomes: Iterable[Outcome],
    count: int,
    phase: Phase,
    *,
    there: int = 0,
    alone: Path | None = None,
    quiet: bool = False,
) -> int:
    """Show how far the work is and what goes wrong; gives how many pictures could not be made.

    ``count``: of all pictures, of which ``there`` are through before the first outcome. ``alone``: the only one there
    is.

    Raises:
        Depth2ImgError: what is wrong with the only one.
    """
    failures = 0
    with ProgressBar(quiet=quiet) as bar:
        for done, outcome in enumerate(outcomes, there + 1):
            for remark in outcome.remarks:
                bar.say(f"{outcome.picture.name}: {remark}")
            if outcome.error is not None:
                if outcome.picture == alone:
                    raise outcome.error
                failures += 1
                bar.say(f"error: {_named(outcome.picture, outcome.error)}")
            bar.show(Progress(phase, "", done, count, unit="picture"))
    return failures


def forget(folder: Path, command: str) -> None:
    """Remove the note of an earlier :func:`resumed`, since the files are made anew with whatever options."""
    shutil.rmtree(_place(folder, command), ignore_errors=True)


def _by_workers(
    workers: Workers, maker: Callable[[argparse.Namespace], Maker], groups: Sequence[Group], work: Work, row: int
) -> Iterator[Outcome]:
    """As :func:`made`, by workers that hold a maker each, in whatever order."""
    most = max(1, min(row, len(groups) // (ROWS * workers.count)))
    numbered = [(number, [_plain(item) for item in group]) for number, group in enumerate(groups)]
    rows = [{"groups": numbered[start : start + most]} for start in range(0, len(numbered), most)]
    named = {str(item.picture.absolute()): item.picture for group in groups for item in group}
    for answer in workers.each(_Worker, (maker, workers.sent, str(work.attempts.absolute())), rows):
        for path, error, remarks in answer["outcomes"]:
            told = None if error is None else RequestError(error.replace(path, str(named[path])))
            yield Outcome(named[path], told, tuple(remarks))


def _changed(place: Path, sources: Mapping[Item, str]) -> set[Item]:
    """Those whose files an earlier run has made from something else than ``sources``, which is there now.

    Stamps tell, and not the pictures as in ``video``, since nothing is read here of what is made already.
    """
    known = _sources(place)
    return {item for item, now in sources.items() if item.is_there and known.get(item.targets[0].name, now) != now}


def _note_sources(work: Work, sources: Mapping[Item, str], changed: Collection[Item]) -> None:
    """Take the files of ``changed`` away, and note what all files are made from.

    Before they are made: none is there then that was made from anything else, whoever is killed when.
    """
    for target in (target for item in changed for target in item.targets):
        target.unlink(missing_ok=True)
    if changed:
        named = listed([item.picture for item in sorted(changed, key=lambda item: item.picture)])
        say(f"made again, since it, or its map, has changed: {named}", to=sys.stderr)
    now = {item.targets[0].name: source for item, source in sources.items()}
    with replacing(work.folder / _SOURCES) as part:
        part.write_text(json.dumps({**_sources(work.folder), **now}), encoding="utf-8")


def _sources(place: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((place / _SOURCES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _work(arguments: argparse.Namespace, groups: Sequence[Group]) -> Work:
    """What is noted beside the files. Raises: RequestError: they are of another command."""
    items = [item for group in groups for item in group]
    there = [target for item in items for target in item.targets if target.exists()]
    place = _place(arguments.output, arguments.command)
    if there and not place.exists():
        raise RequestError(
            f"{arguments.output} holds {listed(there)} already, of a command that is not known. Remove them, or name "
            "another folder."
        )
    folders = sorted({str(item.picture.resolve().parent) for item in items})
    make_folders(target for item in items for target in item.targets)
    options = {**vars(arguments), "depth_map": str(getattr(arguments, "depth_map", None)), "folders": folders}
    work = Work(place, asked_of(options, ("pictures",)))
    if there:
        say(f"going on with {arguments.output}, where {len(there)} files are", to=sys.stderr)
    return work


class _Worker:
    """Makes the groups of a row."""

    def __init__(
        self, maker: Callable[[argparse.Namespace], Maker], arguments: argparse.Namespace, attempts: str
    ) -> None:
        self._maker = maker(arguments)
        self._attempts = Attempts(Path(attempts))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """``groups``: (number, items) of each."""
        groups = [(number, [_item(each) for each in items]) for number, items in row["groups"]]
        outcomes = [outcome for number, group in groups for outcome in self._made(f"group-{number}", group)]
        return {"outcomes": [(str(each.picture), _text(each.error), each.remarks) for each in outcomes]}

    def _made(self, name: str, group: Group) -> list[Outcome]:
        if all(item.is_there for item in group):  # by a worker that died later
            return [Outcome(item.picture) for item in group]
        try:
            self._attempts.begin(name, "it" if len(group) == 1 else f"the group of {len(group)} pictures that it is in")
        except RequestError as error:
            return [Outcome(item.picture, error) for item in group]
        outcomes = list(self._maker.make(group))
        self._attempts.end(name)
        return outcomes


def _place(folder: Path, command: str) -> Path:
    return folder / f".depth2img-{command}"


def _plain(item: Item) -> list[Any]:
    path = None if item.depth_map is None else str(item.depth_map.absolute())
    return [str(item.picture.absolute()), [str(target.absolute()) for target in item.targets], path, item.frame]


def _item(row: Sequence[Any]) -> Item:
    picture, targets, depth_map, frame = row
    return Item(Path(picture), tuple(map(Path, targets)), None if depth_map is None else Path(depth_map), frame)


def _text(error: Depth2ImgError | None) -> str | None:
    return None if error is None else str(error)


def _named(picture: Path, error: Depth2ImgError) -> str:
    """What went wrong, with the picture's path once."""
    return str(error) if str(picture) in str(error) else f"{picture}: {error}"
