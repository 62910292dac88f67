"""The Extras tab's depth map, against a stand-in for the host's picture."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from lib_depth2img.errors import RequestError
from lib_depth2img.webui.ui import extras
from tests.webui.page import StubServices


class PostprocessedImage:
    """modules/scripts_postprocessing.py:14-57."""

    def __init__(self, image, nametags=None, disable_processing=False):
        self.image, self.nametags, self.disable_processing = image, nametags or [], disable_processing
        self.info, self.extra_images = {}, []

    def create_copy(self, new_image, *, nametags=None, disable_processing=False):
        return PostprocessedImage(new_image, [*self.nametags, *(nametags or [])], disable_processing)


def ramp() -> Image.Image:
    return Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (16, 1))).convert("RGB")


def run(services=None, *, deep=True, **values):
    pp = PostprocessedImage(ramp())
    extras.process(services or StubServices(), pp, deep=deep, **{"enable": True, **values})
    return pp


def test_the_picture_becomes_its_depth_map_in_16_bits():
    pp = run()
    assert pp.image.mode == "I;16"
    assert pp.image.size == (64, 16)
    values = np.asarray(pp.image)
    assert (values.min(), values.max()) == (0, 65535)
    assert (np.diff(values[8].astype(int)) >= 0).all()
    assert pp.nametags == ["depth"]
    assert pp.info == {"Depth map": "checkpoint"}
    assert pp.disable_processing, "what follows would upscale or restore the map"


def test_beside_the_picture():
    pp = run(result=extras.RESULTS[1])
    assert np.array_equal(np.asarray(pp.image), np.asarray(ramp()))
    (beside,) = pp.extra_images
    assert beside.image.mode == "I;16"
    assert beside.nametags == ["depth"]
    assert beside.disable_processing
    assert pp.nametags == []


@pytest.mark.parametrize(
    "values", [{"enable": False}, {"enable": None}, {"enable": None, "far": None, "estimator": None}]
)
def test_off_is_off_and_the_api_may_send_nothing(values):
    services = StubServices()
    pp = run(services, **values)
    assert np.array_equal(np.asarray(pp.image), np.asarray(ramp()))
    assert services.estimated == []
    assert pp.info == {}


def test_values_that_are_not_there_are_the_defaults():
    nothing = dict.fromkeys(("estimator", "colour", "far", "near", "gamma", "blur", "invert", "result"))
    assert np.array_equal(np.asarray(run(**nothing).image), np.asarray(run().image))


@pytest.mark.parametrize("colour", list(extras.COLOURS))
def test_colours(colour):
    image = run(colour=colour).image
    assert image.mode == ("I;16" if colour == "Grey, 16 bits" else "RGB")
    if colour in ("Inferno", "Turbo"):
        assert np.ptp(np.asarray(image)[8, 32].astype(int)) > 60
    if colour == "Grey, 8 bits":
        assert np.ptp(np.asarray(image).astype(int), axis=2).max() == 0


def test_without_a_place_for_16_bits_it_has_8():
    assert run(deep=False).image.mode == "RGB"


def test_adjustments_act_and_are_written_down():
    plain, adjusted = run(), run(estimator="dpt_hybrid", far=0.5, gamma=2.0, invert=True)
    values = np.asarray(adjusted.image)[8].astype(int)
    assert values[0] > values[-1]
    assert (values[40:] == 0).all()
    assert adjusted.info == {"Depth map": "dpt_hybrid, far 0.5, gamma 2, invert True"}
    assert not np.array_equal(values, np.asarray(plain.image)[8])


def test_the_estimator_that_was_asked_for_is_used():
    services = StubServices()
    run(services, estimator="dpt_hybrid")
    run(services)
    assert services.estimated == ["dpt_hybrid", "checkpoint"]


@pytest.mark.parametrize(("name", "value"), [("far", 2), ("estimator", "none such"), ("invert", "yes")])
def test_bad_values_are_refused(name, value):
    with pytest.raises(RequestError, match=f"^{name}: got "):
        run(**{name: value})


def test_transparent_pictures_are_taken():
    pp = PostprocessedImage(ramp().convert("RGBA"))
    extras.process(StubServices(), pp, deep=True, enable=True)
    assert pp.image.mode == "I;16"


def test_the_widgets_are_named_as_process_takes_them_and_have_unique_labels():
    def accordion(value, label, elem_id):
        return gr.Accordion(label, elem_id=elem_id)

    with gr.Blocks():
        widgets = extras.build(StubServices(), accordion)
    assert list(widgets) == [
        "enable",
        "estimator",
        "colour",
        "far",
        "near",
        "gamma",
        "blur",
        "clip",
        "resolution",
        "tiles",
        "invert",
        "result",
    ]
    labels = [widget.label for name, widget in widgets.items() if name != "enable"]
    assert len(set(labels)) == len(labels)
    shown = {name: widget.value for name, widget in widgets.items() if name != "enable"}
    pp = PostprocessedImage(ramp())
    extras.process(StubServices(), pp, deep=True, **{**shown, "enable": True})
    assert np.array_equal(np.asarray(pp.image), np.asarray(run().image))


def test_order_is_after_the_hosts_scripts():
    hosts = {"Upscale": 1000, "GFPGAN": 2000, "CodeFormer": 3000, "Caption": 4040}  # scripts/postprocessing_*.py
    assert max(hosts.values()) < extras.ORDER


def test_what_is_transparent_lies_on_white_as_everywhere_else():
    """Not on what an editor left under it: here black below, which the stub takes for far."""
    clear = Image.new("RGBA", (64, 16), (0, 0, 0, 0))
    clear.paste((128, 128, 128, 255), (0, 0, 32, 16))
    pp = PostprocessedImage(clear)
    extras.process(StubServices(), pp, deep=True, enable=True)
    assert np.asarray(pp.image)[8, [0, -1]].tolist() == [0, 65535]
