"""What is said of Forge and reForge in hosts/, on a stand-in of the modules they ask; the rest is seen in real ones."""

from __future__ import annotations

import contextlib
import json
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT, SMALL_CONFIG
from lib_depth2img.errors import CheckpointError, RequestError
from lib_depth2img.webui import depth_stage
from lib_depth2img.webui.hosts import Point, Selected, forge_small_model
from lib_depth2img.webui.hosts.a1111 import A1111
from lib_depth2img.webui.hosts.forge import Forge
from lib_depth2img.webui.hosts.forge_family import ForgeFamily
from lib_depth2img.webui.hosts.known import is_forge, is_known, is_reforge
from lib_depth2img.webui.hosts.reforge import ReForge
from tests import small_checkpoint as small
from tests.pretend import pretended
from tests.webui.hooks.stand_in import Patches

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ldm.models.autoencoder import AutoencoderKL
    from ldm.models.diffusion.ddpm import LatentDepth2ImageDiffusion

MEMORY = "backend/memory_management.py"
FORGE = ("modules_forge/__init__.py", "backend/diffusion_engine/sd20.py", "huggingface_guess/model_list.py", MEMORY)
REFORGE = ("modules_forge/forge_loader.py", "ldm_patched/modules/text_encoders/sd2_clip.py")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that modules are found in."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("modules_forge", "backend", "huggingface_guess", "ldm_patched"):
            del sys.modules[name]


def lay(path: Path, *files: str) -> None:
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text("import torch\n\n\ndef cleanup_models():\n" if file == MEMORY else "")


def told(path: Path) -> tuple[bool, bool, bool]:
    return is_known(), is_forge(), is_reforge()


def test_v1_10_1_is_known_by_its_depth_model(path: Path) -> None:
    assert told(path) == (True, False, False)


def test_forge_is_known_by_its_engine_for_stable_diffusion_2(path: Path) -> None:
    lay(path, *FORGE)
    assert told(path) == (True, True, False)


@pytest.mark.parametrize("without", FORGE)
def test_a_child_of_forge_that_lacks_one_of_its_parts_is_not_forge(path: Path, without: str) -> None:
    lay(path, *(file for file in FORGE if file != without))
    assert not is_forge()


def test_a_child_of_forge_that_manages_memory_in_another_way_is_left_alone(path: Path) -> None:
    lay(path, *FORGE)
    (path / MEMORY).write_text("def load_models_gpu(models):\n    # as cleanup_models() did\n")
    assert told(path) == (False, False, False)


def test_reforge_is_known_by_what_forge_was_made_of_and_the_depth_model(path: Path) -> None:
    lay(path, *REFORGE)
    assert told(path) == (True, False, True)


def test_forge_classic_has_an_ldm_without_the_depth_model(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(path, *REFORGE)
    monkeypatch.setitem(sys.modules, "ldm.models.diffusion.ddpm", types.ModuleType("ldm.models.diffusion.ddpm"))
    assert told(path) == (False, False, False)


@pytest.mark.parametrize("files", [FORGE, REFORGE])
def test_children_that_lack_something_are_left_alone(path: Path, files: tuple[str, ...]) -> None:
    lay(path, "modules_forge/__init__.py", *files[:-1])
    assert told(path) == (False, False, False)


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


@pytest.mark.parametrize("damaged", [False, True])
def test_a_damaged_checkpoint_is_told_when_it_is_loaded(
    parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    """backend/loader.py:442-451: ``split_state_dict`` hands the tensors of a file to this, and goes on with it."""
    loader = types.ModuleType("backend.loader")
    vars(loader)["preprocess_state_dict"] = lambda state_dict: state_dict | {"by the host": 0}
    pretend(monkeypatch, backend=types.ModuleType("backend"), backend__loader=loader)
    monkeypatch.setitem(sys.modules, "modules.patches", Patches())
    parameters["checkpoint_info"] = SimpleNamespace(name=SMALL_CHECKPOINT.name, filename=str(SMALL_CHECKPOINT))
    host = Forge()
    monkeypatch.setattr(depth_stage, "host", host)
    monkeypatch.setattr(depth_stage, "_damaged", {})
    depth_stage.hook()
    state_dict = load_file(SMALL_CHECKPOINT)
    if damaged:
        state_dict["model.diffusion_model.out.2.weight"].view(-1)[0] = float("nan")
    assert set(vars(loader)["preprocess_state_dict"](state_dict)) == {*state_dict, "by the host"}
    with pytest.raises(CheckpointError, match="not finite") if damaged else contextlib.nullcontext():
        depth_stage.refuse_damaged()
    host.undo()
    assert vars(loader)["preprocess_state_dict"].__name__ == "<lambda>"


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


class Inside:
    """What both hosts have for sampling and recognition: the callback (sd_samplers_cfg_denoiser.py) and the kinds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[Any] = []
        denoiser = types.ModuleType("modules.sd_samplers_cfg_denoiser")
        self.denoiser = vars(denoiser)
        self.denoiser["cfg_denoiser_callback"] = self.told.append
        self.kinds: list[Any] = []
        self.loader = types.ModuleType("modules_forge.forge_loader")
        vars(self.loader)["VAE"] = self.vae
        self.main_thread = types.ModuleType("modules_forge.main_thread")
        vars(self.main_thread)["run_and_wait_result"] = self.run_and_wait_result
        guess, supported = (
            types.ModuleType(name) for name in ("huggingface_guess.model_list", "ldm_patched.modules.supported_models")
        )
        sd2 = type("SD20", (), {"unet_extra_config": {}, "huggingface_repo": "sd2"})
        for module in (guess, supported):
            vars(module).update(models=self.kinds, SD20=sd2)
        pretend(
            monkeypatch,
            modules=types.ModuleType("modules"),
            modules__patches=Patches(),
            modules__sd_samplers_cfg_denoiser=denoiser,
            huggingface_guess=types.ModuleType("huggingface_guess"),
            huggingface_guess__model_list=guess,
            ldm_patched=types.ModuleType("ldm_patched"),
            ldm_patched__modules=types.ModuleType("ldm_patched.modules"),
            ldm_patched__modules__supported_models=supported,
            modules_forge=types.ModuleType("modules_forge"),
            modules_forge__forge_loader=self.loader,
            modules_forge__main_thread=self.main_thread,
        )

    @staticmethod
    def vae(sd: Any = None, config: Any = None, metadata: Any = None) -> Any:
        return config

    @staticmethod
    def run_and_wait_result(function: Any, *args: Any, **keywords: Any) -> Any:
        """modules_forge/main_thread.py:28-57 of reForge."""
        with contextlib.suppress(Exception):
            return function(*args, **keywords)

    def replaceable(self) -> list[Any]:
        return [
            self.denoiser["cfg_denoiser_callback"],
            vars(self.loader)["VAE"],
            vars(self.main_thread)["run_and_wait_result"],
            LatentDepth2ImageDiffusion.__init__,
            list(self.kinds),
        ]

    def sample(self, channels: int, image_cond: Any, funcname: str = "sample_euler") -> Any:
        """What stands beside the latent once the callbacks have been called; ``funcname``: the sampler's."""
        unet = SimpleNamespace(
            model=SimpleNamespace(diffusion_model=SimpleNamespace(in_channels=channels)), extra_concat_condition=None
        )
        model = SimpleNamespace(forge_objects=SimpleNamespace(unet=unet))
        denoiser = SimpleNamespace(
            inner_model=SimpleNamespace(inner_model=model), sampler=SimpleNamespace(funcname=funcname)
        )
        params = SimpleNamespace(denoiser=denoiser, x=torch.zeros(2, 4, 8, 8), image_cond=image_cond)
        self.denoiser["cfg_denoiser_callback"](params)
        assert self.told.pop() is params, "other extensions are told"
        return params.image_cond


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Inside:
    return Inside(monkeypatch)


@pytest.fixture(params=[Forge, ReForge])
def host(request: pytest.FixtureRequest, inside: Inside) -> Iterator[ForgeFamily]:
    """Each with what this extension puts into it."""
    before = inside.replaceable()
    prepared: ForgeFamily = request.param()
    for _ in range(2):
        prepared.prepare()
    assert len(inside.kinds) == 1
    yield prepared
    prepared.undo()
    assert inside.replaceable() == before


@pytest.mark.usefixtures("host")
def test_depth_that_does_not_fit_is_an_error_and_not_dropped(inside: Inside) -> None:
    depth = torch.zeros(2, 1, 8, 8)
    assert inside.sample(5, depth) is depth
    for wrong in (torch.zeros(1, 1, 8, 8), torch.zeros(2, 1, 8, 9), torch.zeros(2, 5, 8, 8), None):
        with pytest.raises(RequestError, match=r"expected \(2, 1, 8, 8\)"):
            inside.sample(5, wrong)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    "funcname", ["sample_euler_dy", "sample_euler_smea_dy", "sample_dpmpp_2s_ancestral_cfg_pp_intern"]
)
def test_samplers_that_look_at_another_size_get_the_depth_at_it(inside: Inside, funcname: str) -> None:
    """sd_samplers_kdiffusion_smea.py of reForge: half the latent, or a quarter more of it."""
    rows = torch.linspace(-1, 1, 16).reshape(1, 1, 16, 1)
    fitted = inside.sample(5, rows.expand(2, 1, 16, 16), funcname)
    assert fitted.shape == (2, 1, 8, 8)
    assert torch.allclose(fitted[0, 0, :, 0], rows.reshape(8, 2).mean(1))
    for wrong in (torch.zeros(1, 1, 16, 16), torch.zeros(2, 5, 16, 16), None):
        with pytest.raises(RequestError, match=r"expected \(2, 1, 8, 8\)"):
            inside.sample(5, wrong, funcname)


@pytest.mark.usefixtures("host")
def test_a_refiner_without_depth_gets_none(inside: Inside) -> None:
    assert inside.sample(4, torch.zeros(2, 1, 8, 8)) is None
    inpainting = torch.zeros(2, 5, 8, 8)
    assert inside.sample(9, inpainting) is inpainting


def test_everything_is_taken_back(inside: Inside, host: ForgeFamily) -> None:
    """Also said by the fixture, for every test of it."""
    changed = inside.replaceable()
    host.undo()
    assert all(now != then for now, then in zip(inside.replaceable()[::4], changed[::4], strict=True))


def test_networks_are_the_memory_managers(monkeypatch: pytest.MonkeyPatch, host: ForgeFamily) -> None:
    """backend/memory_management.py:588 and ldm_patched/modules/model_management.py:618, and their ``ModelPatcher``."""
    brought: list[Any] = []
    memory, patcher = types.ModuleType(host.memory), types.ModuleType(host.patcher)

    def load_models_gpu(models: list[Any], *, force_full_load: bool = False) -> None:
        """Forge has no such word; it takes networks that are not of its own layers whole (memory_management.py:488)."""
        assert force_full_load == isinstance(host, ReForge)
        brought.extend(models)

    vars(memory)["load_models_gpu"] = load_models_gpu
    vars(patcher)["ModelPatcher"] = lambda network, **devices: SimpleNamespace(network=network, **devices)
    monkeypatch.setitem(sys.modules, host.memory, memory)
    monkeypatch.setitem(sys.modules, host.patcher, patcher)
    network, device = torch.nn.Linear(1, 1), torch.device("cuda")
    assert host.manage is not None
    with pretended(), host.manage(network, device)():
        assert network.weight.device.type == "cuda", "also where the manager left it"
    assert [(each.network, each.load_device, each.offload_device.type) for each in brought] == [
        (network, device, "cpu")
    ]


def test_16_bit_maps_are_saved_without_infotext_in_their_pixels(
    monkeypatch: pytest.MonkeyPatch, host: ForgeFamily
) -> None:
    options = SimpleNamespace(data={host.stealth: "RGB"})
    seen = []
    monkeypatch.setattr(host, "options", lambda: options)
    monkeypatch.setattr(A1111, "save_image", lambda *_, **__: seen.append(options.data[host.stealth]))
    host.save_image(Image.new("I;16", (8, 8)), "folder")
    assert seen == ["None"]
    assert options.data == {host.stealth: "RGB"}
    options.data.clear()
    host.save_image(Image.new("I;16", (8, 8)), "folder")
    assert options.data == {}


@pytest.mark.parametrize(
    ("kind", "points"),
    [(Forge, [Point.DEPTH_STAGE, Point.CHECKPOINT_YAML]), (ReForge, [Point.DEPTH_STAGE, Point.CHECKPOINT_TENSORS])],
)
def test_what_is_not_there_is_left_alone(kind: type[ForgeFamily], points: list[Point]) -> None:
    """Nothing of the host is imported for it: there is nothing here to import."""
    for point in points:
        kind().replace(point, lambda _: pytest.fail("there is no such place"))


def test_the_small_checkpoint_is_described_by_the_sizes_of_its_own_files() -> None:
    """In huggingface_guess' words and diffusers', for which nothing reads a yaml."""
    params = OmegaConf.load(SMALL_CONFIG).model.params
    unet, vae = params.unet_config.params, params.first_stage_config.params
    for name in ("context_dim", "model_channels", "in_channels", "use_linear_in_transformer"):
        assert forge_small_model.UNET[name] == unet[name]
    kind = forge_small_model.small_model(SimpleNamespace(SD20=type("SD20", (), {"unet_extra_config": {"other": 1}})))
    assert kind.unet_extra_config == {"other": 1, "num_head_channels": unet.num_head_channels}
    text = json.loads((SMALL_CONFIG.parent / f"{params.cond_stage_config.params.arch}.json").read_text())
    assert {
        "hidden_size": text["text_cfg"]["width"],
        "intermediate_size": 4 * text["text_cfg"]["width"],
        "num_hidden_layers": text["text_cfg"]["layers"],
        "num_attention_heads": text["text_cfg"]["heads"],
        "projection_dim": text["embed_dim"],
    } == forge_small_model.TEXT_ENCODER
    sizes = vae.ddconfig
    assert forge_small_model.VAE["block_out_channels"] == [sizes.ch * factor for factor in sizes.ch_mult]
    assert len(forge_small_model.VAE["down_block_types"]) == len(forge_small_model.VAE["up_block_types"]) == 4
    assert forge_small_model.VAE["layers_per_block"] == sizes.num_res_blocks
    assert forge_small_model.VAE["latent_channels"] == vae.embed_dim == sizes.z_channels
    assert (forge_small_model.VAE["in_channels"], forge_small_model.VAE["out_channels"]) == (sizes.in_channels, 3)
    assert forge_small_model.VAE["sample_size"] == sizes.resolution


class TestReForge:
    @pytest.fixture
    def reforge(self, inside: Inside) -> Iterator[ReForge]:
        assert inside.kinds == []
        prepared = ReForge()
        prepared.prepare()
        yield prepared
        prepared.undo()

    @pytest.mark.usefixtures("reforge")
    def test_a_depth_model_is_built_without_depth_stage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is built when it is called, which only the bare host does."""
        small.register_clip(tmp_path)
        built: list[str] = []

        class MiDaSInference:
            def __init__(self, model_type: str) -> None:
                built.append(model_type)

            def __call__(self, pictures: int) -> int:
                return pictures + 1

        monkeypatch.setattr("ldm.modules.midas.api.MiDaSInference", MiDaSInference)
        model = small.build(small.depth_config())
        assert isinstance(model, LatentDepth2ImageDiffusion)
        assert built == []
        assert not [name for name in model.state_dict() if name.startswith("depth_model.")]
        assert [model.depth_model(1), model.depth_model(2)] == [2, 3]
        assert built == ["dpt_hybrid"]

    @pytest.mark.usefixtures("reforge")
    def test_a_refusal_comes_through_the_hosts_main_thread(self, inside: Inside) -> None:
        def refuse() -> None:
            raise RequestError("one sentence")

        def fail() -> None:
            raise ValueError

        run = vars(inside.main_thread)["run_and_wait_result"]
        assert run(lambda a, b: a + b, 1, b=2) == 3
        with pytest.raises(RequestError, match="one sentence"):
            run(refuse)
        assert run(fail) is None, "what is not ours goes as before"

    @pytest.mark.usefixtures("reforge")
    def test_the_small_vae_is_built_in_its_own_sizes(self, inside: Inside) -> None:
        vae = vars(inside.loader)["VAE"]
        with safe_open(SMALL_CHECKPOINT, "pt") as opened:
            prefix = "first_stage_model."
            names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118 - no dict
            weights = {name.removeprefix(prefix): opened.get_tensor(name) for name in names}
        config = vae(sd=weights, metadata=None)
        built = AutoencoderKL(lossconfig={"target": "torch.nn.Identity"}, **config["params"])
        assert built.load_state_dict(weights, strict=False).missing_keys == []
        assert vae(sd={"encoder.conv_in.weight": torch.zeros(128, 3, 3, 3)}) is None
        assert vae(sd={}) is None
        assert vae({}, config="theirs") == "theirs"
