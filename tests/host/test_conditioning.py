"""What reaches the UNet of a real WebUI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lib_depth2img.depth.conditioning import conditioning
from lib_depth2img.estimators.estimator import DepthEstimator
from lib_depth2img.standalone.pictures import placement
from tests.host.conftest import DEPTH, FLAT, channel, depth_map, left_right, picture_of
from tests.host.server import WebUI, encode

pytestmark = pytest.mark.usefixtures("webui")


@pytest.mark.not_on("Forge", "without this extension it hands nine channels to a UNet of five")
def test_equals_the_bare_hosts_conditioning(webui: WebUI, bare: WebUI, photograph: Image.Image) -> None:
    settings = {"width": 512, "height": 512, "steps": 1}
    assert bare.img2img(photograph, **settings).status_code == 200
    theirs = bare.records()
    assert webui.img2img(photograph, **settings).status_code == 200
    ours = webui.records()
    assert theirs["concat"].std() > 0.2
    assert np.abs(ours["concat"] - theirs["concat"]).max() < 0.01
    assert theirs["vae_encodes"] - ours["vae_encodes"] == 1


@pytest.mark.not_on("Forge", "without this extension it hands nine channels to a UNet of five")
def test_a_large_photograph_is_seen_as_by_the_bare_host(webui: WebUI, bare: WebUI, photograph: Image.Image) -> None:
    """With grain, of which MiDaS would see single pixels, had nobody shrunk the picture before."""
    grain = Image.effect_noise((1800, 1800), 80).convert("RGB")
    picture = Image.blend(photograph.resize((1800, 1800)), grain, 0.3)
    channels = []
    for running in (bare, webui):
        assert running.img2img(picture, width=512, height=512, steps=1).status_code == 200
        channels.append(running.records()["concat"])
    assert channels[0].std() > 0.2
    assert np.abs(channels[1] - channels[0]).max() < 0.01


@pytest.mark.not_on("Forge", "without this extension it hands nine channels to a UNet of five")
@pytest.mark.not_on("ReForge", "without this extension its depth stage has the weights of a file, not the checkpoint's")
def test_flat_depth_is_nan_in_the_bare_host(bare: WebUI, photograph: Image.Image) -> None:
    bare.select(FLAT)
    assert bare.img2img(photograph).status_code == 500
    assert np.isnan(bare.records()["concat"]).all()


def test_flat_depth_is_minus_one(webui: WebUI, photograph: Image.Image) -> None:
    webui.select(FLAT)
    assert webui.img2img(photograph).status_code == 200
    assert (channel(webui) == -1).all()


@pytest.mark.parametrize("size", [(512, 512), (384, 640)])
def test_every_host_gets_the_same(
    webui: WebUI, checkpoints: Path, photograph: Image.Image, size: tuple[int, int]
) -> None:
    """What is computed here without any host; so what all hosts get is equal, whatever torch and timm they bring."""
    estimator = DepthEstimator("dpt_hybrid", weights=checkpoints / DEPTH)
    wanted = conditioning(estimator.estimate([photograph]), [placement(photograph, size)]).numpy()
    reply = webui.img2img(photograph, width=size[0], height=size[1], steps=1, resize_mode=1)
    assert reply.status_code == 200, reply.text
    found = webui.records()["concat"]
    assert wanted.std() > 0.2
    assert np.abs(found - wanted).max() < 1e-3


def test_batch_of_four_is_one_pass_and_no_encode_of_its_own(webui: WebUI, unseen: Image.Image) -> None:
    assert webui.img2img(unseen, batch_size=4).status_code == 200
    records = webui.records()
    assert (records["depth_passes"], records["depth_inputs"]) == (1, 1)
    assert records["vae_encodes"] == 4  # the host's own, one for each latent
    assert records["concat"].shape == (8, 1, 16, 16)
    assert (records["concat"] == records["concat"][:1]).all()


def test_batch_count_reuses_the_conditioning(webui: WebUI, unseen: Image.Image) -> None:
    assert webui.img2img(unseen, n_iter=2).status_code == 200
    assert webui.records()["depth_inputs"] == 1


def test_several_init_images_have_their_own_depth(webui: WebUI, photograph: Image.Image, unseen: Image.Image) -> None:
    pictures = [photograph.resize((128, 128)), unseen]
    reply = webui.img2img(unseen, init_images=[encode(each) for each in pictures], batch_size=2)
    assert reply.status_code == 200
    concat = webui.records()["concat"][:2]
    assert np.abs(concat[0] - concat[1]).max() > 0.1


def test_the_depth_map_decides_the_picture(webui: WebUI, photograph: Image.Image) -> None:
    one, other = left_right((128, 128)), left_right((128, 128), 0.25)
    first = picture_of(webui.img2img(photograph, depth2img=depth_map(one)))
    again = picture_of(webui.img2img(photograph, depth2img=depth_map(one)))
    different = picture_of(webui.img2img(photograph, depth2img=depth_map(other)))
    assert np.abs(first - again).max() <= 1  # the host draws the init latent without a seed, within 1e-6
    assert np.abs(first - different).max() > 2


def test_sixteen_bits_survive_the_api(webui: WebUI, photograph: Image.Image) -> None:
    """A ramp within one step of eight bits: 256 levels that an 8-bit road would make one."""
    ramp = np.tile(np.arange(32768, 32768 + 256, 2, dtype=np.uint16), (128, 1))
    assert webui.img2img(photograph, depth2img=depth_map(Image.fromarray(ramp))).status_code == 200
    row = channel(webui)[8]
    assert (np.diff(row) > 0).all()


class TestOnlyMasked:
    """A 512x512 picture, a mask of 100x100 around (256, 356), a map black left of x = 256 and white right of it."""

    MASK = (206, 306, 306, 406)

    def settings(self, box: tuple[int, int, int, int] = MASK, **fields: Any) -> dict[str, Any]:
        mask = Image.new("L", (512, 512))
        ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
        return {"mask": encode(mask), "inpaint_full_res": True, "inpaint_full_res_padding": 14, "mask_blur": 0} | fields

    def test_the_map_is_cropped_as_the_picture(self, webui: WebUI, photograph: Image.Image) -> None:
        reply = webui.img2img(photograph, depth2img=depth_map(left_right((512, 512))), **self.settings())
        assert reply.status_code == 200
        depth = channel(webui)
        # The box is 192..320, 256 lies in its middle, and 16 cells show it.
        assert (depth[:, :7] == -1).all()
        assert (depth[:, 9:] == 1).all()

    def test_a_mask_beside_the_edge_sees_one_side_only(self, webui: WebUI, photograph: Image.Image) -> None:
        reply = webui.img2img(
            photograph, depth2img=depth_map(left_right((512, 512))), **self.settings((20, 306, 120, 406))
        )
        assert reply.status_code == 200
        assert (channel(webui) == -1).all()

    def test_the_map_may_have_another_size_than_the_picture(self, webui: WebUI, photograph: Image.Image) -> None:
        reply = webui.img2img(photograph, depth2img=depth_map(left_right((1024, 256))), **self.settings())
        assert reply.status_code == 200
        depth = channel(webui)
        assert (depth[:, :7] == -1).all()
        assert (depth[:, 9:] == 1).all()

    def test_depth_is_estimated_on_the_unfilled_picture(self, webui: WebUI, unseen: Image.Image) -> None:
        picture = unseen.resize((512, 512))
        channels = []
        for fill in (0, 1, 2, 3):
            assert webui.img2img(picture, **self.settings(inpainting_fill=fill)).status_code == 200
            channels.append(channel(webui))
        assert all((each == channels[0]).all() for each in channels)

    def test_crop_estimates_on_the_crop(self, webui: WebUI, unseen: Image.Image) -> None:
        picture = unseen.resize((512, 512))
        assert webui.img2img(picture, **self.settings()).status_code == 200
        whole = channel(webui)
        assert webui.img2img(picture, depth2img={"only_masked": "crop"}, **self.settings()).status_code == 200
        assert np.abs(channel(webui) - whole).max() > 0.1

    def test_a_mask_of_another_size_works_on_the_hosts_box(self, webui: WebUI, photograph: Image.Image) -> None:
        mask = Image.new("L", (256, 256))
        ImageDraw.Draw(mask).rectangle((206, 100, 255, 150), fill=255)
        settings = self.settings() | {"mask": encode(mask)}
        reply = webui.img2img(photograph, depth2img=depth_map(left_right((512, 512), 224 / 512)), **settings)
        assert reply.status_code == 200
        depth = channel(webui)
        # The host cuts x 178..256 (the mask's pixels, taken as the picture's): the edge at 224 is 46/78 along the way.
        assert (depth[:, :8] == -1).all()
        assert (depth[:, 11:] == 1).all()

    def test_a_mask_larger_than_the_picture_works_on_the_hosts_box(self, webui: WebUI, photograph: Image.Image) -> None:
        mask = Image.new("L", (1024, 1024))
        ImageDraw.Draw(mask).rectangle((406, 206, 605, 405), fill=255)
        settings = self.settings() | {"mask": encode(mask)}
        reply = webui.img2img(photograph, depth2img=depth_map(left_right((512, 512), 448 / 512)), **settings)
        assert reply.status_code == 200
        depth = channel(webui)
        # The host cuts x 392..620 out of a picture that ends at 512: the edge is 56/228 along the way, the end 120/228.
        assert (depth[:, :3] == -1).all()
        assert (depth[:, 5:8] == 1).all()

    @pytest.mark.parametrize(("side", "left"), [(256, 64), (512, 206), (1024, 430)])
    @pytest.mark.not_on("Forge", "without this extension it hands nine channels to a UNet of five")
    def test_crop_is_what_the_bare_host_does(
        self, webui: WebUI, bare: WebUI, photograph: Image.Image, side: int, left: int
    ) -> None:
        """Masks smaller than the picture, as large, and larger, so that the box of 128x128 goes beyond the picture."""
        mask = Image.new("L", (side, side))
        ImageDraw.Draw(mask).rectangle((left, 64, left + 99, 163), fill=255)
        settings = self.settings() | {"mask": encode(mask), "inpainting_fill": 1}
        assert bare.img2img(photograph, **settings).status_code == 200
        theirs = channel(bare)
        assert webui.img2img(photograph, depth2img={"only_masked": "crop"}, **settings).status_code == 200
        assert theirs.std() > 0.2
        assert np.abs(channel(webui) - theirs).max() < 0.01

    def test_a_blank_mask_is_img2img(self, webui: WebUI, photograph: Image.Image) -> None:
        settings = self.settings() | {"mask": encode(Image.new("L", (512, 512)))}
        reply = webui.img2img(photograph, depth2img=depth_map(left_right((512, 512))), **settings)
        assert reply.status_code == 200
        depth = channel(webui)
        assert (depth[:, :7] == -1).all()
        assert (depth[:, 9:] == 1).all()


@pytest.mark.parametrize(
    ("resize_mode", "edge", "expected"),
    [(0, 0.75, 12), (1, 0.75, 16), (1, 0.5, 8), (2, 0.75, 12), (3, 0.75, 12)],
)
def test_resize_modes(webui: WebUI, resize_mode: int, edge: float, expected: int) -> None:
    """A picture twice as wide as high, on a square: mode 1 cuts it off at the sides, mode 2 fills above and below."""
    picture = Image.effect_noise((256, 128), 50).convert("RGB")
    reply = webui.img2img(picture, depth2img=depth_map(left_right((256, 128), edge)), resize_mode=resize_mode)
    assert reply.status_code == 200
    depth = channel(webui)
    if expected == 16:  # the white part was cut off but for what interpolation brings in at the edge
        assert (depth[:, :15] == -1).all() or (depth == -1).all()
    else:
        assert (depth[:, : expected - 1] == -1).all()
        assert (depth[:, expected + 1 :] == 1).all()


class TestFromNoise:
    def test_no_colour_of_the_init_image_is_left(self, webui: WebUI) -> None:
        fields = depth_map(left_right((128, 128)), from_noise=True)
        starts, pictures = [], []
        for colour in ("red", "blue"):
            pictures.append(picture_of(webui.img2img(Image.new("RGB", (128, 128), colour), depth2img=fields)))
            starts.append(webui.records()["noise"])
        assert (starts[0] == starts[1]).all()
        assert (pictures[0] == pictures[1]).all()

    def test_without_it_the_init_image_shines_through(self, webui: WebUI) -> None:
        fields = depth_map(left_right((128, 128)))
        starts = []
        for colour in ("red", "blue"):
            assert webui.img2img(Image.new("RGB", (128, 128), colour), depth2img=fields).status_code == 200
            starts.append(webui.records()["noise"])
        assert (starts[0] != starts[1]).any()

    @pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
    def test_what_the_mask_keeps_stays(self, webui: WebUI, photograph: Image.Image, sampler: str) -> None:
        picture = photograph.resize((128, 128))
        mask = Image.new("L", (128, 128))
        mask.paste(255, (64, 0, 128, 128))
        settings = {"mask": encode(mask), "inpaint_full_res": False, "mask_blur": 0, "sampler_name": sampler}
        fields = depth_map(left_right((128, 128)), from_noise=True)
        result = picture_of(webui.img2img(picture, depth2img=fields, inpainting_fill=1, **settings))
        assert np.abs(result[:, :56] - np.asarray(picture).astype(int)[:, :56]).max() <= 2
        assert np.abs(result[:, 72:] - np.asarray(picture).astype(int)[:, 72:]).mean() > 10

    def test_below_strength_one_the_init_image_is_the_start(self, webui: WebUI, photograph: Image.Image) -> None:
        starts = []
        for from_noise in (True, False):
            fields = depth_map(left_right((128, 128)), from_noise=from_noise)
            reply = webui.img2img(photograph, depth2img=fields, denoising_strength=0.6, steps=4)
            assert reply.status_code == 200
            starts.append(webui.records()["noise"])
        assert (starts[0] == starts[1]).all()
