"""The depth channel as one generation gets it, on Stability's own depth model."""

from __future__ import annotations

import base64
import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from lib_depth2img.errors import RequestError
from lib_depth2img.request.request import Depth2ImgRequest
from lib_depth2img.webui.hooks import override, tiles
from tests.webui.hooks.conftest import Brightness, halves, img2img, selectable
from tests.webui.hooks.stand_in import Host, Img2Img


def encoded(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def depth_map(picture: Image.Image, **fields: Any) -> dict[str, Any]:
    return {"source": "depth_map", "image": encoded(picture)} | fields


def channel(host: Host, picture: int = 0) -> np.ndarray:
    assert host.concat is not None
    found: np.ndarray = host.concat[picture, 0].numpy()
    return found


def assert_edge(host: Host, column: int, picture: int = 0) -> None:
    """Far left of the latent's ``column``, near from there on; the cells that touch the edge may lie in between."""
    depth = channel(host, picture)
    assert np.allclose(depth[:, : column - 1], -1, atol=1e-6)
    assert np.allclose(depth[:, column + 1 :], 1, atol=1e-6)


@pytest.fixture
def photograph() -> Image.Image:
    return Image.fromarray(data.astronaut())


class TestInitImage:
    def test_agrees_with_the_training_code(self, host: Host, photograph: Image.Image) -> None:
        """``get_input`` of ldm ddpm.py:1697-1725 is how the model was taught depth; its +0.001 is what differs."""
        p = img2img(host, photograph, width=512, height=512)
        host.generate(p)
        pixels = torch.from_numpy(np.asarray(photograph, np.float32) / 127.5 - 1)[None]
        midas_in = torch.nn.functional.interpolate(
            pixels.permute(0, 3, 1, 2), size=(384, 384), mode="bicubic", align_corners=False
        )
        batch = {"jpg": pixels, "txt": ["a"], "midas_in": midas_in}
        _, conditions = host.model.get_input(batch, "jpg")
        assert np.abs(channel(host) - conditions["c_concat"][0][0, 0].numpy()).max() < 0.005

    def test_reaches_the_unet_in_the_latents_size_and_type(self, host: Host, photograph: Image.Image) -> None:
        host.generate(img2img(host, photograph, width=128, height=64))
        assert host.concat is not None
        assert host.concat.shape == (1, 1, 8, 16)
        assert host.concat.dtype == torch.float32
        assert (host.concat.min(), host.concat.max()) == (-1, 1)

    def test_a_batch_is_one_pass_and_no_encode_of_its_own(
        self, host: Host, network: Brightness, photograph: Image.Image
    ) -> None:
        host.generate(img2img(host, photograph, batch_size=4))
        assert network.shapes == [(1, 3, 384, 384)]
        assert host.vae_encodes == 4  # the host's own
        assert host.concat is not None
        assert host.concat.shape[0] == 4

    def test_the_batch_tabs_repeated_picture_is_seen_once(
        self, host: Host, network: Brightness, photograph: Image.Image
    ) -> None:
        host.generate(img2img(host, [photograph] * 3, batch_size=3))
        assert network.shapes == [(1, 3, 384, 384)]

    def test_pictures_of_one_batch_have_their_own_depth(self, host: Host) -> None:
        pictures = [halves((64, 64), 0.25).convert("RGB"), halves((64, 64), 0.75).convert("RGB")]
        host.generate(img2img(host, pictures, batch_size=2))
        assert host.concat is not None
        assert_edge(host, 2, picture=0)
        assert_edge(host, 6, picture=1)

    def test_a_flat_picture_is_minus_one(self, host: Host) -> None:
        host.generate(img2img(host, Image.new("RGB", (64, 64), "grey")))
        assert (channel(host) == -1).all()

    def test_transparency_is_the_hosts_background(self, host: Host) -> None:
        picture = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
        picture.paste((0, 0, 0, 0), (32, 0, 64, 64))
        host.generate(img2img(host, picture))
        assert_edge(host, 4)

    def test_seen_before_is_not_estimated_again(self, host: Host, network: Brightness, photograph: Image.Image) -> None:
        for near in (1.0, 0.8):
            host.generate(img2img(host, photograph, request={"near": near}))
        assert len(network.shapes) == 1


class TestAnotherPicture:
    def test_its_depth_covers_the_init_image(self, host: Host, network: Brightness) -> None:
        other = halves((200, 100)).convert("RGB")
        request = {"source": "image", "image": encoded(other)}
        host.generate(img2img(host, Image.new("RGB", (64, 64)), request=request, batch_size=2))
        assert len(network.shapes) == 1
        assert_edge(host, 4)


class TestResizeModes:
    """A picture twice as wide as high on a square of 8 cells; the edge lies at three quarters of the picture."""

    @pytest.mark.parametrize(("mode", "edge"), [(0, 6), (2, 6), (3, 6)])
    @pytest.mark.parametrize("source", ["init_image", "depth_map"])
    def test_the_edge_lies_where_the_picture_has_it(self, host: Host, mode: int, edge: int, source: str) -> None:
        picture = halves((128, 64), 0.75)
        request = depth_map(picture) if source == "depth_map" else None
        host.generate(img2img(host, picture.convert("RGB"), request=request, resize_mode=mode))
        assert channel(host).shape == (8, 8)
        assert_edge(host, edge)

    def test_crop_and_resize_cuts_it_off(self, host: Host) -> None:
        picture = halves((128, 64), 0.5)
        picture.paste(128, (0, 0, 32, 64))  # outside of what mode 1 keeps
        host.generate(img2img(host, picture.convert("RGB"), request=depth_map(picture), resize_mode=1))
        assert_edge(host, 4)


class TestOnlyMasked:
    """The mask is a square of 32 around the middle of a 128x128 picture, with a padding of 16: the crop is 32..96."""

    @pytest.fixture
    def mask(self) -> Image.Image:
        mask = Image.new("L", (128, 128))
        mask.paste(255, (48, 48, 80, 80))
        return mask

    def settings(self, mask: Image.Image) -> dict[str, Any]:
        return {"mask": mask, "inpaint_full_res_padding": 16}

    @pytest.mark.parametrize("only_masked", ["picture", "crop"])
    def test_a_map_is_cropped_as_the_picture(self, host: Host, mask: Image.Image, only_masked: str) -> None:
        """Black left of the middle and white right of it, so the crop is too; an edge at 0.85 is beyond the crop.

        Where an estimate would be made says nothing about a map.
        """
        picture = Image.new("RGB", (128, 128))
        for edge, column in ((0.5, 4), (88 / 128, 7)):
            request = depth_map(halves((128, 128), edge), only_masked=only_masked)
            host.generate(img2img(host, picture, request=request, **self.settings(mask)))
            assert_edge(host, column)
        request = depth_map(halves((128, 128), 0.85), only_masked=only_masked)
        host.generate(img2img(host, picture, request=request, **self.settings(mask)))
        assert (channel(host) == -1).all()

    def test_a_box_wider_than_high(self, host: Host) -> None:
        """On a canvas of 128x64 the box is 32..96 across and 48..80 down, in whose middle 64 lies."""
        mask = Image.new("L", (128, 128))
        mask.paste(255, (40, 56, 88, 72))
        upright = depth_map(halves((128, 128)).rotate(-90))  # far above the middle, near below
        settings = {"mask": mask, "inpaint_full_res_padding": 8, "width": 128, "height": 64}
        host.generate(img2img(host, Image.new("RGB", (128, 128)), request=upright, **settings))
        depth = channel(host)
        assert depth.shape == (8, 16)
        assert np.allclose(depth[:3], -1, atol=1e-6)
        assert np.allclose(depth[5:], 1, atol=1e-6)

    def test_the_whole_picture_is_seen_unless_the_crop_is_asked_for(
        self, host: Host, network: Brightness, mask: Image.Image
    ) -> None:
        """Black, grey and, outside the crop, white: against the white the grey is half-way, in the crop it is near."""
        picture = halves((128, 128)).point(lambda value: value // 2).convert("RGB")
        picture.paste((255, 255, 255), (0, 0, 128, 16))
        request = {"far": 0.4, "near": 0.6, "gamma": 1.0}
        depth = {}
        for only_masked in ("picture", "crop"):
            host.generate(img2img(host, picture, request=request | {"only_masked": only_masked}, **self.settings(mask)))
            assert_edge(host, 4)
            p = img2img(
                host, picture, request={"only_masked": only_masked, "append_depth_map": True}, **self.settings(mask)
            )
            depth[only_masked] = np.asarray(host.generate(p).images[-1]) / 65535
        assert depth["picture"].shape == (128, 128)
        assert depth["picture"][64, 96] == pytest.approx(0.5, abs=0.02)
        assert depth["crop"].shape == (128, 128)
        assert depth["crop"][64, 80] > 0.9  # near; the rest is the overshoot of MiDaS's bicubic resizing at the edge
        outside = np.ones((128, 128), bool)
        outside[32:96, 32:96] = False
        assert not depth["crop"][outside].any(), "nothing was seen there: the farthest"
        assert network.shapes == [(1, 3, 384, 384)] * 2

    def test_the_map_of_a_crop_handed_in_again_gives_the_same_depth(self, host: Host, mask: Image.Image) -> None:
        picture = Image.fromarray(np.random.default_rng(3).integers(0, 255, (16, 16, 3), np.uint8)).resize((128, 128))
        asked = {"only_masked": "crop", "append_depth_map": True}
        shown = host.generate(img2img(host, picture, request=asked, **self.settings(mask))).images[-1]
        estimated = host.concat
        request = {"source": "depth_map", "image": encoded(shown)}
        host.generate(img2img(host, picture, request=request, **self.settings(mask)))
        assert estimated is not None
        torch.testing.assert_close(host.concat, estimated, atol=0.05, rtol=0)

    def test_a_stale_box_of_the_picture_before_is_not_used(self, host: Host) -> None:
        p = img2img(host, halves((128, 128)).convert("RGB"), paste_to=(0, 0, 32, 32))
        host.generate(p)
        assert_edge(host, 4)

    def test_a_blank_mask_is_img2img(self, host: Host) -> None:
        mask = Image.new("L", (128, 128))
        host.generate(img2img(host, halves((128, 128)).convert("RGB"), mask=mask, paste_to=(0, 0, 32, 32)))
        assert_edge(host, 4)

    def test_a_mask_smaller_than_the_picture_means_the_hosts_box(self, host: Host) -> None:
        mask = Image.new("L", (64, 64))
        mask.paste(255, (16, 16, 48, 48))
        picture = Image.new("RGB", (128, 128))
        host.generate(img2img(host, picture, request=depth_map(halves((128, 128), 0.25)), mask=mask))
        assert_edge(host, 4)  # the host cuts 16..48 of the picture, in whose middle 32 lies

    def test_whole_picture_inpainting_is_resized(self, host: Host, mask: Image.Image) -> None:
        settings = self.settings(mask) | {"inpaint_full_res": False}
        host.generate(img2img(host, halves((128, 128), 0.75).convert("RGB"), **settings))
        assert_edge(host, 6)


class TestFromNoise:
    def test_nothing_of_the_init_image_is_left(self, host: Host, photograph: Image.Image) -> None:
        p = img2img(host, photograph, request={"from_noise": True})
        host.generate(p)
        assert (p.init_latent == 0).all()

    def test_what_the_mask_keeps_stays(self, host: Host, photograph: Image.Image) -> None:
        mask = halves((64, 64))
        p = img2img(host, photograph, request={"from_noise": True}, mask=mask, inpaint_full_res=False)
        host.generate(p)
        kept = img2img(host, photograph, mask=mask, inpaint_full_res=False)
        host.generate(kept)
        assert torch.allclose(p.init_latent[..., :4], kept.init_latent[..., :4], atol=1e-3)
        assert (p.init_latent[..., 4:] == 0).all()

    def test_below_strength_one_it_says_so(self, host: Host, photograph: Image.Image) -> None:
        p = img2img(host, photograph, request={"from_noise": True}, denoising_strength=0.5)
        host.generate(p)
        assert (p.init_latent != 0).any()
        assert any("denoising strength 1" in text for text in p.comments)


class TestTiles:
    def test_each_tile_gets_its_part_of_the_map(self, host: Host) -> None:
        """As sd_upscale.py:47-77 does: cut, then one ``process_images`` after the other."""
        tiles.hook()
        picture = Image.new("RGB", (128, 64))
        grid = host.modules.images.split_grid(picture, tile_w=64, tile_h=64, overlap=0)
        request = depth_map(halves((128, 64), 0.75))
        p = img2img(host, picture, request=request)
        channels = []
        for _, _, tile in grid.tiles[0][2]:
            p.init_images = [tile]
            host.generate(p)
            channels.append(channel(host))
        assert (channels[0] == -1).all()
        assert_edge(host, 4)

    def test_an_estimate_is_of_the_tile_itself(self, host: Host) -> None:
        tiles.hook()
        grid = host.modules.images.split_grid(halves((128, 64), 0.75).convert("RGB"), tile_w=64, tile_h=64, overlap=0)
        host.generate(img2img(host, grid.tiles[0][2][1][2]))
        assert_edge(host, 4)

    def test_outpainting_refuses_a_map(self, host: Host) -> None:
        assert host.runner is not None
        host.runner.selectable_scripts.append(selectable("Outpainting mk2"))
        p = img2img(host, Image.new("RGB", (64, 64)), request=depth_map(halves((64, 64))))
        p.script_args = (1, *p.script_args[1:])
        with pytest.raises(RequestError, match="Outpainting"):
            host.generate(p)


class TestBinding:
    def test_nothing_is_left_on_p_afterwards(self, host: Host, photograph: Image.Image) -> None:
        p = img2img(host, photograph)
        before = set(vars(p))
        host.generate(p)
        assert not {name for name in vars(p) if name.startswith("_depth2img")} - before
        assert "init" not in vars(p)
        assert "img2img_image_conditioning" not in vars(p)

    def test_the_class_is_never_touched(self, host: Host, photograph: Image.Image) -> None:
        before = dict(vars(Img2Img))
        host.generate(img2img(host, photograph))
        assert dict(vars(Img2Img)) == before

    def test_a_copy_made_in_the_middle_is_bound_anew(self, host: Host) -> None:
        """The X/Y/Z plot generates from copies (xyz_grid.py:711)."""
        p = img2img(host, halves((64, 64)).convert("RGB"))
        override.bind(p, request=None)  # type: ignore[arg-type]
        cell = copy.copy(p)
        cell.init_images = [halves((64, 64), 0.25).convert("RGB")]
        host.generate(cell)
        assert_edge(host, 2)

    def test_a_copy_of_a_refusing_p_does_not_refuse(self, host: Host, photograph: Image.Image) -> None:
        p = img2img(host, photograph)
        override.refuse(p, RequestError("no"))
        cell = copy.copy(p)
        host.generate(cell)
        assert host.concat is not None

    def test_the_channel_comes_to_where_the_latent_is(self, host: Host, photograph: Image.Image) -> None:
        """Meta stands for the GPU."""
        p = img2img(host, photograph, image_mask=None)
        override.bind(p, Depth2ImgRequest())
        found = p.img2img_image_conditioning(None, torch.empty(1, 4, 8, 8, device="meta"))
        assert found.device.type == "meta"
        assert found.shape == (1, 1, 8, 8)

    def test_a_batch_rebinds_for_each_picture(self, host: Host) -> None:
        p = img2img(host, halves((64, 64)).convert("RGB"))
        for edge, column in ((0.25, 2), (0.75, 6)):
            p.init_images = [halves((64, 64), edge).convert("RGB")]
            host.generate(p)
            assert_edge(host, column)

    def test_the_request_is_a_refusal_of_init_with_the_apis_attributes(
        self, host: Host, photograph: Image.Image
    ) -> None:
        p = img2img(host, photograph, request={"near": 7})
        with pytest.raises(RequestError) as caught:
            host.generate(p)
        assert vars(caught.value)["status_code"] == 422
        assert "near" in vars(caught.value)["detail"]
        assert host.vae_encodes == 0


def test_unbinding_what_was_never_bound_is_nothing(host: Host, photograph: Image.Image) -> None:
    p = img2img(host, photograph)
    override.unbind(p)
    assert override.current(p) is None


@pytest.mark.parametrize(("size", "told"), [((64, 48), False), ((640, 480), False), ((48, 64), True), ((64, 64), True)])
def test_a_map_of_another_shape_than_the_picture_is_said(host: Host, size: tuple[int, int], told: bool) -> None:
    request = {"source": "depth_map", "image": encoded(halves(size))}
    p = img2img(host, halves((64, 48)).convert("RGB"), request=request)
    host.generate(p)
    assert any("another shape" in comment for comment in p.comments) is told
