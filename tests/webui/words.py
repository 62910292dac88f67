"""Every text of the program that a user of the page can be shown, as the tables in localizations/ name it.

What is filled in at run time is ``{}``. Three sources: the widgets as they are built, the Python files whose messages
reach the page, and the string literals of the scripts.
"""

from __future__ import annotations

import ast
import html
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

SILENT = (
    "commands/",  # the command line
    "standalone/",
    "cli.py",
    "console.py",
    "__main__.py",
    "__init__.py",
    "webui/api.py",
    "webui/extension.py",
    "webui/hosts/",  # errors of a host that is not what it was taken for
    "checkpoint/convert.py",
    "checkpoint/transplant.py",
    "checkpoint/inspect.py",
    "checkpoint/writing.py",
    "checkpoint/yaml.py",
    "sequences/film.py",
    "sequences/folders.py",
    "sequences/maps.py",
    "sequences/noise.py",
    "sequences/own_maps.py",
    "sequences/spread.py",
    "sequences/tracks.py",
    "sequences/video.py",
    "sequences/work.py",
)
"""Files whose messages come to the console or to a client of the API, which stay English."""

HIDDEN = ("depth2img_editor_", "depth2img_refresh", "depth2img_adjust_again")
"""Widgets that nobody sees."""

NAMES = re.compile(
    "|".join(
        (
            r"Depth2Img( .*)?|NaN, inf|Inferno|Turbo|MiDaS .*|OpenCLIP .*|CreativeML .*|Mapping\[.*|Bearer .*",
            r"Hugging Face \{\}.*",
            r"An? \w+ file|The state dict|Small, of this project|Warning: .*|Got an? .*|Got \{\} .*|The canvas.*",
            r"The batch size .*|A mask is .*|A depth map holds .*|The (crop box|resize mode) .*|The \{\} is \{\}; .*",
            r"Depth (editor|model loaded): ?.*|Depth map \{\}|Adjust again|Refresh Depth2Img",
            r"Strokes of the depth editor|Depth Anything V2 \{\}|DepthMap \| None",
        )
    )
)
"""Names, keys of an infotext, and what only a caller of the library can do wrong."""

NO_FRAGMENT = re.compile(
    "|".join(
        (
            r".*%s.*|\(.*\) => .*|.*float32-le|model_type: .*|torch (zip|legacy)|numpy scalar",
            r"bytes .*\*.*|.*\(\?:.*|.*\[ _.*",
            r"data-.*|aspect-ratio: .*|\{\} of \{\} GB|\{\}( h \{\})? min( \{\} s)?|writing video",  # of the console
            r"(start|mode|invert|behind|bits) is .*|an array of shape .*|(picture|canvas) size",
            r"out of memory|not enough memory|allocate memory|could not allocate tensor",
        )
    ),
    re.DOTALL,
)
"""Code, lines of the console, what only a caller of the library can do wrong, what is looked for in torch's errors."""

_SENTENCE = re.compile(r"([A-Z“]|got |\{\}[,:]? (?!\W|\{))[^\n]*[a-z]{2}[^\n]* ")
_TAG = re.compile(r"<[^>]*>")


def of_widgets() -> set[str]:
    """Labels, hints, choices, buttons and HTML of panel, Extras and settings, as gradio has them."""
    return {text.strip() for text in _of_widgets() if re.search(r"[A-Za-z]{2}", text)}


def _of_widgets() -> Iterator[str]:
    import gradio as gr

    from lib_depth2img.webui.ui import extras, panel
    from lib_depth2img.webui.ui.settings_page import options_on_page
    from tests.webui.page import StubServices

    services = StubServices(estimator_note="")
    with warnings.catch_warnings(), gr.Blocks(analytics_enabled=False) as page:
        warnings.simplefilter("ignore")
        panel.build_panel(services)  # type: ignore[arg-type]
        extras.build(services, lambda _open, label, **more: gr.Accordion(label, **more))
    for block in page.blocks.values():
        config = block.get_config()
        if str(config.get("elem_id")).startswith(HIDDEN):
            continue
        yield from (str(config[name]) for name in ("label", "info", "placeholder") if config.get(name))
        yield str(getattr(block, "webui_tooltip", None) or "")
        if isinstance(block, gr.Radio):
            yield from (str(choice if isinstance(choice, str) else choice[0]) for choice in block.choices)
        if isinstance(block, gr.Button):
            yield str(config["value"])
        if isinstance(block, gr.HTML):
            yield from texts_in(str(config.get("value") or ""))
    for option in options_on_page(folders_visible=True).values():
        yield from (option.label, option.info)


def of_messages() -> dict[str, str]:
    """Sentences in the Python files by the file that says them."""
    found: dict[str, str] = {}
    for name, tree in _trees():
        found |= dict.fromkeys(_sentences(tree), name)
    return {text: name for text, name in found.items() if "%s" not in text}


def of_fragments() -> dict[str, str]:
    """What may stand in the gap of a sentence, by the file that says it: texts of two words or more.

    Wherever they stand: inside of the braces of an f-string, behind ``if``, handed to a function, or returned by one.
    """
    found: dict[str, str] = {}
    for path, tree in _trees():
        found |= dict.fromkeys(fragments(tree), path)
    return {text: name for text, name in found.items() if not NO_FRAGMENT.fullmatch(text)}


def of_scripts() -> set[str]:
    """What the scripts say: literals that begin like a sentence or a label."""
    found = set()
    for path in sorted((ROOT / "javascript").glob("*.js")):
        code = re.sub(r"\"\s*\+\s*\n?\s*\"", "", path.read_text(encoding="utf-8"))
        literals = re.findall(r'(?:label: |said\(|make\("\w+", )?"([A-Z][^"]*)"', code)
        labels = set(re.findall(r'(?:label: |said\(|make\("\w+", )"([^"]+)"', code))
        found |= {text for text in literals if " " in text and not text.startswith("ArrowLeft")} | labels
    return found


def texts_in(markup: str) -> Iterator[str]:
    """The texts between the tags."""
    yield from (html.unescape(text).strip() for text in _TAG.split(markup) if text.strip())


def _trees() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted((ROOT / "lib_depth2img").rglob("*.py")):
        name = path.relative_to(ROOT / "lib_depth2img").as_posix()
        if not name.startswith(SILENT):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def fragments(tree: ast.AST) -> Iterator[str]:
    """Texts of two words or more in a file's code, those inside of other texts too."""
    silent = set(_not_said(tree)) - set(_in_braces(tree))
    for node in ast.walk(tree):
        text = _template(node)
        if text is not None and id(node) not in silent:
            words = (part.strip(" .,:\n") for part in texts_in(text))
            yield from (part for part in words if re.search(r"[a-z]{2}", part) and " " in part)


def _in_braces(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue):
            yield from (id(part) for part in ast.walk(node.value))


def _sentences(tree: ast.AST) -> Iterator[str]:
    silent = set(_not_said(tree))
    for node in ast.walk(tree):
        text = _template(node)
        if text is None or id(node) in silent:
            continue
        for part in texts_in(text):
            whole = part.endswith((".", "?")) or not part.startswith("{}")
            if whole and " " in part and _SENTENCE.match(f"{part} "):
                yield part


def _not_said(tree: ast.AST) -> Iterator[int]:
    """Docstrings, parts of longer texts, what is certain, and what an error says to the API only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)
        if isinstance(node, ast.Assert) and node.msg is not None:
            yield id(node.msg)
        if isinstance(node, ast.JoinedStr):
            yield from (id(part) for part in ast.walk(node) if part is not node)
        if isinstance(node, ast.Call) and any(word.arg == "in_panel" for word in node.keywords):
            yield from (id(part) for argument in node.args for part in ast.walk(argument))


def _template(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def table(language: str) -> dict[str, Any]:
    """A table in localizations/."""
    found: dict[str, Any] = json.loads((ROOT / "localizations" / f"{language}.json").read_text(encoding="utf-8"))
    return found
