"""How much depth counts in v1.10.1: its denoiser's calls, in all the ways in which it makes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from lib_depth2img.depth.control import Control
from lib_depth2img.errors import RequestError
from lib_depth2img.webui.hooks import override
from lib_depth2img.webui.hosts import a1111_passes, forge_passes
from tests.depth.test_control import around
from tests.uploads import b64, png_of
from tests.webui.hooks.conftest import halves, img2img

FLAT = -1.0


class Wrap(nn.Module):
    """k-diffusion's wrapper of the model; says what it sees of each row, and is no line in the channel."""

    def __init__(self, key: str = "hybrid") -> None:
        super().__init__()
        self.inner_model = SimpleNamespace(model=SimpleNamespace(conditioning_key=key))
        self.rows: list[int] = []

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, cond: Any) -> torch.Tensor:
        self.rows.append(len(x))
        (channel,), (context,) = cond["c_concat"], cond["c_crossattn"]
        return x * sigma[:, None, None, None] + channel.exp() * (1 + context[:, :1, :1, None])


class Denoiser(nn.Module):
    """sd_samplers_cfg_denoiser.py:29-330 as far as it asks the model; ``together``: opts.batch_cond_uncond."""

    def __init__(self, together: bool = True, skip_uncond: bool = False) -> None:
        super().__init__()
        self.together, self.skip_uncond = together, skip_uncond
        self.step, self.total_steps = 0, 4
        self.model_wrap: Any = None
        self.next_key = "hybrid"

    @property
    def inner_model(self) -> Any:
        if self.model_wrap is None:
            self.model_wrap = Wrap(self.next_key)
        return self.model_wrap

    def update_inner_model(self) -> None:
        self.model_wrap = None

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, uncond: Any, cond: Any, image_cond: Any) -> torch.Tensor:
        repeats = [len(parts) for parts in cond.batch]
        tensor, size = cond.tensor, len(x)
        x_in = torch.cat([torch.stack([x[i]] * n) for i, n in enumerate(repeats)] + [x])
        sigma_in = torch.cat([torch.stack([sigma[i]] * n) for i, n in enumerate(repeats)] + [sigma])
        channel = torch.cat([torch.stack([image_cond[i]] * n) for i, n in enumerate(repeats)] + [image_cond])

        def asked(a: int, b: int, context: torch.Tensor) -> torch.Tensor:
            given = {"c_crossattn": [context], "c_concat": [channel[a:b]]}
            found: torch.Tensor = self.inner_model(x_in[a:b], sigma_in[a:b], cond=given)
            return found

        count = len(tensor)
        if self.skip_uncond:
            out = [asked(0, count, tensor)]
        elif tensor.shape[1] == uncond.shape[1] and self.together:
            out = [asked(0, count + size, torch.cat([tensor, uncond]))]
        elif tensor.shape[1] == uncond.shape[1]:
            both = torch.cat([tensor, uncond])
            out = [asked(a, a + size, both[a : a + size]) for a in range(0, count + size, size)]
        else:
            chunk = size * 2 if self.together else size
            out = [asked(a, min(a + chunk, count), tensor[a : a + chunk]) for a in range(0, count, chunk)]
            out.append(asked(count, count + size, uncond))
        self.step += 1
        return torch.cat(out)


def inputs(pictures: int = 2, *, prompts: tuple[int, ...] = (1, 1), tokens: int = 77) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    return {
        "x": torch.rand(pictures, 4, 2, 3, generator=generator),
        "sigma": torch.rand(pictures, generator=generator),
        "uncond": torch.rand(pictures, 77, 8, generator=generator),
        "cond": SimpleNamespace(
            batch=[[None] * count for count in prompts], tensor=torch.rand(sum(prompts), tokens, 8, generator=generator)
        ),
        "image_cond": torch.rand(pictures, 1, 2, 3, generator=generator) * 2 - 1,
    }


def by_hand(given: dict[str, Any], control: Control, deep: torch.Tensor, skip_uncond: bool) -> torch.Tensor:
    """The formula on the rows of a denoiser without us."""
    flat = Denoiser(skip_uncond=skip_uncond)(**{**given, "image_cond": torch.full_like(given["image_cond"], FLAT)})
    counts = [len(parts) for parts in given["cond"].batch]
    pictures = [i for i, n in enumerate(counts) for _ in range(n)] + list(range(len(counts)))
    region = torch.ones(2, 1, 2, 3) if control.region is None else control.region
    s = control.strength * around(region)[pictures[: len(deep)]]
    if control.mode == "depth":
        s[sum(counts) :] *= 0.5
    return flat + s * (deep - flat)


@pytest.mark.parametrize("mode", ["balanced", "depth"])
@pytest.mark.parametrize("tokens", [77, 154])
@pytest.mark.parametrize("prompts", [(1, 1), (2, 2), (2, 1)])
@pytest.mark.parametrize(("together", "skip_uncond"), [(True, False), (False, False), (True, True)])
def test_every_row_gets_its_own_share(together, skip_uncond, prompts, tokens, mode):
    given = inputs(prompts=prompts, tokens=tokens)
    control = Control(0.5, mode=mode, region=torch.rand(2, 1, 2, 3))
    deep = Denoiser(together, skip_uncond)(**given)
    denoiser = Denoiser(together, skip_uncond)
    a1111_passes.answer_for_unet(SimpleNamespace(model_wrap_cfg=denoiser), control.answer)
    torch.testing.assert_close(denoiser(**given), by_hand(given, control, deep, skip_uncond))


def test_start_and_end_follow_the_steps_of_the_sampler():
    given = inputs()
    denoiser = Denoiser()
    a1111_passes.answer_for_unet(SimpleNamespace(model_wrap_cfg=denoiser), Control(start=0.25, end=0.75).answer)
    deep = Denoiser()(**given)
    assert [torch.equal(denoiser(**given), deep) for _ in range(4)] == [False, True, True, False]
    assert denoiser.inner_model.rows == [4] * 4  # one pass each


def test_binding_twice_is_as_once_and_the_last_counts():
    given = inputs()
    denoiser = Denoiser()
    sampler = SimpleNamespace(model_wrap_cfg=denoiser)
    for strength in (0.2, 0.9, 0.5):
        a1111_passes.answer_for_unet(sampler, Control(strength).answer)
    torch.testing.assert_close(denoiser(**given), by_hand(given, Control(0.5), Denoiser()(**given), False))
    assert denoiser.inner_model.rows == [4, 4]


@pytest.mark.parametrize(("key", "passes"), [("hybrid", [4, 4]), ("crossattn", [4])])
def test_a_refiner_is_asked_twice_where_it_takes_depth(key, passes):
    denoiser = Denoiser()
    a1111_passes.answer_for_unet(SimpleNamespace(model_wrap_cfg=denoiser), Control(0.5).answer)
    first = denoiser.inner_model
    denoiser.next_key = key
    denoiser.update_inner_model()
    denoiser(**inputs())
    assert first.rows == []
    assert denoiser.inner_model.rows == passes


def test_who_asks_more_often_than_the_host_is_refused():
    denoiser = Denoiser()
    a1111_passes.answer_for_unet(SimpleNamespace(model_wrap_cfg=denoiser), Control(0.5).answer)
    given = inputs()
    denoiser(**given)
    cond = {"c_crossattn": [given["uncond"]], "c_concat": [given["image_cond"]]}
    with pytest.raises(RequestError, match="another extension asks the model more often"):
        denoiser.inner_model(given["x"], given["sigma"], cond=cond)


class Patcher:
    """Forge's ModelPatcher, as far as wrappers go (backend/patcher/base.py:60-147)."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.model_options = options

    def clone(self) -> Patcher:
        return Patcher(dict(self.model_options))

    def set_model_unet_function_wrapper(self, wrapper: Any) -> None:
        self.model_options["model_function_wrapper"] = wrapper


def test_forges_wrapper_knows_the_rows_and_leaves_that_of_another_in_between():
    asked = []

    def apply_model(x: torch.Tensor, t: torch.Tensor, c_concat: torch.Tensor, c_crossattn: torch.Tensor) -> Any:
        return x * t[:, None, None, None] + c_concat.exp() + c_crossattn[:, :1, :1, None]

    def others(apply: Any, said: Any) -> torch.Tensor:
        asked.append(said["cond_or_uncond"])
        return apply(said["input"], said["timestep"], **said["c"]) + 1

    generator = torch.Generator().manual_seed(2)
    x, t, region = torch.rand(6, 4, 2, 3, generator=generator), torch.rand(6), torch.rand(2, 1, 2, 3)
    c = {"c_concat": torch.rand(6, 1, 2, 3) * 2 - 1, "c_crossattn": torch.rand(6, 77, 8)}
    said = {"input": x, "timestep": t, "c": c, "cond_or_uncond": [1, 0, 0]}
    control = Control(0.5, mode="depth", region=region)
    denoiser = SimpleNamespace(step=1, total_steps=4, depth2img_answer=control.answer)
    unet = Patcher({"model_function_wrapper": others})
    clone = forge_passes.answered(unet, denoiser)
    assert unet.model_options == {"model_function_wrapper": others}
    assert forge_passes.answered(clone, denoiser) is clone
    found = clone.model_options["model_function_wrapper"](apply_model, said)
    s = 0.5 * torch.cat([0.5 * around(region), around(region), around(region)])
    flat = others(apply_model, {**said, "c": {**c, "c_concat": torch.full_like(c["c_concat"], FLAT)}})
    torch.testing.assert_close(found, flat + s * (others(apply_model, said) - flat))
    assert len(asked) == 4


# In the stand-in: what a request becomes.


def controlled(host: Any, p: Any) -> Control:
    """The control of ``p`` once its depth channel is made."""
    host.runner.process(p)
    p.init([], [], [])
    generation = override.current(p)
    assert generation is not None
    return generation.control


def test_a_request_without_control_binds_nothing(host):
    p = img2img(host, halves((64, 64)))
    assert controlled(host, p).is_identity
    p.sampler = SimpleNamespace()  # would be an error to look at
    host.runner._call("process_before_every_sampling", p)


def test_a_request_with_control_binds_to_the_sampler_of_its_generation(host):
    p = img2img(host, halves((64, 64)), request={"strength": 0.5, "end": 0.8, "mode": "depth"})
    assert controlled(host, p) == Control(0.5, 0.0, 0.8, "depth")
    denoiser = Denoiser()
    p.sampler = SimpleNamespace(model_wrap_cfg=denoiser)
    host.runner._call("process_before_every_sampling", p)
    denoiser(**inputs())
    assert denoiser.inner_model.rows == [4, 4]
    other = Denoiser()
    other(**inputs())
    assert other.inner_model.rows == [4]  # of another generation


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_the_region_lies_where_the_map_lies(host, mode):
    """The same drawing as depth map and as region, over a picture of another shape than the canvas."""
    drawing = Image.new("L", (120, 80), 0)
    drawing.paste(255, (30, 20, 90, 64))
    data = b64(png_of(drawing))
    request = {"source": "depth_map", "image": data, "region": data}
    p = img2img(
        host, Image.new("RGB", (120, 80)), request=request, width=128, height=64, resize_mode=mode, batch_size=2
    )
    region = controlled(host, p).region
    assert region.shape == (2, 1, 8, 16)
    clear = p.image_conditioning.abs() > 0.7
    assert torch.equal((region > 0.5)[clear], (p.image_conditioning > 0)[clear])
    assert 0.1 < region.mean() < 0.6


def test_the_region_follows_only_masked(host):
    drawing, mask = Image.new("L", (128, 128), 0), Image.new("L", (128, 128), 0)
    drawing.paste(255, (0, 0, 64, 128))
    mask.paste(255, (32, 32, 96, 96))
    p = img2img(host, Image.new("RGB", (128, 128)), request={"region": b64(png_of(drawing))}, mask=mask)
    region = controlled(host, p).region
    assert (region[..., :3] > 0.9).all()
    assert (region[..., 5:] < 0.1).all()


def test_outside_of_the_mask_is_what_the_host_keeps(host):
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    p = img2img(host, halves((64, 64)), request={"outside_mask": True}, mask=mask, inpaint_full_res=False)
    region = controlled(host, p).region
    assert torch.equal(region[0, 0], p.mask[0].float())
    assert (region[..., :4] == 0).all()
    assert (region[..., 4:] == 1).all()
    assert controlled(host, img2img(host, halves((64, 64)), request={"outside_mask": True})).region is None
