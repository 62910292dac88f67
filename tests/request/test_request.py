"""The request: its table, its checks, and the three ways it comes in."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import io
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib_depth2img.depth.adjust import RANGES, Adjustments
from lib_depth2img.depth.control import CONTROL_RANGES, Control
from lib_depth2img.depth.depth_map import DepthMap
from lib_depth2img.errors import Depth2ImgError, RequestError
from lib_depth2img.estimators.presets import PRESETS
from lib_depth2img.request.fields import FIELDS, field_named
from lib_depth2img.request.kinds import Choice, Count, Field, Flag, Interval, Number, Picture, text_of
from lib_depth2img.request.panel import PANEL_ORDER, panel_values, script_values
from lib_depth2img.request.request import Depth2ImgRequest
from tests.uploads import b64, png16, png_of

DEFAULTS = Depth2ImgRequest()


def shown_values(**changes: object) -> list[object]:
    """What the panel returns at first, with some of it changed."""
    shown = {
        entry.name: entry.label_of(entry.panel_default) if isinstance(entry, Choice) else entry.panel_default
        for entry in FIELDS
    }
    return [{**shown, "picture": None, **changes}[name] for name in PANEL_ORDER]


# --- the table -------------------------------------------------------------------------------------------------------


def test_table_and_dataclass_agree():
    fields = dataclasses.fields(Depth2ImgRequest)
    assert [field.name for field in fields] == [entry.name for entry in FIELDS]
    assert [field.default for field in fields] == [entry.default for entry in FIELDS]


def test_the_fields_are_those_promised_to_api_clients():
    assert dataclasses.asdict(DEFAULTS) == {
        "enabled": True,
        "source": "init_image",
        "image": None,
        "estimator": "checkpoint",
        "far": 0.0,
        "near": 1.0,
        "gamma": 1.0,
        "blur": 0.0,
        "invert": False,
        "only_masked": "picture",
        "from_noise": False,
        "append_depth_map": False,
        "save_depth_map": False,
        "meaning": "nearness",
        "clip": 0.0,
        "strength": 1.0,
        "start": 0.0,
        "end": 1.0,
        "mode": "balanced",
        "region": None,
        "outside_mask": False,
        "range": None,
        "resolution": 0,
        "tiles": 1,
    }


def test_every_default_passes_its_own_check():
    for entry in FIELDS:
        assert entry.check(entry.default) == entry.default


def test_numbers_have_the_ranges_of_the_depth_library():
    numbers = {entry.name: (entry.low, entry.high, entry.step) for entry in FIELDS if type(entry) is Number}
    assert numbers == {name: tuple(allowed) for name, allowed in (RANGES | CONTROL_RANGES).items()}


def test_labels_and_infotext_keys_are_unique():
    labels = [entry.label for entry in FIELDS]
    keys = [entry.infotext for entry in FIELDS if entry.infotext]
    assert len(set(labels)) == len(labels)
    assert len(set(keys)) == len(keys)


def test_axes_are_the_source_independent_fields():
    axes = {entry.name for entry in FIELDS if entry.axis}
    assert axes == {
        "estimator",
        "near",
        "far",
        "gamma",
        "blur",
        "invert",
        "only_masked",
        "from_noise",
        "meaning",
        "clip",
        "strength",
        "start",
        "end",
        "mode",
        "outside_mask",
        "resolution",
        "tiles",
    }


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        ("resolution", [0, 64, 518, 2048, 384.0], [1, 63, 2049, -64, 384.5, True, "384", None, math.nan, math.inf]),
        ("tiles", [1, 8, 2.0], [0, 9, -1, 1.5, False, "2", None, math.nan]),
    ],
)
def test_counts_are_whole_numbers_in_their_range(name, taken, refused):
    for value in taken:
        request = Depth2ImgRequest(**{name: value})
        assert getattr(request, name) == value
        assert type(getattr(request, name)) is int
        assert getattr(request.detail, name) == value
        assert field_named(name).parse(text_of(getattr(request, name))) == value
    for value in refused:
        with pytest.raises(RequestError, match=rf"^{name}: got .*, expected a whole number from "):
            Depth2ImgRequest(**{name: value})
    with pytest.raises(RequestError, match="or 0 for the network's own"):
        field_named("resolution").parse("12")


def test_estimators_are_the_checkpoint_and_every_preset():
    assert field_named("estimator").values == ["checkpoint", *PRESETS]


def test_only_the_append_field_starts_otherwise_in_the_tabs():
    assert {entry.name for entry in FIELDS if entry.panel_default != entry.default} == {"append_depth_map"}


def test_choices_go_from_value_to_label_and_back():
    for entry in FIELDS:
        if isinstance(entry, Choice):
            assert [entry.value_of(entry.label_of(value)) for value in entry.values] == entry.values


def test_an_unknown_entry_is_refused_with_the_nearest_name():
    with pytest.raises(RequestError, match=r"'gama'.*gamma"):
        field_named("gama")


# --- checks ----------------------------------------------------------------------------------------------------------

REFUSED = [
    ("enabled", 1, "true or false"),
    ("enabled", "true", "true or false"),
    ("enabled", None, "true or false"),
    ("source", "depth-map", "init_image, depth_map, image"),
    ("source", 1, "init_image, depth_map, image"),
    ("source", None, "init_image"),
    ("source", ["init_image"], "init_image"),
    ("estimator", "dpt_huge", "checkpoint, dpt_hybrid"),
    ("far", -0.01, "from 0 to 1"),
    ("far", True, "from 0 to 1"),
    ("far", "0.5", "from 0 to 1"),
    ("far", None, "from 0 to 1"),
    ("far", float("nan"), "from 0 to 1"),
    ("near", 1.01, "from 0 to 1"),
    ("near", float("inf"), "from 0 to 1"),
    ("near", False, "from 0 to 1"),
    ("near", [1], "from 0 to 1"),
    ("gamma", 0, "from 0.1 to 10"),
    ("gamma", 10.5, "from 0.1 to 10"),
    pytest.param("gamma", 10**400, "from 0.1 to 10", id="gamma-huge"),
    ("blur", -1, "from 0 to 64"),
    ("blur", 65, "from 0 to 64"),
    ("blur", 1j, "from 0 to 64"),
    ("invert", 0, "true or false"),
    ("only_masked", "mask", "picture, crop"),
    ("from_noise", "no", "true or false"),
    ("append_depth_map", 1.0, "true or false"),
    ("save_depth_map", {}, "true or false"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), REFUSED)
def test_a_bad_value_is_refused_with_field_value_and_range(name, value, allowed):
    with pytest.raises(RequestError) as refusal:
        Depth2ImgRequest.from_mapping({name: value})
    text = str(refusal.value)
    assert text.startswith(f"{name}: got ")
    assert allowed in text
    assert repr(value)[:40] in text


@pytest.mark.parametrize(("name", "value", "allowed"), REFUSED)
def test_the_dataclass_itself_refuses_too(name, value, allowed):
    with pytest.raises(RequestError, match=f"^{name}: got "):
        Depth2ImgRequest(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("far", 0),
        ("near", 1),
        ("gamma", 0.1),
        ("gamma", 10),
        ("blur", 64),
        ("far", np.float32(0.5)),
        ("blur", np.int64(3)),
    ],
)
def test_the_ends_of_a_range_and_every_kind_of_number_are_allowed(name, value):
    kept = getattr(Depth2ImgRequest.from_mapping({name: value}), name)
    assert kept == pytest.approx(float(value))
    assert type(kept) is float


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_far_has_to_be_below_near(far, near):
    if far < near:
        assert Depth2ImgRequest(far=far, near=near).adjustments == Adjustments(far=far, near=near)
    else:
        with pytest.raises(RequestError, match=r"near: got .* more than far"):
            Depth2ImgRequest(far=far, near=near)


@given(st.dictionaries(st.text(max_size=12), st.none() | st.booleans() | st.floats() | st.text(max_size=8), max_size=4))
def test_no_mapping_ends_in_anything_but_a_request_or_a_refusal(mapping):
    with contextlib.suppress(Depth2ImgError):
        assert isinstance(Depth2ImgRequest.from_mapping(mapping), Depth2ImgRequest)


def test_a_long_value_is_shortened_in_the_refusal():
    with pytest.raises(RequestError) as refusal:
        Depth2ImgRequest.from_mapping({"source": "x" * 100_000})
    assert len(str(refusal.value)) < 200


def test_an_unknown_field_is_refused_with_the_nearest_name():
    with pytest.raises(RequestError, match=r"'estimater'\. Did you mean estimator\?"):
        Depth2ImgRequest.from_mapping({"estimater": "checkpoint"})


def test_an_unknown_field_with_nothing_near_is_told_all_names():
    with pytest.raises(RequestError, match="Known are enabled, source, image"):
        Depth2ImgRequest.from_mapping({"qqq": 1})


def test_a_field_name_that_is_no_text_is_refused():
    with pytest.raises(RequestError, match="Unknown field 3"):
        Depth2ImgRequest.from_mapping({3: 1})


def test_something_that_is_no_object_is_refused():
    with pytest.raises(RequestError, match="expected an object with named fields"):
        Depth2ImgRequest.from_mapping(["init_image"])


def test_adjustments_are_the_requests():
    request = Depth2ImgRequest(far=0.1, near=0.9, gamma=2, blur=3, invert=True)
    assert request.adjustments == Adjustments(far=0.1, near=0.9, gamma=2.0, blur=3.0, invert=True)


def test_replace_checks_again():
    assert DEFAULTS.replace(far=0.2).far == 0.2
    with pytest.raises(RequestError, match=r"near: got 0.1"):
        DEFAULTS.replace(far=0.2, near=0.1)
    with pytest.raises(RequestError, match="Unknown field 'fa'"):
        DEFAULTS.replace(fa=0.2)


def test_a_request_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULTS.far = 0.5  # type: ignore[misc]


# --- the API and the panel -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [(), [], (None,), ({},), [{}, True, "Depth map"]])
def test_no_mention_means_the_defaults(args):
    assert Depth2ImgRequest.from_mapping(script_values(args)) == DEFAULTS


def test_named_fields_count_and_what_the_host_fills_up_behind_them_does_not():
    args = [{"far": 0.25, "only_masked": "crop"}, *shown_values(near=0.5)[1:]]
    assert Depth2ImgRequest.from_mapping(script_values(args)) == Depth2ImgRequest(far=0.25, only_masked="crop")


def test_what_is_not_named_is_as_in_the_base():
    base = Depth2ImgRequest(estimator="dpt_large", far=0.1)
    assert Depth2ImgRequest.from_mapping(script_values([{"far": 0.2}]), base=base) == Depth2ImgRequest(
        estimator="dpt_large", far=0.2
    )
    assert Depth2ImgRequest.from_mapping(script_values([]), base=base) == base


def test_positional_arguments_are_in_the_panels_order():
    args = [
        True,
        "depth_map",
        b64(png16()),
        "dpt_large",
        0.1,
        0.9,
        2,
        3,
        True,
        "crop",
        True,
        True,
        True,
        "distance",
        0.01,
        0.5,
        0.1,
        0.9,
        "prompt",
        None,
        True,
        None,
        512,
        2,
    ]
    request = Depth2ImgRequest.from_mapping(script_values(args))
    assert dataclasses.asdict(request.replace(source="init_image", image=None, meaning="nearness")) == {
        **dict(zip(PANEL_ORDER, args, strict=False)),
        "source": "init_image",
        "image": None,
        "meaning": "nearness",
    }
    assert (request.source, request.meaning) == ("depth_map", "distance")
    args[PANEL_ORDER.index("clip")], args[PANEL_ORDER.index("range")] = 0.0, [0.5, 20]
    assert Depth2ImgRequest.from_mapping(script_values(args)).range == (0.5, 20.0)
    assert request.image.sha256 == hashlib.sha256(png16()).hexdigest()


def test_positional_arguments_may_be_few_or_followed_by_others():
    assert Depth2ImgRequest.from_mapping(script_values([False])) == Depth2ImgRequest(enabled=False)
    extra = [*shown_values(far=0.3), "folder", "Estimate it"]
    assert Depth2ImgRequest.from_mapping(script_values(extra)) == Depth2ImgRequest(far=0.3, append_depth_map=True)


def test_the_panel_as_it_is_first_shown():
    assert Depth2ImgRequest.from_mapping(panel_values(shown_values())) == Depth2ImgRequest(append_depth_map=True)


@pytest.mark.parametrize(("label", "value"), [("Crop", "crop"), ("crop", "crop"), ("Whole picture", "picture")])
def test_labels_and_values_of_a_choice_are_the_same_to_the_panel(label, value):
    assert Depth2ImgRequest.from_mapping(panel_values(shown_values(only_masked=label))).only_masked == value


def test_an_upload_left_in_the_panel_does_not_count_for_another_source():
    picture = Image.new("RGB", (4, 4), "red")
    values = shown_values(image=png16(), picture=picture)
    assert Depth2ImgRequest.from_mapping(panel_values(values)).image is None
    values = shown_values(source="Depth map", image=png16(), picture=picture)
    assert isinstance(Depth2ImgRequest.from_mapping(panel_values(values)).image.content, DepthMap)
    values = shown_values(source="Another picture", image=png16(), picture=picture)
    assert Depth2ImgRequest.from_mapping(panel_values(values)).image.content.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("source", "left_over", "said"),
    [
        ("Depth map", {"picture": Image.new("RGB", (4, 4))}, "Depth map: choose one in the Depth2Img panel, or"),
        ("Another picture", {"image": png16()}, "Another picture: choose one in the Depth2Img panel, or"),
    ],
)
def test_the_panel_without_the_upload_its_source_needs_is_refused(source, left_over, said):
    """What lies in the box of the other source is not taken for it."""
    with pytest.raises(RequestError, match="image: got none") as refused:
        Depth2ImgRequest.from_mapping(panel_values(shown_values(source=source, **left_over)))
    assert refused.value.in_panel.startswith(said)


def test_a_client_may_send_another_picture_by_position():
    """The host fills up with the panel's own values, in which no picture was dropped."""
    args = shown_values(source="image", image=b64(png16()))
    assert Depth2ImgRequest.from_mapping(script_values(args)).image.content.mode == "RGB"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"far": 0.6, "near": 0.4}, "Near is 0.4 and Far is 0.6: Near has to be more."),
        ({"source": "Depth map", "image": b"GIF"}, "Depth map: "),
        ({"source": "Depth map", "image": b""}, "Depth map: The file is empty (0 bytes)."),
    ],
)
def test_the_panels_words_have_no_names_of_fields(values, said):
    with pytest.raises(RequestError) as refused:
        Depth2ImgRequest.from_mapping(panel_values(shown_values(**values)))
    assert refused.value.in_panel.startswith(said)
    assert "the given data" not in refused.value.in_panel
    assert "image:" not in refused.value.in_panel


class TestMeaning:
    """Depth of a map of distances."""

    @pytest.mark.parametrize("kind", ["bytes", "array", "picture"])
    def test_distance_becomes_its_inverse(self, kind):
        distances = np.array([[1000, 2000], [4000, 0]], np.uint16)
        file = io.BytesIO()
        Image.fromarray(distances).save(file, "PNG")
        given = {"bytes": file.getvalue(), "array": distances, "picture": Image.fromarray(distances)}[kind]
        request = Depth2ImgRequest.from_mapping({"source": "depth_map", "image": given, "meaning": "distance"})
        scaled = request.image.content.scaled().values
        np.testing.assert_allclose(scaled, [[1.0, 1 / 3], [0.0, 0.0]], atol=1e-3)  # no measurement is the farthest

    def test_of_an_estimate_is_refused(self):
        with pytest.raises(RequestError, match="meaning: got distance, but source is init_image, whose depth is estim"):
            Depth2ImgRequest(meaning="distance")

    def test_left_in_the_panel_it_does_not_count_for_another_source(self):
        values = shown_values(meaning="far away")
        assert Depth2ImgRequest.from_mapping(panel_values(values)).meaning == "nearness"
        values = shown_values(meaning="far away", source="Depth map", image=png16())
        assert Depth2ImgRequest.from_mapping(panel_values(values)).meaning == "distance"


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("far", "0.25", 0.25),
        ("near", " 1 ", 1.0),
        ("invert", "True", True),
        ("invert", "false", False),
        ("only_masked", " crop", "crop"),
        ("estimator", "dpt_large", "dpt_large"),
    ],
)
def test_texts_are_parsed(name, text, value):
    assert field_named(name).parse(text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("far", "far"), ("far", "nan"), ("far", "2"), ("invert", "1"), ("estimator", ""), ("image", "a.png")],
)
def test_texts_that_make_no_sense_are_refused(name, text):
    with pytest.raises(RequestError, match=f"^{name}: got "):
        field_named(name).parse(text)


def test_the_root_of_the_field_tree_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Field("x", "X", None, "")
    assert {type(entry) for entry in FIELDS} == {Flag, Number, Count, Choice, Picture, Interval}


def test_importing_the_request_stays_cheap():
    heavy = ("torch", "cv2", "gradio", "timm", "PIL")
    code = f"import sys, lib_depth2img.request.request; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_region_is_a_map_of_where_depth_counts():
    white = Image.new("L", (4, 2), 0)
    white.paste(255, (2, 0, 4, 2))
    data = png_of(white)
    request = Depth2ImgRequest.from_mapping({"region": b64(data)})
    np.testing.assert_array_equal(request.region.content.values, [[0, 0, 1, 1], [0, 0, 1, 1]])
    assert request.region.sha256 == hashlib.sha256(data).hexdigest()


def test_a_region_of_transparency_is_taken_as_the_host_takes_masks():
    clear = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (0, 0, 1, 2))
    request = Depth2ImgRequest.from_mapping({"region": b64(png_of(clear))})
    np.testing.assert_array_equal(request.region.content.values[0], [1, 0, 0, 0])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"strength": 3}, "strength: got 3, expected a number from 0 to 2."),
        ({"start": -1}, "start: got -1, expected a number from 0 to 1."),
        ({"start": 0.6, "end": 0.5}, "start: got 0.6, expected at most end, which is 0.5."),
        ({"mode": "both"}, "mode: got 'both', expected one of balanced, prompt, depth."),
        ({"region": "../../etc/passwd"}, "region: got '../../etc/passwd', expected base64 of the bytes of a file"),
        ({"region": base64.b64encode(b"no picture").decode()}, "region: "),
        ({"outside_mask": "yes"}, "outside_mask: got 'yes', expected true or false."),
    ],
)
def test_a_bad_control_is_named_with_value_and_range(fields, said):
    with pytest.raises(RequestError) as refused:
        Depth2ImgRequest.from_mapping(fields)
    assert str(refused.value).startswith(said)


def test_the_control_of_a_request():
    request = Depth2ImgRequest(strength=0.5, start=0.1, end=0.7, mode="depth")
    assert request.control(None) == Control(0.5, 0.1, 0.7, "depth")
    assert DEFAULTS.control(None).is_identity


# --- the range -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", ["0.5 to 20", "0.5:20", "[0.5, 20]", " 0.5,2e1 "])
def test_a_range_is_understood_as_people_write_it(shown):
    assert panel_values(shown_values(range=shown))["range"] == (0.5, 20.0)


@pytest.mark.parametrize("shown", ["", "  ", None])
def test_an_empty_range_is_each_pictures_own(shown):
    assert Depth2ImgRequest.from_mapping(panel_values(shown_values(range=shown))).extent is None


def test_a_range_of_distances_is_one_of_nearness():
    image = b64(png16())
    asked = {"source": "depth_map", "image": image, "range": [0.5, 20]}
    assert Depth2ImgRequest.from_mapping(asked).extent == (0.5, 20.0)
    assert Depth2ImgRequest.from_mapping(asked | {"meaning": "distance"}).extent == (1 / 20, 1 / 0.5)
    with pytest.raises(RequestError, match="range: got 0 to 20, expected distances above 0"):
        Depth2ImgRequest.from_mapping(asked | {"meaning": "distance", "range": [0, 20]})


@pytest.mark.parametrize(
    "value",
    [[20, 0.5], [1, 1], [1], [1, 2, 3], 5, "near", [0, float("inf")], [float("nan"), 1], [True, 2], {}, ["0", "1"]],
)
def test_a_range_that_is_none_is_refused(value):
    with pytest.raises(RequestError, match=r"^range: got .*, expected two numbers, the lower one first\.$"):
        Depth2ImgRequest.from_mapping({"range": value})


def test_range_and_clip_are_not_both_taken():
    with pytest.raises(RequestError, match=r"^clip: got 0\.1, but range says"):
        Depth2ImgRequest(range=(0, 1), clip=0.1)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("near", 7, "Near: got 7, expected a number from 0 to 1."),
        ("strength", "much", "Depth strength: got 'much', expected a number from 0 to 2."),
    ],
)
def test_in_the_panel_a_value_out_of_range_is_told_by_its_label(name: str, value: object, said: str):
    with pytest.raises(RequestError, match=f"^{name}: ") as refused:
        field_named(name).check(value)
    assert refused.value.in_panel == said
