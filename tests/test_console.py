from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib_depth2img.console import ProgressBar, say
from lib_depth2img.progress import Progress

ROOT = Path(__file__).parents[1]


def windows_stream() -> io.TextIOWrapper:
    """What the standard output is where the system's letters are those of Western Europe."""
    return io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="")


def test_letters_that_the_stream_lacks_are_escaped_and_the_others_stay():
    stream = windows_stream()
    say("für 模型", to=stream)
    assert stream.buffer.getvalue() == "für \\u6a21\\u578b\n".encode("cp1252")  # and it is there at once
    assert stream.errors == "strict", "the stream is the host's, and stays as it was"


def test_a_name_that_is_no_text_is_said_too(capsys):
    say(os.fsdecode(b"/caf\xe9"))
    assert capsys.readouterr().out == "/caf\\udce9\n"


def test_a_real_process_with_such_a_console():
    code = "from lib_depth2img.console import say; say('模型')"
    variables = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "\\u6a21\\u578b\n"


def test_without_a_console_nothing_is_said(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    say("to nobody")


def test_a_console_that_has_gone_ends_nothing(monkeypatch):
    closed = windows_stream()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    say("to nobody")
    full = Path("/dev/full").open("w")  # noqa: SIM115
    say("to nobody", to=full)
    with pytest.raises(OSError, match="No space left"):
        full.close()  # what was said had been tried


def test_a_stream_that_says_nothing_of_its_letters_is_taken_to_know_all(monkeypatch):
    class Tee:
        """Such as other extensions put in the place of the standard output."""

        def __init__(self) -> None:
            self.seen = ""

        def write(self, text: str) -> None:
            self.seen += text

        def flush(self) -> None:
            pass

    monkeypatch.setattr(sys, "stdout", Tee())
    say("模型")
    assert sys.stdout.seen == "模型\n"


def worked(bar: ProgressBar) -> None:
    with bar:
        bar.show(Progress("asking", "模型.ckpt", 0, None))
        for done in (0, 500_000, 1_000_000):
            bar.show(Progress("downloading", "模型.ckpt", done, 1_000_000))
        bar.say("error: 图.png")
        bar.show(Progress("verifying", "模型.ckpt", 1_000_000, 1_000_000))


class TestProgressBar:
    def test_each_phase_is_shown_to_its_end(self, capsys):
        worked(ProgressBar())
        shown = capsys.readouterr().err
        assert "模型.ckpt: asking where it can be had\n" in shown
        for phase in ("downloading", "verifying"):
            assert f"{phase} 模型.ckpt: 100%" in shown
        assert "1.00M/1.00M" in shown
        assert "error: 图.png\n" in shown

    def test_a_phase_has_one_bar(self, capsys):
        with ProgressBar() as bar:
            for done in range(1, 4):
                bar.show(Progress("sampling", "", done, 3, unit="step"))
        assert capsys.readouterr().err.count("\n") == 1

    def test_quiet_still_tells_what_went_wrong(self, capsys):
        worked(ProgressBar(quiet=True))
        assert capsys.readouterr().err == "error: 图.png\n"

    def test_a_console_that_knows_few_letters_ends_nothing(self, monkeypatch):
        stream = windows_stream()
        monkeypatch.setattr(sys, "stderr", stream)
        worked(ProgressBar())
        assert b"downloading \\u6a21\\u578b.ckpt: 100%" in stream.buffer.getvalue()

    @pytest.mark.parametrize("there", [False, True])
    def test_a_console_that_has_gone_ends_nothing(self, monkeypatch, there):
        gone = windows_stream()
        gone.close()
        monkeypatch.setattr(sys, "stderr", gone if there else None)
        worked(ProgressBar())
