"""Read a pickle as data: nothing is imported, nothing is called, tensors become placeholders.

Python's own unpickler, left with the operations that arrange plain data. It is the one written in Python: the one
written in C makes room for whatever a memo index or a length in the pickle asks for, before it has read a byte of it.
A global is only a name. The few callables that sound checkpoints use (torch's tensor rebuilding, ordered dictionaries,
numpy scalars) are replaced by functions of this module. A class merely named is kept as an inert `Global`: checkpoints
written by Lightning use ``ModelCheckpoint`` as the key of a dictionary, which ``weights_only`` refuses.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from typing import IO, Any, NamedTuple

from ..errors import TensorFileError
from .layout import STORAGE_DTYPES, is_count

__all__ = ["Global", "Inert", "StorageRef", "TensorRef", "read_pickle", "text_of"]

# A checkpoint of 2,400 tensors with its optimizer takes about 200,000 operations.
MAX_OPERATIONS = 1_000_000
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
    """A storage that the pickle refers to, or a view of it from ``view_offset`` on, as torch before 0.4 wrote."""

    key: str
    dtype: str
    elements: int
    view_offset: int = 0


class TensorRef(NamedTuple):
    """A tensor to be, as the pickle has it, unchecked; ``dtype`` is that of the storage where it is None."""

    storage: Any
    storage_offset: Any
    shape: Any
    strides: Any
    dtype: Any = None


class Entries(dict[Any, Any]):
    """A dictionary with flat, short keys only: hashing a tuple nested a million deep would overflow the C stack.

    Stands for OrderedDict and its like too; what a pickle sets as their attributes (``_metadata``) is dropped.
    """

    __slots__ = ()

    def __init__(self, *given: Any) -> None:
        super().__init__()
        put = super().__setitem__
        # OrderedDict([(key, value), …]) and Counter({key: value}); defaultdict's factory is a bare name and is dropped.
        for pairs in given:
            for key, value in pairs.items() if isinstance(pairs, dict) else () if isinstance(pairs, Global) else pairs:
                put(_hashable(key), value)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_hashable(key), value)


def read_pickle(file: IO[bytes]) -> Any:
    """Read one pickle from `file`'s position up to its STOP, as containers, scalars, `TensorRef`s and inert leftovers.

    The bytes should be in memory already (io.BytesIO): lengths in a pickle come from whoever wrote it.

    Raises:
        TensorFileError: the pickle is broken or too large, or would call or build anything but tensors and plain
            containers.
    """
    try:
        return _Unpickler(file, encoding="latin1").load()
    except TensorFileError:
        raise
    # The unpickler meets any kind of nonsense in a damaged pickle; all of it means the same to the caller.
    except Exception as error:
        raise TensorFileError(
            f"The pickle in this file is damaged ({type(error).__name__}: {error!s:.200}). "
            "Get the file again from its source."
        ) from error


def text_of(value: Any) -> str:
    """A storage's key, which is a text, and bytes where Python 2 wrote it."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise TensorFileError(f"This file names a storage by a {type(value).__name__}; it is damaged.")
    return value


def _would_run(what: str) -> TensorFileError:
    return TensorFileError(
        f"This file's pickle {what}, so loading it would run code; only tensors and plain containers are accepted. "
        "Use a .safetensors of the same model, or save the state dict alone."
    )


def _shown(target: Any) -> str:
    """A name or a type, never a value: a tuple that holds one tuple twice, forty times over, prints 2**40 items."""
    return f"{target!s:.200}" if isinstance(target, Global) else type(target).__name__


def _is_flat(key: Any) -> bool:
    if isinstance(key, int):
        return abs(key) < 2**63
    return isinstance(key, (str, bytes, float, type(None), Global))


def _hashable(key: Any) -> Any:
    if _is_flat(key) or (isinstance(key, tuple) and len(key) <= 16 and all(map(_is_flat, key))):
        return key
    raise TensorFileError(
        f"This file's pickle uses a {type(key).__name__} as a key; only plain containers are accepted."
    )


# --- the callables of sound checkpoints, replaced by functions that only arrange data ---


def _tensor(storage: Any, storage_offset: Any, shape: Any, strides: Any, *_: Any) -> TensorRef:
    return TensorRef(storage, storage_offset, shape, strides)


def _tensor_of_dtype(storage: Any, storage_offset: Any, shape: Any, strides: Any, *rest: Any) -> TensorRef:
    _requires_grad, _hooks, dtype, *_ = rest
    return TensorRef(storage, storage_offset, shape, strides, dtype)


def _set(items: Any = ()) -> set[Any]:
    return {_hashable(item) for item in items}


def _encode(text: Any, encoding: Any = "utf-8", *_: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "utf-8"):
        raise _would_run(f"encodes {_shown(text)}")
    return text.encode(encoding)


def _inert(kind: str) -> Callable[..., Inert]:
    return lambda *arguments: Inert(kind, arguments)


_CALLABLES: dict[Global, Callable[..., Any]] = {
    Global("torch._utils", "_rebuild_tensor"): _tensor,
    Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Global("torch._utils", "_rebuild_tensor_v3"): _tensor_of_dtype,
    Global("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    Global("torch", "Size"): tuple,
    Global("torch", "device"): _inert("torch.device"),
    Global("collections", "OrderedDict"): Entries,
    Global("collections", "defaultdict"): Entries,
    Global("collections", "Counter"): Entries,
    Global("builtins", "set"): _set,
    Global("__builtin__", "set"): _set,
    Global("_codecs", "encode"): _encode,
    Global("numpy", "dtype"): _inert("numpy.dtype"),
    Global("numpy.core.multiarray", "scalar"): _inert("numpy scalar"),
    Global("numpy._core.multiarray", "scalar"): _inert("numpy scalar"),
}


_Python: Any = pickle._Unpickler
_BUILDING = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "DICT"}  # DICT hashes any key


class _Unpickler(_Python):
    """Python's own; see the top of this file. Replaced are the operations that are not harmless as they are."""

    copied = 0

    def load(self) -> Any:
        """As Python's own (Lib/pickle.py, the same from 3.8 to 3.13), but the operations are counted."""
        frames = pickle._Unframer(self._file_read, self._file_readline)  # type: ignore[attr-defined]
        self._unframer, self.read, self.readline = frames, frames.read, frames.readline
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.proto = 0
        try:
            for _ in range(MAX_OPERATIONS):
                _OPERATIONS[self.read(1)[0]](self)
        except pickle._Stop as stop:  # type: ignore[attr-defined]
            return stop.value
        raise TensorFileError(
            f"The pickle in this file has more than {MAX_OPERATIONS:,} operations; no checkpoint needs that."
        )

    def find_class(self, module: str, name: str) -> Global:
        return Global(module, name)

    def persistent_load(self, identity: Any) -> StorageRef:
        """torch's: ("storage", storage type, key, location, elements[, view])."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or text_of(identity[0]) != "storage":
            raise TensorFileError(
                "This file's pickle refers to something other than a tensor's storage; it is refused unread."
            )
        _, kind, key, _location, elements, *view = identity
        if not isinstance(kind, Global) or not kind.module.startswith("torch") or kind.name not in STORAGE_DTYPES:
            raise _would_run(f"refers to a storage of the type {_shown(kind)}")
        view_offset = view[0][1] if view and view[0] is not None else 0
        if not is_count(elements) or not is_count(view_offset):
            raise TensorFileError("This file holds a storage of an impossible size; it is damaged.")
        return StorageRef(text_of(key), STORAGE_DTYPES[kind.name], elements, view_offset)

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        replacement = _CALLABLES.get(function) if isinstance(function, Global) else None
        if replacement is None:
            raise _would_run(f"calls {_shown(function)}")
        result = replacement(*arguments)
        self.copied += len(result) if isinstance(result, bytes | set | tuple | Entries) else 0
        if self.copied > MAX_COPIED:
            raise TensorFileError("The pickle in this file unfolds to far more than it holds; it is refused.")
        self.append(result)

    def load_build(self) -> None:
        """Attributes of an ordered dictionary (torch's ``_metadata``) and of a numpy dtype carry nothing we need."""
        self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, Entries) and not (isinstance(target, Inert) and target.kind == "numpy.dtype"):
            raise _would_run(f"sets the state of {_shown(target)}")

    def load_empty_dictionary(self) -> None:
        self.append(Entries())

    def load_additems(self) -> None:
        items = _set(self.pop_mark())
        self.stack[-1].update(items)

    def load_frozenset(self) -> None:
        self.append(_set(self.pop_mark()))


def _refusing(name: str) -> Callable[[_Unpickler], None]:
    def refuse(_: _Unpickler) -> None:
        raise _would_run(f"uses the operation {name}")

    return refuse


_OPERATIONS: dict[int, Callable[[_Unpickler], None]] = {
    # Protocol 5, the newest, only adds buffers outside of the pickle, which torch does not use.
    ord(each.code): _refusing(each.name)
    if each.name in _BUILDING or each.proto > 4
    else getattr(_Unpickler, _Python.dispatch[ord(each.code)].__name__)
    for each in pickletools.opcodes
}
