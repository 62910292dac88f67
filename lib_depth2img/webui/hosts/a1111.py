"""AUTOMATIC1111's stable-diffusion-webui, v1.10.1. Importing this imports nothing of it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...checkpoint import small_model
from .a1111_passes import answer_for_unet
from .interface import Answer, Event, Host, Point, Selected

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ...estimators.estimator import Manage

__all__ = ["A1111"]

_KEY = "depth2img"

_POINTS = {
    Point.DEPTH_STAGE: ("ldm.modules.midas.api", "MiDaSInference"),  # built by name: ldm ddpm.py:1695
    Point.CHECKPOINT_YAML: ("modules.sd_models_config", "find_checkpoint_config"),
    Point.UNLOAD: ("modules.sd_models", "unload_model_weights"),
    Point.TXT2IMG_INIT: ("modules.processing", "StableDiffusionProcessingTxt2Img.init"),
    Point.TXT2IMG_CONDITIONING: ("modules.processing", "StableDiffusionProcessing.txt2img_image_conditioning"),
    Point.TILES: ("modules.images", "split_grid"),
    Point.BATCH: ("modules.img2img", "process_batch"),
}


class A1111(Host):
    """The reference host. Names of its files and lines are those of v1.10.1."""

    # As in ui.py, lines 520 to 560.
    init_image_widgets = ("img2img_image", "img2img_sketch", "img2maskimg", "inpaint_sketch", "img_inpaint_base")
    keeps_depth_stage = True
    points: ClassVar[Mapping[Point, tuple[str, str]]] = _POINTS

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str]] = []

    def selected(self) -> Selected:
        from ldm.models.diffusion.ddpm import LatentDepth2ImageDiffusion

        model = self.loaded_model()
        info = getattr(model, "sd_checkpoint_info", None)
        # The host asks the same way (processing.py:380).
        return Selected(None if info is None else str(info.name), isinstance(model, LatentDepth2ImageDiffusion))

    def loaded_model(self) -> Any:
        from modules import sd_models

        return sd_models.model_data.sd_model  # shared.sd_model (shared_items.py:175) would load one

    def checkpoint_file(self) -> Path:
        return Path(self.loaded_model().sd_model_checkpoint)  # sd_models.py:523

    def file_of(self, name: str | None) -> Path | None:
        info = self._checkpoint_info(name)
        return None if info is None else Path(info.filename)

    def title_of(self, name: str) -> str:
        return str(self._checkpoint_info(name).title)

    def refresh_checkpoints(self) -> None:
        from modules import sd_models

        sd_models.list_models()

    def under_lowvram(self, model: Any) -> bool:
        return bool(getattr(model, "lowvram", False))  # lowvram.py:138

    def checkpoint_folder(self) -> Path:
        from modules import sd_models

        return Path(self.command_line().ckpt_dir or sd_models.model_path)

    def midas_folder(self) -> Path:
        from modules import paths

        return Path(paths.models_path) / "midas"  # sd_models.py:552

    def checkpoint_sha256(self, file: Path, compute: Callable[[], str]) -> str:
        """Noted where the host notes those of its checkpoints (hashes.py:22-64): neither reads what the other has."""
        from modules import cache

        title, found = f"checkpoint/{file.name}", file.stat()  # sd_models.py:92
        facts = {"mtime": found.st_mtime, "size": found.st_size}
        with suppress(Exception):  # without the cache it only takes longer
            note = cache.cache("hashes").get(title) or {}
            noted = {"mtime": note.get("mtime"), "size": note.get("size", found.st_size)}  # the host notes no size
            if noted == facts:
                return str(note["sha256"])
        digest = compute()
        with suppress(Exception):
            cache.cache("hashes")[title] = {**facts, "sha256": digest}
        return digest

    def compute_device(self) -> torch.device:
        from modules import devices

        device: torch.device = devices.device
        return device

    def computes_in_float32(self) -> bool:
        """--no-half, --precision full (shared_init.py:31-33)."""
        import torch
        from modules import devices

        return torch.float32 in (devices.dtype, devices.dtype_inference)

    def uses_low_memory(self) -> bool:
        flags = self.command_line()
        return bool(flags.lowvram or flags.medvram)

    def free_memory(self) -> None:
        from modules import devices

        devices.torch_gc()

    @property
    def manage(self) -> Manage | None:
        return None

    def lock(self) -> Any:
        from modules import call_queue

        return call_queue.queue_lock

    def options(self) -> Any:
        from modules import shared

        return shared.opts

    def command_line(self) -> Any:
        from modules import shared

        return shared.cmd_opts

    def serves_api(self) -> bool:
        flags = self.command_line()
        return bool(flags.api or flags.nowebui)

    def add_option(
        self,
        page: tuple[str, str, str],
        name: str,
        default: Any,
        *,
        label: str,
        info: str,
        component: Any,
        arguments: Any,
    ) -> None:
        from modules import shared

        *section, category = page
        line = shared.OptionInfo(
            default, label, component, arguments, section=tuple(section), category_id=category
        )  # options.py:14
        shared.opts.add_option(name, line.info(info))

    def remove_options(self, names: Collection[str]) -> None:
        for name in names:
            self.options().data_labels.pop(name, None)

    def flattened(self, image: Image.Image) -> Image.Image:
        from modules import images

        flat: Image.Image = images.flatten(image, self.options().img2img_background_color)  # processing.py:1677
        return flat

    def init_picture(self, picture: Image.Image) -> Image.Image:
        from modules import images

        return self.flattened(images.fix_image(picture))  # img2img.py:188

    def save_image(
        self, picture: Image.Image, folder: str, *, in_subfolders: bool | None = None, **details: Any
    ) -> None:
        from modules import images

        images.save_image(picture, folder, "", extension="png", save_to_dirs=in_subfolders, **details)  # images.py:631

    def keeps_16_bits(self) -> bool:
        """JPEG and WEBP replies of the API (api/api.py:99-125) and the progress (progress.py:113) take no 16 bits."""
        options = self.options()
        return options.samples_format.lower() == "png" and options.live_previews_image_format == "png"

    def selected_script(self, p: Any) -> Any:
        index = p.script_args[0] if p.scripts is not None and p.script_args else 0  # scripts.py:746-760
        return p.scripts.selectable_scripts[index - 1] if index else None

    def answer_for_unet(self, p: Any, answer: Answer) -> None:
        answer_for_unet(p.sampler, answer)

    @contextmanager
    def status(self, text: str) -> Iterator[None]:
        from modules import shared

        shared.state.textinfo, before = text, shared.state.textinfo
        try:
            yield
        finally:
            shared.state.textinfo = before

    def batch_pictures(self, source: Any, suffixes: Collection[str]) -> list[str]:
        from modules import util

        if isinstance(source, str):
            return list(util.walk_files(source, allowed_extensions=suffixes))
        return [os.path.abspath(file.name) for file in source]  # noqa: PTH100 - as img2img.py:23-26

    @contextmanager
    def watching_batch(self, reads: Callable[[Any], None], fails: Callable[[Any, Exception], None]) -> Iterator[None]:
        from modules import img2img

        images = img2img.images
        img2img.images = _WatchedImages(images, reads, fails)
        try:
            yield
        finally:
            img2img.images = images

    def script_class(self) -> Any:
        from modules import scripts

        return scripts.Script

    def always_visible(self) -> Any:
        from modules import scripts

        return scripts.AlwaysVisible

    def extras_class(self) -> Any:
        from modules import scripts_postprocessing

        return scripts_postprocessing.ScriptPostprocessing

    def accordion_class(self) -> Any:
        from modules import ui_components

        return ui_components.InputAccordion  # ui_components.py:88

    def xyz_grid(self) -> Any:
        from modules import scripts

        for data in scripts.scripts_data:
            if data.script_class.__module__ == "xyz_grid.py":
                return data.module
        return None

    def call_back(self, event: Event, function: Callable[..., None]) -> None:
        from modules import script_callbacks

        getattr(script_callbacks, f"on_{event}")(function)

    def prepare(self) -> None:
        small_model.register_architecture()

    def init_image_of(self, component: Any, keywords: Mapping[str, Any]) -> str | None:  # noqa: ARG002 - one of two
        name = keywords.get("elem_id")
        return name if name in self.init_image_widgets else None

    def replace(self, point: Point, make: Callable[[Any], Any]) -> None:
        if point in self.points:
            self._replace(*self.points[point], make)

    def _replace(self, module: str, path: str, make: Callable[[Any], Any]) -> None:
        from modules import patches

        *owners, name = path.split(".")
        owner = importlib.import_module(module)
        if owners:
            owner = attrgetter(".".join(owners))(owner)
        if patches.original(_KEY, owner, name) is not None:
            patches.undo(_KEY, owner, name)
            self._replaced.remove((owner, name))
        patches.patch(_KEY, owner, name, make(getattr(owner, name)))
        self._replaced.append((owner, name))

    def undo(self) -> None:
        from modules import patches

        while self._replaced:
            patches.undo(_KEY, *self._replaced.pop())

    def _checkpoint_info(self, name: str | None) -> Any:
        from modules import sd_models

        return sd_models.get_closet_checkpoint_match(name)


class _WatchedImages:
    """The host's ``modules.images`` as ``process_batch`` sees it, telling which file is read."""

    def __init__(self, images: Any, reads: Callable[[Any], None], fails: Callable[[Any, Exception], None]) -> None:
        self._images, self._reads, self._fails = images, reads, fails

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images, name)

    def read(self, file: Any, *args: Any, **settings: Any) -> Any:
        from PIL import UnidentifiedImageError

        self._reads(file)
        try:
            picture = self._images.read(file, *args, **settings)
            picture.load()  # a file that is cut off shows it only now
        except (OSError, SyntaxError, ValueError) as error:
            self._fails(file, error)
            # The batch goes on after such a one (img2img.py:62).
            raise UnidentifiedImageError(f"{file}: {error}") from error
        return picture
