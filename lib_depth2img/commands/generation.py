"""Making pictures of pictures on the command line: the options, the model they name, one picture after the other."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import math
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..console import say
from ..depth.control import Control
from ..errors import CheckpointError, PictureError, RequestError
from ..replacing import replacing
from ..request.fields import field_named
from ..request.kinds import Choice, Number
from ..standalone.parameters import SIZE_STEP, Parameters
from ..standalone.samplers import DEFAULT_SAMPLER, SAMPLERS
from .depth import add_number, adjustments_of, detail_of, extent_of

if TYPE_CHECKING:
    from PIL import Image

    from ..depth.depth_map import DepthMap
    from ..progress import Listener
    from ..standalone.loading import Model

__all__ = [
    "Generation",
    "Given",
    "add_generation",
    "add_meaning",
    "check_files",
    "load",
    "parameters_of",
    "paths_of",
    "picture_format",
    "write_picture",
]

_CONTROL = ("strength", "start", "end", "mode", "region")


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


def _lora(text: str) -> tuple[Path, float]:
    """A file and its weight. What is behind the last colon is no weight in C:\\x.safetensors, nor in a file's name."""
    name, colon, weight = text.rpartition(":")
    if colon and not Path(text).is_file():
        with contextlib.suppress(ValueError):
            if math.isfinite(float(weight)):
                return Path(name), float(weight)
    return Path(text), 1.0


@dataclass(frozen=True)
class Given:
    """What one generation starts from. ``depth_map``: None where it is to be estimated."""

    picture: Image.Image
    depth_map: DepthMap | None
    mask: Image.Image | None
    region: Image.Image | None


class Generation:
    """What the options ask for, made of one picture after the other; the model is loaded when it is first needed.

    ``remark``: told what the user should know, such as that a map is stretched; by default it is said.

    Raises:
        RequestError: options that do not fit each other.
    """

    def __init__(self, arguments: argparse.Namespace, remark: Callable[[str], None] | None = None) -> None:
        self._arguments = arguments
        self._remark = remark or functools.partial(say, to=sys.stderr)
        self._adjustments, self._extent = adjustments_of(arguments), extent_of(arguments, arguments.meaning)
        self._detail = detail_of(arguments)
        self._control = Control(
            arguments.depth_strength, arguments.depth_start, arguments.depth_end, arguments.depth_mode
        )

    @functools.cached_property
    def model(self) -> Model:
        """The model that the options name; see :func:`load`."""
        return load(self._arguments)

    def read(self, path: Path, depth_map: Path | None, frame: int | None = None) -> Given:
        """The picture with what belongs to it. ``frame``: of the clip ``depth_map``.

        Raises:
            PictureError, DepthMapError, RequestError: a file that cannot be read, or does not fit.
        """
        from ..depth.io.files import read_mask, read_picture

        given = self._arguments
        picture = read_picture(path)
        return Given(
            picture,
            None if depth_map is None else self._own_map(depth_map, frame, picture.size),
            None if given.mask is None else read_mask(given.mask, picture.size),
            None if given.depth_region is None else read_mask(given.depth_region, picture.size),
        )

    def prepared(self, given: Given) -> tuple[DepthMap, Parameters, Callable[..., list[Image.Image]]]:
        """The depth map, the parameters, and what makes pictures of them: ``make(model, picture, *both)``.

        Raises:
            CheckpointError: there is no such model, or none that estimates.
            RequestError: parameters out of range.
        """
        from ..standalone import pictures
        from ..standalone.generate import estimate_depth, generate

        control = self._control
        parameters = parameters_of(self._arguments, given.picture, self.model)
        if given.region is not None:
            region = pictures.region(given.region, given.picture, parameters.size)
            control = dataclasses.replace(control, region=region)
        depth_map = given.depth_map or estimate_depth(self.model, given.picture, self._detail)
        if self._extent is not None and depth_map.lies_outside(self._extent):
            self._remark("The whole depth map lies outside of --range, so there is no depth in it.")
        make = functools.partial(
            generate, mask=given.mask, adjustments=self._adjustments, control=control, extent=self._extent
        )
        return depth_map, parameters, make

    def make(self, given: Given, progress: Listener | None = None) -> list[Image.Image]:
        """As many pictures as the options ask for. Raises: as :meth:`prepared` and ``generate``."""
        depth_map, parameters, make = self.prepared(given)
        return make(self.model, given.picture, depth_map, parameters, progress=progress)

    def _own_map(self, path: Path, frame: int | None, size: tuple[int, int]) -> DepthMap:
        from ..depth.depth_map import DepthMap
        from ..depth.io.clips import read_frame
        from ..depth.io.files import read_depth_map
        from ..depth.sizes import same_shape

        meaning = self._arguments.meaning
        if frame is None:
            depth_map = read_depth_map(path, meaning=meaning)
        else:
            depth_map = DepthMap.from_array(read_frame(path, frame), meaning=meaning)
        if not same_shape(depth_map.size, size):
            (width, height), (wide, high) = depth_map.size, size
            self._remark(
                f"The depth map is {width}x{height} and the picture {wide}x{high}, another shape: the map is stretched."
            )
        return depth_map


def check_files(arguments: argparse.Namespace) -> None:
    """Look at the mask and the region alone, which belong to all pictures. Raises: PictureError, RequestError."""
    from ..depth.io.files import read_mask

    for path in (arguments.mask, arguments.depth_region):
        if path is not None:
            read_mask(path)


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


def paths_of(output: Path, count: int) -> list[Path]:
    """The files of ``count`` pictures: ``output``, or ``output`` with their numbers."""
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
    kind = picture_format(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            image.save(part, format=kind)
    except OSError as error:
        raise PictureError(f"{path} cannot be written: {error.strerror or error}.") from error
    if told:
        print(path)


def picture_format(path: Path) -> str:
    """What Pillow calls the format of the path's suffix. Raises: RequestError."""
    from PIL import Image as PillowImage

    kind: str | None = PillowImage.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in PillowImage.SAVE:
        raise RequestError(
            f"{path.name}: pictures are not written as {path.suffix or 'files without suffix'}; use .png."
        )
    return kind
