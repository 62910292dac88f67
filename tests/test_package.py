"""The package that ``pip install`` makes of this repository."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import lib_depth2img

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built from a copy, since setuptools leaves its own folders in the tree."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "lib_depth2img", tree / "lib_depth2img", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "-w", out, tree], check=True, capture_output=True)
    (built,) = out.iterdir()
    with zipfile.ZipFile(built) as archive:
        yield archive


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (found,) = (entry for entry in wheel.namelist() if entry.endswith(f".dist-info/{name}"))
    return wheel.read(found).decode("utf-8")


def test_it_holds_every_file_of_the_library(wheel):
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "lib_depth2img").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == here


def test_it_has_this_version_and_the_extras_that_messages_name(wheel):
    said = Parser().parsestr(metadata(wheel, "METADATA"))
    assert said["Version"] == lib_depth2img.__version__
    assert set(said.get_all("Provides-Extra")) == {"exr", "ray", "standalone", "video"}


def test_the_command_is_there_and_calls_itself_by_its_name(wheel, tmp_path):
    entries = configparser.ConfigParser()
    entries.read_string(metadata(wheel, "entry_points.txt"))
    module, function = entries["console_scripts"]["depth2img"].split(":")
    wheel.extractall(tmp_path)
    command = tmp_path / "depth2img.py"  # what pip's own launcher does
    command.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    done = subprocess.run([sys.executable, command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: depth2img ")
    done = subprocess.run([sys.executable, command, "depth"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: depth2img depth" in done.stderr


def test_as_a_module_it_is_called_so():
    command = [sys.executable, "-m", "lib_depth2img", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m lib_depth2img ")
