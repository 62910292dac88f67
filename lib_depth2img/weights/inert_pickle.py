"""Read a pickle as data: nothing is imported, nothing is called, tensors become placeholders.

`pickletools` decodes the opcodes; the small machine here carries out those that build plain containers. A global is
only a name. The few callables that sound checkpoints use (torch's tensor rebuilding, ordered dictionaries, numpy
scalars) are replaced by functions of this module; calling or building anything else is refused. A class merely
named is kept as an inert `Global`: checkpoints written by Lightning use ``ModelCheckpoint`` as the key of a dictionary.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

from ..errors import TensorFileError
from .layout import STORAGE_DTYPES, is_count, is_shape

__all__ = ["Global", "Inert", "StorageRef", "TensorRef", "read_pickle", "text_of"]

# A checkpoint of 2,400 tensors with its optimizer takes about 200,000 opcodes.
MAX_OPCODES = 1_000_000
# Entries and bytes that calls may copy, all together: a few operations could copy one large list thousands of times.
MAX_COPIED = 4_000_000


class Global(NamedTuple):
    """A class or function that the pickle names, by its import path; never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Inert(NamedTuple):
    """A leftover that would need another package to become a value, such as a numpy scalar."""

    kind: str
    arguments: tuple[Any, ...]


class StorageRef(NamedTuple):
    """A storage that the pickle refers to; `view` is (first element, elements) in files of torch before 0.4."""

    key: str
    dtype: str
    elements: int
    view_first: int = 0


@dataclass(frozen=True)
class TensorRef:
    """A tensor to be: a storage, and where in it the tensor lies, counted in elements."""

    storage: StorageRef
    dtype: str
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class OrderedEntries(dict[Any, Any]):
    """Stands in for OrderedDict and its like: pickled attributes (``_metadata``) may be set, and are dropped."""


class _Mark:
    pass


_MARK = _Mark()


def read_pickle(file: IO[bytes]) -> Any:
    """Read one pickle from `file`'s position up to its STOP, as containers, scalars, `TensorRef`s and inert leftovers.

    The bytes should be in memory already (io.BytesIO): lengths in a pickle come from whoever wrote it.

    Raises:
        TensorFileError: the pickle is broken or too large, or would call or build anything but tensors and plain
            containers.
    """
    machine = _Machine()
    try:
        return machine.run(_operations(file))
    except TensorFileError:
        raise
    # pickletools and the machine meet any kind of nonsense in a damaged pickle; all of it means the same to the caller.
    except Exception as error:
        raise TensorFileError(
            f"The pickle in this file is damaged ({type(error).__name__}: {error}). Get the file again from its source."
        ) from error


def _operations(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > MAX_OPCODES:
            raise TensorFileError(
                f"The pickle in this file has more than {MAX_OPCODES:,} operations; no checkpoint needs that."
            )
        yield opcode.name, argument


def _refuse(what: str, target: Any) -> TensorFileError:
    shown = f"{target!s:.200}" if isinstance(target, Global) else type(target).__name__
    return TensorFileError(
        f"This file's pickle {what} {shown}, so loading it would run code; only tensors and plain containers are "
        "accepted. Use a .safetensors of the same model, or save the state dict alone."
    )


# --- the callables of sound checkpoints, replaced by functions that only arrange data ---


def _shape(value: Any) -> tuple[int, ...]:
    # The value is not shown: a tuple that holds one tuple twice, forty times over, has 2**40 items when printed.
    if not isinstance(value, tuple | list) or not is_shape(value):
        raise TensorFileError("A tensor in this file has an impossible shape; the file is damaged.")
    return tuple(value)


def _tensor(storage: Any, first: Any, shape: Any, strides: Any, dtype: str | None = None) -> TensorRef:
    if not isinstance(storage, StorageRef) or not is_count(first):
        raise TensorFileError("A tensor in this file has no storage or a negative offset; the file is damaged.")
    shape, strides = _shape(shape), tuple(strides)
    if not all(map(is_count, strides)):
        raise TensorFileError("A tensor in this file has impossible strides; the file is damaged.")
    if len(shape) != len(strides):
        raise TensorFileError(
            f"A tensor in this file has {len(shape)} sizes but {len(strides)} strides; the file is damaged."
        )
    return TensorRef(storage, dtype or storage.dtype, first + storage.view_first, shape, strides)


def _rebuild_tensor(storage: Any, first: Any, shape: Any, strides: Any, *_: Any) -> TensorRef:
    return _tensor(storage, first, shape, strides)


def _rebuild_tensor_v3(storage: Any, first: Any, shape: Any, strides: Any, *rest: Any) -> TensorRef:
    _requires_grad, _hooks, dtype, *_ = rest
    if not isinstance(dtype, Global) or dtype.module != "torch":
        raise _refuse("builds a tensor of", dtype)
    return _tensor(storage, first, shape, strides, dtype.name)


def _rebuild_parameter(tensor: Any, *_: Any) -> TensorRef:
    if not isinstance(tensor, TensorRef):
        raise _refuse("makes a parameter of", tensor)
    return tensor


def _ordered(*arguments: Any) -> OrderedEntries:
    result = OrderedEntries()
    for pairs in arguments:
        # OrderedDict([(key, value), …]) and Counter({key: value}); defaultdict's factory is a bare name and is dropped.
        for key, value in pairs.items() if isinstance(pairs, dict) else () if isinstance(pairs, Global) else pairs:
            result[_hashable(key)] = value
    return result


def _set(items: Any = ()) -> set[Any]:
    return {_hashable(item) for item in items}


def _encode(text: Any, encoding: Any = "utf-8", *_: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "utf-8"):
        raise _refuse("encodes", text)
    return text.encode(encoding)


def _inert(kind: str) -> Callable[..., Inert]:
    return lambda *arguments: Inert(kind, arguments)


_CALLABLES: dict[Global, Callable[..., Any]] = {
    Global("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    Global("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    Global("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    Global("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    Global("torch", "Size"): lambda sizes=(): _shape(sizes),
    Global("torch", "device"): _inert("torch.device"),
    Global("collections", "OrderedDict"): _ordered,
    Global("collections", "defaultdict"): _ordered,
    Global("collections", "Counter"): _ordered,
    Global("builtins", "set"): _set,
    Global("__builtin__", "set"): _set,
    Global("_codecs", "encode"): _encode,
    Global("numpy", "dtype"): _inert("numpy.dtype"),
    Global("numpy.core.multiarray", "scalar"): _inert("numpy scalar"),
    Global("numpy._core.multiarray", "scalar"): _inert("numpy scalar"),
}


def _storage(identity: Any) -> StorageRef:
    """A torch persistent id: ("storage", storage type, key, location, elements[, view])."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or text_of(identity[0]) != "storage":
        raise TensorFileError(
            "This file's pickle refers to something other than a tensor's storage; it is refused unread."
        )
    _, kind, key, _location, elements, *view = identity
    if not isinstance(kind, Global) or not kind.module.startswith("torch") or kind.name not in STORAGE_DTYPES:
        raise _refuse("refers to a storage of the type", kind)
    if not is_count(elements):
        raise TensorFileError("This file holds a storage of an impossible size; it is damaged.")
    view_first = 0
    if view and view[0] is not None:
        _view_key, view_first, _view_elements = view[0]
        if not is_count(view_first):
            raise TensorFileError("This file holds a view of a storage with a negative offset; it is damaged.")
    return StorageRef(text_of(key), STORAGE_DTYPES[kind.name], elements, view_first)


def text_of(value: Any) -> str:
    """A storage's key, which is a text, and bytes where Python 2 wrote it."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise TensorFileError(f"This file names a storage by a {type(value).__name__}; it is damaged.")
    return value


def _is_flat(key: Any) -> bool:
    if isinstance(key, int):
        return abs(key) < 2**63
    return isinstance(key, (str, bytes, float, type(None), Global))


def _hashable(key: Any) -> Any:
    """Let only flat, short keys through: hashing a tuple nested a million deep would overflow the C stack."""
    if _is_flat(key) or (isinstance(key, tuple) and len(key) <= 16 and all(map(_is_flat, key))):
        return key
    raise TensorFileError(
        f"This file's pickle uses a {type(key).__name__} as a key; only plain containers are accepted."
    )


class _Machine:
    """The stack, the memo, and one method for each opcode that builds plain data."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self, operations: Iterator[tuple[str, Any]]) -> Any:
        for name, argument in operations:
            if name in _VALUES:
                self.stack.append(argument)
            elif name == "STOP":
                return self.stack.pop()
            elif name not in _IGNORED:
                action = _ACTIONS.get(name)
                if action is None:
                    raise _refuse(f"uses the operation {name} on", self.stack[-1] if self.stack else None)
                action(self, argument)
        raise TensorFileError("The pickle in this file ends before its end mark; the file is cut off.")

    def above_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def drop(self, popped: Any) -> None:
        """What was popped goes nowhere."""

    def constant(self, value: Any) -> None:
        self.stack.append(value)

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError("tuple of more than the stack holds")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise _refuse("appends to", target)
        target.extend(items)

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, set):
            raise _refuse("adds to", target)
        target.update(_hashable(item) for item in items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise _refuse("sets items of", target)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_hashable(key)] = value

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a global must be named by two strings")
        self.stack.append(Global(module, name))

    def text_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Global(module, name))

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        replacement = _CALLABLES.get(function) if isinstance(function, Global) else None
        if replacement is None:
            raise _refuse("calls", function)
        result = replacement(*arguments)
        if isinstance(result, bytes | set | OrderedEntries):
            self.copied += len(result)
        if self.copied > MAX_COPIED:
            raise TensorFileError("The pickle in this file unfolds to far more than it holds; it is refused.")
        self.stack.append(result)

    def build(self, _: Any) -> None:
        """Attributes of an ordered dictionary (torch's ``_metadata``) and of a numpy dtype carry nothing we need."""
        self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, OrderedEntries) and not (isinstance(target, Inert) and target.kind == "numpy.dtype"):
            raise _refuse("sets the state of", target)


_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_IGNORED = {"PROTO", "FRAME"}

_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "NONE": lambda m, _: m.constant(None),
    "NEWTRUE": lambda m, _: m.constant(True),
    "NEWFALSE": lambda m, _: m.constant(False),
    "MARK": lambda m, _: m.constant(_MARK),
    "POP": lambda m, _: m.drop(m.stack.pop()),
    "POP_MARK": lambda m, _: m.drop(m.above_mark()),
    "EMPTY_TUPLE": lambda m, _: m.constant(()),
    "EMPTY_LIST": lambda m, _: m.constant([]),
    "EMPTY_DICT": lambda m, _: m.constant({}),
    "EMPTY_SET": lambda m, _: m.constant(set()),
    "TUPLE": lambda m, _: m.constant(tuple(m.above_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "LIST": lambda m, _: m.constant(m.above_mark()),
    "DICT": lambda m, _: m.constant(_pairs(m.above_mark())),
    "FROZENSET": lambda m, _: m.constant(_set(m.above_mark())),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS": lambda m, _: m.append(m.above_mark()),
    "ADDITEMS": lambda m, _: m.add(m.above_mark()),
    "SETITEM": lambda m, _: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m, _: m.set_items(m.above_mark()),
    "GLOBAL": lambda m, argument: m.text_global(argument),
    "STACK_GLOBAL": lambda m, argument: m.stack_global(argument),
    "REDUCE": lambda m, argument: m.reduce(argument),
    "BUILD": lambda m, argument: m.build(argument),
    "BINPERSID": lambda m, _: m.constant(_storage(m.stack.pop())),
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, index: m.memo.__setitem__(index, m.stack[-1])),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, index: m.constant(m.memo[index])),
}


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return {_hashable(key): value for key, value in zip(items[::2], items[1::2], strict=True)}
