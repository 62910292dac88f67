"""Write ``.safetensors`` and torch zip files tensor by tensor, with one tensor in memory at a time."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import TensorFileError
from .layout import DTYPE_BYTES, STORAGE_DTYPES, TensorInfo
from .safetensors_layout import DTYPE_NAMES, contiguous_strides

if TYPE_CHECKING:
    import torch

__all__ = ["write_safetensors", "write_torch_zip"]

ALIGNMENT = 64  # torch aligns the records of its zips to this, for mmap


def write_safetensors(
    path: str | Path,
    tensors: Sequence[TensorInfo],
    load: Callable[[str], torch.Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `tensors`, the widest dtype first and else in their order, asking `load(name)` for one after another.

    Raises:
        TensorFileError: a tensor that is not as announced, or a dtype that safetensors cannot hold.
        OSError: the disk is full or the path cannot be written; what was written so far is left to the caller.
    """
    codes = {name: code for code, name in DTYPE_NAMES.items()}
    # Wide dtypes first, as the reference writer has it: then every tensor lies at a multiple of its own item size.
    tensors = sorted(tensors, key=lambda info: -DTYPE_BYTES.get(info.dtype, 0))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for info in tensors:
        if info.dtype not in codes:
            raise TensorFileError(
                f"Safetensors cannot hold {info.name!r:.200}: it is {info.dtype}. Write a .ckpt instead."
            )
        offsets = [position, position + info.nbytes]
        header[info.name] = {"dtype": codes[info.dtype], "shape": list(info.shape), "data_offsets": offsets}
        position += info.nbytes
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)
    with Path(path).open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for info in tensors:
            _write_tensor(file, info, load(info.name))


def write_torch_zip(
    path: str | Path,
    tensors: Sequence[TensorInfo],
    load: Callable[[str], torch.Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write ``{"state_dict": {…}, "metadata": {…}}`` as ``torch.save`` would, asking `load(name)` for each in turn.

    Plain ``torch.load(weights_only=True)`` reads it back.

    Raises:
        TensorFileError: a tensor that is not as announced, or a dtype that torch cannot hold.
        OSError: the disk is full or the path cannot be written; what was written so far is left to the caller.
    """
    folder = "archive"  # as torch.save calls it where it does not know the file's name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        _write_record(archive, f"{folder}/data.pkl", _pickle(tensors, metadata))
        _write_record(archive, f"{folder}/byteorder", b"little")
        for index, info in enumerate(tensors):
            with _record(archive, f"{folder}/data/{index}") as record:
                _write_tensor(record, info, load(info.name))
        _write_record(archive, f"{folder}/version", b"3\n")


def _write_tensor(file: IO[bytes], info: TensorInfo, tensor: torch.Tensor) -> None:
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype != info.dtype or tuple(tensor.shape) != info.shape:
        raise TensorFileError(
            f"The tensor {info.name!r:.200} was announced as {info.dtype} {info.shape} "
            f"but is {dtype} {tuple(tensor.shape)}."
        )
    if tensor.numel():
        file.write(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))


class _StorageOf:
    """Stands for a tensor's storage while the pickle is written; becomes a persistent id."""

    def __init__(self, info: TensorInfo, key: str) -> None:
        self.info = info
        self.key = key


class _TensorOf:
    """Pickles as torch pickles a contiguous tensor: torch/_tensor.py, `_reduce_ex_internal`."""

    def __init__(self, info: TensorInfo, key: str) -> None:
        self.info = info
        self.key = key

    def __reduce__(self) -> tuple[Any, ...]:
        from torch._utils import _rebuild_tensor_v2

        shape = self.info.shape
        storage = _StorageOf(self.info, self.key)
        return _rebuild_tensor_v2, (storage, 0, shape, contiguous_strides(shape), False, OrderedDict())


class _Pickler(pickle.Pickler):
    def persistent_id(self, thing: Any) -> tuple[Any, ...] | None:
        if not isinstance(thing, _StorageOf):
            return None
        elements = 1
        for size in thing.info.shape:
            elements *= size
        return ("storage", _storage_type(thing.info), thing.key, "cpu", elements)


def _storage_type(info: TensorInfo) -> Any:
    import torch

    for storage_type, dtype in STORAGE_DTYPES.items():
        if dtype == info.dtype:
            return getattr(torch, storage_type)
    raise TensorFileError(f"A .ckpt cannot hold {info.name!r:.200}: it is {info.dtype}. Write a .safetensors instead.")


def _pickle(tensors: Sequence[TensorInfo], metadata: Mapping[str, str] | None) -> bytes:
    root: dict[str, Any] = {
        "state_dict": {info.name: _TensorOf(info, str(index)) for index, info in enumerate(tensors)}
    }
    if metadata:
        root["metadata"] = dict(metadata)
    written = io.BytesIO()
    _Pickler(written, protocol=2).dump(root)
    return written.getvalue()


def _record(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A zip entry open for writing, its bytes at a multiple of `ALIGNMENT`; torch pads with the extra field "FB"."""
    entry = zipfile.ZipInfo(name)
    zip64_field = 20
    start = archive.start_dir + 30 + len(name.encode()) + zip64_field + 4
    padding = -start % ALIGNMENT
    entry.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    return archive.open(entry, "w", force_zip64=True)


def _write_record(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    with _record(archive, name) as record:
        record.write(data)
