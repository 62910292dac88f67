"""The catalogue: what it says of each file, and that nothing in it can be meant twice."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lib_depth2img.errors import InstallError
from lib_depth2img.estimators.presets import PRESETS
from lib_depth2img.weights.catalog import (
    ESTIMATORS,
    FILES,
    VARIANTS,
    HubSource,
    UrlSource,
    estimator_file,
    file_for,
    file_with_sha256,
    variant,
)

REPO = Path(__file__).parents[2]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_entry_is_whole(file):
    for digest in (file.sha256, *(copy.sha256 for copy in file.copies)):
        assert digest is None or re.fullmatch(r"[0-9a-f]{64}", digest)
    assert (file.sha256 is None) == bool(file.remark)
    assert file.sources
    assert len(set(file.sources)) == len(file.sources)
    assert file.licence.name in ("CreativeML Open RAIL++-M", "MIT", "Apache-2.0", "CC-BY-NC-4.0")
    assert file.licence.commercial == ("-NC-" not in file.licence.name)
    assert file.licence.url.startswith("https://")
    assert file.nbytes in (None, file.about_bytes)
    assert re.fullmatch(r"[\w.-]+\.(ckpt|safetensors|pth?)", file.name)
    for source in file.sources:
        if isinstance(source, UrlSource):
            assert source.url.startswith("https://github.com/")
        else:
            assert isinstance(source, HubSource)
            assert source.repository.count("/") == 1


def test_names_and_hashes_are_unique():
    assert len({file.name for file in FILES}) == len(FILES)
    digests = [digest for file in FILES for digest in (file.sha256, *(copy.sha256 for copy in file.copies)) if digest]
    assert len(set(digests)) == len(digests)
    assert [file.name for file in FILES if file.sha256 is None] == ["dpt_swin2_tiny_256.pt"]


def test_the_hash_in_a_files_name_is_its_own():
    named = [(file, match[1]) for file in FILES if (match := re.search(r"-([0-9a-f]{8})\.pt$", file.name))]
    assert len(named) == 4
    assert all(file.sha256 and file.sha256.startswith(prefix) for file, prefix in named)


def test_the_ways_to_an_entry():
    assert VARIANTS == ("ckpt", "safetensors", "fp16")
    assert tuple(PRESETS) == ESTIMATORS
    assert variant("ckpt") is file_for("512-depth-ema.ckpt")
    assert variant("ckpt").nbytes == 5_707_592_867
    assert estimator_file("dpt_hybrid").name == "dpt_hybrid-midas-501f0c75.pt"
    for file in FILES:
        for digest in (file.sha256, *(copy.sha256 for copy in file.copies)):
            assert digest is None or file_with_sha256(digest.upper()) is file
    assert file_with_sha256("0" * 64) is None


@pytest.mark.parametrize(
    ("look_up", "known"), [(file_for, "512-depth-ema.ckpt"), (variant, "fp16"), (estimator_file, "dpt_large")]
)
def test_what_is_not_known_is_answered_with_what_is(look_up, known):
    with pytest.raises(InstallError, match=known):
        look_up("nonsense")


def test_it_is_light():
    heavy = "{'torch', 'numpy', 'huggingface_hub'}"
    code = f"import sys, lib_depth2img.weights.catalog; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)


def test_a_size_that_was_only_guessed_refuses_no_file_that_may_be_right() -> None:
    tiny = estimator_file("dpt_swin2_tiny_256")
    assert tiny.sha256 is None
    assert tiny.may_have(int(0.6 * tiny.about_bytes))
    assert tiny.may_have(int(1.4 * tiny.about_bytes))
    assert not tiny.may_have(5_000), "a web page"
    large = estimator_file("dpt_swin2_large_384")
    assert large.nbytes is None
    assert not large.may_have(int(1.1 * large.about_bytes))
