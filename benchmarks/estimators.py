"""Seconds and memory of each estimator's network beside transformers' implementation of the same, in the same run.

    python benchmarks/estimators.py [NAME ...]

One picture of 512x512 at each network's own size, float32, random weights, on a CPU; the two take turns, and of their
rounds the fastest counts. Memory is the peak of a process that holds one of the two. Depth Anything needs transformers
4.42 or newer, and a transformers that is not there is left out.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from lib_depth2img.estimators.networks.building import assign, cast_network, without_weights  # noqa: E402
from lib_depth2img.estimators.preprocess import network_size  # noqa: E402
from lib_depth2img.estimators.presets import PRESETS  # noqa: E402

ROUNDS = 3
CHANNELS = {
    "small": (384, 6, 12, [48, 96, 192, 384], 64, [3, 6, 9, 12]),
    "base": (768, 12, 12, [96, 192, 384, 768], 128, [3, 6, 9, 12]),
    "large": (1024, 16, 24, [256, 512, 1024, 1024], 256, [5, 12, 18, 24]),
}


def ours(name: str) -> nn.Module:
    """Our network, its weights zero but for nothing: what is computed does not depend on them."""
    network = without_weights(PRESETS[name].build)
    assign(network, {})
    return cast_network(network, torch.float32, torch.device("cpu")).eval()


def theirs(name: str) -> nn.Module:
    """transformers' network of the same shape. Raises: ImportError, KeyError when it has none."""
    import transformers

    if name.startswith("depth_anything_v2_"):
        width, heads, depth, channels, features, outputs = CHANNELS[name.rpartition("_")[2]]
        backbone = transformers.Dinov2Config(
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            image_size=518,
            patch_size=14,
            out_indices=outputs,
            apply_layernorm=True,
            reshape_hidden_states=False,
        )
        config = transformers.DepthAnythingConfig(
            backbone_config=backbone,
            reassemble_hidden_size=width,
            patch_size=14,
            neck_hidden_sizes=channels,
            fusion_hidden_size=features,
        )
        return transformers.DepthAnythingForDepthEstimation(config).eval()
    return transformers.DPTForDepthEstimation(_dpt_config(name)).eval()


def _dpt_config(name: str) -> object:
    import transformers

    if "beit" in name:
        backbone = transformers.BeitConfig(
            image_size=PRESETS[name].side,
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            use_relative_position_bias=True,
            reshape_hidden_states=False,
            out_features=["stage6", "stage12", "stage18", "stage24"],
        )
        return transformers.DPTConfig(
            backbone_config=backbone, hidden_size=1024, neck_hidden_sizes=[256, 512, 1024, 1024]
        )
    tiny = name.startswith("dpt_swin2_tiny")
    width = 96 if tiny else 192
    backbone = transformers.Swinv2Config(
        image_size=PRESETS[name].side,
        embed_dim=width,
        depths=[2, 2, 6 if tiny else 18, 2],
        num_heads=[width // 32 * 2**stage for stage in range(4)],
        window_size=PRESETS[name].side // 16,
        pretrained_window_sizes=[0, 0, 0, 0] if tiny else [12, 12, 12, 6],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return transformers.DPTConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[width * 2**stage for stage in range(4)],
        reassemble_factors=[1, 1, 1, 1],
        hidden_size=8 * width,
    )


SIDES = {"ours": ours, "transformers": theirs}


def picture(name: str) -> torch.Tensor:
    """(1, 3, h, w): what the network sees of a picture of 512x512."""
    width, height = network_size((512, 512), PRESETS[name])
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def seconds(name: str) -> dict[str, float]:
    """The fastest pass of each side."""
    networks = {}
    for side, build in SIDES.items():
        with contextlib.suppress(ImportError, AttributeError):
            networks[side] = build(name)
    best = dict.fromkeys(networks, float("inf"))
    x = picture(name)
    for number in range(ROUNDS + 1):
        for side, network in networks.items():
            start = time.perf_counter()
            network(x)
            if number:
                best[side] = min(best[side], time.perf_counter() - start)
    return best


def gigabytes(name: str, side: str) -> float:
    """The peak of a process of its own that runs one pass."""
    code = f"from benchmarks.estimators import *\nwith torch.no_grad(): SIDES[{side!r}]({name!r})(picture({name!r}))\n"
    code += "print(Path('/proc/self/status').read_text())"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = re.search(r"VmHWM:\s+(\d+)", done.stdout)
    assert found is not None
    return int(found[1]) / 1e6


def main(names: list[str]) -> None:
    """Print a row for each."""
    for name in names or [name for name in PRESETS if name.startswith(("depth_anything", "dpt_beit", "dpt_swin2"))]:
        row = [f"{side} {best:.2f} s, {gigabytes(name, side):.2f} GB" for side, best in seconds(name).items()]
        print(f"{name}: {'; '.join(row)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
