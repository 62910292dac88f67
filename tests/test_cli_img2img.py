"""``python -m lib_depth2img img2img``: what is refused before any model is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lib_depth2img.__main__ import run
from lib_depth2img.cli import main
from lib_depth2img.standalone import loading

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "a.png"], "a.png is also what is read"),
        (["-o", "b.png", "--mask", "b.png"], "b.png is also what is read"),
        (["-o", "a.png", "--depth-map", "a.png"], "a.png is also what is read"),
        (["-o", "b.png", "--mask", "b-2.png", "--batch-size", "2"], "b-2.png is also what is read"),
        (["-o", "a.png", "--batch-size", "2", "--contact-sheet"], "a.png is also what is read"),
        (["-o", "c.docx"], "pictures are not written as .docx; use .png"),
        (["-o", "c"], "use .png"),
    ],
)
def test_an_output_that_cannot_be_is_refused_first(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    for name in ("a.png", "b.png", "b-2.png"):
        Image.new("RGB", (8, 8)).save(name)
    before = Path("a.png").read_bytes()
    assert main(["img2img", "a.png", "--prompt", "x", "--checkpoint", "none.ckpt", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert Path("a.png").read_bytes() == before


def test_a_checkpoint_that_is_not_there_is_told_how_to_come_by(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    words = ["img2img", tmp_path / "a.png", "-o", tmp_path / "b.png", "--checkpoint", tmp_path / "none.ckpt"]
    assert main([*map(str, words), "--prompt", "x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: There is no checkpoint at {tmp_path / 'none.ckpt'}.")
    assert "lib_depth2img install --to" in line


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_do_not_spin_for_long_unless_they_are_told_to(before, after, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["depth2img", "--version"])
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    monkeypatch.setattr(os, "environ", {**kept, **before})
    with pytest.raises(SystemExit):
        run()
    assert os.environ.get("GOMP_SPINCOUNT") == after


def test_a_file_name_that_is_no_text_is_printed(tmp_path):
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    path = os.fsencode(tmp_path) + b"/\xff.safetensors"
    with open(path, "wb") as file:  # noqa: PTH123 - pathlib takes no bytes
        file.write(len(header).to_bytes(8, "little") + header + b"\0")
    command = [sys.executable, "-m", "lib_depth2img", "checkpoint", "inspect", path]
    utf8 = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, cwd=ROOT, env=utf8, check=False, capture_output=True)
    assert done.returncode == 0
    assert b"\\udcff.safetensors" in done.stdout
    assert b"\\udcff.safetensors: 100%" in done.stderr  # the bar, and nothing else
    assert b"rror" not in done.stderr
