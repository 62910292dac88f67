"""``python -m lib_depth2img img2img``: a picture and a prompt to a new picture with the same depth."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console import ProgressBar
from ..errors import RequestError
from ..sequences.folders import expanded, is_folder
from . import img2img_folder
from .depth import add_adjustments, add_detail, add_range
from .generation import Generation, Given, add_generation, add_meaning, paths_of, picture_format, write_picture
from .targets import refuse_overwriting
from .workers import add_ray

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``img2img`` to the command line."""
    parser = subparsers.add_parser(
        "img2img",
        help="a picture and a prompt to a new picture with the same depth",
        description="One picture goes to a file, whose suffix says the format. Several, or a folder, go to a folder, "
        "as PNG with the pictures' names, all with the same prompt, options and noise. One that cannot be read is "
        "named and left out, with exit code 2. Interrupted, the same command goes on where it stopped.",
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="a picture, or a folder of them")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.png", help="the file, or the folder")
    _add_inputs(parser)
    add_detail(parser)
    add_adjustments(parser)
    add_range(parser)
    add_generation(parser)
    parser.add_argument("--batch-size", type=int, default=1)
    _add_machine(parser)
    parser.add_argument("--contact-sheet", action="store_true", help="strengths side by side, with and without depth")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_ray(parser, "a folder of pictures")
    parser.set_defaults(run=run)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--depth-map",
        type=Path,
        metavar="FILE",
        help="use this map instead of an estimate; for several pictures a folder of maps, or a clip",
    )
    add_meaning(parser)


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="as torch names it: cpu, cuda, cuda:1, mps")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="half precision takes half the memory; float16 is for GPUs; default %(default)s",
    )


def run(arguments: argparse.Namespace) -> int:
    """Make the pictures and write them; returns the exit code."""
    named = expanded(arguments.pictures)
    if len(named) > 1 or is_folder(named[0]) or is_folder(arguments.output):
        return img2img_folder.run(arguments)
    if arguments.ray:
        raise RequestError("--ray spreads a folder of pictures; name one, or several pictures, and a folder for them.")
    picture_format(arguments.output)
    (picture,) = named
    read = [picture, arguments.depth_map, arguments.mask, arguments.depth_region]
    count = 1 if arguments.contact_sheet else min(arguments.batch_size, 64)  # more is refused by Parameters, later
    refuse_overwriting(paths_of(arguments.output, count), [path for path in read if path is not None])
    generation = Generation(arguments)
    given = generation.read(picture, arguments.depth_map)
    if arguments.contact_sheet:
        return _write_sheet(arguments, generation, given)
    with ProgressBar(quiet=arguments.quiet) as bar:
        results = generation.make(given, bar.show)
    for path, result in zip(paths_of(arguments.output, len(results)), results, strict=True):
        write_picture(result, path)
    return 0


def _write_sheet(arguments: argparse.Namespace, generation: Generation, given: Given) -> int:
    from ..standalone.contact_sheet import contact_sheet

    depth_map, parameters, make = generation.prepared(given)
    with ProgressBar(quiet=arguments.quiet) as bar:
        sheet = contact_sheet(generation.model, given.picture, depth_map, parameters, run=make, progress=bar.show)
    write_picture(sheet.image, arguments.output)
    for row in sheet.rows:
        print(row)
    return 0
