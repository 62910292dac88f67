"""Small films, made by PyAV."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

__all__ = [
    "CLOCK",
    "contents",
    "frames_in",
    "made",
    "scene",
    "sound_of",
    "times_of",
    "tracks_of",
    "turned",
    "with_tracks",
]

CLOCK = Fraction(1, 30000)


def scene(number: int, size: tuple[int, int], *, other: bool = False) -> np.ndarray:
    """A bar that grows over a textured ground; ``other``: of another scene."""
    width, height = size
    rng = np.random.default_rng(9 if other else 3)
    picture = np.kron(rng.integers(0, 120, (height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1)))[:height, :width]
    picture += (0, 100, 30) if other else (90, 20, 0)
    picture[height // 3 : height // 2, : 6 + 2 * number] = (250, 240, 20)
    return picture.astype(np.uint8)


def frames_in(folder: Path, length: int, *, cut_at: int, digits: int = 1) -> Path:
    """A folder of frames, ``f0.png`` and so on, of two scenes."""
    folder.mkdir()
    for number in range(length):
        picture = Image.fromarray(scene(number, (64, 48), other=number >= cut_at))
        picture.save(folder / f"f{number:0{digits}d}.png")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder, but not in folders inside it."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def made(
    path: Path,
    times: Sequence[int],
    *,
    size: tuple[int, int] = (64, 48),
    cut_at: int | None = None,
    sound: bool = False,
    codec: str = "libx264",
    pixels: str = "yuv444p",
) -> Path:
    """A film whose frames are shown at ``times``, in units of ``CLOCK``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.time_base = stream.codec_context.time_base = CLOCK
        audio: Any = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number, time in enumerate(times):
            other = cut_at is not None and number >= cut_at
            frame = av.VideoFrame.from_ndarray(scene(number, size, other=other), format="rgb24")
            frame.pts, frame.time_base = time, CLOCK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            for start in range(0, int(8000 * times[-1] * CLOCK), 1024):
                wave = np.sin(np.arange(start, start + 1024) * 0.3).astype(np.float32)[None]
                heard = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
                heard.sample_rate, heard.pts = 8000, start
                container.mux(audio.encode(heard))
            container.mux(audio.encode(None))
    return path


def times_of(path: Path) -> list[Fraction]:
    """When each picture of a film is shown, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def sound_of(path: Path) -> list[tuple[Fraction, bytes]]:
    """The packets of a film's sound, with their times."""
    with av.open(str(path)) as container:
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


def turned(path: Path) -> Path:
    """The MP4 with the display matrix of a telephone held upright: to be turned by 90 degrees with the clock."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def with_tracks(path: Path, film: Path, *, codecs: Sequence[str], subtitles: str = "") -> Path:
    """``film`` with a track of sound for each of ``codecs``, in Swedish but the first, and ``subtitles`` (SRT)."""
    with ExitStack() as opened:
        container, source = opened.enter_context(av.open(str(path), "w")), opened.enter_context(av.open(str(film)))
        pictures = container.add_stream_from_template(source.streams.video[0])
        sounds: list[Any] = [container.add_stream(codec, rate=44100, layout="mono") for codec in codecs]
        for sound in sounds[1:]:
            sound.metadata.update(language="swe", title="Kommentar")
        read = None
        if subtitles:
            path.with_suffix(".srt").write_text(subtitles, encoding="utf-8")
            read = opened.enter_context(av.open(str(path.with_suffix(".srt"))))
            lines = container.add_stream_from_template(read.streams[0])
        packets = [(packet, pictures) for packet in source.demux(video=0) if packet.size]
        for number, sound in enumerate(sounds):
            packets += [(packet, sound) for packet in _tone(sound, 200 * (number + 1))]
        packets += [(packet, lines) for packet in (read.demux() if read else ()) if packet.size]
        for packet, stream in sorted(packets, key=lambda each: each[0].dts * each[0].time_base):
            packet.stream = stream
            container.mux(packet)
    return path


def _tone(sound: Any, pitch: int) -> Iterator[Any]:
    """Half a second."""
    for start in range(0, 22050, 1024):
        wave = np.sin(np.arange(start, start + 1024) * 2 * np.pi * pitch / 44100).astype(np.float32)[None]
        heard = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        heard.sample_rate, heard.pts = 44100, start
        yield from sound.encode(heard)
    yield from sound.encode(None)


def tracks_of(path: Path) -> dict[int, list[tuple[Fraction, bytes]]]:
    """Of each track but the pictures the packets with their times."""
    with av.open(str(path)) as container:
        found: dict[int, list[tuple[Fraction, bytes]]] = {each.index: [] for each in container.streams if each.index}
        for packet in container.demux():
            if packet.size and packet.stream.index in found:
                found[packet.stream.index].append((packet.pts * packet.time_base, bytes(packet)))
    return found
