"""``python -m lib_depth2img img2img``: a picture and a prompt to a new picture with the same depth."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import math
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..console import ProgressBar, say
from ..depth.control import Control
from ..errors import CheckpointError, PictureError, RequestError
from ..replacing import replacing
from ..request.fields import field_named
from ..request.kinds import Choice, Number
from ..standalone.parameters import SIZE_STEP, Parameters
from ..standalone.samplers import DEFAULT_SAMPLER, SAMPLERS
from .depth import (
    add_adjustments,
    add_detail,
    add_number,
    add_range,
    adjustments_of,
    detail_of,
    extent_of,
    refuse_overwriting,
)

if TYPE_CHECKING:
    from PIL import Image

    from ..depth.depth_map import DepthMap
    from ..standalone.loading import Model

__all__ = ["add_generation", "add_meaning", "add_parser", "load", "parameters_of", "write_picture"]

_CONTROL = ("strength", "start", "end", "mode", "region")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``img2img`` to the command line."""
    parser = subparsers.add_parser("img2img", help="a picture and a prompt to a new picture with the same depth")
    parser.add_argument("picture", type=Path, metavar="PICTURE")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.png")
    _add_inputs(parser)
    add_detail(parser)
    add_adjustments(parser)
    add_range(parser)
    add_generation(parser)
    parser.add_argument("--batch-size", type=int, default=1)
    _add_machine(parser)
    parser.add_argument("--contact-sheet", action="store_true", help="strengths side by side, with and without depth")
    parser.set_defaults(run=run)


def add_generation(parser: argparse.ArgumentParser) -> None:
    """The options of what is made of a picture and its depth."""
    parser.add_argument("--negative-prompt", default="")
    parser.add_argument("--checkpoint", type=Path, help="default: the small model that comes along")
    parser.add_argument(
        "--lora", type=_lora, action="append", default=[], metavar="FILE[:WEIGHT]", help="may be given several times"
    )
    parser.add_argument("--mask", type=Path, metavar="FILE", help="white is painted anew, black stays")
    parser.add_argument(
        "--offload", action="store_true", help="of the parts of the model only one at a time on the GPU"
    )
    _add_control(parser)
    _add_sampling(parser)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--depth-map", type=Path, metavar="FILE", help="use this map instead of an estimate")
    add_meaning(parser)


def add_meaning(parser: argparse.ArgumentParser) -> None:
    """What the numbers of own maps say."""
    meanings = ("nearness", "distance")
    parser.add_argument("--meaning", choices=meanings, default="nearness", help="what the map's high values say")
    parser.add_argument(
        "--distance", dest="meaning", action="store_const", const="distance", help="short for --meaning distance"
    )


def _add_control(parser: argparse.ArgumentParser) -> None:
    for name in _CONTROL:
        entry = field_named(name)
        if isinstance(entry, Number):
            add_number(parser, f"--depth-{name}", entry)
        elif isinstance(entry, Choice):
            parser.add_argument(f"--depth-{name}", choices=entry.values, default=entry.default, help=entry.hint)
        else:
            parser.add_argument(f"--depth-{name}", type=Path, metavar="FILE", help=entry.hint)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--denoising-strength", type=float, default=0.75)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--sampler", choices=tuple(SAMPLERS), default=DEFAULT_SAMPLER, help="default %(default)s")
    parser.add_argument("--cfg-scale", type=float, default=None, help="default: 7, and 3 for the small checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s; -1: a random one, which is printed")
    parser.add_argument("--width", type=int, help="default: the checkpoint's own size, in the picture's shape")
    parser.add_argument("--height", type=int)
    parser.add_argument("--from-noise", action="store_true", help="take nothing from the picture but its depth")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="as torch names it: cpu, cuda, cuda:1, mps")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="half precision takes half the memory; float16 is for GPUs; default %(default)s",
    )


def _lora(text: str) -> tuple[Path, float]:
    """A file and its weight. What is behind the last colon is no weight in C:\\x.safetensors, nor in a file's name."""
    name, colon, weight = text.rpartition(":")
    if colon and not Path(text).is_file():
        with contextlib.suppress(ValueError):
            if math.isfinite(float(weight)):
                return Path(name), float(weight)
    return Path(text), 1.0


def run(arguments: argparse.Namespace) -> int:
    """Make the pictures and write them; returns the exit code."""
    from ..depth.io.files import read_depth_map, read_mask, read_picture
    from ..standalone import pictures
    from ..standalone.generate import estimate_depth, generate

    _picture_format(arguments.output)
    given = [arguments.picture, arguments.depth_map, arguments.mask, arguments.depth_region]
    count = 1 if arguments.contact_sheet else min(arguments.batch_size, 64)  # more is refused by Parameters, later
    refuse_overwriting(_paths(arguments.output, count), [path for path in given if path is not None])
    picture = read_picture(arguments.picture)
    adjustments, extent = adjustments_of(arguments), extent_of(arguments, arguments.meaning)
    detail = detail_of(arguments)
    depth_map = None
    if arguments.depth_map is not None:
        depth_map = read_depth_map(arguments.depth_map, meaning=arguments.meaning)
        _tell_of_shapes(depth_map.size, picture.size)
    mask = None if arguments.mask is None else read_mask(arguments.mask, picture.size)
    region = None if arguments.depth_region is None else read_mask(arguments.depth_region, picture.size)
    control = Control(arguments.depth_strength, arguments.depth_start, arguments.depth_end, arguments.depth_mode)
    model = load(arguments)
    parameters = parameters_of(arguments, picture, model)
    if region is not None:
        control = dataclasses.replace(control, region=pictures.region(region, picture, parameters.size))
    if depth_map is None:
        depth_map = estimate_depth(model, picture, detail)
    if extent is not None and depth_map.lies_outside(extent):
        say("The whole depth map lies outside of --range, so there is no depth in it.", to=sys.stderr)
    make = functools.partial(generate, mask=mask, adjustments=adjustments, control=control, extent=extent)
    if arguments.contact_sheet:
        return _write_sheet(arguments, model, picture, depth_map, parameters, make)
    with ProgressBar() as bar:
        results = make(model, picture, depth_map, parameters, progress=bar.show)
    for path, result in zip(_paths(arguments.output, len(results)), results, strict=True):
        write_picture(result, path)
    return 0


def _tell_of_shapes(depth_map: tuple[int, int], picture: tuple[int, int]) -> None:
    from ..depth.sizes import same_shape

    if not same_shape(depth_map, picture):
        (width, height), (wide, high) = depth_map, picture
        text = f"The depth map is {width}x{height} and the picture {wide}x{high}, another shape: the map is stretched."
        say(text, to=sys.stderr)


def load(arguments: argparse.Namespace) -> Model:
    """The model that the options name.

    Raises:
        CheckpointError: a file that is not there, or no depth model.
        DeviceError: no such device or precision.
    """
    from ..checkpoint.small_model import SMALL_CHECKPOINT
    from ..devices import checked_device, checked_precision
    from ..standalone.loading import load_model

    checkpoint = arguments.checkpoint or SMALL_CHECKPOINT
    if not checkpoint.is_file():
        raise CheckpointError(
            f"There is no checkpoint at {checkpoint}. --checkpoint takes a depth model, as 512-depth-ema.ckpt; "
            "python -m lib_depth2img install --to models/Stable-diffusion brings it."
        )
    for path, _ in arguments.lora:
        if not path.is_file():
            raise CheckpointError(f"There is no LoRA at {path}; --lora takes FILE or FILE:WEIGHT.")
    device = checked_device(arguments.device)
    checked_precision(arguments.precision, device)  # refuses now rather than after the gigabytes were read
    if arguments.offload and device.type == "cpu":
        say("--offload changes nothing on a CPU", to=sys.stderr)
    say(f"loading {checkpoint.name}", to=sys.stderr)  # gigabytes, before there is a bar to look at
    return load_model(
        checkpoint, device=device, precision=arguments.precision, offload=arguments.offload, loras=arguments.lora
    )


def parameters_of(arguments: argparse.Namespace, picture: Image.Image, model: Model) -> Parameters:
    """What the options ask for, for a picture of that size. Raises: RequestError."""
    from ..standalone.pictures import default_size

    width, height = default_size(picture, short_side=8 * model.image_size, step=SIZE_STEP)
    small = model.image_size < 64
    seed = arguments.seed
    if seed == -1:
        seed = secrets.randbelow(2**32)
        say(f"seed {seed}", to=sys.stderr)
    return Parameters(
        prompt=arguments.prompt,
        negative_prompt=arguments.negative_prompt,
        size=(arguments.width or width, arguments.height or height),
        denoising_strength=arguments.denoising_strength,
        steps=arguments.steps,
        sampler=arguments.sampler,
        cfg_scale=arguments.cfg_scale if arguments.cfg_scale is not None else (3.0 if small else 7.0),
        seed=seed,
        batch_size=arguments.batch_size,
        from_noise=arguments.from_noise,
    )


def _write_sheet(
    arguments: argparse.Namespace,
    model: Model,
    picture: Image.Image,
    depth_map: DepthMap,
    parameters: Parameters,
    make: Callable[..., list[Image.Image]],
) -> int:
    from ..standalone.contact_sheet import contact_sheet

    with ProgressBar() as bar:
        sheet = contact_sheet(model, picture, depth_map, parameters, run=make, progress=bar.show)
    write_picture(sheet.image, arguments.output)
    for row in sheet.rows:
        print(row)
    return 0


def _paths(output: Path, count: int) -> list[Path]:
    if count == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{number}{output.suffix}") for number in range(1, count + 1)]


def write_picture(image: Image.Image, path: Path, *, told: bool = True) -> None:
    """Write the picture by the path's suffix, beside it first, so that no half-written one ever stands there.

    ``told``: print the path.

    Raises:
        RequestError: a suffix that pictures are not written as.
        PictureError: the file cannot be written.
    """
    kind = _picture_format(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            image.save(part, format=kind)
    except OSError as error:
        raise PictureError(f"{path} cannot be written: {error.strerror or error}.") from error
    if told:
        print(path)


def _picture_format(path: Path) -> str:
    from PIL import Image as PillowImage

    kind: str | None = PillowImage.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in PillowImage.SAVE:
        raise RequestError(
            f"{path.name}: pictures are not written as {path.suffix or 'files without suffix'}; use .png."
        )
    return kind
