r"""What can only be found out on a GPU: the library's checks there, and its speed and memory against transformers' DPT.

``python benchmarks/gpu.py [--output gpu.json]`` prints tables for ``docs/numbers.md``; its exit status is 1 when one of
the checks failed, which are those of ``tests/gpu/checks.py``. Weights are random, nothing is downloaded, and neither
gradio nor pytest is needed; without Stability's ``ldm`` or transformers their columns stay empty, and below the tables
it says so. ``--device cpu --quick`` tries the script itself out.

On a machine that has torch and torchvision and reaches no index, carry the rest as wheels and name their folder:
``python benchmarks/gpu.py --wheels DIR``. They are installed for this run alone and come before what is there, so carry
only what is missing: OpenCV's wheel has 61 MB. To gather them, for Python 3.12 on Linux:

    python -m pip download --dest DIR --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        timm safetensors huggingface_hub PyYAML tqdm packaging numpy Pillow opencv-python-headless \
        transformers tokenizers regex httpx2 httpcore2 h11 anyio idna truststore

The last line is what transformers and its ``huggingface_hub`` import today; ``--no-deps`` fetches nothing that is not
named, or torch would come along. A module that is still missing is named.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_report import FROM_PICTURES, OURS, THEIRS, Report, Timing

# Nothing but the standard library up to here: with --wheels, all else comes later.
if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from tests.gpu.checks import Result

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

NEEDED = ("torch", "numpy", "PIL", "cv2", "timm")
MIB = 1 << 20


@dataclass(frozen=True)
class Plan:
    """How much is done.

    ``networks``: those that are checked. ``timed``: the preset that is measured against transformers' DPT in its
    published configuration but for ``changes``. ``picture``: (width, height). ``inner``: calls per round on a GPU.
    """

    networks: tuple[str, ...]
    timed: str
    batch_sizes: tuple[int, ...]
    picture: tuple[int, int]
    rounds: int
    inner: int
    changes: Mapping[str, object] = field(default_factory=dict)


FULL = Plan(
    networks=("dpt_hybrid", "dpt_large", "midas_v21", "midas_v21_small", "small"),
    timed="dpt_hybrid",
    batch_sizes=(1, 4, 8),
    picture=(512, 512),
    rounds=5,
    inner=10,
)
QUICK = Plan(
    networks=("small",),
    timed="small",
    batch_sizes=(1, 2),
    picture=(128, 128),
    rounds=1,
    inner=1,
    changes={
        "image_size": 128,
        "backbone_featmap_shape": [1, 1024, 8, 8],
        "hidden_size": 48,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "neck_hidden_sizes": [256, 512, 48, 48],
        "fusion_hidden_size": 16,
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every check held, 1 when one did not, 2 when nothing could be run."""
    arguments = _parser().parse_args(argv)
    if arguments.wheels is not None:
        return with_wheels(arguments)
    use_own_tests()
    try:
        for name in NEEDED:
            importlib.import_module(name)
        from lib_depth2img.devices import checked_device
        from lib_depth2img.errors import DeviceError

        device = checked_device(arguments.device)
    except ImportError as error:
        print(f"error: {error}. How to carry what is missing: python {Path(__file__).name} --help", file=sys.stderr)
        return 2
    except DeviceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = find_out(device, QUICK if arguments.quick else FULL, arguments.output)
    print("\n" + report.markdown())
    return 1 if report.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="default %(default)s")
    parser.add_argument("--quick", action="store_true", help="small networks and sizes, to try the script out")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="install the wheels of this folder for this run")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write everything there")
    return parser


def use_own_tests() -> None:
    """Let ``tests`` mean ours, a mere folder: a package of that name, as some wheels bring, would go before it."""
    if "tests" not in sys.modules:
        spec = ModuleSpec("tests", None, is_package=True)
        spec.submodule_search_locations = [str(REPOSITORY / "tests")]
        sys.modules["tests"] = importlib.util.module_from_spec(spec)


def with_wheels(arguments: argparse.Namespace) -> int:
    """The same in a Python that has what the wheels hold."""
    wheels = sorted(map(str, arguments.wheels.glob("*.whl")))
    if not wheels:
        print(f"error: there is no wheel in {arguments.wheels}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        places = ["--no-index", "--find-links", str(arguments.wheels), "--no-deps", "--target", folder]
        subprocess.run([*pip, *places, *wheels], check=True)
        command = [sys.executable, str(Path(__file__).resolve()), "--device", arguments.device]
        command += ["--quick"] if arguments.quick else []
        command += ["--output", str(arguments.output)] if arguments.output else []
        before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, *before])}
        return subprocess.run(command, env=environment, check=False).returncode


def find_out(device: torch.device, plan: Plan, output: Path | None) -> Report:
    """Checks, then timings, a line for each as it comes."""
    from tests.gpu import checks
    from tests.gpu.subjects import subject

    begun = time.perf_counter()
    quick = plan is QUICK
    report = Report(machine(device), quick=quick)

    def noted(results: Iterable[Result]) -> None:
        for result in results:
            report.results.append(result)
            print(result, flush=True)
            report.save(output)  # the machine may be gone before the last
        print(f"-- after {time.perf_counter() - begun:.0f} s", flush=True)

    noted(checks.run_all(subject(network, device, quick=quick) for network in plan.networks))
    for name, measure in (("network", _measure_network), ("conditioning", _measure_conditioning)):
        # An error in one of them counts as a failed check, and the other is measured all the same.
        noted([checks.run(f"timings, {name}", plan.timed, "", functools.partial(measure, report, plan, device))])
    return report


def machine(device: torch.device) -> dict[str, str]:
    """What the numbers were found on."""
    import torch

    found = {"device": f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)}
    if device.type == "cuda" and torch.cuda.is_available():
        found = {
            "device": torch.cuda.get_device_name(device),
            "driver": _driver(),
            "CUDA": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
            "TF32 in convolutions": str(torch.backends.cudnn.allow_tf32),
            "TF32 in matrix products": str(torch.backends.cuda.matmul.allow_tf32),
        }
    versions = {name: _version(name) for name in ("torch", "timm", "transformers")}
    return {**found, **versions, "Python": sys.version.split()[0]}


def _driver() -> str:
    command = shutil.which("nvidia-smi")
    if command is None:
        return "unknown, since nvidia-smi is not here"
    asked = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0].strip() or "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _measure_network(report: Report, plan: Plan, device: torch.device) -> dict[str, float]:
    import torch

    from tests.gpu.checks import half

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's and transformers', about names of their own
        for precision in ("float32", half(device)):
            report.timings += network_timings(report, plan, device, precision)
    return {}


def network_timings(report: Report, plan: Plan, device: torch.device, precision: str) -> list[Timing]:
    """Both sides on the same normalised input, taking turns; ours also from pictures to maps."""
    import torch
    from conditioning import in_turn

    from lib_depth2img import DepthEstimator
    from lib_depth2img.estimators.cache import DepthCache
    from lib_depth2img.estimators.preprocess import network_size
    from lib_depth2img.estimators.presets import get_preset
    from tests.gpu.subjects import random_network

    dtype = getattr(torch, precision)
    weights = random_network(plan.timed).state_dict()
    width, height = network_size(plan.picture, get_preset(plan.timed))
    inputs = {size: torch.randn(size, 3, height, width).to(device, dtype) for size in plan.batch_sizes}
    sides, resident = networks(report, plan, weights, inputs[plan.batch_sizes[0]])
    estimator = DepthEstimator(
        plan.timed,
        weights=weights,
        device=device,
        precision=precision,  # type: ignore[arg-type]
        cache=DepthCache(0),
    )
    counted = device.type == "cuda"
    if not counted:
        report.note("Peak memory was not measured: torch counts it on a GPU only.")
    timings = []
    for size, x in inputs.items():
        calls: dict[str, Callable[[], object]] = {name: functools.partial(side, x) for name, side in sides.items()}
        peaks = {name: resident[name] + _peak_mib(call, device) for name, call in calls.items() if counted}
        calls[FROM_PICTURES] = functools.partial(estimator.estimate, pictures(plan.picture, size))
        seconds = in_turn(calls, plan.rounds, device, inner=plan.inner if device.type == "cuda" else 1)
        timings.append(Timing(precision, size, seconds, peaks))
    return timings


def networks(
    report: Report, plan: Plan, weights: Mapping[str, torch.Tensor], x: torch.Tensor
) -> tuple[dict[str, nn.Module], dict[str, float]]:
    """The sides, for inputs as ``x``; and the MiB that each keeps on a GPU between passes."""
    ours = functools.partial(_our_network, plan, weights, x)
    makers = {OURS: ours, THEIRS: functools.partial(_their_network, plan, x)}
    try:
        importlib.import_module("transformers.models.dpt.modeling_dpt")
    except (ImportError, RuntimeError) as error:  # the latter where it is here, but not what it needs
        del makers[THEIRS]
        report.note(f"transformers' DPT was not measured: {error}.")
    ours()(x)  # with the first pass come work spaces of torch's own, which stay, and are nobody's
    sides, resident = {}, {}
    for name, make in makers.items():
        before = _allocated(x.device)
        sides[name] = make()
        sides[name](x)
        resident[name] = (_allocated(x.device) - before) / MIB
    if THEIRS in sides:
        attention = getattr(sides[THEIRS].config, "_attn_implementation", None)
        report.machine["transformers' attention"] = str(attention or "its own")
    return sides, resident


def _our_network(plan: Plan, weights: Mapping[str, torch.Tensor], x: torch.Tensor) -> nn.Module:
    from lib_depth2img.estimators.loading import build_network
    from lib_depth2img.estimators.networks.building import cast_network
    from lib_depth2img.estimators.presets import get_preset

    return cast_network(build_network(get_preset(plan.timed), weights), x.dtype, x.device).to(x.device)


def _their_network(plan: Plan, x: torch.Tensor) -> nn.Module:
    from conditioning import transformers_network

    return transformers_network(**plan.changes).to(x.device, x.dtype)


def _allocated(device: torch.device) -> int:
    """Bytes on a GPU; elsewhere torch does not count them."""
    import torch

    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _peak_mib(call: Callable[[], object], device: torch.device) -> float:
    """MiB that a call takes on a GPU at its peak, above what is held before it."""
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / MIB


def pictures(size: tuple[int, int], count: int) -> list[np.ndarray]:
    """(H, W, 3) uint8, all different: equal ones would be estimated once."""
    import numpy as np

    from tests.gpu.subjects import photograph

    return [np.roll(photograph(size), shift, axis=1) for shift in range(count)]


def _measure_conditioning(report: Report, plan: Plan, device: torch.device) -> dict[str, float]:
    import torch
    from conditioning import NO_LDM, conditioning_times, has_ldm, stability_network, stage

    from tests.gpu.subjects import random_network

    weights = random_network(plan.timed).state_dict()
    theirs = None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if plan.timed != "dpt_hybrid":
            report.note("The bare host was not measured: --quick has another network than it.")
        elif has_ldm():
            theirs = stability_network(weights)
        else:
            report.note(NO_LDM)
        report.conditioning = conditioning_times(stage(weights, plan.timed), theirs, device, plan.batch_sizes)
    return {}


if __name__ == "__main__":
    sys.exit(main())
