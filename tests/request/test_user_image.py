"""Pictures and depth maps of a request: as base64, as bytes, as PIL pictures."""

from __future__ import annotations

import array
import base64
import hashlib
import io
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.errors import RequestError
from lib_depth2img.request import user_image
from lib_depth2img.request.request import Depth2ImgRequest
from lib_depth2img.request.user_image import MAX_IMAGE_BYTES, UserImage, decode_image
from tests.uploads import b64, png16, png_rgb


def test_a_depth_map_in_base64_keeps_its_16_bits():
    data = png16()
    request = Depth2ImgRequest.from_mapping({"source": "depth_map", "image": b64(data)})
    assert isinstance(request.image.content, DepthMap)
    expected = np.asarray(Image.open(io.BytesIO(data))).astype(np.float32) / 65535
    np.testing.assert_array_equal(request.image.content.values, expected)
    assert request.image.sha256 == hashlib.sha256(data).hexdigest()
    assert request.image.digest == request.image.sha256[:10]


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "DATA:image/png;charset=x;base64,", "data:;base64,"])
def test_a_data_url_is_the_same_as_its_base64(prefix):
    image = decode_image(prefix + b64(png16()), "depth_map")
    assert image.sha256 == hashlib.sha256(png16()).hexdigest()


def test_base64_broken_into_lines_is_read():
    text = "\n".join(base64.encodebytes(png16()).decode().split("\n"))
    assert decode_image(text, "depth_map").sha256 == hashlib.sha256(png16()).hexdigest()


def test_another_picture_comes_as_rgb():
    request = Depth2ImgRequest.from_mapping({"source": "image", "image": b64(png_rgb())})
    assert request.image.content.mode == "RGB"
    assert request.image.content.getpixel((0, 0)) == (200, 30, 60)


@pytest.mark.parametrize(
    "text",
    [
        "/etc/passwd",
        "C:\\maps\\a.png",
        "http://127.0.0.1/a.png",
        "https://example.org/a.png",
        "file:///etc/passwd",
        "",
        "é",
    ],
)
def test_a_path_or_address_is_never_opened(text, monkeypatch):
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("opened a file"))
    with pytest.raises(RequestError, match=r"image: .*(base64|not a picture|depth map)"):
        decode_image(text, "depth_map")


@pytest.mark.parametrize("foreign", ["!", "*", "-", "_", "\0", "=="])
def test_base64_with_foreign_letters_is_refused(foreign):
    """Python's decoder would leave them out and read the rest."""
    text = b64(png16())
    with pytest.raises(RequestError, match=r"^image: got .*expected base64"):
        decode_image(text[:20] + foreign + text[20:], "depth_map")


@pytest.mark.parametrize("source", ["depth_map", "image"])
def test_a_refusal_speaks_of_the_image_and_not_of_given_data(source):
    with pytest.raises(RequestError) as caught:
        decode_image(b"no picture at all", source)
    assert str(caught.value).startswith("image: The file holds text")


@pytest.mark.parametrize("source", ["depth_map", "image"])
def test_base64_of_no_picture_is_refused_naming_the_field(source):
    with pytest.raises(RequestError, match=r"^image: "):
        Depth2ImgRequest.from_mapping({"source": source, "image": b64(b"no picture at all" * 10)})


def test_a_coloured_picture_is_refused_as_a_depth_map():
    with pytest.raises(RequestError, match=r"^image: .*colour"):
        Depth2ImgRequest.from_mapping({"source": "depth_map", "image": b64(png_rgb())})


def test_too_much_base64_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(base64, "b64decode", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(RequestError, match="expected at most 128 MiB"):
        decode_image("A" * (MAX_IMAGE_BYTES * 4 // 3 + 8), "depth_map")


def test_the_bound_is_on_the_bytes_and_not_on_their_base64(monkeypatch):
    data = png16(30, 20)
    for limit, refused in ((len(data), False), (len(data) - 3, True)):
        monkeypatch.setattr(user_image, "MAX_IMAGE_BYTES", limit)
        with pytest.raises(RequestError, match="expected at most") if refused else nullcontext():
            decode_image(b64(data), "depth_map")


def test_too_many_bytes_are_refused():
    with pytest.raises(RequestError, match="expected at most 128 MiB"):
        decode_image(bytes(MAX_IMAGE_BYTES + 1), "depth_map")


@pytest.mark.parametrize("value", [3, 0.5, True, {"data": "x"}, ["x"], object()])
def test_something_that_cannot_be_an_image_is_refused(value):
    with pytest.raises(RequestError, match=r"^image: got "):
        Depth2ImgRequest.from_mapping({"source": "image", "image": value})


def test_pil_pictures_and_arrays_come_in_too():
    grey = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20)
    map_of_pil = decode_image(grey, "depth_map").content
    map_of_array = decode_image(np.asarray(grey), "depth_map").content
    np.testing.assert_array_equal(map_of_pil.values, map_of_array.values)
    assert decode_image(grey, "image").content.mode == "RGB"
    with pytest.raises(RequestError, match="array"):
        decode_image(np.zeros((4, 4)), "image")


def test_pil_digests_tell_pictures_apart():
    black, white = Image.new("L", (4, 4)), Image.new("L", (4, 4), 255)
    wide = Image.new("L", (8, 2))
    assert len({decode_image(picture, "depth_map").sha256 for picture in (black, white, wide)}) == 3
    assert decode_image(black, "depth_map") == decode_image(black.copy(), "depth_map")


def test_a_given_decoder_is_used():
    content = DepthMap.from_array(np.zeros((2, 2), np.uint8))
    seen = []
    request = Depth2ImgRequest.from_mapping(
        {"source": "depth_map", "image": b64(b"any")},
        image_decoder=lambda data, source, meaning: seen.append((data, source, meaning)) or content,
    )
    assert request.image.content is content
    assert seen == [(b"any", "depth_map", "nearness")]


def test_a_source_without_its_image_is_refused():
    for source in ("depth_map", "image"):
        with pytest.raises(RequestError, match=f"image: got none.*{source}"):
            Depth2ImgRequest.from_mapping({"source": source})


def test_an_image_that_the_source_does_not_use_is_refused():
    with pytest.raises(RequestError, match="source is init_image, which does not use it"):
        Depth2ImgRequest.from_mapping({"image": b64(png16())})


def test_a_user_image_does_not_show_its_pixels():
    assert repr(UserImage(Image.new("L", (2, 2)), "ab" * 32)) == f"UserImage(sha256='{'ab' * 32}')"


@pytest.mark.parametrize("mode", ["I;16", "RGBA", "LA", "turned"])
def test_a_pil_picture_becomes_what_its_file_becomes(mode):
    """Pillow's own conversion makes 16 bit white, and drops transparency and orientation."""
    values = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2000
    picture = Image.fromarray(values) if mode == "I;16" else Image.fromarray((values // 256).astype(np.uint8))
    options = {}
    if mode == "turned":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
    elif mode != "I;16":
        picture = picture.convert(mode)
        picture.putalpha(Image.fromarray((values % 256).astype(np.uint8)))
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    expected = np.asarray(decode_image(file.getvalue(), "image").content)
    assert expected.std() > 0
    np.testing.assert_array_equal(np.asarray(decode_image(Image.open(file), "image").content), expected)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_pil_depth_map_becomes_what_its_file_becomes(orientation):
    values = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2000
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", exif=exif)
    expected = decode_image(file.getvalue(), "depth_map").content
    assert expected.size == ((4, 6) if orientation == 6 else (6, 4))
    np.testing.assert_array_equal(decode_image(Image.open(file), "depth_map").content.values, expected.values)


def test_a_palette_is_part_of_a_picture():
    black, grey = Image.new("P", (4, 4)), Image.new("P", (4, 4))
    black.putpalette([0, 0, 0] * 256)
    grey.putpalette([90, 90, 90] * 256)
    assert decode_image(black, "image") != decode_image(grey, "image")


@pytest.mark.parametrize("source", ["depth_map", "image"])
def test_objects_that_hold_no_picture_are_refused(source):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    cut_off = Image.open(io.BytesIO(file.getvalue()[:2000]))
    for value in (cut_off, Image.new("La", (2, 2)), array.array("f", [1.0]), memoryview(b"abc")):
        with pytest.raises(RequestError, match=r"^image: (got|The picture cannot be decoded)"):
            decode_image(value, source)
