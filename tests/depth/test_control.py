"""How much depth counts, against the formula written out for every row and pixel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter

from lib_depth2img.depth.conditioning import conditioning, region_share
from lib_depth2img.depth.control import MODES, Control, Rows
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.depth.geometry import ResizeMode, place
from lib_depth2img.errors import RequestError
from tests.pretend import pretended

ROWS = Rows(picture=[0, 1, 0, 1], prompted=[True, True, False, False])
CHANNEL = torch.linspace(-1, 1, 4 * 1 * 3 * 5).reshape(4, 1, 3, 5)


class Unet:
    """Answers with something that is no line in the channel, and notes what it was asked."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.asked: list[torch.Tensor] = []

    def __call__(self, channel: torch.Tensor) -> torch.Tensor:
        self.asked.append(channel.clone())
        return torch.cat([channel**2, channel.exp(), channel.sin(), channel], dim=1).to(self.dtype)


def answered(control: Control, progress: float = 0.5, channel: torch.Tensor = CHANNEL) -> tuple[torch.Tensor, int]:
    unet = Unet()
    found = control.answer(unet, channel, ROWS, progress)
    return found, len(unet.asked)


def expected(s: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """With the share s of what the UNet says with the channel, or with a stretched one."""
    unet = Unet()
    flat = unet(torch.full_like(CHANNEL, -1))
    return flat + s * (unet(max(strength, 1.0) * (CHANNEL + 1) - 1) - flat)


def around(region: torch.Tensor) -> torch.Tensor:
    """Each cell with the most of what is in it and in the eight around it."""
    size = [1] * (region.ndim - 2) + [3, 3]
    return torch.from_numpy(maximum_filter(region.numpy(), size, mode="constant"))


def test_the_default_is_what_the_model_says_bit_for_bit_at_no_cost():
    found, passes = answered(Control())
    assert Control().is_identity
    assert passes == 1
    assert torch.equal(found, Unet()(CHANNEL))


@pytest.mark.parametrize("control", [Control(strength=0), Control(start=0.6), Control(end=0.5), Control(end=0)])
def test_no_depth_is_a_flat_map_at_no_cost(control):
    found, passes = answered(control, 0.5)
    assert not control.is_identity
    assert passes == 1
    assert torch.equal(found, Unet()(torch.full_like(CHANNEL, -1)))


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.75])
def test_between_it_is_a_mix_of_two_answers(strength):
    found, passes = answered(Control(strength))
    assert passes == 2
    torch.testing.assert_close(found, expected(torch.tensor(strength)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("strength", [1.25, 1.5, 2.0])
def test_above_one_the_channel_is_stretched_from_the_farthest_on_at_no_cost(strength):
    found, passes = answered(Control(strength))
    assert passes == 1
    torch.testing.assert_close(found, Unet()(strength * CHANNEL + strength - 1), rtol=1e-6, atol=1e-6)
    late, passes = answered(Control(strength, end=0.5))
    assert passes == 1
    assert torch.equal(late, Unet()(torch.full_like(CHANNEL, -1)))


@pytest.mark.parametrize(("start", "end", "first"), [(0.0, 1.0, 4), (0.5, 1.0, 12), (0.0, 0.5, 2)])
def test_on_the_side_of_the_prompt_it_waits_for_a_fifth_of_its_steps(start, end, first):
    control = Control(start=start, end=end, mode="prompt")
    deep = [answered(control, step / 20) for step in range(20)]
    assert all(passes == 1 for _, passes in deep)
    found = [torch.equal(answer, Unet()(CHANNEL)) for answer, _ in deep]
    assert found == [first <= step < end * 20 for step in range(20)]


@pytest.mark.parametrize(("start", "end"), list(itertools.product([0.0, 0.25, 0.5, 1.0], repeat=2)))
def test_from_start_up_to_end(start, end):
    """20 steps: start and end split them without a gap and without an overlap."""
    if start > end:
        with pytest.raises(RequestError, match=f"start is {start:g} and end is {end:g}"):
            Control(start=start, end=end)
        return
    control = Control(start=start, end=end)
    deep = [torch.equal(answered(control, step / 20)[0], Unet()(CHANNEL)) for step in range(20)]
    assert deep == [start * 20 <= step < end * 20 for step in range(20)]


def test_the_end_is_the_end_for_samplers_that_take_more_steps_than_they_said():
    assert torch.equal(answered(Control(start=0.5), 1.2)[0], Unet()(CHANNEL))


@pytest.mark.parametrize(("strength", "negative"), [(1.0, 0.5), (0.5, 0.25), (1.5, 0.5)])
def test_on_the_side_of_depth_the_negative_prompt_sees_half(strength, negative):
    found, passes = answered(Control(strength, mode="depth"))
    assert passes == 2
    prompt = min(strength, 1.0)
    s = torch.tensor([prompt, prompt, negative, negative]).reshape(4, 1, 1, 1)
    torch.testing.assert_close(found, expected(s, strength))


def test_a_region_counts_for_its_own_picture():
    region = torch.rand(2, 1, 3, 5, generator=torch.Generator().manual_seed(1))
    found, passes = answered(Control(1.5, region=region))
    assert passes == 2
    torch.testing.assert_close(found, expected(around(region)[[0, 1, 0, 1]], 1.5))
    one = region[:1]
    torch.testing.assert_close(answered(Control(region=one))[0], expected(around(one)))


def test_a_region_counts_one_cell_around_it():
    region = torch.zeros(1, 1, 5, 7)
    region[..., 2, 3] = 0.5
    share = torch.zeros_like(region)
    share[..., 1:4, 2:5] = 0.5
    channel = CHANNEL.new_full((4, 1, 5, 7), 0.3)
    control, rows = Control(region=region), Rows([0, 1, 0, 1], [True, True, False, False])
    found = control.answer(lambda depth: depth, channel, rows, 0.0)
    torch.testing.assert_close(found, (-1 + share * 1.3).expand_as(found))


def test_a_region_follows_a_step_at_another_size():
    """Half the latent, as some samplers look at it: each of its pixels has the mean of four."""
    region = torch.rand(1, 1, 6, 10, generator=torch.Generator().manual_seed(2))
    half = region.reshape(1, 1, 3, 2, 5, 2).mean((3, 5))
    torch.testing.assert_close(answered(Control(region=region))[0], expected(around(half)))


def test_a_white_region_costs_nothing():
    found, passes = answered(Control(region=torch.ones(1, 1, 3, 5)))
    assert passes == 1
    assert torch.equal(found, Unet()(CHANNEL))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"strength": 2.1}, "strength is 2.1; it has to be a number from 0 to 2"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"end": -0.1}, "end is -0.1"),
        ({"mode": "control"}, "mode is 'control'; it has to be one of balanced, prompt, depth"),
    ],
)
def test_bad_values_are_named(fields, said):
    with pytest.raises(RequestError, match=said):
        Control(**fields)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("device", "dtype"), [("cuda", torch.float16), ("mps", torch.float32), ("cpu", torch.bfloat16)]
)
def test_it_stays_on_the_device_and_in_the_dtype_of_the_answers(device, dtype, mode):
    with pretended():
        channel = CHANNEL.to(device)
        control = Control(0.5, mode=mode, region=torch.rand(2, 1, 3, 5))
        found = control.answer(Unet(dtype), channel, ROWS, 0.25)
    assert (found.device.type, found.dtype) == (device, dtype)


@pytest.mark.parametrize("mode", list(ResizeMode))
def test_a_region_lies_where_a_depth_map_lies(mode):
    """The same drawing as a map and as a region, for every resize mode and a crop."""
    values = np.zeros((60, 100), np.float32)
    values[20:50, 30:80] = 1.0
    drawing = DepthMap.from_array(values)
    for placement in (place((100, 60), (128, 64), resize_mode=mode), place((100, 60), (64, 64), crop=(20, 10, 90, 58))):
        share = region_share(drawing, placement, batch_size=2)
        channel = conditioning(drawing, placement)
        assert share.shape[0] == 2
        assert share.min() >= 0
        assert share.max() <= 1
        clear = channel.abs() > 0.7  # away from the border
        assert clear.float().mean() > 0.5
        assert torch.equal((share[:1] > 0.5)[clear], (channel > 0)[clear])


def test_a_grey_region_is_not_stretched():
    grey = DepthMap.from_array(np.full((8, 8), 0.4, np.float32))
    torch.testing.assert_close(region_share(grey, place((8, 8), (64, 64))), torch.full((1, 1, 8, 8), 0.4))
