"""Sound and subtitles of a film, carried over to a video as they are, beside the pictures of their time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from typing import Any

from .film import Film

__all__ = ["Carrier", "Tracks", "tracks_for"]

_KINDS = {"audio": "sound", "subtitle": "subtitles"}
_TOLD = ("language", "title")


class Tracks:
    """Which tracks of a film a kind of video holds. ``held``: their numbers in the film. ``left_out``: the others, in
    words, with the reasons."""

    def __init__(self) -> None:
        self.held: list[int] = []
        self.left_out: list[str] = []


def tracks_for(av: Any, film: Film, kind: str) -> Tracks:
    """Find out. ``av``: PyAV. ``kind``: as FFmpeg calls the container.

    Raises:
        ValueError, FFmpegError: it does not hold the first sound.
    """
    found = Tracks()
    if not film.tracks:
        return found
    with av.open(os.fspath(film.path)) as source:
        for number in film.tracks:
            stream = source.streams[number]
            try:
                _try(av, stream, kind)
            except (av.FFmpegError, ValueError) as error:
                if stream.type == "audio" and stream.index == source.streams.audio[0].index:
                    raise
                found.left_out.append(f"{_described(stream)} ({error})")
            else:
                found.held.append(number)
    return found


def _try(av: Any, stream: Any, kind: str) -> None:
    with av.open(os.devnull, "w", format=kind) as container:
        container.add_stream_from_template(stream)
        container.start_encoding()


def _described(stream: Any) -> str:
    said = [str(stream.metadata[name]) for name in _TOLD if name in stream.metadata]
    return " ".join([f"track {stream.index}, {_KINDS[stream.type]}", *said])


def _time(packet: Any) -> Fraction:
    """Seconds; some containers tell when a packet is decoded only."""
    found: Fraction = (packet.dts if packet.pts is None else packet.pts) * packet.time_base
    return found


class Carrier:
    """Hands the packets of a film's ``tracks`` over to ``container``, in which their streams are made first."""

    def __init__(self, av: Any, container: Any, film: Film, tracks: Tracks) -> None:
        self._container = container
        self._packets: Iterator[Any] = iter(())
        self._waiting: Any = None
        self._open = ExitStack()
        if not tracks.held:
            return
        source = self._open.enter_context(av.open(os.fspath(film.path)))
        streams = [source.streams[number] for number in tracks.held]
        self._targets = {stream.index: self._added(stream) for stream in streams}
        self._packets = (packet for packet in source.demux(streams) if packet.dts is not None)

    def __enter__(self) -> Carrier:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def up_to(self, seconds: Fraction | None) -> None:
        """Hand over what is heard or read up to then; None for all."""
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None or (seconds is not None and _time(packet) > seconds):
                return
            self._waiting = None
            packet.stream = self._targets[packet.stream.index]
            self._container.mux(packet)

    def _added(self, stream: Any) -> Any:
        target = self._container.add_stream_from_template(stream)
        target.metadata.update({name: stream.metadata[name] for name in _TOLD if name in stream.metadata})
        with suppress(AttributeError):  # PyAV 14 cannot say it
            target.disposition = stream.disposition
        return target
