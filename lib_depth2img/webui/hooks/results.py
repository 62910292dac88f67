"""The depth maps that were used: after the pictures in the results, and beside them on the disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...depth.depth_map import DepthMap
from ...depth.io.files import encode_png, save_depth_map
from ...errors import Depth2ImgError
from .. import settings
from ..hosts import host

if TYPE_CHECKING:
    from .override import Cover, Generation

__all__ = ["NOT_SAVED", "deliver"]

SUFFIX = "-depth"

NOT_SAVED = "Depth2Img not saved"
"""The key in the reply's ``extra_generation_params``; it is in no picture's own parameters."""

LONGEST_SIDE = 2048
"""Pixels of the longer side of a map that is shown or saved: an estimate has 384 to 512, so more would only be air."""

_NOT_PICTURES = ("-mask", "-mask-composite", "-before-face-restoration", "-before-color-correction")
"""Ends of the names of what the host saves beside a picture (processing.py:1039-1090)."""


def deliver(generation: Generation, processed: Any) -> None:
    """Append the maps to the results and save them, as far as the request asks for it.

    A map that cannot be saved is told of in the comments and in the reply's ``info``: the host only logs what is raised
    here (scripts.py:826).
    Nothing is appended while a selectable script runs: SD upscale and outpainting take every picture of the results
    for a tile (sd_upscale.py:85, poor_mans_outpainting.py:124). Where there are no pictures there is nothing to add to:
    ADetailer calls every script's ``postprocess`` with empty results before it works on a picture.
    """
    if not processed.images:
        return
    request = generation.request
    if request.append_depth_map and host.selected_script(generation.p) is None:
        _append(generation, processed)
    if request.save_depth_map:
        _save(generation, processed)


def _append(generation: Generation, processed: Any) -> None:
    shown: set[str] = set()
    for index, depth_map in enumerate(_full_size(generation)):
        if depth_map.digest in shown:
            continue
        shown.add(depth_map.digest)
        infotext = processed.infotexts[min(processed.index_of_first_image + index, len(processed.infotexts) - 1)]
        picture = _picture(depth_map, bits=_bits(generation.p))
        if host.options().enable_pnginfo:
            picture.info["parameters"] = infotext
        processed.images.append(picture)
        processed.infotexts.append(infotext)


def _save(generation: Generation, processed: Any) -> None:
    depth_maps, pictures = _full_size(generation), _saved_pictures(processed)
    try:
        if pictures:
            _save_beside(depth_maps, pictures)
        elif host.selected_script(generation.p) is None:  # else tiles, of which the script saves what it makes of them
            _save_alone(depth_maps, generation.p, processed)
    except (Depth2ImgError, OSError) as error:
        text = f"the depth map could not be saved: {getattr(error, 'strerror', None) or error}"
        processed.comments += f"Depth2Img: {text}\n"
        processed.extra_generation_params[NOT_SAVED] = text  # what an API client sees of a reply (processing.py:597)


def _save_beside(depth_maps: list[DepthMap], pictures: list[Path]) -> None:
    """One for each picture, under its name."""
    folder = settings.current().maps_folder
    for index, path in enumerate(pictures):
        target = (Path(folder) if folder else path.parent) / f"{path.stem}{SUFFIX}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        save_depth_map(depth_maps[index % len(depth_maps)], target)


def _save_alone(depth_maps: list[DepthMap], p: Any, processed: Any) -> None:
    """Under the names that the pictures would have had, where the host was told to save none."""
    folder = settings.current().maps_folder
    for index, depth_map in enumerate(depth_maps):
        host.save_image(
            _picture(depth_map, bits=16),
            folder or p.outpath_samples,
            seed=processed.all_seeds[index],
            prompt=processed.all_prompts[index],
            info=processed.infotexts[min(processed.index_of_first_image + index, len(processed.infotexts) - 1)],
            p=p,
            suffix=SUFFIX,
            in_subfolders=False if folder else None,
        )


def _full_size(generation: Generation) -> list[DepthMap]:
    """The maps at the size of the pictures they are of, so that one can be handed in again instead of an estimate."""
    return [_whole(*pair) for pair in zip(generation.depth_maps, generation.covers, strict=True)]


def _whole(depth_map: DepthMap, cover: Cover) -> DepthMap:
    """A map of a part lies where the part lies, and the farthest is around it."""
    size = _bounded(cover.size)
    if cover.box is None:
        return depth_map.scaled().resized(size)
    scales = size[0] / cover.size[0], size[1] / cover.size[1]
    x1, y1, x2, y2 = (round(edge * scales[i % 2]) for i, edge in enumerate(cover.box))
    values = np.zeros(size[::-1], np.float32)
    values[y1:y2, x1:x2] = depth_map.scaled().resized((max(x2 - x1, 1), max(y2 - y1, 1))).values[: y2 - y1, : x2 - x1]
    return DepthMap(values, unit=True)


def _bounded(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, LONGEST_SIDE / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def _saved_pictures(processed: Any) -> list[Path]:
    """The generated pictures' files, in their order; the host notes the name on what it has saved (images.py:706)."""
    pictures = processed.images[processed.index_of_first_image :]
    paths = [Path(name) for picture in pictures if (name := getattr(picture, "already_saved_as", None))]
    return [path for path in paths if not path.stem.endswith(_NOT_PICTURES)]


def _bits(p: Any) -> int:
    """16 for an API client, where the reply can hold it (api/api.py:99-125); 8 for the tabs, whose widgets clip 16."""
    return 16 if p.is_api and host.options().samples_format.lower() == "png" else 8


def _picture(depth_map: DepthMap, *, bits: int) -> Image.Image:
    picture = Image.open(io.BytesIO(encode_png(depth_map, bits=bits)))
    picture.load()
    return picture
