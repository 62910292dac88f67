"""The library on a device, against itself in float32 on the CPU. ``benchmarks/gpu.py`` runs these where a GPU is.

Plain functions that need no pytest. A check returns the numbers it found, raises ``AssertionError`` where the library
does not hold, and ``LeftOutError`` where the device has no such thing. Numbers: "error", the largest difference as a
share of the map's range; "correlation" with float32 on the CPU; "left MiB", what stays behind on the device.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from lib_depth2img import DepthEstimator, DepthMap, conditioning, place
from lib_depth2img.errors import EstimatorError
from lib_depth2img.estimators.cache import DepthCache
from lib_depth2img.estimators.network import BorrowedNetwork
from lib_depth2img.estimators.stage import DepthStage
from tests.gpu.subjects import Subject

__all__ = [
    "CORRELATION",
    "CORRELATION_OF",
    "EACH_NETWORK",
    "EACH_PRECISION",
    "ERROR",
    "ONCE",
    "LeftOutError",
    "Result",
    "half",
    "run",
    "run_all",
]

Numbers = dict[str, float]

ERROR = 1e-3
"""Of the map's range: how far float32 may be from the CPU's."""

CORRELATION = 0.999
"""The least correlation of a reduced precision with float32 on the CPU."""

CORRELATION_OF = {("midas_v21_small", "bfloat16"): 0.98}
"""Other bounds. Random weights of so narrow a network, rounded to bfloat16 and computed in float32, give 0.996."""

PRECISIONS = ("float32", "float16", "bfloat16")

MIB = 1 << 20


class LeftOutError(Exception):
    """The device has nothing to be checked here; the text says why."""


@dataclass(frozen=True)
class Result:
    """What came of one check. ``outcome``: "passed", "failed" or "left out"; ``precision``: "" where it has none."""

    check: str
    network: str
    precision: str
    outcome: str
    seconds: float
    said: str = ""
    numbers: Numbers = field(default_factory=dict)

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {number:.6g}" for name, number in self.numbers.items())
        words = "; ".join(part for part in (numbers, self.said) if part)
        about = " ".join(part for part in (self.network, self.precision) if part)
        return f"{self.outcome}: {self.check}: {about} ({self.seconds:.1f} s){': ' if words else ''}{words}"


def run_all(subjects: Iterable[Subject]) -> Iterator[Result]:
    """Every check on each of the subjects, those of ``ONCE`` on the first of them."""
    once = ONCE
    for on in subjects:
        for precision in PRECISIONS:
            for name, check in EACH_PRECISION.items():
                yield run(name, on.network, precision, functools.partial(check, on, precision))
        for name, of_network in {**EACH_NETWORK, **once}.items():
            yield run(name, on.network, "", functools.partial(of_network, on))
        once = {}


def run(name: str, network: str, precision: str, check: Callable[[], Numbers]) -> Result:
    """Run one check. An error that nobody expected is a failure like any other; its traceback goes to stderr."""
    begun = time.perf_counter()
    outcome, said, numbers = "passed", "", Numbers()
    try:
        numbers = check()
    except LeftOutError as reason:
        outcome, said = "left out", str(reason)
    except Exception as error:  # noqa: BLE001 - the other checks shall run all the same
        outcome, said = "failed", f"{type(error).__name__}: {error}"
        traceback.print_exc(file=sys.stderr)
    return Result(name, network, precision, outcome, time.perf_counter() - begun, said, numbers)


def half(device: torch.device) -> str:
    """The reduced precision that hosts load checkpoints in; a CPU has another."""
    return "bfloat16" if device.type == "cpu" else "float16"


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """In it torch rounds nothing to TF32, as it does by itself in the convolutions of newer GPUs."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def allocated(device: torch.device) -> int:
    """Bytes of the tensors on the device: as torch counts them on a GPU, elsewhere those that Python knows of."""
    gc.collect()
    if device.type == "cuda" and torch.cuda.is_available():
        torch.cuda.synchronize(device)
        return torch.cuda.memory_allocated(device)
    tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    with torch._C.DisableTorchFunction():
        return sum(each.nbytes for each in tensors if each.device.type == device.type)


# Of each network in each precision


def agrees(on: Subject, precision: str) -> Numbers:
    """Photographs: float32 within ``ERROR``, the reduced ones with ``CORRELATION``, and so float32 as torch is set."""
    estimator = _own(on, precision)
    if precision != "float32":
        return _compared(on, estimator.estimate(on.photographs), precision)
    with exact_float32():
        numbers = _compared(on, estimator.estimate(on.photographs), precision)
    if on.device.type == "cuda":
        with_tf32 = _compared(on, estimator.estimate(on.photographs), precision)
        numbers |= {f"{name} as torch is set": number for name, number in with_tf32.items()}
    assert numbers["error"] <= ERROR, f"the error is more than {ERROR} of the range: {numbers}"
    return numbers


def is_finite(on: Subject, precision: str) -> Numbers:
    """Flat pictures and extremes: nearness and the conditioning made of it; the estimator itself refuses NaN."""
    estimator = _own(on, precision)
    for name, picture in on.unusual.items():
        (depth_map,) = estimator.estimate([picture])
        made = conditioning(depth_map, place((picture.shape[1], picture.shape[0]), (512, 512)))
        assert np.isfinite(depth_map.values).all(), f"{name}: the map is not finite"
        assert bool((made.abs() <= 1).all()), f"{name}: the conditioning leaves [-1, 1]"
    return {}


def gives_memory_back(on: Subject, precision: str) -> Numbers:
    """After ``release`` the device has what it had before, within a MiB."""
    estimator = _own(on, precision)
    estimator.estimate(on.photographs[:1])
    estimator.release()  # with the first pass come work spaces of torch's own, which stay
    before = allocated(on.device)
    estimator.estimate(on.photographs[:1])
    loaded = allocated(on.device) - before
    estimator.release()
    assert loaded > MIB, "nothing was loaded, so nothing can be given back"
    return {"loaded MiB": loaded / MIB, "left MiB": _left(on.device, before)}


# Of each network: the ways a host lends the depth stage of its checkpoint


def stage_in_half(on: Subject) -> Numbers:
    """Loaded in half precision, on the device for good."""
    return _compared_in_half(on, _around(on, _in_half(on).to(on.device)).estimate(on.photographs))


def stage_there_and_back(on: Subject) -> Numbers:
    """Sent to the CPU it leaves nothing behind, and back on the device it estimates as before."""
    _needs_another_device(on)
    stage = _in_half(on)
    _warm_up(on, stage)
    before = allocated(on.device)
    _around(on, stage.to(on.device)).estimate(on.photographs)
    stage.to("cpu")
    left = _left(on.device, before)
    again = _around(on, stage.to(on.device)).estimate(on.photographs)
    return {**_compared_in_half(on, again), "left MiB": left}


def stage_for_one_pass(on: Subject) -> Numbers:
    """An unloaded checkpoint: the weights wait on the CPU, go to the device for a pass, and back."""
    _needs_another_device(on)
    stage = _in_half(on)
    _warm_up(on, stage)
    before = allocated(on.device)

    @contextlib.contextmanager
    def live() -> Iterator[nn.Module]:
        yield stage.to(on.device)
        stage.to("cpu")

    found = _borrowing(on, live).estimate(on.photographs)
    return {**_compared_in_half(on, found), "left MiB": _left(on.device, before)}


def stage_under_lowvram(on: Subject) -> Numbers:
    """The host's hook brings the weights in before a pass (lowvram.py:138), and sends them away for another module."""
    _needs_another_device(on)
    stage = _in_half(on)
    _warm_up(on, stage)
    before = allocated(on.device)

    def send_me_to_gpu(module: nn.Module, _: object) -> None:
        module.to(on.device)

    stage.register_forward_pre_hook(send_me_to_gpu)
    numbers = _compared_in_half(on, _around(on, stage).estimate(on.photographs))
    stage.to("cpu")
    return {**numbers, "left MiB": _left(on.device, before)}


def stage_under_autocast(on: Subject) -> Numbers:
    """A host that samples under autocast changes nothing of a stage in float32."""
    estimator = _around(on, on.stage().to(on.device))
    with exact_float32():
        outside = estimator.estimate(on.photographs[:1])
        with torch.autocast(on.device.type, dtype=getattr(torch, half(on.device))):
            inside = estimator.estimate(on.photographs[:1])
    error = _error([found.values for found in outside], inside)
    assert error <= ERROR, f"autocast changes it by {error:.2e} of the range"
    return {"error": error}


# Of one network: no memory


def no_memory_for_a_stage(on: Subject) -> Numbers:
    """A pass that asks for more than any device has: our sentence, and the next one runs."""
    stage = _in_half(on).to(on.device)
    estimator = _around(on, stage)
    estimator.estimate(on.photographs[:1])
    before = allocated(on.device)

    def too_much(*_: object) -> None:
        torch.empty(1 << 55, dtype=torch.uint8, device=on.device)

    handle = stage.register_forward_pre_hook(too_much)
    _assert_no_memory(on, estimator, "start the WebUI with --medvram or --lowvram")
    handle.remove()
    left = _left(on.device, before)
    return {**_compared_in_half(on, estimator.estimate(on.photographs)), "left MiB": left}


def no_memory_for_a_network(on: Subject) -> Numbers:
    """A card that is full when the network is loaded, and when a pass runs: our sentence, and later it runs."""
    if not (on.device.type == "cuda" and torch.cuda.is_available()):
        raise LeftOutError(f"a {on.device.type} cannot be made full for one program alone")
    remedy = "Free memory, or let it run on the CPU: --device cpu"
    estimator = on.estimator("float32")
    with _full(on.device):
        _assert_no_memory(on, estimator, remedy)
    estimator.release()
    estimator.estimate(on.photographs[:1])
    with _full(on.device):
        _assert_no_memory(on, estimator, remedy)
    return _compared(on, estimator.estimate(on.photographs), "float32")


Check = Callable[[Subject], Numbers]

EACH_PRECISION: dict[str, Callable[[Subject, str], Numbers]] = {
    "agrees with float32 on the CPU": agrees,
    "finite on flat pictures and extremes": is_finite,
    "memory given back after release": gives_memory_back,
}
EACH_NETWORK: dict[str, Check] = {
    "depth stage in half": stage_in_half,
    "depth stage to the CPU and back": stage_there_and_back,
    "depth stage on the device for one pass": stage_for_one_pass,
    "depth stage brought in by lowvram's hook": stage_under_lowvram,
    "depth stage under autocast": stage_under_autocast,
}
ONCE: dict[str, Check] = {
    "out of memory, depth stage": no_memory_for_a_stage,
    "out of memory, own network": no_memory_for_a_network,
}


def _own(on: Subject, precision: str) -> DepthEstimator:
    if on.device.type == "cpu" and precision == "float16":
        raise LeftOutError("no CPU computes in float16")
    return on.estimator(precision)


def _around(on: Subject, stage: nn.Module) -> DepthEstimator:
    return _borrowing(on, lambda: contextlib.nullcontext(stage))


def _borrowing(on: Subject, live: Callable[[], contextlib.AbstractContextManager[nn.Module]]) -> DepthEstimator:
    network = BorrowedNetwork(live, key=on.network, device=on.device)
    return DepthEstimator(on.network, weights=network, cache=DepthCache(0))


def _in_half(on: Subject) -> DepthStage:
    return on.stage().to(getattr(torch, half(on.device)))


def _warm_up(on: Subject, stage: DepthStage) -> None:
    """Work spaces that torch makes with the first pass, and keeps, are none of ours."""
    _around(on, stage.to(on.device)).estimate(on.photographs[:1])
    stage.to("cpu")


def _needs_another_device(on: Subject) -> None:
    if on.device.type == "cpu":
        raise LeftOutError("the device is the CPU itself")


def _compared(on: Subject, found: Sequence[DepthMap], precision: str) -> Numbers:
    """The maps of the photographs, computed in ``precision``, against float32 on the CPU; the worst of them."""
    for expected in on.expected:
        assert expected.std() > 0.05 * expected.max(), "the comparison would be of a constant"
    least = CORRELATION_OF.get((on.network, precision), CORRELATION)
    numbers = {"error": _error(on.expected, found), "correlation": _correlation(on.expected, found)}
    assert numbers["correlation"] >= least, f"the correlation is less than {least}: {numbers}"
    return numbers


def _compared_in_half(on: Subject, found: Sequence[DepthMap]) -> Numbers:
    return _compared(on, found, half(on.device))


def _correlation(expected: Sequence[np.ndarray], found: Sequence[DepthMap]) -> float:
    pairs = zip(expected, found, strict=True)
    return float(np.min([np.corrcoef(values.ravel(), got.values.ravel())[0, 1] for values, got in pairs]))


def _error(expected: Sequence[np.ndarray], found: Sequence[DepthMap]) -> float:
    pairs = zip(expected, found, strict=True)
    return float(np.max([np.abs(got.values - values).max() / np.ptp(values) for values, got in pairs]))


def _left(device: torch.device, before: int) -> float:
    """MiB on the device beyond ``before`` bytes; at most one."""
    left = (allocated(device) - before) / MIB
    assert left <= 1, f"{left:.1f} MiB stay on the device"
    return left


@contextlib.contextmanager
def _full(device: torch.device) -> Iterator[None]:
    """In it torch may take no more of a GPU's memory than it has, and what it has is taken."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved(device) / total, device)
    taken, size = [], 64 * MIB
    try:
        while size >= 512:
            try:
                taken.append(torch.empty(size, dtype=torch.uint8, device=device))
            except torch.cuda.OutOfMemoryError:
                size //= 2
        yield
    finally:
        taken.clear()
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def _refusal(on: Subject, estimator: DepthEstimator) -> str:
    """What the estimator says when it cannot go on."""
    try:
        estimator.estimate(on.photographs)
    except EstimatorError as error:
        return str(error)
    raise AssertionError("nothing was refused")


def _assert_no_memory(on: Subject, estimator: DepthEstimator, remedy: str) -> None:
    said = _refusal(on, estimator)
    assert said.startswith("Not enough memory is left for depth estimation"), said
    assert remedy in said, said
