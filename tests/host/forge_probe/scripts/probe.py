"""The probe (tests/host/probe) inside of Forge and reForge: the same routes and answers, found where those have them.

Both recognise checkpoints by their sizes, so it also makes those of the test checkpoints known, in the bare host too.
"""

import base64
import functools
import gc
import io
import json
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import torch
from modules import images, img2img, patches, processing, script_callbacks, scripts, sd_models, shared

GENERATION = time.time_ns()
"""Another one after each Reload UI, which executes this file again."""

CLIP = json.loads(next(Path(__file__).parent.glob("*.json")).read_text())
TEXT = CLIP["text_cfg"]
NETWORKS = ("DPT", "MidasV21", "SmallDepthNet")
UNET = {"context_dim": TEXT["width"], "model_channels": 32}


def watch(owner, name, seen):
    original = getattr(owner, name)

    @functools.wraps(original, updated=())
    def watched(*args, **kwargs):
        return seen(original, *args, **kwargs)

    setattr(owner, name, watched)
    script_callbacks.on_script_unloaded(lambda: setattr(owner, name, original))


def text_encoder(layers):
    width = TEXT["width"]
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": CLIP["embed_dim"]}
    return sizes | {"num_attention_heads": TEXT["heads"], "num_hidden_layers": layers}


def forge():
    """What differs from host to host: the kinds of checkpoints, where UNet and VAE are called, what to look at."""
    from backend import loader
    from backend.diffusion_engine.base import ForgeDiffusionEngine
    from backend.modules.k_model import KModel
    from backend.patcher.vae import VAE
    from huggingface_guess import model_list

    source = Path(loader.dir_path, "huggingface", model_list.SD20.huggingface_repo)
    folder = Path(tempfile.mkdtemp(prefix="depth2img-probe-"))
    shutil.copytree(source, folder, dirs_exist_ok=True)
    script_callbacks.on_script_unloaded(lambda: shutil.rmtree(folder))
    sizes = {"vae": {"block_out_channels": [32] * 4, "layers_per_block": 1, "sample_size": 64}}
    sizes["text_encoder"] = text_encoder(TEXT["layers"] - 1)
    for part, changed in sizes.items():
        config = folder / part / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | changed))

    class TestModel(model_list.SD20):
        huggingface_repo = str(folder)
        unet_config = model_list.SD20.unet_config | UNET
        unet_extra_config = model_list.SD20.unet_extra_config | {"num_head_channels": 32}

    return SimpleNamespace(
        kinds=model_list.models, kind=TestModel, unet=KModel, vae=VAE, model=ForgeDiffusionEngine, origins={}
    )


def reforge():
    from ldm.models.diffusion.ddpm import LatentDepth2ImageDiffusion, LatentDiffusion
    from ldm_patched.modules import supported_models
    from ldm_patched.modules.model_base import BaseModel
    from ldm_patched.modules.sd import VAE
    from ldm_patched.modules.sd1_clip import SDClipModel
    from modules_forge import forge_loader

    words = {"hidden_act": "gelu", "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 49407}
    vae = {"double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32}
    vae |= {"ch_mult": [1] * 4, "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}

    def text(device="cpu", dtype=None, model_options=None):
        return SDClipModel(
            device=device,
            dtype=dtype,
            layer="last",  # which one is taken, forge_clip.py decides, by the yaml
            textmodel_json_config=words | text_encoder(TEXT["layers"]),
            special_tokens={"start": 49406, "end": 49407, "pad": 0},
            model_options=model_options or {},
        )

    def with_text(original, *, model_options=None, **params):
        return original(model_options={**(model_options or {}), "clip_h_class": text}, **params)

    class TestModel(supported_models.SD20):
        unet_config = supported_models.SD20.unet_config | UNET
        unet_extra_config = supported_models.SD20.unet_extra_config | {"num_head_channels": 32}

        def clip_target(self, state_dict=None):
            target = super().clip_target(state_dict or {})
            target.clip = functools.partial(with_text, target.clip)
            return target

    def built(original, sd=None, **others):
        if sd and sd["encoder.conv_in.weight"].shape[0] == vae["ch"]:
            others["config"] = {"params": {"embed_dim": 4, "ddconfig": vae}}
        return original(sd=sd, **others)

    watch(forge_loader, "VAE", built)
    return SimpleNamespace(
        kinds=supported_models.models,
        kind=TestModel,
        unet=BaseModel,
        vae=VAE,
        model=LatentDiffusion,
        origins={
            "find_config": (forge_loader, "find_checkpoint_config"),
            "vae": (forge_loader, "VAE"),
            "depth_model": (LatentDepth2ImageDiffusion, "__init__"),
        },
    )


HOST = reforge() if find_spec("ldm_patched") else forge()
HOST.kinds.append(HOST.kind)
script_callbacks.on_script_unloaded(lambda: HOST.kinds.remove(HOST.kind))


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
        Record.concat = c_concat.detach().float().cpu().numpy()
    Record.unet_calls += 1
    Record.events += ("unet",)
    return original(self, x, t, c_concat=c_concat, **others)


def see_encode(original, self, pixels, *others):
    Record.vae_encodes += len(pixels)
    return original(self, pixels, *others)


def see_depth(module, inputs, _output):
    if type(module).__name__ in NETWORKS:
        Record.depth_passes += 1
        Record.depth_inputs += inputs[0].shape[0]
        Record.events += ("estimated",)


watch(HOST.unet, "apply_model", see_unet)
watch(HOST.vae, "encode", see_encode)
handle = torch.nn.modules.module.register_module_forward_hook(see_depth)
script_callbacks.on_script_unloaded(handle.remove)


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
    """Labels in the X/Y/Z plot's own order; those of one tab as its dropdown has them (xyz_grid.py)."""
    for data in scripts.scripts_data:
        if data.script_class.__module__ == "xyz_grid.py":
            return [
                option.label
                for option in data.module.axis_options
                if img2img is None or type(option) is data.module.AxisOption or option.is_img2img == img2img
            ]
    return []


def state():
    gc.collect()
    networks = [each for each in gc.get_objects() if type(each).__name__ in NETWORKS]
    engines = [each for each in gc.get_objects() if isinstance(each, HOST.model)]
    return {
        "txt2img_init": origin(processing.StableDiffusionProcessingTxt2Img.init),
        "img2img_init": origin(processing.StableDiffusionProcessingImg2Img.init),
        "txt2img_conditioning": origin(processing.StableDiffusionProcessing.txt2img_image_conditioning),
        "img2img_conditioning": origin(processing.StableDiffusionProcessing.img2img_image_conditioning),
        "process_batch": origin(img2img.process_batch),
        "split_grid": origin(images.split_grid),
        "unload": origin(sd_models.unload_model_weights),
        **{name: origin(getattr(*place)) for name, place in HOST.origins.items()},
        "patched": any(value for key, value in patches.originals.items() if "depth2img" in str(key)),
        "recognised": [each.__name__ for each in HOST.kinds if each.__module__.startswith("lib_depth2img")],
        "settings": [name for name in shared.opts.data_labels if name.startswith("depth2img")],
        "titles": [script.title() for script in scripts.scripts_img2img.alwayson_scripts],
        "axes": xyz_axes(),
        "img2img_axes": xyz_axes(img2img=True),
        "txt2img_axes": xyz_axes(img2img=False),
        "generation": GENERATION,
        "models": len(engines),
        "rss": psutil.Process().memory_info().rss,
        "depth_class": type(networks[0]).__name__ if networks else None,
        "depth_networks": len(networks),
    }


def add_routes(_demo, app):
    app.add_api_route("/probe/records", records, methods=["GET"])
    app.add_api_route("/probe/reset", reset, methods=["POST"])
    app.add_api_route("/probe/reload", shared.state.request_restart, methods=["POST"])
    app.add_api_route("/probe/state", state, methods=["GET"])


script_callbacks.on_app_started(add_routes)
