"""Films in, videos out: PyAV's own reading says whether times, sound and pictures are right."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from lib_depth2img.errors import PictureError, RequestError
from lib_depth2img.sequences.film import TOGETHER, Group, groups, open_film
from lib_depth2img.sequences.video import check_video, write_video
from tests.sequences.films import CLOCK, made, scene, sound_of, times_of, tracks_of, turned, with_tracks

RATE = Fraction(25)
UNEVEN = [0, 1001, 2002, 5005, 5505, 9009, 9109]


def arrays(film):
    return [(shown.time, shown.length, np.asarray(shown.picture)) for shown in film.frames()]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("times", [[1001 * number for number in range(7)], UNEVEN], ids=["29.97", "variable"])
def test_times_and_sound_are_the_films(tmp_path, suffix, times):
    film = open_film(made(tmp_path / "in.mp4", times, sound=True), RATE)
    target = tmp_path / f"out{suffix}"
    check_video(target, film, grey=False)
    write_video(target, film, arrays(film), grey=False)
    assert times_of(target) == times_of(film.path) == [time * CLOCK for time in times]
    assert sound_of(target) == sound_of(film.path)
    with av.open(str(target)) as out, av.open(str(film.path)) as source:
        lengths = [one.streams.video[0].duration * one.streams.video[0].time_base for one in (out, source)]
        assert abs(lengths[0] - lengths[1]) < Fraction(1, 1000)  # the unit of an edit list
        assert out.streams.audio[0].duration == source.streams.audio[0].duration


def test_matroska_keeps_the_times_to_its_millisecond(tmp_path):
    film = open_film(made(tmp_path / "in.mp4", UNEVEN, sound=True), RATE)
    target = tmp_path / "out.mkv"
    write_video(target, film, arrays(film), grey=False)
    shift = sound_of(target)[0][0] - sound_of(film.path)[0][0]  # it knows no time before 0, where AAC begins
    pairs = zip(times_of(target), times_of(film.path), strict=True)
    assert all(abs(found - shift - wanted) <= Fraction(2, 1000) for found, wanted in pairs)
    assert [packet for _, packet in sound_of(target)] == [packet for _, packet in sound_of(film.path)]


def test_a_telephones_film_is_upright(tmp_path):
    path = turned(made(tmp_path / "in.mp4", [0, 1001], size=(64, 48)))
    first = next(open_film(path, RATE).frames())
    assert first.picture.size == (48, 64)
    wanted = np.rot90(scene(0, (64, 48)), -1).astype(float)
    assert np.abs(np.asarray(first.picture) - wanted).mean() < 12


def test_odd_sizes_and_ten_bits_come_in_and_go_out(tmp_path):
    film = open_film(made(tmp_path / "in.mkv", UNEVEN, size=(65, 49), codec="ffv1", pixels="yuv444p10le"), RATE)
    frames = arrays(film)
    assert frames[0][2].shape == (49, 65, 3)
    assert np.abs(frames[0][2] - scene(0, (65, 49)).astype(float)).mean() < 3
    target = tmp_path / "out.mp4"
    write_video(target, film, frames, grey=False)
    with av.open(str(target)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (66, 50)


@pytest.mark.parametrize(("suffix", "most"), [(".mkv", 0), (".mp4", 12)])
def test_grey_has_ten_bits(tmp_path, suffix, most):
    film = open_film(made(tmp_path / "in.mp4", UNEVEN), RATE)
    ramp = np.linspace(0, 1023, 64 * 48).round().astype(np.uint16).reshape(48, 64)
    target = tmp_path / f"out{suffix}"
    check_video(target, film, grey=True)
    write_video(target, film, [(time, length, ramp) for time, length, _ in arrays(film)], grey=True)
    with av.open(str(target)) as container:
        frames = list(container.decode(video=0))
    assert [frame.format.name for frame in frames] == ["gray10le"] * len(UNEVEN)
    assert max(np.abs(frame.to_ndarray().astype(int) - ramp).max() for frame in frames) <= most


def test_sound_that_does_not_fit_is_told_before_the_work(tmp_path):
    path = tmp_path / "in.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("adpcm_ms", rate=44100, layout="mono")
        container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(0, (64, 48)), format="rgb24")))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.int16), format="s16", layout="mono")
        silence.sample_rate = 44100
        container.mux([*stream.encode(None), *audio.encode(silence), *audio.encode(None)])
    with pytest.raises(RequestError, match=r"^\.mp4 does not hold the sound or the pictures of in\.avi"):
        check_video(tmp_path / "out.mp4", open_film(path, RATE), grey=False)


LINES = "1\n00:00:00,040 --> 00:00:00,120\nHello\n\n2\n00:00:00,160 --> 00:00:00,240\n你好\n"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_every_track_of_sound_comes_along_with_its_language(tmp_path, suffix):
    path = with_tracks(tmp_path / "in.mp4", made(tmp_path / "mute.mp4", UNEVEN), codecs=["aac", "libmp3lame", "aac"])
    film, target = open_film(path, RATE), tmp_path / f"out{suffix}"
    assert check_video(target, film, grey=False) == []
    write_video(target, film, arrays(film), grey=False)
    out, source = tracks_of(target), tracks_of(path)
    assert list(out) == list(source) == [1, 2, 3]
    for number in source:
        assert [packet for _, packet in out[number]] == [packet for _, packet in source[number]]
        late = [found - wanted for (found, _), (wanted, _) in zip(out[number], source[number], strict=True)]
        assert max(late) - min(late) <= (Fraction(2, 1000) if suffix == ".mkv" else 0)
    with av.open(str(target)) as container:
        told = ["und"] * 3 if suffix == ".mov" else ["und", "swe", "swe"]  # FFmpeg writes none into a .mov
        assert [each.metadata.get("language", "und") for each in container.streams.audio] == told
        assert container.streams[0].type == "video"


def test_subtitles_come_along_where_they_fit_and_are_named_elsewhere(tmp_path):
    path = with_tracks(tmp_path / "in.mkv", made(tmp_path / "mute.mp4", UNEVEN), codecs=["aac"], subtitles=LINES)
    film = open_film(path, RATE)
    assert check_video(tmp_path / "out.mkv", film, grey=False) == []
    write_video(tmp_path / "out.mkv", film, arrays(film), grey=False)
    assert [text.decode() for _, text in tracks_of(tmp_path / "out.mkv")[2]] == ["Hello", "你好"]
    (said,) = check_video(tmp_path / "out.mp4", film, grey=False)
    assert said.startswith("out.mp4 goes without track 2, subtitles")
    write_video(tmp_path / "out.mp4", film, arrays(film), grey=False)
    assert list(tracks_of(tmp_path / "out.mp4")) == [1]


def test_a_further_sound_that_does_not_fit_is_named_and_left_out(tmp_path):
    path = with_tracks(tmp_path / "in.mkv", made(tmp_path / "mute.mp4", UNEVEN), codecs=["aac", "tta", "aac"])
    film = open_film(path, RATE)
    (said,) = check_video(tmp_path / "out.mp4", film, grey=False)
    assert said.startswith("out.mp4 goes without track 2, sound swe Kommentar (")
    write_video(tmp_path / "out.mp4", film, arrays(film), grey=False)
    out, source = tracks_of(tmp_path / "out.mp4"), tracks_of(path)
    assert [[packet for _, packet in out[number]] for number in (1, 2)] == [
        [packet for _, packet in source[number]] for number in (1, 3)
    ]


def test_a_damaged_frame_is_named_and_the_others_come(tmp_path):
    path = made(tmp_path / "in.avi", [1001 * number for number in range(6)], codec="mjpeg", pixels="yuvj420p")
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data, (start, size) = bytearray(path.read_bytes()), places[3]
    data[start + 8 : start + 8 + size] = bytes(size)
    path.write_bytes(data)
    shown = list(open_film(path, RATE).frames())
    assert [frame.picture is None for frame in shown] == [False] * 3 + [True] + [False] * 2
    assert shown[3].fault.startswith("in.avi, frame 3")


def test_a_folder_is_a_film_in_the_order_of_its_names(tmp_path):
    for number in (2, 0, 1):
        Image.fromarray(scene(number, (32, 24))).save(tmp_path / f"f{number}.png")
    (tmp_path / "f3.png").write_bytes(b"no picture")
    film = open_film(tmp_path, Fraction(24000, 1001))
    shown = list(film.frames())
    assert [(frame.name, frame.time, frame.length) for frame in shown] == [(f"f{n}", n, 1) for n in range(4)]
    assert shown[3].picture is None
    assert "f3.png" in shown[3].fault
    assert film.time_base == Fraction(1001, 24000)


def test_no_cut_goes_through_a_group(tmp_path):
    path = made(tmp_path / "in.mp4", [1001 * number for number in range(14)], cut_at=10)
    found = list(groups(open_film(path, RATE).frames()))
    assert all(isinstance(group, Group) for group in found)
    assert [(group.shot, group.first, len(group.frames)) for group in found] == [
        (0, True, TOGETHER),
        (0, False, 2),
        (1, True, 4),
    ]


@pytest.mark.parametrize("content", [b"", b"no film at all"])
def test_what_is_no_video_is_one_sentence(tmp_path, content):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(PictureError, match=r"^x\.mp4 cannot be read as a video"):
        open_film(tmp_path / "x.mp4", RATE)
    with pytest.raises(RequestError, match="There is no film at"):
        open_film(Path("nowhere.mp4"), RATE)


def test_without_pyav_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    path = made(tmp_path / "in.mp4", [0, 1001])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RequestError, match="Video files need PyAV: pip install"):
        open_film(path, RATE)
    Image.fromarray(scene(0, (32, 24))).save(tmp_path / "f.png")
    assert open_film(tmp_path, RATE).count == 1
