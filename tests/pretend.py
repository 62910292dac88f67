"""Tensors that pretend to lie on a device that is not here, and compute all the same.

A ``Pretending`` tensor lies in the CPU's memory and says that it is on ``cuda:0`` or ``mps:0``. torch's functions are
caught on the way to it: what a real device refuses is refused (another device's tensor, another dtype's weights,
float64 on MPS), what it can do is computed on the CPU, half precision by way of float32. So a road can be run to its
end, a tensor left behind or a dtype mixed up raises, and the values can be compared. torch's own ``FakeTensorMode``
does less: it has no values, and in torch 2.1 a convolution on ``mps`` aborts the process.
"""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["Pretending", "autocast_of_directml", "left_on", "pretended"]

_SAME_DTYPE = {
    F.conv2d,
    torch.conv2d,
    F.conv_transpose2d,
    torch.conv_transpose2d,
    F.linear,
    F.layer_norm,
    F.group_norm,
    F.batch_norm,
    F.scaled_dot_product_attention,
    torch.matmul,
    torch.bmm,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
}
"""Functions that real devices call only with floating-point tensors of one dtype."""

_MAKING = {torch.empty, torch.zeros, torch.ones, torch.full, torch.arange, torch.tensor, torch.linspace, torch.randn}
_MOVING = {torch.Tensor.to, torch.Tensor.cpu}
_KEEPING = {torch.zeros_like, torch.empty_like, torch.ones_like}
_HALF = (torch.float16, torch.bfloat16)
_NOT_IN_HALF: set[tuple[Any, torch.dtype]] = set()
"""(function, dtype) that this torch's CPU has refused once; asking each time took most of the time."""


class Pretending(torch.Tensor):
    """A tensor that says it is on ``pretended_device``; see above."""

    pretended_device: torch.device

    @property  # type: ignore[override]
    def device(self) -> torch.device:
        return self.pretended_device

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _call(function, args, kwargs or {})

    def __deepcopy__(self, memo: Any) -> Pretending:
        return _pretend(_real(self).clone(), self.pretended_device)

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {self.pretended_device} device type tensor to numpy")


def _pretend(real: torch.Tensor, device: torch.device) -> Pretending:
    if device.type == "mps" and real.dtype == torch.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
    with torch.no_grad():  # a new leaf, as what comes from a copy to a device is under no_grad
        made = real.as_subclass(Pretending)
    made.pretended_device = device
    return made


def _real(tensor: Any) -> Any:
    if not isinstance(tensor, Pretending):
        return tensor
    with torch._C.DisableTorchFunction():
        return tensor.as_subclass(torch.Tensor)


def _is_pretended(device: Any) -> bool:
    return device is not None and torch.device(device).type not in ("cpu", "meta")


def _with_index(device: Any) -> torch.device:
    device = torch.device(device)
    return device if device.index is not None else torch.device(device.type, 0)


def _call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = getattr(function, "__name__", "")
    tensors = [each for each in _leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    if function in _MOVING:
        return _move(function, args, kwargs)
    if name in ("__get__", "__set__") or (name.startswith("__") and name in ("__repr__", "__hash__")):
        return _attribute(function, name, args, kwargs)
    if name == "requires_grad_":
        with torch._C.DisableTorchFunction():
            return function(*args, **kwargs)
    if name == "_has_compatible_shallow_copy_type":  # "no" makes modules take new parameters when they move
        return False
    if function in _KEEPING and kwargs.get("device") is not None:
        real_kwargs = {**kwargs, "device": "cpu"}
        made = _run(function, args, real_kwargs)
        return _pretend(made, _with_index(kwargs["device"])) if _is_pretended(kwargs["device"]) else made
    device = _one_device(function, tensors)
    _one_dtype(function, tensors)
    if device.type == "mps" and any(isinstance(each, str) and each == "bicubic" for each in (*args, *kwargs.values())):
        raise NotImplementedError("The operator 'aten::upsample_bicubic2d.out' is not implemented for the MPS device.")
    return _labelled(_compute(function, args, kwargs), device)


def _one_device(function: Any, tensors: Iterable[torch.Tensor]) -> torch.device:
    devices = {
        tensor.device for tensor in tensors if isinstance(tensor, Pretending) or tensor.dim() > 0
    }  # torch lets a lone number of the CPU come along
    if function is torch.Tensor.copy_:  # it takes from any device
        return tensors[0].device
    if len(devices) > 1:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, found {sorted(map(str, devices))} ({function.__name__})"
        )
    return devices.pop()


def _one_dtype(function: Any, tensors: Iterable[torch.Tensor]) -> None:
    if function not in _SAME_DTYPE:
        return
    dtypes = {tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point}
    if len(dtypes) > 1:
        raise RuntimeError(f"expected one dtype, but found {sorted(map(str, dtypes))} ({function.__name__})")


def _compute(function: Any, args: Any, kwargs: Any) -> Any:
    """On the CPU; half precision by way of float32 where this torch's CPU does not know it."""
    dtypes = {tensor.dtype for tensor in _leaves((args, kwargs)) if _is_half(tensor)}
    needs_float32 = {(function, dtype) for dtype in dtypes}
    if not needs_float32 & _NOT_IN_HALF:
        try:
            return _run(function, args, kwargs)
        except RuntimeError as error:
            if "not implemented for" not in str(error) or not dtypes:
                raise
        _NOT_IN_HALF.update(needs_float32)
    args, kwargs = _mapped(lambda each: _real(each).float() if _is_half(each) else each, (args, kwargs))
    made = _run(function, args, kwargs)
    return _mapped(lambda each: each.to(next(iter(dtypes))) if isinstance(each, torch.Tensor) else each, made)


def _is_half(each: Any) -> bool:
    return isinstance(each, Pretending) and each.dtype in _HALF


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list, dict)) and not isinstance(value, torch.Size):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    else:
        yield value


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    if type(value) in (tuple, list):
        return type(value)(_mapped(change, each) for each in value)
    if isinstance(value, dict):
        return {name: _mapped(change, each) for name, each in value.items()}
    return change(value)


def _run(function: Any, args: Any, kwargs: Any) -> Any:
    args, kwargs = _mapped(_real, (args, kwargs))
    with torch._C.DisableTorchFunction():
        return function(*args, **kwargs)


def _labelled(result: Any, device: torch.device) -> Any:
    if not _is_pretended(device):
        return result
    return _mapped(lambda each: _pretend(each, device) if isinstance(each, torch.Tensor) else each, result)


def _attribute(function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    owner = args[0]
    if name == "__set__":
        value = args[1]
        with torch._C.DisableTorchFunction():
            function(owner, _real(value))
        if isinstance(owner, Pretending) and isinstance(value, torch.Tensor):  # `parameter.data = tensor`
            owner.pretended_device = value.device
        return None
    with torch._C.DisableTorchFunction():
        found = function(*args, **kwargs)
    if isinstance(found, torch.Tensor) and isinstance(owner, Pretending):
        return _pretend(_real(found), owner.pretended_device)
    return found


def _move(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor, *rest = args
    old = tensor.device
    if function is torch.Tensor.cpu:
        rest, kwargs = ["cpu"], {}
    elif rest and isinstance(rest[0], torch.Tensor):  # `tensor.to(other)`
        rest = [rest[0].device, rest[0].dtype, *rest[1:]]
    with torch._C.DisableTorchFunction():
        asked, dtype, _, memory_format = torch._C._nn._parse_to(*rest, **kwargs)
        new = old if asked is None else _with_index(asked) if _is_pretended(asked) else asked
        form = {} if memory_format is None else {"memory_format": memory_format}
        if new.type == "meta":
            return _real(tensor).to("meta", dtype or tensor.dtype, **form)
        moved = _real(tensor).to(dtype or tensor.dtype, copy=new != old, **form)
        if moved is _real(tensor) or (new == old and moved.data_ptr() == tensor.data_ptr()):
            return tensor
    return _pretend(moved, new) if _is_pretended(new) else moved


class _Factories(TorchFunctionMode):
    """Tensors made on a pretended device, and moved there from the CPU."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _MAKING and _is_pretended(kwargs.get("device")):
            with torch._C.DisableTorchFunction():
                real = function(*args, **{**kwargs, "device": "cpu"})
            return _pretend(real, _with_index(kwargs["device"]))
        if function is torch.Tensor.to and not isinstance(args[0], Pretending):
            return _move(function, args, kwargs)
        return function(*args, **kwargs)


@contextlib.contextmanager
def pretended() -> Iterator[None]:
    """In it every device is there. Modules that move get new parameters, which is how the pretence moves with them."""
    emptied, current = torch.mps.empty_cache, torch.cuda.current_device
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.mps.empty_cache, torch.cuda.current_device = lambda: None, lambda: 0
    try:
        with _Factories(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*CUDA is not available")  # torch.autocast("cuda")
            yield
    finally:
        torch.mps.empty_cache, torch.cuda.current_device = emptied, current
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def left_on(device: str, *, besides: Callable[[], Iterable[torch.Tensor]] = tuple) -> list[tuple[int, ...]]:
    """Shapes of the tensors still alive on a pretended device, but for ``besides``."""
    gc.collect()
    known = {id(tensor) for tensor in besides()}
    return [
        tuple(each.shape)
        for each in gc.get_objects()
        if type(each) is Pretending and each.pretended_device.type == device and id(each) not in known
    ]


_CAST_BY_DIRECTML = ("conv2d", "conv_transpose2d", "linear")


@contextlib.contextmanager
def autocast_of_directml() -> Iterator[None]:
    """The AMD fork's autocast (e61adddd, modules/dml/amp/autocast_mode.py), of the functions that networks here call.

    It stands before torch's functions as long as the process lives; ``torch.dml.is_autocast_enabled`` switches it.
    What is cast goes to bfloat16 here, which every torch's CPU computes in, where the fork casts to float16.
    """
    directml = SimpleNamespace(is_autocast_enabled=True)

    def cast(given: Any) -> Any:
        wide = isinstance(given, torch.Tensor) and given.dtype == torch.float32
        return given.to(torch.bfloat16) if wide and directml.is_autocast_enabled else given

    def casting(function: Any) -> Any:
        return lambda *args, **kwargs: function(*map(cast, args), **{name: cast(each) for name, each in kwargs.items()})

    replaced = {name: getattr(F, name) for name in _CAST_BY_DIRECTML}
    torch.dml = directml  # type: ignore[attr-defined]
    for name, function in replaced.items():
        setattr(F, name, casting(function))
    try:
        yield
    finally:
        del torch.dml  # type: ignore[attr-defined]
        for name, function in replaced.items():
            setattr(F, name, function)
