"""What the depth conditioning costs: the bare host's way against ours, in one run, with the same weights.

``python benchmarks/conditioning.py [--device cuda] [--quick]`` prints a table and writes a plot under ``docs/``.

Machines differ and are shared, so the sides take turns within each round, the best round of each counts, and what is
reported first is the ratio. The host's way is modules/processing.py:304-321 of v1.10.1: MiDaS on batch_size copies of
the picture, and a VAE encode of each copy for nothing but the latent's size. Stability's ``ldm`` from PyPI gives MiDaS
and VAE at full size; where it is not installed, the host's side is missing and the table says so. All weights are
random, which changes nothing about the time.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import io
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from lib_depth2img import DepthEstimator, conditioning, place  # noqa: E402
from lib_depth2img.estimators.cache import DepthCache  # noqa: E402
from lib_depth2img.estimators.network import BorrowedNetwork  # noqa: E402
from lib_depth2img.estimators.networks.building import cast_network  # noqa: E402
from lib_depth2img.estimators.presets import PRESETS  # noqa: E402
from lib_depth2img.estimators.stage import DepthStage  # noqa: E402

SIZE = (512, 512)
PLOT = REPOSITORY / "docs" / "benchmark-conditioning.png"
NO_LDM = "Stability's ldm is not installed: the bare host and its network were not measured."


def in_turn(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    *,
    inner: int = 1,
    warm: bool = False,
) -> dict[str, float]:
    """Seconds per call of each side: the best of ``rounds``, in each of which every side runs ``inner`` times.

    A round that does not count goes before, unless all sides are ``warm``.
    """
    best = dict.fromkeys(sides, float("inf"))
    for number in range(1 if warm else 0, rounds + 1):
        for name, call in sides.items():
            _synchronise(device)
            start = time.perf_counter()
            for _ in range(inner):
                call()
            _synchronise(device)
            if number:
                best[name] = min(best[name], (time.perf_counter() - start) / inner)
    return best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def picture() -> np.ndarray:
    """(512, 512, 3) uint8: the packaged photograph."""
    with Image.open(REPOSITORY / "lib_depth2img" / "assets" / "demo-photograph.jpg") as file:
        return np.array(file.convert("RGB").resize(SIZE))


def has_ldm() -> bool:
    """Whether Stability's package is here, which is the bare host's side."""
    return importlib.util.find_spec("ldm") is not None


def stability_network(weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Stability's dpt_hybrid."""
    from ldm.modules.midas.midas.dpt_depth import DPTDepthModel

    network = DPTDepthModel(path=None, backbone="vitb_rn50_384", non_negative=True).eval()
    network.load_state_dict(weights)
    return network


def transformers_network(**changes: object) -> nn.Module:
    """transformers' DPT of the same shape (the published configuration of Intel/dpt-hybrid-midas), but for ``changes``.

    Its attention is the one it chooses itself: torch's fused one (sdpa) in versions that have it.
    """
    from transformers import DPTConfig, DPTForDepthEstimation

    published = {
        "is_hybrid": True,
        "backbone_out_indices": [2, 5, 8, 11],
        "neck_hidden_sizes": [256, 512, 768, 768],
        "reassemble_factors": [1, 1, 1, 0.5],
        "backbone_featmap_shape": [1, 1024, 24, 24],
        "fusion_hidden_size": 256,
        "readout_type": "project",
    }
    network: nn.Module = DPTForDepthEstimation(DPTConfig(**{**published, **changes})).eval()
    return network


def vae() -> nn.Module:
    """The VAE of Stable Diffusion at full size, from the project's own yaml."""
    from ldm.util import instantiate_from_config
    from omegaconf import OmegaConf

    yaml = OmegaConf.load(REPOSITORY / "lib_depth2img" / "checkpoint" / "v2-midas-inference.yaml")
    with contextlib.redirect_stdout(io.StringIO()):
        return instantiate_from_config(yaml.model.params.first_stage_config).eval()


def host_conditioning(stage: nn.Module, first_stage: nn.Module, batch_size: int, device: torch.device) -> torch.Tensor:
    """The bare host's way, step for step."""
    from ldm.data.util import AddMiDaS

    dtype = next(first_stage.parameters()).dtype
    source_image = torch.from_numpy(picture()).permute(2, 0, 1)[None].repeat(batch_size, 1, 1, 1) / 127.5 - 1.0
    transformed = AddMiDaS(model_type="dpt_hybrid")({"jpg": source_image[0].permute(1, 2, 0)})
    midas_in = torch.from_numpy(transformed["midas_in"][None]).to(device, dtype).repeat(batch_size, 1, 1, 1)
    image = source_image.to(device, dtype)
    latent = torch.stack([first_stage.encode(one[None]).sample()[0] for one in image])
    depth = nn.functional.interpolate(stage(midas_in), size=latent.shape[2:], mode="bicubic", align_corners=False)
    lowest, highest = torch.aminmax(depth)
    return 2.0 * (depth - lowest) / (highest - lowest) - 1.0


def our_conditioning(estimator: DepthEstimator, batch_size: int) -> torch.Tensor:
    """The library's road, from the picture to the tensor."""
    (depth_map,) = estimator.estimate([picture()])
    return conditioning(depth_map, place(SIZE, SIZE), batch_size=batch_size)


def gemm_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a 2048×2048×2048 matrix multiplication, the best of ten."""
    left, right = (torch.randn(2048, 2048, device=device).to(dtype) for _ in range(2))
    return 2 * 2048**3 / in_turn({"gemm": lambda: left @ right}, 10, device)["gemm"]


def nominal_flops(network: nn.Module) -> int:
    """Multiplications and additions of one 384×384 pass as Stability's code does it."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 384, 384))
    return counter.get_total_flops()


_MEMORY_PROBE = """
import ctypes, gc, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from lib_depth2img import DepthEstimator
from lib_depth2img.estimators.presets import PRESETS

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) / 1024

estimator = DepthEstimator("dpt_hybrid", weights=PRESETS["dpt_hybrid"].build().state_dict(), precision=sys.argv[2])
estimator.estimate([np.zeros((32, 32, 3), np.uint8)])  # loads the network
network = estimator._network._module
folded = [module._folded[1] for module in network.modules() if getattr(module, "_folded", None)]
folded = sum(tensor.nbytes for tensor in folded) / 2**20
gc.collect()
ctypes.CDLL(None).malloc_trim(0)  # else the estimate would use freed memory that is not counted
open("/proc/self/clear_refs", "w").write("5")  # VmHWM starts anew
before = status("VmRSS")
estimator.estimate([np.random.RandomState(0).randint(0, 256, (512, 512, 3)).astype(np.uint8)])
print(status("VmHWM") - before + folded)
"""


def peak_memory(precision: str) -> float | None:
    """MiB at the peak of a 512×512 estimate above the weights, folded weights included; None off Linux."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, "-W", "ignore", "-c", _MEMORY_PROBE, str(REPOSITORY), precision]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def measure(device: torch.device, *, quick: bool) -> dict[str, object]:
    """Everything, as plain numbers."""
    torch.manual_seed(0)
    half = torch.float16 if device.type == "cuda" else torch.bfloat16
    network = PRESETS["dpt_hybrid"].build().eval()
    with torch.no_grad():
        network.scratch.output_conv[4].bias.fill_(1.0)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    theirs = stability_network(weights) if has_ldm() else None
    flops = None if theirs is None else nominal_flops(theirs)
    reduced = PRESETS["dpt_hybrid"].build().eval()
    reduced.load_state_dict(weights)
    sides = {
        "ours": cast_network(network, torch.float32, device).to(device),
        **({} if theirs is None else {"ldm": theirs.to(device)}),
        "transformers": transformers_network().to(device),
        f"ours {half}".replace("torch.", ""): cast_network(reduced, half, device).to(device),
    }
    x = torch.randn(1, 3, 384, 384, device=device)
    inputs = {name: x.to(half) if name.endswith("16") else x for name in sides}
    outputs = {name: sides[name](inputs[name]) for name in sides if name != "transformers"}
    reduced_name = next(name for name in sides if name.endswith("16"))
    alone = in_turn(
        {name: (lambda name=name: sides[name](inputs[name])) for name in sides},  # type: ignore[misc]
        3 if quick else 6,
        device,
        inner=1 if device.type == "cpu" else 20,
    )
    results: dict[str, object] = {
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "network": alone,
        "reduced": reduced_name,
        "correlation": float(
            np.corrcoef(*(outputs[n].float().cpu().numpy().ravel() for n in ("ours", reduced_name)))[0, 1]
        ),
        "flops": flops,
        "gemm float32": gemm_rate(device, torch.float32),
        "gemm reduced": gemm_rate(device, half),
        "conditioning": conditioning_times(stage(weights), theirs, device, (1, 4) if quick else (1, 4, 8)),
    }
    if device.type == "cpu":
        results["peak MiB"] = peak_memory("float32")
    return results


def stage(weights: Mapping[str, torch.Tensor], preset: str = "dpt_hybrid") -> DepthStage:
    """The depth stage that the extension puts into a checkpoint, float32 on the CPU."""
    made = DepthStage(preset)
    made.model.load_state_dict(weights)
    return made


def conditioning_times(
    ours: DepthStage, theirs: nn.Module | None, device: torch.device, batch_sizes: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Seconds by batch size and side, ``ours`` and ``theirs`` brought to the device.

    ``theirs``: Stability's network with the same weights; None leaves the bare host's side out.
    """
    ours.to(device)
    sides = _our_sides(ours, device)
    if theirs is not None:
        sides = {"host": _host_side(theirs, device), **sides}
    times = {}
    for size in batch_sizes:
        calls = {name: functools.partial(side, size) for name, side in sides.items()}
        first = size == batch_sizes[0]
        times[str(size)] = in_turn(calls, 2 if first else 1, device, warm=not first)
    return times


def _our_sides(ours: DepthStage, device: torch.device) -> dict[str, Callable[[int], object]]:
    network = BorrowedNetwork(lambda: contextlib.nullcontext(ours), key="benchmark", device=device)
    uncached = DepthEstimator(ours.preset.name, weights=network, cache=DepthCache(0))
    cached = DepthEstimator(ours.preset.name, weights=network)
    return {
        "ours": functools.partial(our_conditioning, uncached),
        "ours, seen before": functools.partial(our_conditioning, cached),
    }


def _host_side(theirs: nn.Module, device: torch.device) -> Callable[[int], object]:
    from ldm.modules.midas.api import MiDaSInference

    midas = MiDaSInference.__new__(MiDaSInference)
    nn.Module.__init__(midas)
    midas.model = theirs.to(device)
    first_stage = vae().to(device)
    return lambda batch_size: host_conditioning(midas, first_stage, batch_size, device)


def table(results: dict) -> str:
    """The results as text, ratios first."""
    alone, reduced = results["network"], results["reduced"]
    lines = [
        f"{results['device']}, torch {results['torch']}, picture 512x512, float32 unless said otherwise",
        "",
        "conditioning        ratio    host      ours   seen before",
    ]
    for batch, row in results["conditioning"].items():
        host = f"{row['host'] / row['ours']:6.1f}x {row['host']:7.2f} s" if "host" in row else f"{'-':>7} {'-':>9}"
        lines.append(f"  batch {batch:<10} {host} {row['ours']:7.2f} s {row['ours, seen before'] * 1e3:8.1f} ms")
    lines += ["", "network alone, 384x384          ratio to ours"]
    lines += [
        f"  {name:<20} {seconds * 1e3:8.1f} ms {seconds / alone['ours']:6.2f}x" for name, seconds in alone.items()
    ]
    lines += ["", f"{reduced}: correlation to float32 {results['correlation']:.5f}", *_against_ldm(results)]
    if results.get("peak MiB") is not None:
        lines.append(f"peak memory above the weights: {results['peak MiB']:.0f} MiB")
    return "\n".join(lines)


def _against_ldm(results: dict) -> list[str]:
    """What is counted in passes of Stability's code, or that it is not there."""
    if results["flops"] is None:
        return [NO_LDM]
    alone, reduced, flops = results["network"], results["reduced"], results["flops"]
    rate = flops / alone["ours"]
    return [
        f"{reduced}: {alone['ldm'] / alone[reduced]:.2f}x over ldm's float32",
        f"{flops / 1e9:.0f} GFLOP per pass: {rate / 1e9:.0f} GFLOP/s, "
        f"{rate / results['gemm float32']:.0%} of the GEMM rate {results['gemm float32'] / 1e9:.0f}"
        f" (ldm's code {flops / alone['ldm'] / results['gemm float32']:.0%});"
        f" GEMM in {reduced.split()[-1]} {results['gemm reduced'] / 1e9:.0f}",
    ]


def plot(results: dict, path: Path) -> None:
    """Two panels of bars: the conditioning by batch size, and the network alone."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    batches = results["conditioning"]
    positions = np.arange(len(batches))
    has_host = all("host" in row for row in batches.values())
    for offset, side, colour in ((-0.2, "host", "#9a9a9a"), (0.2, "ours", "#2b6cb0"))[0 if has_host else 1 :]:
        seconds = [row[side] for row in batches.values()]
        bars = left.bar(positions + offset, seconds, 0.4, label={"host": "bare host"}.get(side, side), color=colour)
        left.bar_label(bars, [f"{value:.1f} s" for value in seconds], padding=2, fontsize=8)
    left.set_yscale("log")
    ratios = [f"\n{row['host'] / row['ours']:.1f}×" if has_host else "" for row in batches.values()]
    left.set_xticks(positions, [f"batch {batch}{ratio}" for batch, ratio in zip(batches, ratios, strict=True)])
    left.set_title("depth conditioning, 512×512, float32", fontsize=10)
    left.legend(frameon=False)
    alone = dict(sorted(results["network"].items(), key=lambda item: item[1]))
    colours = ["#2b6cb0" if name.startswith("ours") else "#9a9a9a" for name in alone]
    bars = right.barh(list(alone), [seconds * 1e3 for seconds in alone.values()], color=colours)
    right.bar_label(bars, [f"{seconds * 1e3:.0f} ms" for seconds in alone.values()], padding=2, fontsize=8)
    right.set_title("dpt_hybrid alone, 384×384", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{results['device']}, torch {results['torch']}", fontsize=9, color="#555555")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no batch of 8")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--plot", type=Path, default=PLOT, help="default %(default)s")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # ldm's and timm's, about names of their own
    torch.set_grad_enabled(False)
    results = measure(arguments.device, quick=arguments.quick)
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    plot(results, arguments.plot)


if __name__ == "__main__":
    main()
