"""What is said of Forge in hosts/forge.py, on a stand-in of the modules it asks; the rest is seen in a real one."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT
from lib_depth2img.errors import RequestError
from lib_depth2img.webui.hosts import Point, Selected
from lib_depth2img.webui.hosts.forge import Forge
from lib_depth2img.webui.hosts.known import is_forge
from tests.webui.hooks.stand_in import Patches

FILES = ("modules_forge/__init__.py", "backend/diffusion_engine/sd20.py", "huggingface_guess/model_list.py")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that modules are found in."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("modules_forge", "backend", "huggingface_guess"):
            del sys.modules[name]


def lay(path: Path, *files: str) -> None:
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).touch()


def test_forge_is_known_by_its_engine_for_stable_diffusion_2(path: Path) -> None:
    assert not is_forge()
    lay(path, *FILES)
    assert is_forge()


@pytest.mark.parametrize("lacking", FILES)
def test_its_children_are_not_forge(path: Path, lacking: str) -> None:
    lay(path, *(file for file in FILES if file != lacking))
    assert not is_forge()


def pretend(monkeypatch: pytest.MonkeyPatch, **modules: types.ModuleType) -> None:
    """Modules by name, ``__`` for the dot; each is an attribute of its package."""
    for name, module in modules.items():
        package, _, child = name.rpartition("__")
        if package:
            setattr(modules[package], child, module)
        monkeypatch.setitem(sys.modules, name.replace("__", "."), module)


@pytest.fixture
def parameters(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """modules/sd_models.py:398, ``model_data.forge_loading_parameters``."""
    found: dict[str, Any] = {}
    sd_models = types.ModuleType("modules.sd_models")
    vars(sd_models)["model_data"] = SimpleNamespace(forge_loading_parameters=found)
    pretend(monkeypatch, modules=types.ModuleType("modules"), modules__sd_models=sd_models)
    return found


def test_what_is_selected_is_known_before_it_is_loaded(parameters: dict[str, Any], tmp_path: Path) -> None:
    host = Forge()
    assert host.selected() == Selected(None, is_depth_model=False)
    parameters["checkpoint_info"] = SimpleNamespace(name="small.safetensors", filename=str(SMALL_CHECKPOINT))
    assert host.selected() == Selected("small.safetensors", is_depth_model=True)
    assert host.checkpoint_file() == SMALL_CHECKPOINT
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\xff" * 100)
    parameters["checkpoint_info"] = SimpleNamespace(name=broken.name, filename=str(broken))
    assert host.selected() == Selected("broken.safetensors", is_depth_model=False)


def test_a_canvas_is_known_by_the_html_before_its_picture() -> None:
    """modules_forge/forge_canvas/canvas.py:155-157: HTML with the elem_id, the strokes, the picture."""
    host = Forge()
    html, image, text = (type(name, (), {})() for name in ("HTML", "Image", "LogicalImage"))
    told = []
    for name in ("img2img_sketch", "of_another_extension"):
        told += [
            host.init_image_of(html, {"elem_id": name}),
            host.init_image_of(text, {"elem_id": "uuid_1", "elem_classes": ["logical_image_foreground"]}),
            host.init_image_of(text, {"elem_id": "uuid_1", "elem_classes": ["logical_image_background"]}),
        ]
    assert told == [None, None, "img2img_sketch", None, None, None]
    assert host.init_image_of(image, {"elem_id": "img_inpaint_base"}) == "img_inpaint_base"


class Sampling:
    """backend/sampling/sampling_function.py:327, called as in modules/sd_samplers_cfg_denoiser.py."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached: Any = "nothing"
        denoiser = types.ModuleType("modules.sd_samplers_cfg_denoiser")
        self.module = vars(denoiser)
        self.module["sampling_function"] = self.sampling_function
        guess = types.ModuleType("huggingface_guess.model_list")
        self.models: list[Any] = []
        sd2 = type("SD20", (), {"unet_extra_config": {}, "huggingface_repo": "sd2"})
        vars(guess).update(models=self.models, SD20=sd2)
        pretend(
            monkeypatch,
            modules=types.ModuleType("modules"),
            modules__patches=Patches(),
            modules__sd_samplers_cfg_denoiser=denoiser,
            huggingface_guess=types.ModuleType("huggingface_guess"),
            huggingface_guess__model_list=guess,
        )

    def sampling_function(self, _denoiser: Any, denoiser_params: Any, cond_scale: float) -> float:
        self.reached = denoiser_params.image_cond
        return cond_scale

    def sample(self, channels: int, image_cond: Any) -> Any:
        unet = SimpleNamespace(
            model=SimpleNamespace(diffusion_model=SimpleNamespace(config={"in_channels": channels})),
            extra_concat_condition=None,
        )
        model = SimpleNamespace(forge_objects=SimpleNamespace(unet=unet))
        denoiser = SimpleNamespace(inner_model=SimpleNamespace(inner_model=model))
        params = SimpleNamespace(x=torch.zeros(2, 4, 8, 8), image_cond=image_cond)
        return self.module["sampling_function"](denoiser, denoiser_params=params, cond_scale=7.0)


@pytest.fixture
def sampling(monkeypatch: pytest.MonkeyPatch) -> Sampling:
    return Sampling(monkeypatch)


@pytest.fixture
def host(sampling: Sampling) -> Iterator[Forge]:
    """Forge with what this extension puts into it."""
    assert sampling.models == []
    prepared = Forge()
    prepared.prepare()
    yield prepared
    prepared.undo()


@pytest.mark.usefixtures("host")
def test_depth_that_does_not_fit_is_an_error_and_not_dropped(sampling: Sampling) -> None:
    depth = torch.zeros(2, 1, 8, 8)
    assert sampling.sample(5, depth) == 7.0
    assert sampling.reached is depth
    for wrong in (torch.zeros(1, 1, 8, 8), torch.zeros(2, 1, 8, 9), torch.zeros(2, 5, 8, 8), None):
        with pytest.raises(RequestError, match=r"expected \(2, 1, 8, 8\)"):
            sampling.sample(5, wrong)


@pytest.mark.usefixtures("host")
def test_a_refiner_without_depth_gets_none(sampling: Sampling) -> None:
    sampling.sample(4, torch.zeros(2, 1, 8, 8))
    assert sampling.reached is None
    inpainting = torch.zeros(2, 5, 8, 8)
    sampling.sample(9, inpainting)
    assert sampling.reached is inpainting


def test_everything_is_taken_back(sampling: Sampling) -> None:
    theirs = sampling.module["sampling_function"]
    host = Forge()
    for _ in range(2):
        host.prepare()
    assert len(sampling.models) == 1
    assert sampling.module["sampling_function"] != theirs
    host.undo()
    assert sampling.models == []
    assert sampling.module["sampling_function"] == theirs


def test_what_belongs_to_ldm_is_left_alone() -> None:
    """Nothing of the host is imported for it: there is nothing here to import."""
    for point in (Point.DEPTH_STAGE, Point.CHECKPOINT_YAML):
        Forge().replace(point, lambda _: pytest.fail("there is no such place"))
