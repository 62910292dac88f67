"""The preview shows what a generation will use: the same picture goes to the estimator, which looks at it once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_depth2img.request.fields import field_named
from lib_depth2img.request.panel import PANEL_ORDER
from lib_depth2img.webui import host_services as panel_services
from lib_depth2img.webui.ui import preview as preview_ui
from tests.webui.hooks.conftest import Brightness, img2img
from tests.webui.hooks.stand_in import Host

BACKGROUND = "#4080c0"


def transparent(mode: str) -> Image.Image:
    """A ramp of opacity over noise; for "turned" a photograph whose camera was held sideways."""
    random = np.random.default_rng(5)
    rgba = random.integers(0, 256, (64, 96, 4), np.uint8)
    rgba[..., 3] = np.linspace(0, 255, 96).astype(np.uint8)
    picture = Image.fromarray(rgba)
    if mode == "turned":
        picture = picture.convert("RGB")
        picture.getexif()[0x0112] = 6
        return picture
    return picture.convert(mode)


def from_panel(picture: Any) -> list[Any]:
    """What the panel's click sends: the fields at their defaults, then the picture of the open tab."""
    values = [None if name == "picture" else field_named(name).panel_default for name in PANEL_ORDER]
    return [*values, picture]


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "LA", "P", "turned"])
@pytest.mark.parametrize("drawn_on", [False, True])
def test_a_generation_after_the_preview_estimates_nothing_anew(
    host: Host, network: Brightness, monkeypatch: pytest.MonkeyPatch, mode: str, drawn_on: bool
) -> None:
    from lib_depth2img.webui import estimators

    monkeypatch.setattr(panel_services, "ESTIMATORS", estimators.ESTIMATORS)
    host.modules.shared.opts.data["img2img_background_color"] = BACKGROUND
    picture = transparent(mode)
    handlers = preview_ui._Handlers(panel_services.HostServices())
    _, shown, _ = handlers.look(*from_panel({"image": picture, "mask": None} if drawn_on else picture))
    assert "depth2img-pictures" in shown
    assert len(network.shapes) == 1
    # As the host takes it from the same widget: modules/img2img.py:188, then processing.py:1677.
    host.generate(img2img(host, host.modules.images.fix_image(picture)))
    assert len(network.shapes) == 1


def test_the_background_is_the_hosts_setting(host: Host) -> None:
    host.modules.shared.opts.data["img2img_background_color"] = BACKGROUND
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert panel_services.HostServices().init_picture(clear).getpixel((0, 0)) == (0x40, 0x80, 0xC0)
