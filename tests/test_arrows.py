"""Imports point one way: the tables below say what each room may stand on; everything else is an arrow running back.

Imports for type checkers only count too: a reader follows them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "lib_depth2img"

GROUND = {"errors", "progress", "replacing", "devices"}
LIBRARY = {"depth", "weights", "estimators", "checkpoint", "sequences", *GROUND}

MAY_STAND_ON = {
    "__init__": LIBRARY,
    "__main__": {"cli"},
    "cli": {"commands", "errors"},
    "errors": set(),
    "progress": {"errors"},
    "console": {"progress"},
    "replacing": set(),
    "devices": {"errors"},
    "depth": {"errors", "replacing"},
    "weights": GROUND,
    "estimators": {"depth", "weights", *GROUND},
    "midas": {"estimators"},
    "checkpoint": {"weights", *GROUND},
    "sequences": {"depth", "estimators", *GROUND},
    "request": {"depth", "estimators", "errors"},
    "standalone": LIBRARY,
    "commands": {"standalone", "console", "request", *LIBRARY},
    "webui": {"console", "request", *LIBRARY},
}

# Inside webui/: the lowest rooms stand on nothing else of it, and the highest is stood on by one file only.
WEBUI_MAY_STAND_ON = {"hosts": {"hosts"}, "ui": {"ui"}}
MAY_STAND_ON_HOOKS = {"webui.extension"}

ONLY_IN = {
    "modules": "webui.hosts.",
    "modules_forge": "webui.hosts.",
    "gradio": "webui.ui.",
    "fastapi": "webui.api",
    "ldm": "webui.",
    "diffusers": "standalone.",
    "av": "sequences.film.",
    "ray": "sequences.spread.",
}


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


def _name(path: Path) -> str:
    """The module's dotted name inside the package; of a package's ``__init__`` that of the package."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def _inside(path: Path) -> set[str]:
    """The modules of the package that a file imports, by their dotted names inside it."""
    known = {_name(each) for each in _files()}
    found = set()
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] != PACKAGE:
            continue
        for length in range(len(parts), 1, -1):  # the last part may be a name in the module
            if ".".join(parts[1:length]) in known:
                found.add(".".join(parts[1:length]))
                break
    return found - {_name(path)}


def _room(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def _sub_room(name: str) -> str:
    return name.split(".")[1] if name.count(".") else ""


@pytest.mark.parametrize("path", _files(), ids=_name)
def test_arrows_run_one_way(path):
    room = _room(_name(path))
    assert room in MAY_STAND_ON, f"{room} is a new room: say in this test what it may stand on"
    backwards = {_room(name) for name in _inside(path)} - MAY_STAND_ON[room] - {room}
    assert not backwards, f"{_name(path)} imports {', '.join(sorted(backwards))}"


@pytest.mark.parametrize("path", [path for path in _files() if _room(_name(path)) == "webui"], ids=_name)
def test_hosts_and_what_is_drawn_know_nothing_else_of_the_extension(path):
    allowed = WEBUI_MAY_STAND_ON.get(_sub_room(_name(path)))
    if allowed is not None:
        backwards = {name for name in _inside(path) if _room(name) == "webui" and _sub_room(name) not in allowed}
        assert not backwards, f"{_name(path)} imports {', '.join(sorted(backwards))}"


def test_hooks_are_on_top():
    for path in _files():
        standing = {name for name in _inside(path) if name.startswith("webui.hooks.")}
        assert not standing or _name(path).startswith("webui.hooks.") or _name(path) in MAY_STAND_ON_HOOKS, standing


def test_no_file_imports_in_a_circle():
    graph = {_name(path): _inside(path) for path in _files()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert len(order) == len(_files())


@pytest.mark.parametrize("foreign", ONLY_IN)
def test_what_is_not_everywhere_is_imported_in_one_place_only(foreign):
    importing = {_name(path) for path in _files() if foreign in {name.split(".")[0] for name in _imports(path)}}
    assert not {name for name in importing if not f"{name}.".startswith(ONLY_IN[foreign])}
    if foreign == "modules_forge":
        return
    assert importing, f"nothing imports {foreign} any more: does this test still look at the right place?"


def test_the_entries_of_the_host_stand_on_the_webui_only():
    for path in (ROOT / "scripts").glob("*.py"):
        names = {name.split(".")[1] for name in _imports(path) if name.startswith(f"{PACKAGE}.")}
        assert names == {"webui"}, f"{path.name} imports {names}"


@pytest.mark.parametrize("name", ["training", "tests", "benchmarks", "scripts"])
def test_the_package_stands_on_nothing_beside_it(name):
    for path in _files():
        assert name not in {imported.split(".")[0] for imported in _imports(path)}, path
