"""The pages say what the program does: fields, messages, commands, files, versions; and the two READMEs the same."""

from __future__ import annotations

import ast
import json
import re
import shlex
import xml.etree.ElementTree as ET
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import yaml

import lib_depth2img
from lib_depth2img.cli import build_parser
from lib_depth2img.depth.io.exr import encode_exr
from lib_depth2img.errors import RequestError
from lib_depth2img.estimators.presets import PRESETS
from lib_depth2img.request.fields import FIELDS
from lib_depth2img.request.kinds import Choice, Number
from lib_depth2img.request.request import Depth2ImgRequest
from lib_depth2img.weights import catalog

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
PAGES = [
    *READMES,
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
GAP = "…"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def blocks(text: str, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [code for language, code in found if not languages or language in languages]


def tables(text: str) -> list[list[list[str]]]:
    """Every table as rows of cells."""
    found = re.findall(r"(?:^\|.*\|$\n?)+", without_code(text), re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()] for table in found]


def headings(text: str) -> list[tuple[int, str]]:
    return [(len(marks), name) for marks, name in re.findall(r"^(#+) (.*)$", without_code(text), re.MULTILINE)]


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class TestTheTwoReadmes:
    @pytest.fixture
    def both(self) -> list[str]:
        return [read(page) for page in READMES]

    def test_have_the_same_chapters(self, both):
        english, chinese = ([level for level, _ in headings(text)] for text in both)
        assert english == chinese

    def test_have_the_same_code(self, both):
        english, chinese = (blocks(text) for text in both)
        assert english == chinese

    def test_have_the_same_tables(self, both):
        english, chinese = ([[len(row) for row in table] for table in tables(text)] for text in both)
        assert english == chinese

    def test_name_the_same_things(self, both):
        """Code in the text, in any order: sentences are built differently."""
        english, chinese = (set(re.findall(r"`([^`\n]+)`", without_code(text))) for text in both)
        assert english == chinese

    def test_quote_the_same_messages_and_show_the_same_pictures(self, both):
        for pattern in (r"^> (.*)$", r"^!\[.*\]\((.*)\)$"):
            english, chinese = (re.findall(pattern, text, re.MULTILINE) for text in both)
            assert english == chinese

    def test_lead_to_the_same_places(self, both):
        english, chinese = (
            {target for target in re.findall(r"\]\(([^)#]+)\)", text) if not target.startswith("README")}
            for text in both
        )
        assert english == chinese


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = without_code(read(page))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, fragment = target.partition("#")
        if "://" in path:
            continue
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page} leads to {target}"
        if fragment:
            assert fragment in {anchor(name) for _, name in headings(file.read_text(encoding="utf-8"))}, target


def is_understood(words: list[str]) -> bool:
    """Whether the command line takes these words; of a single one, whether it is a command."""
    if len(words) == 1:
        return words[0] in build_parser().format_help() or words[0] == "--version"
    return callable(build_parser().parse_args(words).run)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_ours_is_understood(page):
    """In blocks and in the text; what stands for something of the reader's is filled in."""
    text = read(page).replace("\\\n", " ")
    commands = re.findall(r"python(?:\.exe)? -m lib_depth2img ([^\n`|]*)", text)
    for command in commands:
        words = shlex.split(command.replace("\\", "/"), comments=True)
        if GAP in command or "tiny" in words:  # test_contributing.py runs the latter
            continue
        assert is_understood(words), command


@pytest.mark.parametrize("page", PAGES)
def test_python_examples_are_python_and_import_what_is_there(page):
    for code in blocks(read(page), "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "lib_depth2img":
                assert {alias.name for alias in node.names} <= set(lib_depth2img.__all__)


def test_json_examples_are_json():
    examples = {page: blocks(read(page), "json") for page in PAGES}
    assert examples["docs/api.md"]
    for code in chain.from_iterable(examples.values()):
        json.loads(code)


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_is_there(page):
    made = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    text = read(page)
    asked = re.findall(r"`make ([\w-]+)", text) + re.findall(r"^make ([\w-]+)", text, re.MULTILINE)
    assert set(asked) <= made


def described(page: str, name: str) -> list[str]:
    """The first row of the page's tables that is about one field."""
    rows = [row for table in tables(read(page)) for row in table if f"`{name}`" in row[:2]]
    assert rows, f"{page} has no row about {name}"
    return rows[0]


@pytest.mark.parametrize("page", [*READMES, "docs/api.md"])
@pytest.mark.parametrize("entry", FIELDS, ids=lambda entry: entry.name)
def test_tables_of_fields_are_the_programs(entry, page):
    row = described(page, entry.name)
    whole = " ".join(row)
    assert f"`{json.dumps(entry.default)}`".replace(".0`", "`") in row
    if page in READMES:
        assert row[0] == entry.label
    if isinstance(entry, Number):
        low, high = (f"{bound:g}" for bound in (entry.low, entry.high))
        assert re.search(
            rf"\b{re.escape(low)} (?:to|到) {re.escape(high)}\b|{re.escape(low)} 到 {re.escape(high)}", whole
        )
    if isinstance(entry, Choice):
        assert [value for value in entry.values if f"`{value}`" not in whole] == []


def test_fields_are_in_the_order_of_positional_arguments():
    table = next(table for table in tables(read("docs/api.md")) if table[0][:2] == ["field", "type"])
    assert [row[0].strip("`") for row in table[2:]] == [entry.name for entry in FIELDS]


@pytest.mark.parametrize("page", READMES)
def test_the_table_of_the_model_pair_is_the_catalogues(page):
    rows = {row[0].strip("`"): row for table in tables(read(page)) for row in table}
    for name in catalog.VARIANTS:
        file = catalog.variant(name)
        assert rows[f"{name}"][1:] == [f"`{file.name}`", f"{file.about_bytes / 1e9:.2f} GB", f"`{file.sha256}`"]
        assert file.licence.name in read(page)
    assert f"{catalog.estimator_file('dpt_hybrid').about_bytes / 1e9:.2f} GB" in read(page)


@cache
def messages() -> tuple[str, ...]:
    """Every text in the program, what is filled in at run time as a gap."""
    found = []
    sources = [*(ROOT / "lib_depth2img").rglob("*.py"), ROOT / "preload.py"]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def is_said(quote: str) -> bool:
    """Whether the pieces between the quote's gaps occur in this order in one message of the program."""
    pieces = [re.escape(piece.strip()) for piece in quote.split(GAP) if piece.strip(" .")]
    assert max(map(len, pieces)) > 12, f"{quote!r} says too little to be found"
    return any(re.search(".*?".join(pieces), message, re.DOTALL) for message in messages())


QUOTES = re.findall(r"^> (.*)$", read("README.md"), re.MULTILINE)


def test_troubleshooting_quotes_messages():
    assert len(QUOTES) >= 15


@pytest.mark.parametrize("quote", QUOTES)
def test_quoted_messages_are_the_programs_own(quote):
    assert is_said(
        re.sub("^image: (?=got)", "", quote)
    )  # the name of the field goes before what is wrong with its file


def test_a_message_nobody_says_is_noticed():
    assert not is_said("The depth map is upside down. Turn it.")


# What `docs/api.md` shows word for word, with the fields that give it.
REFUSED = {
    "Unknown field 'farr'. Did you mean far?": {"farr": 0.2},
    "far: got 2, expected a number from 0 to 1.": {"far": 2},
    "start: got 0.7, expected at most end, which is 0.3.": {"start": 0.7, "end": 0.3},
    "near: got 0.2, expected more than far, which is 0.5.": {"far": 0.5, "near": 0.2},
    "range: got '[20, 0.5]', expected two numbers, the lower one first.": {"range": [20, 0.5]},
    "clip: got 0.1, but range says what the map is scaled by. Leave one of them out.": {"clip": 0.1, "range": [0, 1]},
    "image: got none, expected one, since source is depth_map.": {"source": "depth_map"},
    "image: got one, but source is init_image, which does not use it. …": {"image": "QUJD"},
    "image: got '/home/me/depth.png', expected base64 of the bytes of a file; no path or address is opened.": {
        "source": "image",
        "image": "/home/me/depth.png",
    },
}


@pytest.mark.parametrize("text", REFUSED)
def test_errors_of_the_api_are_what_the_fields_give(text):
    assert f"`{text}`" in read("docs/api.md")
    with pytest.raises(RequestError) as refused:
        Depth2ImgRequest.from_mapping(REFUSED[text])
    assert str(refused.value).startswith(text.removesuffix(GAP))


def test_the_other_errors_of_the_api_are_said_by_the_program():
    table = next(table for table in tables(read("docs/api.md")) if table[0][0] == "`detail`")
    others = [row[0].strip("`") for row in table[2:] if row[0].strip("`") not in REFUSED]
    assert len(others) == 4
    for text in others:
        filled = r"dpt_large-midas-2f21e586\.pt|dpt_large|v1-5\.safetensors|512-depth-ema\.ckpt|depth_map|^image: "
        assert is_said(re.sub(filled, GAP, text)), text


def test_the_example_of_depth_maps_does_what_it_says(tmp_path, monkeypatch):
    """A metric OpenEXR with sky, as a renderer writes it, through the page's Python and through its one line."""
    distance = np.full((48, 64), 1e10, np.float32)
    distance[16:] = np.linspace(12, 3, 32, dtype=np.float32)[:, None]
    (tmp_path / "depth.exr").write_bytes(encode_exr(distance))
    monkeypatch.chdir(tmp_path)
    page = read("docs/depth-maps.md")
    (one_line,) = re.findall(r'^python -c "(.*)"$', page, re.MULTILINE)
    exec(compile(one_line, "one line", "exec"), {})
    line = lib_depth2img.read_depth_map("depth.png")
    assert line.size == (64, 48)
    assert (line.values[:16] == 0).all()
    assert line.values[-1].min() == 1.0
    assert (np.diff(line.values[16:, 0]) > 0).all()
    (code,) = blocks(page, "python")
    exec(compile(code, "example", "exec"), {})
    assert lib_depth2img.read_depth_map("depth.png").size == (1024, 768)


def test_pictures_are_small_and_drawings_are_drawings():
    pictures = list((ROOT / "docs" / "pictures").iterdir())
    for path in pictures:
        largest = {"demo.png": 600_000, "strengths.webp": 3_000_000}.get(path.name, 300_000)
        assert path.stat().st_size < largest, path.name
        if path.suffix == ".svg":
            assert ET.parse(path).getroot().tag.endswith("svg")
    shown = {Path(target).name for page in PAGES for target in re.findall(r"!\[.*?\]\((.*?)\)", read(page))}
    assert {path.name for path in pictures} <= shown


def test_one_version_everywhere():
    version = lib_depth2img.__version__
    assert re.findall(r"^## \[(\d.*?)\] - \d{4}-\d\d-\d\d$", read("CHANGELOG.md"), re.MULTILINE)[0] == version


def test_the_hook_runs_the_suites_own_ruff():
    (pinned,) = re.findall(r"^ruff==(.*)$", read("requirements-dev.txt"), re.MULTILINE)
    assert f"rev: v{pinned}\n" in read(".pre-commit-config.yaml")


def test_the_workflow_and_the_forms_are_what_github_takes():
    (workflow,) = (ROOT / ".github" / "workflows").glob("*.yml")
    job = yaml.safe_load(workflow.read_text())["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.10", "3.11"]
    assert job["steps"][-1]["run"].startswith("make test")
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= set(form)
        asked = [part for part in form["body"] if part["type"] != "markdown"]
        assert all(part["id"] and part["attributes"]["label"] for part in asked)


def test_every_estimator_is_named_where_people_look():
    for page in (*READMES, "docs/api.md"):
        assert [name for name in PRESETS if f"`{name}`" not in read(page)] == []


def test_no_page_names_a_place_of_one_machine():
    for page in PAGES:
        found = re.findall(r"(?<![\w.])/(?:tmp|root|work|mnt)/\S*|[A-Z]:\\\S+", read(page))
        assert not found, f"{page}: {found}"
