"""A stand-in for the host: what this extension touches of ``modules.*``, as v1.10.1 does it.

Every class and function names the file and line it stands for (proc = modules/processing.py, sm = modules/sd_models.py,
scr = modules/scripts.py). The checkpoint underneath is Stability's own ``LatentDepth2ImageDiffusion``, built small, and
its VAE and UNet are run.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import types
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

LANCZOS = Image.Resampling.LANCZOS


class Patches(types.ModuleType):
    """modules/patches.py:4-64."""

    def __init__(self) -> None:
        super().__init__("modules.patches")
        self.originals: dict[Any, dict[Any, Any]] = defaultdict(dict)

    def patch(self, key: Any, obj: Any, field: str, replacement: Any) -> Any:
        if (obj, field) in self.originals[key]:
            raise RuntimeError(f"patch for {field} is already applied")  # patches.py:20-21
        self.originals[key][obj, field] = getattr(obj, field)
        setattr(obj, field, replacement)
        return self.originals[key][obj, field]

    def undo(self, key: Any, obj: Any, field: str) -> None:
        if (obj, field) not in self.originals[key]:
            raise RuntimeError(f"there is no patch for {field} to undo")  # patches.py:45-46
        setattr(obj, field, self.originals[key].pop((obj, field)))

    def original(self, key: Any, obj: Any, field: str) -> Any:
        return self.originals[key].get((obj, field))


class Options:
    """modules/options.py:83-110: an attribute is the stored value, else the default."""

    def __init__(self, **defaults: Any) -> None:
        self.data: dict[str, Any] = {}
        self.data_labels: dict[str, Any] = {}
        self.defaults = defaults

    def __getattr__(self, name: str) -> Any:
        for values in (self.data, self.defaults):
            if name in values:
                return values[name]
        raise AttributeError(name)

    def add_option(self, key: str, info: Any) -> None:
        self.data_labels[key] = info


class OptionInfo:
    """modules/options.py:14-55."""

    def __init__(self, default: Any = None, *_: Any, **__: Any) -> None:
        self.default = default

    def info(self, _text: str) -> OptionInfo:
        return self


class Script:
    """scr:56-250: what an extension's script inherits."""

    args_from: int | None = None
    args_to: int | None = None
    infotext_fields: Any = None
    paste_field_names: Any = None


class ScriptRunner:
    """scr:544-830, as far as one always-on script and the selectable ones go."""

    def __init__(self, alwayson: list[Any], selectable: list[Any]) -> None:
        self.alwayson_scripts = alwayson
        self.selectable_scripts = selectable
        self.swallowed: list[Exception] = []

    def _call(self, name: str, p: Any, *others: Any) -> None:
        for script in self.alwayson_scripts:
            try:
                getattr(script, name)(p, *others, *p.script_args[script.args_from : script.args_to])
            except Exception as error:  # noqa: BLE001 - scr:826-828, errors.report
                self.swallowed.append(error)

    def process(self, p: Any) -> None:
        self._call("process", p)

    def postprocess(self, p: Any, processed: Any) -> None:
        self._call("postprocess", p, processed)


def images_module() -> types.ModuleType:
    module = types.ModuleType("modules.images")

    def flatten(img: Image.Image, bgcolor: str) -> Image.Image:
        """modules/images.py:841-849."""
        if img.mode == "RGBA":
            background = Image.new("RGBA", img.size, bgcolor)
            background.paste(img, mask=img)
            img = background
        return img.convert("RGB")

    def resize_image(resize_mode: int, im: Image.Image, width: int, height: int) -> Image.Image:
        """modules/images.py:252-328, without an upscaler; the sides that mode 2 fills stay black here."""
        if resize_mode == 0:
            return im.resize((width, height), LANCZOS)
        wider = width / height > im.width / im.height
        by_width = wider if resize_mode == 1 else not wider
        src_w = width if by_width else im.width * height // im.height
        src_h = im.height * width // im.width if by_width else height
        res = Image.new("RGB", (width, height))
        res.paste(im.resize((src_w, src_h), LANCZOS), box=(width // 2 - src_w // 2, height // 2 - src_h // 2))
        return res

    def split_grid(image: Image.Image, tile_w: int = 512, tile_h: int = 512, overlap: int = 64) -> Any:
        """modules/images.py:78-111."""
        w, h = image.size
        cols = -((overlap - w) // (tile_w - overlap))
        rows = -((overlap - h) // (tile_h - overlap))
        dx = (w - tile_w) / (cols - 1) if cols > 1 else 0
        dy = (h - tile_h) / (rows - 1) if rows > 1 else 0
        tiles = []
        for row in range(rows):
            y = min(int(row * dy), h - tile_h)
            xs = [min(int(col * dx), w - tile_w) for col in range(cols)]
            tiles.append([y, tile_h, [[x, tile_w, image.crop((x, y, x + tile_w, y + tile_h))] for x in xs]])
        return SimpleNamespace(tiles=tiles, image_w=w, image_h=h)

    def save_image(image: Image.Image, path: str, basename: str, **details: Any) -> None:
        """modules/images.py:631-756, with the settings' own naming left out: number, seed, suffix."""
        folder = Path(path, "2026-01-01") if details["save_to_dirs"] is None else Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        name = f"{basename}{number:05}-{details['seed']}{details['suffix']}.{details['extension']}"
        image.save(folder / name)

    def fix_image(image: Image.Image | None) -> Image.Image | None:
        """modules/images.py:859-870; a palette with transparency for each colour becomes RGBA there too."""
        return None if image is None else ImageOps.exif_transpose(image)

    for function in (flatten, fix_image, resize_image, split_grid, save_image):
        setattr(module, function.__name__, function)
    return module


def crop_region(mask: Image.Image, pad: int) -> tuple[int, int, int, int] | None:
    """modules/masking.py:4-20; on a square canvas and a square box there is nothing for masking.py:46-88 to widen."""
    box = mask.getbbox()
    if box is None:
        return None
    x1, y1, x2, y2 = box
    return max(x1 - pad, 0), max(y1 - pad, 0), min(x2 + pad, mask.width), min(y2 + pad, mask.height)


class Processing:
    """proc:129-400, StableDiffusionProcessing."""

    def __init__(self, host: Host, **fields: Any) -> None:
        self.host = host
        self.scripts: ScriptRunner | None = host.runner
        self.script_args: tuple[Any, ...] = (0,)
        self.batch_size, self.width, self.height = 1, 64, 64
        self.refiner_checkpoint: str | None = None
        self.override_settings: dict[str, Any] = {}
        self.outpath_samples = str(host.folder / "outputs")
        self.extra_generation_params: dict[str, Any] = {}
        self.paste_to: tuple[int, int, int, int] | None = None  # proc:187, never reset
        self.is_api = False
        self.comments: dict[str, int] = {}
        vars(self).update(fields)

    def comment(self, text: str) -> None:
        """proc:291."""
        self.comments[text] = 1

    def txt2img_image_conditioning(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
        """proc:100-116: mask and picture of an inpainting model, five channels."""
        return x.new_zeros(x.shape[0], 5, *x.shape[2:])

    def img2img_image_conditioning(
        self, source_image: Any, latent_image: torch.Tensor, image_mask: Any = None, round_image_mask: bool = True
    ) -> torch.Tensor:
        """proc:375-403. The depth branch (proc:380) is what the extension replaces: here it only says it was taken."""
        if self.host.modules.processing.is_depth_model(self.host.model):
            raise AssertionError("the host's own depth conditioning was used")
        return latent_image.new_zeros(latent_image.shape[0], 5, 1, 1)


class Txt2Img(Processing):
    """proc:1165, StableDiffusionProcessingTxt2Img."""

    enable_hr = False
    hr_checkpoint_name: str | None = None

    def init(self, *_: Any) -> None:
        """proc:1234."""

    def sample(self) -> torch.Tensor:
        """proc:1346."""
        x = torch.zeros(self.batch_size, 4, self.height // 8, self.width // 8)
        return self.host.sample(x, self.txt2img_image_conditioning(x))


class Img2Img(Processing):
    """proc:1556, StableDiffusionProcessingImg2Img."""

    resize_mode = 0
    denoising_strength = 1.0
    inpaint_full_res = True
    inpaint_full_res_padding = 0
    mask: Any = None

    def __init__(self, host: Host, **fields: Any) -> None:
        super().__init__(host, **fields)
        self.image_mask, self.mask = fields.get("mask"), None  # proc:1579-1580

    def init(self, *_: Any) -> None:
        """proc:1602-1757, in its order; blur, fill, overlays and colour correction change no depth and are left out."""
        image_mask, region = self.image_mask, None
        resize_image = self.host.modules.images.resize_image
        if image_mask is not None:
            if self.inpaint_full_res:
                region = crop_region(image_mask, self.inpaint_full_res_padding)
                if region:
                    x1, y1, x2, y2 = region
                    image_mask = resize_image(2, image_mask.crop(region), self.width, self.height)
                    self.paste_to = (x1, y1, x2 - x1, y2 - y1)  # proc:1640
                else:
                    image_mask, self.inpaint_full_res = None, False  # proc:1644-1648
            else:
                image_mask = resize_image(self.resize_mode, image_mask, self.width, self.height)
        imgs = []
        for img in self.init_images:
            image = self.host.modules.images.flatten(img, "#ffffff")  # proc:1677
            if region is None and self.resize_mode != 3:
                image = resize_image(self.resize_mode, image, self.width, self.height)  # proc:1680
            if region is not None:
                image = resize_image(2, image.crop(region), self.width, self.height)  # proc:1691-1693
            imgs.append(np.moveaxis(np.asarray(image, np.float32) / 255.0, 2, 0))
        if len(imgs) == 1:
            batch = np.repeat(imgs[0][None], self.batch_size, axis=0)  # proc:1711
        else:
            self.batch_size, batch = len(imgs), np.array(imgs)  # proc:1719-1720
        image = torch.from_numpy(batch)
        self.init_latent = self.host.encode(image)  # proc:1730
        if self.resize_mode == 3:
            size = (self.height // 8, self.width // 8)
            self.init_latent = torch.nn.functional.interpolate(
                self.init_latent, size=size, mode="bilinear"
            )  # proc:1735
        if image_mask is not None:
            latmask = image_mask.convert("RGB").resize(self.init_latent.shape[:1:-1])
            kept = 1.0 - np.around(np.moveaxis(np.asarray(latmask, np.float32), 2, 0)[:1] / 255)
            self.mask = torch.asarray(kept).expand(self.init_latent.shape[1:])  # proc:1744: 1 is kept
        self.image_conditioning = self.img2img_image_conditioning(image * 2 - 1, self.init_latent, image_mask, True)

    def sample(self) -> torch.Tensor:
        """proc:1759-1770."""
        return self.host.sample(self.init_latent, self.image_conditioning)


class Host:
    """The running host: its modules, the checkpoint in memory, and what its UNet and VAE were asked."""

    def __init__(self, folder: Path, model: Any) -> None:
        self.folder = folder
        self.runner: ScriptRunner | None = None
        self.concat: torch.Tensor | None = None
        self.vae_encodes = 0
        self.checkpoints: dict[str, Any] = {}
        self.callbacks: dict[str, list[Any]] = defaultdict(list)
        self.modules = self._modules()
        self.load(model)

    @property
    def model(self) -> Any:
        return self.modules.sd_models.model_data.sd_model

    def load(self, model: Any, file: Path | None = None) -> None:
        """sm:841-847 and 522-524."""
        if model is not None:
            model.sd_model_checkpoint = str(file or self.folder / "depth.safetensors")
            model.sd_checkpoint_info = SimpleNamespace(name=Path(model.sd_model_checkpoint).name)
            Path(model.sd_model_checkpoint).touch()
        self.modules.sd_models.model_data.sd_model = model

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """modules/sd_samplers_common.py:85-110: one picture at a time."""
        self.vae_encodes += len(image)
        with torch.no_grad():
            encoded = [self.model.encode_first_stage(each[None] * 2 - 1) for each in image]
            return torch.cat([self.model.get_first_stage_encoding(each) for each in encoded])

    def sample(self, x: torch.Tensor, image_conditioning: torch.Tensor) -> torch.Tensor:
        """modules/sd_samplers_cfg_denoiser.py:200-205, one step without guidance, into the real UNet."""
        self.concat = image_conditioning
        context = self.model.get_learned_conditioning(["a house"] * len(x))
        with torch.no_grad():
            t = torch.full((len(x),), 999)
            out: torch.Tensor = self.model.apply_model(
                x, t, {"c_crossattn": [context], "c_concat": [image_conditioning]}
            )
        return out

    def generate(self, p: Processing) -> Any:
        """proc:819-1150, process_images: the order of callbacks, init and sampling; one picture per sample."""
        if p.scripts is not None:
            p.scripts.process(p)  # proc:915
        p.init([], [], [])  # proc:921
        samples = p.sample()  # proc:989
        processed = SimpleNamespace(
            images=[Image.new("RGB", (p.width, p.height)) for _ in samples],
            infotexts=[f"picture {index}" for index in range(len(samples))],
            all_seeds=[1000 + index for index in range(len(samples))],
            all_prompts=["a house"] * len(samples),
            index_of_first_image=0,
            comments="",
            extra_generation_params=p.extra_generation_params,
        )
        if p.scripts is not None:
            p.scripts.postprocess(p, processed)  # proc:1148
        return processed

    def _modules(self) -> Any:
        package = types.ModuleType("modules")
        for name in ("shared", "processing", "sd_models", "sd_models_config", "devices", "paths", "scripts"):
            setattr(package, name, types.ModuleType(f"modules.{name}"))
        for name in ("cache", "call_queue", "img2img", "util", "script_callbacks"):
            setattr(package, name, types.ModuleType(f"modules.{name}"))
        package.patches, package.images = Patches(), images_module()
        self._fill(package)
        return package

    def _fill(self, package: Any) -> None:
        flags = dict.fromkeys(("lowvram", "medvram", "nowebui", "hide_ui_dir_config", "no_download_sd_model"), False)
        package.shared.cmd_opts = SimpleNamespace(api=True, api_auth=None, ckpt_dir=str(self.folder), **flags)
        package.shared.opts = Options(
            img2img_background_color="#ffffff", enable_pnginfo=True, samples_format="png"
        )  # modules/shared_options.py:33,44,233
        package.shared.OptionInfo = OptionInfo
        package.shared.state = SimpleNamespace(textinfo=None)  # modules/shared_state.py:25
        package.paths.models_path = str(self.folder / "models")
        package.devices.device = torch.device("cpu")
        package.devices.dtype = package.devices.dtype_inference = torch.float16  # modules/devices.py:121-124
        package.devices.torch_gc = lambda: None
        package.cache.cache = defaultdict(dict).__getitem__  # modules/cache.py:56-78, kept on the disk there
        package.call_queue.queue_lock = threading.Lock()  # modules/call_queue.py:9, not reentrant either
        package.scripts.Script, package.scripts.AlwaysVisible = Script, object()
        package.scripts.scripts_data = []
        package.processing.StableDiffusionProcessing = Processing
        package.processing.StableDiffusionProcessingTxt2Img = Txt2Img
        package.processing.is_depth_model = lambda model: hasattr(model, "depth_model")
        package.sd_models.model_data = SimpleNamespace(sd_model=None)
        package.sd_models.model_path = str(self.folder)
        package.sd_models.get_closet_checkpoint_match = self.checkpoints.get  # sm:180
        package.sd_models.list_models = lambda: None
        package.sd_models.unload_model_weights = lambda *_, **__: None  # sm:1005
        package.sd_models_config.find_checkpoint_config = lambda _state_dict, _info: "the host's guess"  # smc:121
        package.img2img.process_batch = lambda *_, **__: None
        package.img2img.images = package.images
        for name in ("on_ui_settings", "on_before_ui", "on_app_started", "on_script_unloaded"):
            setattr(package.script_callbacks, name, self.callbacks[name].append)  # modules/script_callbacks.py:456-591

    @contextlib.contextmanager
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
        """In ``sys.modules`` under the host's names, and out again; what was patched on classes is put back."""
        monkeypatch.setitem(sys.modules, "modules", self.modules)
        for name, module in vars(self.modules).items():
            if isinstance(module, types.ModuleType):
                monkeypatch.setitem(sys.modules, f"modules.{name}", module)
        from lib_depth2img.webui.hosts import host as facade

        yield self
        facade.undo()
