"""The standalone road: what each input does, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import rankdata

from lib_depth2img.depth.adjust import Adjustments
from lib_depth2img.depth.conditioning import conditioning
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.errors import RequestError
from lib_depth2img.standalone.agreement import rank_correlation
from lib_depth2img.standalone.contact_sheet import STRENGTHS, contact_sheet, stacked
from lib_depth2img.standalone.generate import generate
from lib_depth2img.standalone.parameters import Parameters
from lib_depth2img.standalone.pictures import crop_and_resize, default_size, from_tensor, placement, to_tensor
from lib_depth2img.standalone.samplers import SAMPLERS
from lib_depth2img.standalone.sampling import Sampling, noise_of

QUICK = Parameters(prompt="a red ball on a blue table", size=(64, 64), steps=4, denoising_strength=1.0)


def _array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, float)


def test_number_i_of_a_batch_is_that_of_the_seed_plus_i(model, unseen) -> None:
    batch = generate(model, unseen.picture, unseen.depth_map, dataclasses.replace(QUICK, batch_size=2, seed=7))
    (alone,) = generate(model, unseen.picture, unseen.depth_map, dataclasses.replace(QUICK, seed=8))
    assert np.abs(_array(batch[1]) - _array(alone)).max() <= 1
    assert np.abs(_array(batch[0]) - _array(batch[1])).mean() > 1


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("change", [{}, {"denoising_strength": 0.5}, {"from_noise": True}], ids=str)
def test_noise_may_be_given(model, unseen, sampler, change) -> None:
    """That of the seed gives the very picture of the seed, that of another seed another one, whatever the sampler."""
    parameters = dataclasses.replace(QUICK, sampler=sampler, seed=3, batch_size=2, **change)
    made = generate(model, unseen.picture, unseen.depth_map, parameters)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    own = torch.stack([noise_of(each, parameters.latent_shape) for each in generators])
    given = generate(model, unseen.picture, unseen.depth_map, parameters, noise=own)
    turned = generate(model, unseen.picture, unseen.depth_map, parameters, noise=own.flip(0))
    for one, same, other in zip(made, given, turned, strict=True):
        assert np.array_equal(_array(one), _array(same))
        assert np.abs(_array(one) - _array(other)).mean() > 1


def test_noise_of_another_shape_is_refused(model, unseen) -> None:
    with pytest.raises(RequestError, match=r"noise: got the shape \(4, 8, 8\), expected \(1, 4, 8, 8\)\."):
        generate(model, unseen.picture, unseen.depth_map, QUICK, noise=torch.zeros(4, 8, 8))


def test_from_noise_takes_nothing_from_the_picture(model, unseen) -> None:
    black, white = (Image.new("RGB", (256, 256), value) for value in ("black", "white"))
    parameters = dataclasses.replace(QUICK, from_noise=True, denoising_strength=0.3)
    first, second = (generate(model, picture, unseen.depth_map, parameters)[0] for picture in (black, white))
    assert np.array_equal(_array(first), _array(second))
    kept = dataclasses.replace(QUICK, denoising_strength=0.3)
    first, second = (generate(model, picture, unseen.depth_map, kept)[0] for picture in (black, white))
    assert np.abs(_array(second) - _array(first)).mean() > 1


def test_depth_prompt_and_negative_prompt_each_change_the_result(model, unseen) -> None:
    (result,) = generate(model, unseen.picture, unseen.depth_map, QUICK)
    turned = DepthMap.from_array(np.ascontiguousarray(unseen.nearness[::-1]))
    (other_depth,) = generate(model, unseen.picture, turned, QUICK)
    prompts = ({"prompt": "green hills, foggy"}, {"negative_prompt": "a red ball"})
    others = [generate(model, unseen.picture, unseen.depth_map, dataclasses.replace(QUICK, **p))[0] for p in prompts]
    for other in (other_depth, *others):
        assert np.abs(_array(other) - _array(result)).mean() > 0.1


def test_strength_zero_is_the_round_trip_of_the_vae(model, unseen) -> None:
    (result,) = generate(model, unseen.picture, unseen.depth_map, dataclasses.replace(QUICK, denoising_strength=0.0))
    with torch.no_grad():
        latent = model.vae.encode(to_tensor(crop_and_resize(unseen.picture, QUICK.size))).latent_dist.mode()
        expected = from_tensor(model.vae.decode(latent).sample)[0]
    assert np.abs(_array(result) - _array(expected)).max() <= 1


def test_the_conditioning_is_the_librarys(model, unseen, monkeypatch) -> None:
    seen = []
    run = Sampling.run
    monkeypatch.setattr(Sampling, "run", lambda self, *rest: seen.append(self.depth) or run(self, *rest))
    adjustments = Adjustments(gamma=2.0, invert=True)
    generate(model, unseen.picture, unseen.depth_map, QUICK, adjustments=adjustments)
    expected = conditioning(unseen.depth_map.adjusted(adjustments), placement(unseen.picture, QUICK.size))
    assert torch.equal(seen[0], expected)


def test_progress_counts_every_step(model, unseen) -> None:
    counts: list[tuple[int, int]] = []
    parameters = dataclasses.replace(QUICK, denoising_strength=0.5)
    generate(
        model,
        unseen.picture,
        unseen.depth_map,
        parameters,
        progress=lambda moment: counts.append((moment.done, moment.total)),
    )
    assert counts == [(1, 2), (2, 2)]


def test_what_is_not_masked_stays_to_the_pixel(model, unseen) -> None:
    picture = unseen.picture.resize((64, 64))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    (result,) = generate(model, picture, unseen.depth_map, QUICK, mask=mask)
    changed = np.abs(_array(result) - _array(picture)).sum(2) > 0
    assert not changed[np.asarray(mask) == 0].any()
    assert changed[np.asarray(mask) > 0].mean() > 0.5


def test_running_out_of_memory_is_said_in_plain_words(model, unseen, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 64 bytes")

    monkeypatch.setattr(model.vae, "decode", full)
    with pytest.raises(RequestError, match=r"Not enough memory for 1 x 64x64.*--batch-size"):
        generate(model, unseen.picture, unseen.depth_map, QUICK)


def test_other_errors_of_torch_are_not_called_a_lack_of_memory(model, unseen, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(model.vae, "decode", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        generate(model, unseen.picture, unseen.depth_map, QUICK)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"denoising_strength": 1.2}, "denoising_strength is 1.2; it has to be a number from 0 to 1"),
        ({"steps": 0}, "steps is 0; it has to be a number from 1 to 500"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"size": (100, 64)}, "width: got 100, expected a multiple of 64; 128 would do"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_parameters_out_of_range_are_refused_with_the_range(change: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        dataclasses.replace(QUICK, **change)


def test_a_default_size_keeps_the_pictures_shape() -> None:
    assert default_size(Image.new("RGB", (900, 600)), short_side=256, step=64) == (384, 256)
    assert default_size(Image.new("RGB", (10, 5000)), short_side=256, step=64)[0] == 256


def test_placed_pictures_fill_the_size_as_the_depth_does() -> None:
    columns = np.tile(np.arange(300, dtype=np.uint8)[None] // 2, (100, 1))
    picture = Image.fromarray(columns).convert("RGB")
    result = np.asarray(crop_and_resize(picture, (64, 64)))[..., 0].astype(float)
    depth = conditioning(DepthMap.from_array(columns), placement(picture, (64, 64)))[0, 0].numpy()
    assert result.min() > 40  # 100 columns on each side are cut off
    assert np.corrcoef(result.reshape(8, 8, 8, 8).mean((1, 3)).ravel(), depth.ravel())[0, 1] > 0.999


def test_rank_correlation_is_spearmans_and_flat_maps_order_nothing() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, (2, 40, 30)).astype(float)  # many ties
    by_mean_ranks = np.corrcoef([rankdata(values.ravel()) for values in (a, a + b)])[0, 1]
    assert rank_correlation(a, a + b) == pytest.approx(by_mean_ranks)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, np.zeros_like(a)) == rank_correlation(np.ones_like(a), a) == 0


def test_the_contact_sheet_has_a_row_without_and_a_row_with_depth(model, unseen) -> None:
    counts: list[tuple[int, int]] = []
    parameters = dataclasses.replace(QUICK, steps=2)
    sheet = contact_sheet(
        model,
        unseen.picture,
        unseen.depth_map,
        parameters,
        progress=lambda moment: counts.append((moment.done, moment.total)),
    )
    assert [row.title for row in sheet.rows] == ["img2img, no depth", "depth-to-image"]
    assert counts[-1] == (2 * len(STRENGTHS), 2 * len(STRENGTHS))
    assert all(len(row.agreement) == len(STRENGTHS) for row in sheet.rows)
    assert "1.0: " in str(sheet.rows[1])
    assert sheet.image.width > 5 * 64
    # What is dark on the paper: the prompt at the top, a line over each row and one over each of its pictures.
    dark = np.asarray(sheet.image.convert("L")) < 60
    height, width = dark.shape
    (tile,) = {picture.height for row in sheet.rows for picture in row.results}
    row_height, column = (height - 24) // 2, (width - 6) // 5
    assert dark[:18].any()
    for top in (18, 18 + row_height):
        for left in range(6, width - 6, column):
            assert dark[top : top + row_height - tile - 6, left : left + column].any(), (top, left)
    assert stacked([sheet.image, sheet.image]).height == 2 * sheet.image.height
