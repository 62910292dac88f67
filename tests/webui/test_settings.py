"""The settings page, against a stand-in for the host's options."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace

import gradio as gr
import pytest

from lib_depth2img.devices import PRECISIONS
from lib_depth2img.webui import settings
from lib_depth2img.webui.settings import Settings, current


class OptionInfo:
    """modules/options.py:14-55."""

    def __init__(self, default=None, label="", component=None, component_args=None, section=None, category_id=None):
        self.default, self.label, self.section, self.category_id = default, label, section, category_id
        self.component, self.component_args, self.comment_after = component, component_args, ""

    def info(self, info):
        self.comment_after += info
        return self


class Options:
    """modules/options.py:83-110 and 260-270: an attribute is the stored value, else the default."""

    def __init__(self):
        self.data, self.data_labels = {}, {}

    def add_option(self, key, info):
        self.data_labels[key] = info
        self.data.setdefault(key, info.default)

    def __getattr__(self, name):
        if name in self.data:
            return self.data[name]
        raise AttributeError(name)


@pytest.fixture
def opts(monkeypatch):
    package = types.ModuleType("modules")
    flags = SimpleNamespace(hide_ui_dir_config=False)
    package.shared = SimpleNamespace(opts=Options(), OptionInfo=OptionInfo, cmd_opts=flags)
    monkeypatch.setitem(sys.modules, "modules", package)
    return package.shared.opts


def test_every_setting_is_on_the_page_once(opts):
    settings.register()
    settings.register()
    assert list(opts.data_labels) == [f"depth2img_{name}" for name in Settings.__dataclass_fields__]
    assert {info.section for info in opts.data_labels.values()} == {("depth2img", "Depth2Img")}
    assert {info.category_id for info in opts.data_labels.values()} == {"sd"}
    assert all(info.label and info.comment_after for info in opts.data_labels.values())


def test_the_pages_defaults_are_the_settings(opts):
    settings.register()
    assert current() == Settings()


def test_every_widget_can_be_built_with_its_default(opts):
    settings.register()
    with gr.Blocks():
        for info in opts.data_labels.values():
            widget = info.component(value=info.default, label=info.label, **info.component_args)
            assert widget.value == info.default


def test_precisions_are_those_of_the_estimator(opts):
    settings.register()
    assert tuple(opts.data_labels["depth2img_precision"].component_args["choices"]) == PRECISIONS


@pytest.mark.parametrize("hidden", [True, False])
def test_folders_are_hidden_where_the_host_hides_them(opts, hidden):
    sys.modules["modules"].shared.cmd_opts.hide_ui_dir_config = hidden
    settings.register()
    assert opts.data_labels["depth2img_maps_folder"].component_args == {"visible": not hidden}


def test_unregistering_takes_the_page_away_and_keeps_the_choices(opts):
    settings.register()
    opts.data["depth2img_device"] = "cpu"
    settings.unregister()
    settings.unregister()
    assert opts.data_labels == {}
    assert current().device == "cpu"


def test_what_the_user_chose_is_read(opts):
    opts.data.update(depth2img_estimator="dpt_large", depth2img_keep_loaded=False, depth2img_cache_megabytes=64.0)
    assert current() == Settings(estimator="dpt_large", keep_loaded=False, cache_megabytes=64)


def test_values_of_another_kind_are_not_taken(opts):
    opts.data.update(depth2img_estimator=None, depth2img_keep_loaded="yes", depth2img_cache_megabytes=True)
    assert current() == Settings()
