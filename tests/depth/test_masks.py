"""Masks, as the host takes them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.depth.io.files import read_mask
from lib_depth2img.depth.sizes import same_shape
from lib_depth2img.errors import PictureError

SIZE = (64, 48)
Y, X = np.mgrid[0:48, 0:64]
PAINTED = (X >= 20) & (X < 30) & (Y >= 10) & (Y < 20)
SOFT = np.clip(((X - 20) * 40).astype(int), 0, 255).astype(np.uint8)


def create_binary_mask(image: Image.Image) -> Image.Image:
    """The host's, modules/processing.py:90-98, with ``round``."""
    if image.mode == "RGBA" and image.getextrema()[-1] != (255, 255):
        return image.split()[-1].convert("L").point(lambda x: 255 if x > 128 else 0)
    return image.convert("L")


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_alpha(colour: int, alpha: np.ndarray) -> Image.Image:
    return Image.merge("RGBA", [*[Image.new("L", SIZE, colour)] * 3, Image.fromarray(alpha)])


PICTURES = {
    "white on transparent": with_alpha(255, np.where(PAINTED, 255, 0).astype(np.uint8)),
    "black on transparent": with_alpha(0, np.where(PAINTED, 255, 0).astype(np.uint8)),
    "soft alpha": with_alpha(90, SOFT),
    "grey": Image.fromarray(SOFT),
    "black and white": Image.fromarray(PAINTED),
    "colours": Image.merge("RGB", [Image.fromarray(SOFT), Image.new("L", SIZE), Image.new("L", SIZE, 9)]),
    "opaque": Image.merge("RGBA", [*[Image.fromarray(SOFT)] * 3, Image.new("L", SIZE, 255)]),
    "nearly opaque": with_alpha(0, np.full((48, 64), 254, np.uint8)),
    "grey and alpha": with_alpha(255, SOFT).convert("LA"),
    "palette": Image.fromarray(np.where(PAINTED, 255, 0).astype(np.uint8)).convert("P"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_mask_is_what_the_host_makes_of_it(name: str) -> None:
    """The panel's upload has ``image_mode="RGBA"`` (modules/ui.py), so all of them come to the function as that."""
    mask = read_mask(file_of(PICTURES[name]), SIZE)
    assert mask.mode == "L"
    np.testing.assert_array_equal(np.asarray(mask), np.asarray(create_binary_mask(PICTURES[name].convert("RGBA"))))


def test_what_is_painted_is_painted() -> None:
    for name in ("white on transparent", "black on transparent", "black and white", "palette"):
        np.testing.assert_array_equal(np.asarray(read_mask(file_of(PICTURES[name]))) > 127, PAINTED)
    soft = np.asarray(read_mask(file_of(PICTURES["soft alpha"])))
    np.testing.assert_array_equal(soft, np.where(SOFT > 128, 255, 0))


def test_where_alpha_becomes_white() -> None:
    alpha = np.array([[0, 127, 128, 129, 255]], np.uint8)
    image = Image.merge("RGBA", [*[Image.new("L", (5, 1))] * 3, Image.fromarray(alpha)])
    np.testing.assert_array_equal(np.asarray(read_mask(file_of(image))), [[0, 0, 0, 255, 255]])


def test_a_gif_with_a_transparent_colour() -> None:
    image = Image.fromarray(np.where(PAINTED, 1, 0).astype(np.uint8), "P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    mask = read_mask(file_of(image, "GIF", transparency=0), SIZE)
    np.testing.assert_array_equal(np.asarray(mask), np.where(PAINTED, 255, 0))


def test_16_bit_is_scaled() -> None:
    """The host's Pillow cuts every value above 255 to white."""
    image = Image.fromarray(np.where(PAINTED, 65535, 2 * 257).astype(np.uint16))
    np.testing.assert_array_equal(np.asarray(read_mask(file_of(image))), np.where(PAINTED, 255, 2))


def test_it_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = read_mask(file_of(PICTURES["black and white"].convert("L"), exif=exif), SIZE[::-1])
    np.testing.assert_array_equal(np.asarray(mask) > 127, np.rot90(PAINTED, -1))


@pytest.mark.parametrize("size", [(64, 48), (128, 96), (32, 24), (4000, 3000), (7, 5), (63, 47)])
def test_any_resolution_of_the_same_shape_will_do(size: tuple[int, int]) -> None:
    assert read_mask(file_of(PICTURES["grey"]), size).size == SIZE


@pytest.mark.parametrize("size", [(48, 64), (128, 48), (64, 64), (4000, 3100), (66, 46)])
def test_a_mask_of_another_shape_is_refused(size: tuple[int, int]) -> None:
    text = (
        rf"the given data: The mask is 64x48 for a picture of {size[0]}x{size[1]}, which is another shape\. Cut or draw"
    )
    with pytest.raises(PictureError, match=text):
        read_mask(file_of(PICTURES["grey"]), size)


def test_what_is_no_mask_is_refused() -> None:
    with pytest.raises(PictureError, match="text"):
        read_mask(b"no mask at all")
    with pytest.raises(PictureError, match="without a scale"):
        read_mask(file_of(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))


@pytest.mark.parametrize("whole", [(1920, 1080), (1000, 333), (512, 512)])
def test_shapes_are_the_same_at_every_size(whole: tuple[int, int]) -> None:
    for width in range(20, whole[0], 7):
        assert same_shape((width, round(whole[1] * width / whole[0])), whole)
        assert same_shape(whole, (width, round(whole[1] * width / whole[0])))
    assert not same_shape(whole, (whole[0], whole[1] + 3))
