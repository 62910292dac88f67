"""Imports point one way: the table below says what each room may stand on; everything else is an arrow running back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "lib_depth2img"

BASE = {"errors"}
TENSORS = {"tensors", "tensor_file", *BASE}
LIBRARY = {"depth", "devices", "midas", "checkpoint", *TENSORS}
REQUEST = {"fields", "request", "user_image"}

MAY_STAND_ON = {
    "__init__": LIBRARY,
    "__main__": {"cli"},
    "cli": {"commands", *BASE},
    "errors": set(),
    "devices": BASE,
    "console": set(),
    "replacing": set(),
    "tensors": BASE,
    "tensor_file": TENSORS,
    "depth": BASE,
    "checkpoint": {"replacing", *TENSORS},
    "midas": LIBRARY,
    "user_image": {"depth", *BASE},
    "fields": {"depth", "midas", "user_image", *BASE},
    "request": {"depth", *REQUEST, *BASE},
    "standalone": LIBRARY,
    "commands": {"standalone", *LIBRARY},
    "webui": {"console", "replacing", *REQUEST, *LIBRARY},
}

HOST = {"modules", "modules_forge", "gradio", "fastapi"}
SCRIPTS_MAY_STAND_ON = {"webui"}


def _imports(path: Path) -> Iterator[str]:
    """Absolute names of all that a file imports, wherever in it."""
    inside = path.relative_to(ROOT).with_suffix("").parts
    package = inside[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join((*base, *(node.module or "").split("."))).strip(".")
            yield from (f"{start}.{alias.name}" for alias in node.names)


def _files() -> list[Path]:
    return sorted((ROOT / PACKAGE).rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")


def _rooms_imported(path: Path) -> set[str]:
    names = (name.split(".") for name in _imports(path) if name.split(".")[0] == PACKAGE)
    # `from . import __version__` in the top room names the package itself
    return {parts[1] for parts in names if len(parts) > 1 and not parts[1].startswith("__")}


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT / PACKAGE)))
def test_arrows_run_one_way(path):
    room = _room(path)
    assert room in MAY_STAND_ON, f"{room} is a new room: say in this test what it may stand on"
    backwards = _rooms_imported(path) - MAY_STAND_ON[room] - {room}
    assert not backwards, f"{path.relative_to(ROOT)} imports {', '.join(sorted(backwards))}"


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT / PACKAGE)))
def test_only_the_webui_room_knows_the_host(path):
    if _room(path) != "webui":
        host = {name.split(".")[0] for name in _imports(path)} & HOST
        assert not host, f"{path.relative_to(ROOT)} imports {', '.join(sorted(host))}"


def test_the_host_is_imported_only_where_it_is_met():
    """Panel and preview run on plain gradio; what needs `modules.*` is in files that say so in their first line."""
    for path in (ROOT / "scripts").glob("*.py"):
        rooms = _rooms_imported(path)
        assert rooms <= SCRIPTS_MAY_STAND_ON, f"{path.name} imports {rooms}"


@pytest.mark.parametrize("name", ["training", "tests", "benchmarks", "scripts"])
def test_the_package_stands_on_nothing_beside_it(name):
    for path in _files():
        assert name not in {imported.split(".")[0] for imported in _imports(path)}, path
