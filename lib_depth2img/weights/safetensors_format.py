"""The ``.safetensors`` format, read and written by its header: https://github.com/huggingface/safetensors#format.

The header is read here and not by ``safetensors.safe_open``, since that maps the file into memory: a file that gets
shorter, or a network drive that goes away, then ends the whole process with a bus error where a sentence is due, and
Windows keeps the file locked for as long as any of its tensors lives. Checked as strictly as the reference reader
does: the tensors must lie end to end and fill the file exactly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import TensorFileError
from .layout import DTYPE_BYTES, Layout, SeekableReader, Storage, StoredTensor, TensorInfo, is_count, is_shape

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPE_NAMES", "looks_like_safetensors", "read_safetensors", "write_safetensors"]

# The reference reader allows 100 MB; a real header takes 0.3 MB, and JSON grows tenfold when it is parsed.
MAX_HEADER_BYTES = 32 * 2**20

DTYPE_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "I32": "int32",
    "U32": "uint32",
    "I64": "int64",
    "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}


def looks_like_safetensors(first_bytes: bytes) -> bool:
    """Whether the file's first nine bytes are a header length and the brace that must follow it."""
    return first_bytes[8:9] == b"{"


def read_safetensors(file: SeekableReader, file_size: int) -> Layout:
    """The layout of a safetensors file.

    Raises:
        TensorFileError: a header that is cut off, too long, not JSON, or whose tensors overlap, leave gaps or reach
            beyond the file.
    """
    header, end_of_last = _read_header(file, file_size)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _damaged("its __metadata__ is not a table of texts")
    tensors = {name: _described(name, entry, end_of_last) for name, entry in header.items()}
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.storage.offset, tensor.storage.nbytes)):
        if tensor.storage.offset != end_of_last:
            if tensor.storage.offset < end_of_last:
                raise _damaged(f"the tensor {tensor.info.name!r:.200} overlaps the tensor before it")
            raise _damaged(f"the tensor {tensor.info.name!r:.200} leaves a gap before it")
        end_of_last += tensor.storage.nbytes
    if end_of_last != file_size:
        raise _damaged(f"its tensors end at byte {end_of_last:,}, the file at {file_size:,}")
    return Layout("safetensors", tensors, metadata)


def _damaged(what: str) -> TensorFileError:
    return TensorFileError(f"This safetensors file is damaged: {what}. Get it again from its source.")


def _read_header(file: SeekableReader, file_size: int) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors' bytes start."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if 8 + length > file_size:
        raise _damaged(f"its header claims {length:,} bytes, the whole file has {file_size:,}; it is cut off")
    if length > MAX_HEADER_BYTES:
        raise _damaged(f"its header claims {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    try:
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"its header is not JSON ({error!s:.200})") from error
    if not isinstance(header, dict):
        raise _damaged("its header is not a JSON object")
    return header, 8 + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name appears twice")
    return result


def _described(name: str, entry: Any, data_start: int) -> StoredTensor:
    """One header entry; its bytes are counted from `data_start`."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(f"the entry {name!r:.200} does not have exactly dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    dtype = DTYPE_NAMES.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise TensorFileError(f"The tensor {name!r:.200} has the dtype {code!r:.50}, which is not known here.")
    if not isinstance(shape, list) or not is_shape(shape):
        raise _damaged(f"the tensor {name!r:.200} has the shape {shape!r:.200}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_count, offsets)):
        raise _damaged(f"the tensor {name!r:.200} has the data_offsets {offsets!r:.200}")
    info = TensorInfo(name, dtype, tuple(shape), math.prod(shape) * DTYPE_BYTES[dtype])
    begin, end = offsets
    if end - begin != info.nbytes:
        raise _damaged(f"the tensor {name!r:.200} needs {info.nbytes:,} bytes but spans {end - begin:,}")
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return StoredTensor(info, Storage(data_start + begin, info.nbytes), 0, strides)


def write_safetensors(
    path: str | Path,
    tensors: Sequence[TensorInfo],
    load: Callable[[str], torch.Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `tensors`, the widest dtype first and else in their order, asking `load(name)` for one after another.

    One tensor is in memory at a time.

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
            raise TensorFileError(f"Safetensors cannot hold {info.name!r:.200}: it is {info.dtype}.")
        offsets = [position, position + info.nbytes]
        header[info.name] = {"dtype": codes[info.dtype], "shape": list(info.shape), "data_offsets": offsets}
        position += info.nbytes
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)
    with Path(path).open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for info in tensors:
            _write_tensor(file, info, load(info.name))


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
