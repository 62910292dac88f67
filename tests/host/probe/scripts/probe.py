"""An extension of its own, only for these tests: it tells over HTTP what happens inside a running WebUI.

It changes nothing: it counts calls, keeps the tensor that last reached the UNet, writes down where the depth stage is
sent, and describes which of the host's functions are the host's. It also makes the test checkpoints' OpenCLIP
architecture known, in the bare host as well.

Half precision on a machine without CUDA: the host asks CUDA whether its card has autocast (devices.py:228) and fails.
Here the answer is no, so that the host casts by itself, as it does on Macs and on GTX 16xx cards.
"""

import base64
import gc
import io
import time
from pathlib import Path

import numpy as np
import open_clip
import psutil
import torch
from ldm.models.autoencoder import AutoencoderKL
from ldm.models.diffusion.ddpm import DiffusionWrapper, LatentDiffusion
from modules import (
    devices,
    images,
    img2img,
    lowvram,
    patches,
    processing,
    script_callbacks,
    scripts,
    sd_models,
    sd_models_config,
    shared,
)

for architecture in Path(__file__).parent.glob("*.json"):
    if architecture.stem not in open_clip.list_models():
        open_clip.add_model_config(architecture)


GENERATION = time.time_ns()
"""Another one after each Reload UI, which executes this file again."""


class Record:
    """What was seen since the last reset."""

    unet_calls = 0
    vae_encodes = 0
    depth_passes = 0
    depth_inputs = 0
    concat = None
    noise = None
    events = ()


def reset():
    Record.unet_calls = Record.vae_encodes = Record.depth_passes = Record.depth_inputs = 0
    Record.concat = Record.noise = None
    Record.events = ()


def see_unet(original, self, x, t, c_concat=None, **others):
    if c_concat is not None:
        if Record.unet_calls == 0:
            Record.noise = x.detach().float().cpu().numpy()
        Record.concat = torch.cat(c_concat, dim=1).detach().float().cpu().numpy()
    Record.unet_calls += 1
    Record.events += ("unet",)
    return original(self, x, t, c_concat=c_concat, **others)


def see_encode(original, self, x):
    Record.vae_encodes += 1
    return original(self, x)


def is_depth_stage(module):
    return type(module).__name__ in ("MiDaSInference", "DepthStage", "HostDepthStage")


def see_depth(module, inputs, _output):
    if is_depth_stage(module):
        Record.depth_passes += 1
        Record.depth_inputs += inputs[0].shape[0]
        Record.events += ("estimated in place" if lowvram.module_in_gpu is module else "estimated",)


def see_move(original, self, *where, **others):
    """On one device the move itself shows nothing, so it is told by the object that lowvram.py hands over."""
    if is_depth_stage(self) and where:
        names = {id(devices.device): "brought in", id(lowvram.cpu): "sent away"}
        Record.events += (names.get(id(where[0]), f"to {where[0]}"),)
    return original(self, *where, **others)


def watch(owner, name, seen):
    original = getattr(owner, name)

    def watched(*args, **kwargs):
        return seen(original, *args, **kwargs)

    setattr(owner, name, watched)
    script_callbacks.on_script_unloaded(lambda: setattr(owner, name, original))


watch(DiffusionWrapper, "forward", see_unet)
watch(AutoencoderKL, "encode", see_encode)
watch(torch.nn.Module, "to", see_move)
handle = torch.nn.modules.module.register_module_forward_hook(see_depth)
script_callbacks.on_script_unloaded(handle.remove)


if not torch.cuda.is_available():
    watch(devices, "cuda_no_autocast", lambda _original: True)


def array(values):
    if values is None:
        return None
    buffer = io.BytesIO()
    np.save(buffer, values)
    return base64.b64encode(buffer.getvalue()).decode()


def records():
    return {
        "unet_calls": Record.unet_calls,
        "vae_encodes": Record.vae_encodes,
        "depth_passes": Record.depth_passes,
        "depth_inputs": Record.depth_inputs,
        "events": Record.events,
        "concat": array(Record.concat),
        "noise": array(Record.noise),
    }


def origin(function):
    return f"{function.__module__}.{function.__qualname__}"


def xyz_axes(*, img2img=None):
    """Labels in the X/Y/Z plot's own order; those of one tab as its dropdown has them (xyz_grid.py:410)."""
    for data in scripts.scripts_data:
        if data.script_class.__module__ == "xyz_grid.py":
            return [
                option.label
                for option in data.module.axis_options
                if img2img is None or type(option) is data.module.AxisOption or option.is_img2img == img2img
            ]
    return []


def state():
    import ldm.modules.midas.api as midas_api

    gc.collect()
    stages = [m for m in gc.get_objects() if isinstance(m, LatentDiffusion)]
    model = shared.sd_model
    depth = getattr(model, "depth_model", None)
    return {
        "midas_stage": origin(midas_api.MiDaSInference),
        "txt2img_init": origin(processing.StableDiffusionProcessingTxt2Img.init),
        "img2img_init": origin(processing.StableDiffusionProcessingImg2Img.init),
        "txt2img_conditioning": origin(processing.StableDiffusionProcessing.txt2img_image_conditioning),
        "img2img_conditioning": origin(processing.StableDiffusionProcessing.img2img_image_conditioning),
        "find_config": origin(sd_models_config.find_checkpoint_config),
        "process_batch": origin(img2img.process_batch),
        "split_grid": origin(images.split_grid),
        "unload": origin(sd_models.unload_model_weights),
        "patched": any(value for key, value in patches.originals.items() if "depth2img" in str(key)),
        "settings": [name for name in shared.opts.data_labels if name.startswith("depth2img")],
        "titles": [script.title() for script in scripts.scripts_img2img.alwayson_scripts],
        "axes": xyz_axes(),
        "img2img_axes": xyz_axes(img2img=True),
        "txt2img_axes": xyz_axes(img2img=False),
        "generation": GENERATION,
        "models": len(stages),
        "rss": psutil.Process().memory_info().rss,
        "depth_class": type(depth).__name__ if depth is not None else None,
        "depth_dtypes": sorted({str(each.dtype) for each in depth.parameters()}) if depth is not None else [],
    }


def add_routes(_demo, app):
    app.add_api_route("/probe/records", records, methods=["GET"])
    app.add_api_route("/probe/reset", reset, methods=["POST"])
    app.add_api_route("/probe/reload", shared.state.request_restart, methods=["POST"])
    app.add_api_route("/probe/state", state, methods=["GET"])


script_callbacks.on_app_started(add_routes)
