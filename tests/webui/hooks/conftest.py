"""The host's stand-in with a small depth model in it, and this extension's script hooked in."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from lib_depth2img.request.fields import FIELDS
from lib_depth2img.request.kinds import Choice
from lib_depth2img.webui import estimators
from tests import small_checkpoint as small
from tests.webui.hooks.stand_in import Host, Img2Img, ScriptRunner, Txt2Img


class Brightness(nn.Module):
    """A depth network whose nearness is the picture's brightness: what it was shown can be read off the result."""

    def __init__(self) -> None:
        super().__init__()
        self.unit = nn.Parameter(torch.ones(()), requires_grad=False)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x.shape))
        return (x.mean(1) + 1) * self.unit


@pytest.fixture(scope="session")
def _depth_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    small.register_clip(tmp_path_factory.mktemp("clip"))
    return small.build_depth_model(Brightness())


@pytest.fixture(scope="session")
def _plain_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    small.register_clip(tmp_path_factory.mktemp("clip"))
    return small.build(small.plain_config())


@pytest.fixture
def network(_depth_model: Any) -> Brightness:
    found: Brightness = _depth_model.depth_model.model
    found.shapes.clear()
    return found


@pytest.fixture
def plain_model(_plain_model: Any) -> Any:
    return _plain_model


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _depth_model: Any, network: Brightness) -> Iterator[Host]:
    """A host with the depth model loaded and the extension's script on its img2img tab, at the panel's API defaults."""
    monkeypatch.setattr(estimators, "ESTIMATORS", estimators.Estimators())
    with Host(tmp_path, _depth_model).installed(monkeypatch) as running:
        monkeypatch.delitem(sys.modules, "lib_depth2img.webui.hooks.script", raising=False)
        module = importlib.import_module("lib_depth2img.webui.hooks.script")
        monkeypatch.setattr(module, "ESTIMATORS", estimators.ESTIMATORS)
        monkeypatch.setattr("lib_depth2img.webui.hooks.override.ESTIMATORS", estimators.ESTIMATORS)
        script = module.Depth2ImgScript()
        script.args_from, script.args_to = 1, 1 + len(defaults())
        running.runner = ScriptRunner([script], [])
        yield running
        assert running.runner.swallowed == []
    monkeypatch.delitem(sys.modules, "lib_depth2img.webui.hooks.script", raising=False)


def defaults() -> list[Any]:
    """What the host takes from the widgets when an API call does not mention the script (api/api.py:333-341)."""
    shown = [entry.label_of(entry.default) if isinstance(entry, Choice) else entry.default for entry in FIELDS]
    return [*shown, None]


def img2img(host: Host, picture: Image.Image | list[Image.Image], *, request: Any = None, **fields: Any) -> Img2Img:
    """A ``p`` as the API makes it (api/api.py:536-548): the request's object goes to the place of the first widget."""
    pictures = picture if isinstance(picture, list) else [picture]
    p = Img2Img(host, init_images=pictures, is_api=True, **fields)
    arguments = defaults()
    if request is not None:
        arguments[0] = request
    p.script_args = (p.script_args[0], *arguments)
    return p


def txt2img(host: Host, **fields: Any) -> Txt2Img:
    """A ``p`` of the txt2img tab, where this extension has no script."""
    p = Txt2Img(host, **fields)
    p.scripts = ScriptRunner([], [])
    return p


def halves(size: tuple[int, int], edge: float = 0.5) -> Image.Image:
    """Black left of ``edge``, white right of it."""
    picture = Image.new("L", size)
    picture.paste(255, (round(size[0] * edge), 0, *size))
    return picture


def selectable(title: str) -> Any:
    """A selectable script (scr:746-760)."""
    return SimpleNamespace(title=lambda: title)
