"""``python -m lib_depth2img depth``: depth maps of pictures, one or a folder full."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoint.small_model import SMALL_CHECKPOINT
from ..console import ProgressBar, say
from ..depth.adjust import ADJUSTMENTS, Adjustments
from ..depth.extent import Extent, nearness_extent
from ..depth.io.files import SUFFIXES
from ..depth.io.pictures import picture_suffixes
from ..errors import Depth2ImgError, EstimatorError, RequestError
from ..estimators.detail import DETAIL, Detail
from ..estimators.presets import DEFAULT_PRESET, PRESETS
from ..progress import Progress
from ..request.fields import field_named
from ..request.kinds import Count, Number
from ..sequences.folders import exists, expanded, is_folder, map_targets, pictures_in
from ..weights import elsewhere
from ..weights.catalog import estimator_file

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
    "refuse_overwriting",
]

WEIGHTS_FOLDER = Path("models", "midas")
SMALL = "small"
FORMATS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES if suffix != ".tiff")
_ESTIMATOR = {
    False: "default %(default)s; small comes along",
    True: "default: the one inside the checkpoint; small comes along",
}
TOGETHER = 8  # pictures read ahead, so that those of one size go through the network together


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``depth`` to the command line."""
    parser = subparsers.add_parser(
        "depth",
        help="estimate the depth map of pictures",
        description="Estimate depth maps; near is white. One picture goes to a file: .png, .npy, .tif, .exr or .pfm. "
        "Several, or a folder, go to a folder, as --format says. A .npy without adjustments holds the float32 nearness "
        "(H, W) at the picture's size exactly as estimated.",
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

    weights = _weights(arguments.weights, arguments.estimator)
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
    from ..depth.depth_map import DepthMap
    from ..depth.io.files import check_target

    adjustments, extent, detail = adjustments_of(arguments), extent_of(arguments), detail_of(arguments)
    targets = _targets(arguments)
    refuse_overwriting(targets.values(), targets)
    for target in targets.values():
        check_target(target, colormap=arguments.colormap)
    estimator = estimator_of(arguments)
    adjust = functools.partial(DepthMap.adjusted, adjustments=adjustments, extent=extent)
    _make_folders(targets.values())
    failures = done = 0
    with ProgressBar(quiet=arguments.quiet) as bar:
        for together in _chunks(list(targets.items()), TOGETHER):
            for picture, error in _estimate(estimator, together, arguments, adjust, detail):
                if error is not None and len(targets) == 1:
                    raise error
                if error is not None:
                    failures += 1
                    bar.say(f"error: {_named(picture, error)}")
                done += 1
                bar.show(Progress("estimating", "", done, len(targets), unit="picture"))
    if failures < len(targets):
        print(arguments.output)
    return 2 if failures else 0


def _estimate(
    estimator: DepthEstimator,
    together: Sequence[tuple[Path, Path]],
    arguments: argparse.Namespace,
    adjust: Callable[[DepthMap], DepthMap],
    detail: Detail,
) -> Iterator[tuple[Path, Depth2ImgError | None]]:
    """Read, estimate and save; each picture with what went wrong with it alone."""
    from ..depth.io.files import read_picture, save_depth_map

    pictures: dict[Path, Image.Image] = {}
    for path, _ in together:
        try:
            pictures[path] = read_picture(path)
        except Depth2ImgError as error:
            yield path, error
    depth_maps = dict(zip(pictures, estimator.estimate(list(pictures.values()), detail), strict=True))
    for path, target in together:
        if path not in pictures:
            continue
        depth_map = adjust(depth_maps[path]).resized(pictures[path].size)
        try:
            save_depth_map(depth_map, target, bits=arguments.bits, colormap=arguments.colormap)
        except Depth2ImgError as error:
            yield path, error
        else:
            yield path, None


def _targets(arguments: argparse.Namespace) -> dict[Path, Path]:
    """Each picture with the file its depth map goes to. What is passed over is said."""
    named, output = expanded(arguments.pictures), arguments.output
    if len(named) == 1 and not is_folder(named[0]) and not _is_folder(output):
        return {named[0]: output}
    pictures: list[Path] = []
    for path in named:
        if is_folder(path):
            found = pictures_in(path)
            pictures += found.pictures
            for remark in found.remarks:
                say(remark, to=sys.stderr)
        else:
            pictures.append(path)
    if not _is_folder(output):
        raise RequestError(f"{len(pictures)} pictures do not go into the one file {output}; name a folder.")
    return map_targets(pictures, output, f".{arguments.format}")


def _is_folder(output: Path) -> bool:
    """A folder that is there, or a name that no file of pictures has: ``maps``, ``shot.v002``."""
    return is_folder(output) or output.suffix.lower() not in picture_suffixes().union(SUFFIXES)


def _make_folders(targets: Iterable[Path]) -> None:
    for folder in {target.parent for target in targets}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"The folder {folder} cannot be made: {error.strerror}.") from error


def _named(picture: Path, error: Depth2ImgError) -> str:
    """What went wrong, with the picture's path once."""
    return str(error) if str(picture) in str(error) else f"{picture}: {error}"


def refuse_overwriting(targets: Iterable[Path], read: Iterable[Path]) -> None:
    """Raises: RequestError when a file to be written is one of those that are read, by whatever path, or cannot be."""
    identities = {_identity(path) for path in read if exists(path)}
    for target in targets:
        try:
            identity = _identity(target)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise RequestError(
                f"{target.name} cannot be written: {error.strerror}. Name another file or folder, or give the "
                "picture a shorter name."
            ) from error
        if identity in identities:
            raise RequestError(f"{target} is also what is read, and would be overwritten; name another file or folder.")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _weights(named: Path | None, estimator: str) -> Path:
    if named is None and estimator == SMALL:
        return SMALL_CHECKPOINT
    path = named or _published(estimator)
    if not path.is_file():
        raise EstimatorError(
            f"There are no weights of {estimator} at {path}. Name their file or a checkpoint with --weights, fetch "
            f"them (python -m lib_depth2img install --estimator {estimator} --to {WEIGHTS_FOLDER}), or use --estimator "
            f"{SMALL}, which comes along."
        )
    return path


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


def _chunks(items: Sequence[tuple[Path, Path]], size: int) -> Iterator[list[tuple[Path, Path]]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk
