"""Messages as the page says them in another language: nothing stays English but names and quotations."""

from __future__ import annotations

import re

import pytest
from selenium import webdriver

from tests.webui.browser import ROOT
from tests.webui.messages import composed
from tests.webui.words import table

_SHOW = """
    const [script, table, texts] = arguments;
    window.localization = table;
    document.body.innerHTML = `<div id="html_log_img2img"></div>`;
    new Function("onUiLoaded", script)((callback) => callback());
    for (const text of texts) {
        const line = document.createElement("p");
        line.textContent = text;
        document.querySelector("#html_log_img2img").append(line);
    }
"""
"""The page's own script over a page where messages arrive."""

_READ = "return [...document.querySelectorAll('#html_log_img2img p')].map((line) => line.textContent)"

_STAYS = re.compile(
    "|".join(
        (
            r"'[^']*'|[!-~]*/[!-~]*( it)?|[!-~]+\.(png|ckpt|npy|safetensors)",  # quoted, addresses, paths, files
            r"Hugging Face|Stable Diffusion|state dict|JPEG 2000|Dr\. No|not there|a file",  # names
            r"magick photo\.heic photo\.png|tiffcp -c zip IN\.tif OUT\.tif|pip install pillow-heif",  # commands
            r"No such file or directory|Permission denied|Not a directory",  # of the system
            r"truncated PNG file|index out of range|Unable to open|for read",  # of other people's code
        )
    )
)
_ENGLISH = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,}")


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What was said when things went wrong."""
    return list(composed(tmp_path_factory.mktemp("messages")))


def shown(driver: webdriver.Chrome, language: str, texts: list[str]) -> list[str]:
    """The texts as the page shows them in a language."""
    script = (ROOT / "javascript" / "depth2img_words.js").read_text(encoding="utf-8")
    driver.get("about:blank")
    driver.execute_script(_SHOW, script, table(language), texts)
    found: list[str] = driver.execute_script(_READ)
    assert len(found) == len(texts)
    return found


@pytest.mark.parametrize("language", ["ja_JP", "zh_CN", "zh_TW"])
def test_what_goes_wrong_is_said_in_the_language(driver: webdriver.Chrome, messages: list[str], language: str):
    assert len(messages) > 40
    english = {
        text: found
        for text in shown(driver, language, messages)
        if (found := _ENGLISH.findall(_STAYS.sub("·", text))) or not re.search(r"[぀-ヿ一-鿿]", text)
    }
    assert english == {}


def test_sentences_keep_their_order_and_no_space_between(driver: webdriver.Chrome):
    said = [
        "The checkpoint has no depth estimator inside. The weights of tiny are not installed. "
        "Get them below: “Get a depth model”.",
        "Somebody else's sentence. The file is empty (0 bytes). Save or copy it again.",
        "No depth map in maps for a.png and 3 more: estimated. b.png: passed over (it is no picture, or a broken one).",
    ]
    assert shown(driver, "zh_CN", said) == [
        "模型内部没有深度估计网络。tiny 的权重尚未安装。请在下面的“获取深度模型”中获取。",
        "Somebody else's sentence. 文件是空的（0 字节）。请重新保存或复制。",
        "maps 中没有 a.png 等，另有 3 个的深度图：已估计。b.png：已跳过（它不是图片，或已损坏）。",
    ]


def test_names_stay_as_they_are(driver: webdriver.Chrome):
    said = [
        "Unknown field 'nera'. Did you mean near?",
        "Mr. A. Smith.png: passed over (it is no picture, or a broken one).",
        "深度 图 (1).png: The file is empty (0 bytes). Save or copy it again.",
        "out of memory",
        "Time taken: 3.1 sec. A: 2.1 GB, R: 3 GB",
    ]
    assert shown(driver, "ja_JP", said) == [
        "'nera'というフィールドはありません。「near」のことですか？",
        "Mr. A. Smith.png：スキップしました（画像ではないか、破損しています）。",
        "深度 图 (1).png：ファイルが空です（0バイト）。保存またはコピーし直してください。",
        "out of memory",
        "Time taken: 3.1 sec. A: 2.1 GB, R: 3 GB",
    ]
