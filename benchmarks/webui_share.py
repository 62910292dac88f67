"""How much of a generation in the WebUI is depth conditioning: the bare host against this extension.

``WEBUI_ROOT=/path/to/stable-diffusion-webui python benchmarks/webui_share.py`` starts the WebUI twice, with the
extension and without, and lets them take turns at one 512x512 generation of 20 steps, each time of a picture nobody has
seen, on the CPU. What is reported first is the ratio.

``--checkpoint FILE`` names a depth model. Without it one is made, of full size and with random weights, which take as
long as trained ones; two WebUIs with it need 18 GB of memory, and a generation on a CPU takes minutes. With ``--small``
UNet and text encoder are a thousandth of that: for trying out, since its generations are shorter than real ones.
Everything after ``--`` goes to both WebUIs, in place of ``--no-half``.
"""

from __future__ import annotations

import argparse
import copy
import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import requests
import torch
from omegaconf import OmegaConf
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests import small_checkpoint as small  # noqa: E402
from tests.host.server import PROBE, WebUI  # noqa: E402

YAML = REPOSITORY / "lib_depth2img" / "checkpoint" / "v2-midas-inference.yaml"
MIDAS = "dpt_hybrid-midas-501f0c75.pt"  # the bare host reads such a file first, whatever is in the checkpoint
SIZE, STEPS = 512, 20
Times = dict[str, float]


def random_checkpoint(folder: Path, network: torch.nn.Module, *, with_small_unet: bool) -> Path:
    """A depth model in half precision with random weights around ``network``; its VAE is of full size."""
    import ldm.modules.midas.api

    config: Any = OmegaConf.to_container(OmegaConf.load(YAML))
    if with_small_unet:
        small.register_clip(folder)
        full, config = config, small.depth_config()
        config["model"]["params"]["first_stage_config"] = copy.deepcopy(full["model"]["params"]["first_stage_config"])
    else:
        config["model"]["params"]["cond_stage_config"]["params"]["version"] = None  # or open_clip would download it
    with patch.object(ldm.modules.midas.api, "load_model", lambda _: (network, None)):
        model = small.build(config)
    return small.save(model.half(), config, folder / "share.safetensors")


def started(name: str, folder: Path, arguments: argparse.Namespace, checkpoint: Path) -> WebUI:
    """A running WebUI with the timing extension, and with ours where ``name`` says so."""
    root = Path(arguments.root)
    webui = WebUI(folder / name, root=root, python=Path(os.environ.get("WEBUI_PYTHON", root / "venv/bin/python")))
    shutil.copytree(PROBE, webui.data / "extensions" / "probe")
    shutil.copytree(REPOSITORY / "benchmarks" / "webui_timing", webui.data / "extensions" / "timing")
    for architecture in folder.glob("*.json"):
        shutil.copy(architecture, webui.data / "extensions" / "probe" / "scripts")
    webui.add_checkpoint(checkpoint)
    webui.add_midas(folder / MIDAS)
    if name == "extension":
        webui.link_extension()
    webui.write_settings(sd_model_checkpoint=checkpoint.name)
    webui.start(*arguments.flags)
    return webui


def generate(webui: WebUI, picture: Image.Image, steps: int = STEPS) -> Times:
    """Seconds in the conditioning and in the whole generation."""
    reply = webui.img2img(picture, width=SIZE, height=SIZE, steps=steps, denoising_strength=1.0)
    assert reply.status_code == 200, reply.text
    taken: Times = requests.post(f"{webui.url}/timing", timeout=60).json()
    return taken


def in_turn(sides: dict[str, WebUI], rounds: int) -> dict[str, list[Times]]:
    """``rounds`` generations of each side, after one of a single step that does not count.

    Under "seen before": the extension's conditioning of the same picture once more, again in a single step.
    """
    random = np.random.default_rng(0)
    times: dict[str, list[Times]] = {name: [] for name in [*sides, "seen before"]}
    for number in range(rounds + 1):
        picture = Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)).resize((SIZE, SIZE), Image.BICUBIC)
        for name, webui in sides.items():
            start = time.monotonic()
            taken = generate(webui, picture, STEPS if number else 1)
            print(f"round {number}, {name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
            if number:
                times[name].append(taken)
        if number:
            times["seen before"].append(generate(sides["extension"], picture, 1))
    return times


def report(times: dict[str, list[Times]]) -> str:
    """Medians as text, ratio first."""
    middle = {
        name: {kind: statistics.median(taken[kind] for taken in rows) for kind in rows[0]}
        for name, rows in times.items()
    }
    bare, ours = middle["bare host"], middle["extension"]
    lines = [
        f"conditioning, bare host to extension: {bare['conditioning'] / ours['conditioning']:.1f}x "
        f"({bare['conditioning']:.2f} s to {ours['conditioning']:.2f} s; of a picture seen before "
        f"{middle['seen before']['conditioning'] * 1e3:.0f} ms)",
        f"{SIZE}x{SIZE}, {STEPS} steps, median of {len(times['extension'])}",
        "",
        "                       share of a generation   its seconds",
    ]
    lines += [
        f"  {name:<20} {row['conditioning'] / row['generation']:21.2%} {row['generation']:13.1f}"
        for name, row in (("bare host", bare), ("extension", ours))
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=os.environ.get("WEBUI_ROOT"), help="default: WEBUI_ROOT")
    parser.add_argument("--checkpoint", type=Path, help="a depth model; default: one with random weights is made")
    parser.add_argument("--small", action="store_true", help="make it with a small UNet")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("flags", nargs="*", default=["--no-half"], help="for both WebUIs, after --; default: --no-half")
    arguments = parser.parse_args()
    if arguments.root is None or not (Path(arguments.root) / "launch.py").is_file():
        parser.error("--root or WEBUI_ROOT has to name a stable-diffusion-webui folder")
    if arguments.checkpoint is not None and not arguments.checkpoint.is_file():
        parser.error(f"no file {arguments.checkpoint}")
    warnings.simplefilter("ignore")  # ldm's and timm's, about names of their own
    sides: dict[str, WebUI] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = small.random_dpt_hybrid()
        torch.save(network.state_dict(), folder / MIDAS)
        checkpoint = arguments.checkpoint or random_checkpoint(folder, network, with_small_unet=arguments.small)
        try:
            for side in ("bare host", "extension"):
                sides[side] = started(side, folder, arguments, checkpoint)
            times = in_turn(sides, arguments.rounds)
        finally:
            for webui in sides.values():
                webui.stop()
    print(report(times))


if __name__ == "__main__":
    main()
