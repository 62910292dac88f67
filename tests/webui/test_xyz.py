"""The X/Y/Z axes, against a stand-in for the host's plot."""

from __future__ import annotations

import copy
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest

from lib_depth2img.errors import EstimatorError, RequestError
from lib_depth2img.estimators.presets import PRESETS
from lib_depth2img.request.fields import FIELDS
from lib_depth2img.request.request import Depth2ImgRequest
from lib_depth2img.webui import xyz
from lib_depth2img.webui.ui.services import EstimatorStatus


class AxisOption:
    """scripts/xyz_grid.py:196-208."""

    def __init__(self, label, type, apply, format_value=None, confirm=None, cost=0.0, choices=None, prepare=None):  # noqa: A002
        self.label, self.type, self.apply, self.confirm, self.choices = label, type, apply, confirm, choices


@pytest.fixture
def plot(monkeypatch):
    """scripts.py:443 (scripts_data) with xyz_grid.py:218-280 (axis_options) in it."""
    module = SimpleNamespace(axis_options=[AxisOption("Nothing", str, None)], AxisOptionImg2Img=AxisOption)
    data = SimpleNamespace(script_class=type("Script", (), {"__module__": "xyz_grid.py"}), module=module)
    other = SimpleNamespace(script_class=type("Script", (), {"__module__": "loopback.py"}), module=None)
    host_scripts = types.ModuleType("modules.scripts")
    host_scripts.scripts_data = [other, data]
    package = types.ModuleType("modules")
    package.scripts = host_scripts
    monkeypatch.setitem(sys.modules, "modules", package)
    monkeypatch.setitem(sys.modules, "modules.scripts", host_scripts)
    return module


def axes() -> dict[str, AxisOption]:
    options = xyz.axis_options(AxisOption)
    return {entry.name: option for entry, option in zip([e for e in FIELDS if e.axis], options, strict=True)}


def labels(plot) -> list[str]:
    return [option.label for option in plot.axis_options]


def test_registering_twice_lists_every_axis_once(plot):
    xyz.register()
    xyz.register()
    assert labels(plot)[0] == "Nothing"
    assert len(labels(plot)) == 1 + len(axes())
    assert len(set(labels(plot))) == len(labels(plot))


def test_unregistering_leaves_the_hosts_axes(plot):
    xyz.register()
    xyz.unregister()
    assert labels(plot) == ["Nothing"]


def test_a_host_without_the_plot_is_left_alone(plot):
    sys.modules["modules.scripts"].scripts_data = []
    xyz.register()
    assert labels(plot) == ["Nothing"]


def cell(p: SimpleNamespace, panel: Depth2ImgRequest) -> Depth2ImgRequest:
    """What a cell asks for on top of the panel."""
    return panel.replace(**xyz.cell_values(p))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("far", 0.25, 0.25),
        ("near", 0.75, 0.75),
        ("gamma", 2.0, 2.0),
        ("blur", 3.0, 3.0),
        ("invert", "True", True),
        ("invert", "False", False),
        ("only_masked", "crop", "crop"),
        ("from_noise", "True", True),
        ("estimator", "dpt_large", "dpt_large"),
    ],
)
def test_an_axis_sets_its_field(name, value, expected):
    p = SimpleNamespace()
    axes()[name].apply(p, value, [value])
    assert cell(p, Depth2ImgRequest()) == Depth2ImgRequest(**{name: expected})


def test_two_axes_go_together_and_the_rest_is_the_panels():
    p = SimpleNamespace()
    axes()["far"].apply(p, 0.4, [])
    axes()["near"].apply(p, 0.6, [])
    assert cell(p, Depth2ImgRequest(near=0.3, blur=2.0)) == Depth2ImgRequest(far=0.4, near=0.6, blur=2.0)


def test_cells_do_not_leak_into_each_other():
    """The host copies one p per cell, shallowly (xyz_grid.py:711)."""
    p = SimpleNamespace()
    axes()["blur"].apply(p, 1.0, [])
    first, second = copy.copy(p), copy.copy(p)
    axes()["far"].apply(first, 0.5, [])
    assert cell(second, Depth2ImgRequest()) == Depth2ImgRequest(blur=1.0)
    assert cell(p, Depth2ImgRequest()) == Depth2ImgRequest(blur=1.0)
    assert cell(first, Depth2ImgRequest()) == Depth2ImgRequest(blur=1.0, far=0.5)


def test_without_a_plot_the_request_is_as_it_was():
    assert cell(SimpleNamespace(), Depth2ImgRequest(far=0.2)) == Depth2ImgRequest(far=0.2)


@pytest.mark.parametrize(
    ("name", "value"), [("near", 1.2), ("gamma", 0.0), ("far", float("nan")), ("invert", "perhaps")]
)
def test_bad_values_are_refused_before_the_first_cell(name, value):
    with pytest.raises(RequestError, match=f"^{name}: got "):
        axes()[name].confirm(None, [value])


def test_a_range_of_the_plot_may_end_a_rounding_error_above_its_end():
    values = np.arange(0.2, 1.0 + 0.1, 0.1).tolist()  # "0.2-1 (+0.1)", as xyz_grid.py:541 makes it
    assert 1.0 < max(values) < 1.001
    axes()["near"].confirm(None, values)


@pytest.fixture
def installed(monkeypatch) -> None:
    """Of the estimators with weights of their own one is there; and no depth model is loaded yet."""
    statuses = [EstimatorStatus("checkpoint", ready=False, note="No depth model is loaded.")]
    statuses += [EstimatorStatus(name, name == "midas_v21", "note", f"{name} is not installed.") for name in PRESETS]
    monkeypatch.setattr(xyz.ESTIMATORS, "statuses", lambda: statuses)


def test_an_estimator_that_is_not_there_is_refused_before_the_first_cell(installed):
    axes()["estimator"].confirm(None, ["checkpoint", "midas_v21"])
    with pytest.raises(EstimatorError, match=r"^dpt_large is not installed\.$"):
        axes()["estimator"].confirm(None, ["midas_v21", "dpt_large"])


def test_choices_are_offered_where_there_are_some(installed):
    assert axes()["estimator"].choices() == ["checkpoint", "midas_v21"]
    assert axes()["invert"].choices() == ["True", "False"]
    assert axes()["far"].choices is None
    assert axes()["far"].type is float
