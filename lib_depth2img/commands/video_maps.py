"""What ``video`` makes of the options for depth maps of the user's own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..console import say
from ..depth.extent import Extent
from ..depth.sizes import same_shape
from ..errors import RequestError
from ..sequences.film import Film
from ..sequences.maps import Frame, Maps
from ..sequences.own_maps import OwnMaps
from .generation import add_meaning

__all__ = ["add_own_maps", "own_maps_of", "tell_of_own"]


def add_own_maps(parser: argparse.ArgumentParser) -> None:
    """The options that :func:`own_maps_of` reads."""
    parser.add_argument(
        "--maps", type=Path, metavar="MAPS", help="own maps instead of estimates: a folder, or a clip (.npy, .npz)"
    )
    add_meaning(parser)


def own_maps_of(arguments: argparse.Namespace, film: Film) -> OwnMaps | None:
    """The user's own maps, None where there are none. Raises: RequestError."""
    if arguments.maps is None:
        if arguments.meaning != "nearness":
            raise RequestError("--meaning says what the numbers of own maps mean; name the maps with --maps.")
        return None
    if arguments.estimator is not None:
        raise RequestError("--maps brings the maps, and so leaves nothing to --estimator; leave one of them out.")
    own = OwnMaps(film, arguments.maps, arguments.meaning)
    film.remarks += [own.remark] if own.remark else []
    return own


def tell_of_own(maps: Maps, frames: Sequence[Frame], by_hand: Extent | None) -> None:
    """Say which maps have another shape than their frames, and which lie outside of the range."""
    others, outside = [], []
    for frame in frames:
        depth_map = maps.read(frame.name)
        if not same_shape(depth_map.size, frame.size):
            others.append(f"{frame.name}: {_size(depth_map.size)} for {_size(frame.size)}")
        if by_hand is not None and depth_map.lies_outside(by_hand):
            outside.append(frame.name)
    if others:
        text = f"Maps of another shape than their frames are stretched: {len(others)}, the first {others[0]}."
        say(text, to=sys.stderr)
    if outside:
        text = f"Maps that lie outside of --range as a whole, so that there is no depth in them: {len(outside)}, "
        say(f"{text}the first of {outside[0]}.", to=sys.stderr)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
