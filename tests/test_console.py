from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib_depth2img.console import say, terminal

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
    assert terminal() is None


def test_a_console_that_has_gone_ends_nothing(monkeypatch):
    closed = windows_stream()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    say("to nobody")
    assert terminal() is None
    full = Path("/dev/full").open("w")  # noqa: SIM115
    say("to nobody", to=full)
    with pytest.raises(OSError, match="No space left"):
        full.close()  # what was said had been tried


def test_a_pipe_is_no_terminal(capsys):
    assert terminal() is None


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
    assert terminal() is None
