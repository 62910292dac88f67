"""``python -m lib_depth2img depth``: depth maps of pictures, one or a folder full."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoint.small_model import SMALL_CHECKPOINT
from ..console import say
from ..depth.adjust import ADJUSTMENTS, Adjustments
from ..depth.extent import Extent, nearness_extent
from ..depth.io.files import SUFFIXES
from ..errors import Depth2ImgError, EstimatorError, RequestError
from ..estimators.detail import DETAIL, Detail
from ..estimators.presets import DEFAULT_PRESET, PRESETS
from ..request.fields import field_named
from ..request.kinds import Count, Number
from ..sequences.folders import map_targets
from ..weights import elsewhere
from ..weights.catalog import estimator_file
from .groups import Group, Item, Outcome, forget, go_through, made, resumed
from .targets import make_folders, pictures_for_folder, refuse_overwriting, single_picture
from .workers import add_ray

if TYPE_CHECKING:
    from PIL import Image

    from ..depth.depth_map import DepthMap
    from ..estimators.cache import DepthCache
    from ..estimators.estimator import DepthEstimator

__all__ = [
    "add_adjustments",
    "add_detail",
    "add_estimator",
    "add_number",
    "add_parser",
    "add_range",
    "adjustments_of",
    "detail_of",
    "estimator_of",
    "extent_of",
    "weights_of",
]

WEIGHTS_FOLDER = Path("models", "midas")
SMALL = "small"
FORMATS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES if suffix != ".tiff")
_ESTIMATOR = {
    False: "default %(default)s; small comes along",
    True: "default: the one inside the checkpoint; small comes along",
}
TOGETHER = 8  # pictures read ahead, so that those of one size go through the network together
ROW = 16  # of such groups, which take a fast network 300 ms each


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``depth`` to the command line."""
    parser = subparsers.add_parser(
        "depth",
        help="estimate the depth map of pictures",
        description="Estimate depth maps; near is white. One picture goes to a file: .png, .npy, .tif, .exr or .pfm. "
        "Several, or a folder, go to a folder, as --format says. A .npy without adjustments holds the float32 nearness "
        "(H, W) at the picture's size exactly as estimated. Maps that are there are made anew; with --ray, what was "
        "interrupted goes on with those that are missing.",
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="a picture, or a folder of them")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="the file, or the folder")
    add_estimator(parser, DEFAULT_PRESET)
    add_adjustments(parser)
    add_range(parser)
    parser.add_argument("--colormap", choices=("inferno", "turbo", "grey"), help="a coloured 8-bit PNG, for looking at")
    parser.add_argument(
        "--format", choices=FORMATS, default="png", help="of maps that go to a folder; default %(default)s"
    )
    parser.add_argument("--bits", type=int, choices=(8, 16), default=16, help="of a grey PNG; default %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_ray(parser, "a folder of pictures")
    parser.set_defaults(run=run)


def add_estimator(parser: argparse.ArgumentParser, default: str | None) -> None:
    """The options that name an estimator, and where it computes."""
    parser.add_argument("--estimator", choices=(*PRESETS, SMALL), default=default, help=_ESTIMATOR[default is None])
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help=f"a published file or a whole checkpoint with MiDaS in it; default: the published in {WEIGHTS_FOLDER}, "
        "or in the folders of ControlNet, ComfyUI or the depthmap script",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps; default %(default)s")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="default auto: float16 on CUDA, float32 elsewhere",
    )
    add_detail(parser)


def estimator_of(arguments: argparse.Namespace, *, cache: DepthCache | None = None) -> DepthEstimator:
    """The estimator that the options of :func:`add_estimator` name. Raises: EstimatorError, DeviceError."""
    from ..estimators.estimator import DepthEstimator

    weights = weights_of(arguments) or SMALL_CHECKPOINT
    return DepthEstimator(
        arguments.estimator, weights=weights, device=arguments.device, precision=arguments.precision, cache=cache
    )


def add_adjustments(parser: argparse.ArgumentParser) -> None:
    """The options that become :class:`Adjustments`, one for each of its fields."""
    for entry in map(field_named, ADJUSTMENTS):
        if isinstance(entry, Number):
            add_number(parser, f"--{entry.name}", entry)
        else:
            parser.add_argument(f"--{entry.name}", action="store_true", help=entry.hint)


def add_range(parser: argparse.ArgumentParser) -> None:
    """The option that :func:`extent_of` reads."""
    parser.add_argument("--range", metavar="LO:HI", help=field_named("range").hint)


def add_detail(parser: argparse.ArgumentParser) -> None:
    """The options that become a :class:`Detail`."""
    for name in DETAIL:
        entry = field_named(name)
        assert isinstance(entry, Number)
        add_number(parser, f"--{name}", entry)


def detail_of(arguments: argparse.Namespace) -> Detail:
    """What the options of :func:`add_detail` say. Raises: RequestError."""
    return Detail(**{name: field_named(name).check(getattr(arguments, name)) for name in DETAIL})


def add_number(parser: argparse.ArgumentParser, option: str, entry: Number) -> None:
    """The option for a number of the table of fields."""
    kind, metavar = (int, "N") if isinstance(entry, Count) else (float, "X")
    allowed = f"{entry.low:g} to {entry.high:g}, default {entry.default:g}."
    parser.add_argument(option, type=kind, default=entry.default, metavar=metavar, help=f"{entry.hint} {allowed}")


def adjustments_of(arguments: argparse.Namespace) -> Adjustments:
    """What the options of :func:`add_adjustments` say. Raises: RequestError."""
    return Adjustments(**{name: getattr(arguments, name) for name in ADJUSTMENTS})


def extent_of(arguments: argparse.Namespace, meaning: str = "nearness") -> Extent | None:
    """The nearness that ``--range`` stands for, None without one. Raises: RequestError."""
    extent = field_named("range").value_of(arguments.range)
    if extent is not None and arguments.clip > 0.0:
        raise RequestError("--range says what the map is scaled by, and --clip too. Leave one of them out.")
    return None if extent is None else nearness_extent(extent, meaning)


def run(arguments: argparse.Namespace) -> int:
    """Estimate all pictures and print where they went; returns 0, or 2 when some of them could not be done."""
    adjustments_of(arguments), extent_of(arguments), detail_of(arguments)  # refused before the folder is looked at
    picture = single_picture(arguments.pictures, arguments.output)
    items = _items(arguments) if picture is None else [Item(picture, (arguments.output,))]
    _check(arguments, items)
    if arguments.ray:
        if picture is not None:
            raise RequestError("--ray spreads a folder of pictures; name one, and a folder for the maps.")
        arguments.weights = weights_of(arguments)
        failures = resumed(arguments, _Maps, _groups(items), "estimating", row=ROW)
    else:
        maker = _Maps(arguments)
        make_folders(item.targets[0] for item in items)
        if picture is None:
            forget(arguments.output, arguments.command)
        alone = items[0].picture if len(items) == 1 else None
        failures = go_through(made(maker, _groups(items)), len(items), "estimating", alone=alone, quiet=arguments.quiet)
    if failures < len(items):
        print(arguments.output)
    return 2 if failures else 0


def weights_of(arguments: argparse.Namespace) -> Path | None:
    """The file of the options of :func:`add_estimator`; None for what comes along. Raises: EstimatorError."""
    named, estimator = arguments.weights, arguments.estimator
    if named is None and estimator == SMALL:
        return None
    path: Path = named or _published(estimator)
    if not path.is_file():
        raise EstimatorError(
            f"There are no weights of {estimator} at {path}. Name their file or a checkpoint with --weights, fetch "
            f"them (python -m lib_depth2img install --estimator {estimator} --to {WEIGHTS_FOLDER}), or use --estimator "
            f"{SMALL}, which comes along."
        )
    return path


class _Maps:
    """Makes the maps of pictures, with an estimator that stays loaded.

    It remembers none of them, so that a map depends on its group alone, whoever makes it.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        from ..depth.depth_map import DepthMap
        from ..estimators.cache import DepthCache

        self._bits, self._colormap, self._resumes = arguments.bits, arguments.colormap, bool(arguments.ray)
        self._estimator, self._detail = estimator_of(arguments, cache=DepthCache(0)), detail_of(arguments)
        adjustments, extent = adjustments_of(arguments), extent_of(arguments)
        self._adjust = functools.partial(DepthMap.adjusted, adjustments=adjustments, extent=extent)

    def make(self, group: Group) -> Iterator[Outcome]:
        """Read, estimate and save; each picture with what went wrong with it alone."""
        from ..depth.io.files import read_picture

        pictures: dict[Path, Image.Image] = {}
        for item in group:
            try:
                pictures[item.picture] = read_picture(item.picture)
            except Depth2ImgError as error:
                yield Outcome(item.picture, error)
        depth_maps = dict(zip(pictures, self._estimator.estimate(list(pictures.values()), self._detail), strict=True))
        for item in group:
            if item.picture in pictures:
                yield self._saved(item, depth_maps[item.picture], pictures[item.picture].size)

    def _saved(self, item: Item, depth_map: DepthMap, size: tuple[int, int]) -> Outcome:
        from ..depth.io.files import save_depth_map

        if self._resumes and item.is_there:
            return Outcome(item.picture)
        (target,) = item.targets
        try:
            save_depth_map(self._adjust(depth_map).resized(size), target, bits=self._bits, colormap=self._colormap)
        except Depth2ImgError as error:
            return Outcome(item.picture, error)
        return Outcome(item.picture)


def _items(arguments: argparse.Namespace) -> list[Item]:
    """The pictures of a folder, or several, each with the file of its depth map."""
    pictures = pictures_for_folder(arguments.pictures, arguments.output)
    targets = map_targets(pictures, arguments.output, f".{arguments.format}")
    return [Item(picture, (target,)) for picture, target in targets.items()]


def _check(arguments: argparse.Namespace, items: Sequence[Item]) -> None:
    """Raises: RequestError, DepthMapError: a file that cannot be written, or is also what is read."""
    from ..depth.io.files import check_target

    targets = [target for item in items for target in item.targets]
    refuse_overwriting(targets, [item.picture for item in items])
    for target in targets:
        check_target(target, colormap=arguments.colormap)


def _groups(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + TOGETHER] for start in range(0, len(items), TOGETHER)]


def _published(estimator: str) -> Path:
    """The published file, or what another program has of it; whether it is there is seen later."""
    own = [WEIGHTS_FOLDER / name for name in estimator_file(estimator).names]
    found = next((path for path in own if path.is_file()), None)
    if found is not None:
        return found
    other = elsewhere.find(estimator, elsewhere.roots_of(Path.cwd()))
    if other is None:
        return own[0]
    elsewhere.refuse_other(other, estimator)
    say(f"The weights are those in {other}.", to=sys.stderr)
    return other
