"""Frames to a video file, shown when the film's were, with its sound and subtitles."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PictureError, RequestError
from ..replacing import replacing
from .film import Film, pyav
from .tracks import Carrier, tracks_for

__all__ = ["TENTH_BIT", "VIDEO_SUFFIXES", "check_video", "is_video", "write_video"]

TENTH_BIT = 1023

_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
VIDEO_SUFFIXES = tuple(_FORMATS)

_COLOUR = ("libx264", "yuv420p", {"crf": "16"})
_GREY = {
    "matroska": ("ffv1", "gray10le", {}),
    "mp4": ("libx265", "gray10le", {"crf": "12", "x265-params": "log-level=none"}),
}
_GREY["mov"] = _GREY["mp4"]


def is_video(path: Path) -> bool:
    """Whether a name is that of a video which can be written."""
    return path.suffix.lower() in _FORMATS


def check_video(target: Path, film: Film, *, grey: bool) -> list[str]:
    """See that ``target`` can hold the film's sound and what :func:`write_video` makes, before any work is done.

    Gives remarks: which of several tracks it does not hold, and so are left out.

    Raises:
        RequestError: it cannot hold the pictures, or the first sound.
    """
    av = pyav()
    kind = _FORMATS[target.suffix.lower()]
    try:
        with av.open(os.devnull, "w", format=kind) as container:
            _add_pictures(container, film, (64, 64), grey=grey)
        left_out = tracks_for(av, film, kind).left_out
    except (av.FFmpegError, ValueError) as error:
        raise RequestError(
            f"{target.suffix} does not hold the sound or the pictures of {film.path.name} ({error}). Name a .mkv, "
            "which holds nearly all."
        ) from error
    return [f"{target.name} goes without {each}." for each in left_out]


def write_video(
    target: Path, film: Film, frames: Iterable[tuple[int, int, np.ndarray]], *, grey: bool, square: bool = False
) -> None:
    """Write ``frames``, each (time, length, picture) in the film's time base, with the film's sound and subtitles.

    Pictures: (h, w, 3) uint8, or with ``grey`` (h, w) uint16 up to ``TENTH_BIT``. ``square``: the pixels, whatever the
    film's are.

    Raises:
        PictureError: the file cannot be written.
    """
    av = pyav()
    try:
        with replacing(target) as part:
            _write(av, part, _FORMATS[target.suffix.lower()], film, frames, grey=grey, square=square)
    except (av.FFmpegError, OSError) as error:
        raise PictureError(f"{target} cannot be written: {error}.") from error


def _write(
    av: Any,
    part: Path,
    kind: str,
    film: Film,
    frames: Iterable[tuple[int, int, np.ndarray]],
    *,
    grey: bool,
    square: bool,
) -> None:
    remaining = iter(frames)
    first = next(remaining)
    with av.open(os.fspath(part), "w", format=kind) as container:
        stream = _add_pictures(container, film, _even(first[2], grey=grey).shape[1::-1], grey=grey)
        if not square and film.pixel_shape != 1:
            stream.codec_context.sample_aspect_ratio = film.pixel_shape
        lengths: dict[int, int] = {}
        with Carrier(av, container, film, tracks_for(av, film, kind)) as carrier:
            for time, length, picture in _chained(first, remaining):
                lengths[time] = length
                carrier.up_to(time * film.time_base)
                frame = av.VideoFrame.from_ndarray(_even(picture, grey=grey), format="gray10le" if grey else "rgb24")
                frame.pts, frame.time_base, frame.duration = time, film.time_base, length
                _mux(container, stream.encode(frame), lengths)
            _mux(container, stream.encode(None), lengths)
            carrier.up_to(None)


def _add_pictures(container: Any, film: Film, size: tuple[int, ...], *, grey: bool) -> Any:
    kind = container.format.name.split(",")[0]
    codec, pixels, options = _GREY[kind] if grey else _COLOUR
    stream = container.add_stream(codec, rate=film.rate.limit_denominator(60000), options=dict(options))
    stream.width, stream.height = size
    stream.pix_fmt = pixels
    stream.time_base = stream.codec_context.time_base = film.time_base
    if grey:
        stream.codec_context.color_range = 2  # all of 0 to 1023
    return stream


def _mux(container: Any, packets: Iterable[Any], lengths: dict[int, int]) -> None:
    """Packets with the lengths of their frames, which encoders do not hand on; each is asked for once."""
    for packet in packets:
        packet.duration = lengths.pop(packet.pts, packet.duration or 0)
        container.mux(packet)


def _even(picture: np.ndarray, *, grey: bool) -> np.ndarray:
    """With a row or column more where there is an odd number of them: colours are stored for two by two pixels."""
    if grey:
        return np.ascontiguousarray(picture)
    height, width = picture.shape[:2]
    return np.ascontiguousarray(np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
