"""The tables in localizations/: no text of the page is left out, and none stands in them that nobody says."""

from __future__ import annotations

import ast
import re

import pytest

from tests.webui import words
from tests.webui.words import ROOT

LANGUAGES = sorted(path.stem for path in (ROOT / "localizations").glob("*.json"))


@pytest.fixture(scope="module")
def said() -> set[str]:
    """Every text that needs a translation."""
    return {
        text
        for text in words.of_widgets() | words.of_scripts() | set(words.of_messages())
        if not words.NAMES.fullmatch(text)
    }


@pytest.mark.parametrize("language", ["ja_JP", "zh_CN", "zh_TW"])
def test_language_is_there(language: str):
    assert language in LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_say_the_same_in_the_same_order(language: str):
    assert list(words.table(language)) == list(words.table("zh_CN"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_left_out(said: set[str], language: str):
    assert sorted(said - set(words.table(language))) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_part_of_a_text_is_left_out(language: str):
    """What is filled into a gap stands in the table by itself, or within the text that it belongs to."""
    keys = "\n".join(words.table(language))
    left_out = {text for text in words.of_fragments() if text not in keys and not words.NAMES.fullmatch(text)}
    assert sorted(left_out) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_stands_in_the_table_is_said(said: set[str], language: str):
    """Whole, or as a piece of what is put together when it is said."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "lib_depth2img").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    unsaid = []
    for text in set(words.table(language)) - said:
        pieces = [piece.strip(" ():·.") for piece in re.split(r"\{\}(?: [MG]B)?", text)]
        if not all(piece in code or piece.lower() in code for piece in pieces):
            unsaid.append(text)
    assert sorted(unsaid) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_gaps_and_letters_are_those_of_the_language(language: str):
    for text, translation in words.table(language).items():
        gaps = re.findall(r"\{\d*\}", translation)
        assert len(gaps) == text.count("{}"), text
        numbered = {gap for gap in gaps if gap != "{}"}
        assert numbered in (set(), {f"{{{index + 1}}}" for index in range(len(gaps))}), text
        if "MB/s" not in text and "Depth2Img" not in text:
            assert re.search(r"[぀-ヿ一-鿿！-｠]", translation), text


def test_a_text_that_is_new_is_noticed(said: set[str]):
    assert "Preview depth" in said
    assert "There is no init image in the open tab. Choose one, or another source of depth above." in said
    assert "Near is {} and Far is {}: Near has to be more." in said
    assert "Cut out the background" in said


def test_a_part_that_is_new_is_noticed():
    said = words.of_fragments()
    assert said["none of them says depth"] == "depth/io/exr.py"  # behind an if
    assert said["compressed with {}"] == "depth/io/tiff.py"  # returned
    assert said["sets the state of {}"] == "weights/inert_pickle.py"  # handed to a function
    assert said["waiting for another installation of it to finish"] == "progress.py"
    code = "say(f\"The file is {'not so good' if bad else name}. Save it.\")"
    assert "not so good" in set(words.fragments(ast.parse(code)))
