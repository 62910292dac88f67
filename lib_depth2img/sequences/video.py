"""Frames to a video file, shown when the film's were, with its sound."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PictureError, RequestError
from ..replacing import replacing
from .film import Film, pyav

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


def check_video(target: Path, film: Film, *, grey: bool) -> None:
    """See that ``target`` can hold the film's sound and what :func:`write_video` makes, before any work is done.

    Raises:
        RequestError: it cannot.
    """
    av = pyav()
    try:
        with av.open(os.devnull, "w", format=_FORMATS[target.suffix.lower()]) as container:
            _add_pictures(container, film, (64, 64), grey=grey)
            if film.sound:
                with av.open(os.fspath(film.path)) as source:
                    container.add_stream_from_template(source.streams.audio[0])
                    container.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        raise RequestError(
            f"{target.suffix} does not hold the sound or the pictures of {film.path.name} ({error}). Name a .mkv, "
            "which holds nearly all."
        ) from error


def write_video(
    target: Path, film: Film, frames: Iterable[tuple[int, int, np.ndarray]], *, grey: bool, square: bool = False
) -> None:
    """Write ``frames``, each (time, length, picture) in the film's time base, with the film's sound.

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
        sound = _Sound(av, container, film)
        lengths: dict[int, int] = {}
        for time, length, picture in _chained(first, remaining):
            lengths[time] = length
            sound.up_to(time * film.time_base)
            frame = av.VideoFrame.from_ndarray(_even(picture, grey=grey), format="gray10le" if grey else "rgb24")
            frame.pts, frame.time_base, frame.duration = time, film.time_base, length
            _mux(container, stream.encode(frame), lengths)
        _mux(container, stream.encode(None), lengths)
        sound.up_to(None)


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


class _Sound:
    """Carries the packets of the film's sound over, as they are, beside the pictures of their time."""

    def __init__(self, av: Any, container: Any, film: Film) -> None:
        self._container = container
        self._packets: Iterator[Any] = iter(())
        self._waiting: Any = None
        if film.sound:
            source = av.open(os.fspath(film.path))
            self._stream = container.add_stream_from_template(source.streams.audio[0])
            self._packets = (packet for packet in source.demux(audio=0) if packet.dts is not None)

    def up_to(self, seconds: Fraction | None) -> None:
        """Hand over what is heard up to then; None for all."""
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None or (seconds is not None and packet.pts * packet.time_base > seconds):
                return
            self._waiting = None
            packet.stream = self._stream
            self._container.mux(packet)
