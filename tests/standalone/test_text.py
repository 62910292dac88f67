"""Prompts in chunks of 75 tokens, as the host cuts them (modules/sd_hijack_clip.py:82-170)."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import open_clip

from lib_depth2img.standalone.generate import generate
from lib_depth2img.standalone.parameters import Parameters

START, END = 49406, 49407
COMMA, A = open_clip.tokenize(", a")[0, 1:3].tolist()


def _contents(model, prompt: str) -> list[list[int]]:
    """The tokens of each chunk, between start and end; what follows the end is zero."""
    found = []
    for chunk in model.text.chunks(prompt):
        end = chunk.index(END)
        assert (len(chunk), chunk[0]) == (77, START)
        assert not any(chunk[end + 1 :])
        found.append(chunk[1:end])
    return found


@pytest.mark.parametrize("prompt", ["", "a red ball, on a table", "a " * 75])
def test_a_prompt_that_fits_is_open_clips_own(model, prompt) -> None:
    assert list(model.text.chunks(prompt)) == open_clip.tokenize([prompt]).tolist()


@pytest.mark.parametrize(
    ("prompt", "lengths"),
    [
        ("a " * 76, [75, 1]),
        ("a " * 200, [75, 75, 50]),
        ("a " * 60 + ", " + "a " * 30, [61, 30]),  # what is behind a near comma goes over together
        ("a " * 55 + ", " + "a " * 30, [56, 30]),
        ("a " * 54 + ", " + "a " * 30, [75, 10]),  # 20 tokens behind it, as the host counts, is no longer near
        ("a " * 75 + ", a", [75, 2]),  # the comma begins the next chunk
        ("a " * 60 + ", " + "a " * 14 + ", a", [75, 2]),
        ("a BREAK a a", [1, 2]),
        ("a  BREAK\n", [1]),
        ("BREAK a", [0, 1]),
        ("a BREAK BREAK a", [1, 0, 1]),
        ("BREAKFAST", [1]),
        ("a " * 75 + "BREAK a", [75, 1]),
    ],
)
def test_longer_ones_are_cut_as_the_host_cuts(model, prompt, lengths) -> None:
    contents = _contents(model, prompt)
    assert [len(chunk) for chunk in contents] == lengths
    whole = prompt.replace("BREAKFAST", "breakfast").replace("BREAK", "")
    assert [token for chunk in contents for token in chunk] == model.text._tokenizer.encode(whole)


def test_each_chunk_is_encoded_on_its_own(model) -> None:
    with torch.no_grad():
        both = model.text("a red ball BREAK foggy hills")
        apart = [model.text(text) for text in ("a red ball", "foggy hills")]
    assert both.shape == (1, 154, 96)
    assert torch.allclose(both, torch.cat(apart, dim=1), atol=1e-6)


def test_what_stands_beyond_the_77th_token_counts_also_beside_a_short_negative_prompt(model, unseen) -> None:
    quick = Parameters(prompt="a " * 80, negative_prompt="grey", size=(64, 64), steps=2, denoising_strength=1.0)
    prompts = [quick.prompt, quick.prompt + "green hills"]
    made = [
        generate(model, unseen.picture, unseen.depth_map, dataclasses.replace(quick, prompt=prompt))[0]
        for prompt in prompts
    ]
    assert np.abs(np.asarray(made[0], float) - np.asarray(made[1], float)).mean() > 0.05
