"""CONTRIBUTING.md, "Adding an estimator", done word for word in a copy of the package."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def code_of(step: str) -> str:
    """The block under the step's bold words."""
    section = PAGE[PAGE.index("## Adding an estimator") :]
    match = re.search(rf"\*\*{re.escape(step)}\*\*.*?```\w+\n(.*?)```", section, re.DOTALL)
    assert match, f"CONTRIBUTING.md has no step {step!r} with a block of code"
    return match[1]


def insert_first(path: Path, tuple_begins: str, lines: str) -> None:
    """Put the page's lines first into the tuple that begins there."""
    text = path.read_text(encoding="utf-8")
    assert text.count(tuple_begins) == 1, f"{path.name} has not one line {tuple_begins!r}"
    path.write_text(text.replace(tuple_begins, tuple_begins + lines), encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the package in which steps 1 to 3 were followed."""
    folder = tmp_path_factory.mktemp("tree")
    package = folder / "lib_depth2img"
    shutil.copytree(ROOT / "lib_depth2img", package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    (package / "estimators" / "networks" / "tiny.py").write_text(code_of("1. The network"), encoding="utf-8")
    insert_first(package / "estimators" / "presets.py", "        for preset in (\n", code_of("2. The preset"))
    insert_first(package / "weights" / "catalog.py", "FILES: tuple[CatalogFile, ...] = (\n", code_of("3. The weights"))
    Image.fromarray(data.astronaut()[:128, :192]).save(folder / "photo.png")
    return folder


def run(tree: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_new_estimator_makes_a_depth_map(tree):
    for line in code_of("4. Try it").splitlines():
        run(tree, *shlex.split(line)[1:])
    depth = np.asarray(Image.open(tree / "depth.png")).astype(float)
    assert depth.shape == (128, 192)
    assert depth[-20:].mean() > depth[:20].mean() + 0.2 * 65535, "lower in the picture is nearer"


def test_the_new_estimator_is_offered_everywhere(tree):
    assert "tiny" in run(tree, "-m", "lib_depth2img", "depth", "--help")
    assert "tiny" in run(tree, "-m", "lib_depth2img", "install", "--help")
    code = "from lib_depth2img.request.fields import field_named; print(field_named('estimator').values)"
    assert "'tiny'" in run(tree, "-c", code)


def test_what_the_page_writes_is_clean(tree):
    package = tree / "lib_depth2img"
    touched = [
        package / "estimators/networks/tiny.py",
        package / "estimators/presets.py",
        package / "weights/catalog.py",
    ]
    config = f"--config={ROOT / 'pyproject.toml'}"
    run(tree, "-m", "ruff", "check", "--no-cache", config, *map(str, touched))
    run(tree, "-m", "ruff", "format", "--check", "--no-cache", config, *map(str, touched))
