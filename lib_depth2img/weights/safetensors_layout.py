"""Read and check a ``.safetensors`` header; the format: https://github.com/huggingface/safetensors#format.

Checked as strictly as the reference reader does: the tensors must lie end to end and fill the file exactly.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from ..errors import TensorFileError
from .layout import DTYPE_BYTES, Layout, Place, SeekableReader, Storage, TensorInfo, is_count, is_shape

__all__ = ["DTYPE_NAMES", "looks_like_safetensors", "read_safetensors"]

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
    header, data_start = _read_header(file, file_size)
    metadata = _metadata(header.pop("__metadata__", {}))
    described = [(name, *_describe(name, entry)) for name, entry in header.items()]
    described.sort(key=lambda item: item[2])
    places: dict[str, Place] = {}
    end_of_last = 0
    for name, info, (begin, end) in described:
        if begin != end_of_last:
            kind = "overlaps the tensor before it" if begin < end_of_last else "leaves a gap before it"
            raise _broken(f"the tensor {name!r:.200} at byte {begin:,} {kind} (expected {end_of_last:,})")
        end_of_last = end
        strides = contiguous_strides(info.shape)
        places[name] = Place(info, Storage(data_start + begin, end - begin), 0, strides)
    if data_start + end_of_last != file_size:
        raise _broken(f"its tensors end at byte {data_start + end_of_last:,}, the file at {file_size:,}")
    return Layout("safetensors", {name: places[name] for name in header}, metadata)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides, in elements."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _broken(what: str) -> TensorFileError:
    return TensorFileError(f"This safetensors file is damaged: {what}. Get it again from its source.")


def _read_header(file: SeekableReader, file_size: int) -> tuple[dict[str, Any], int]:
    file.seek(0)
    start = file.read(8)
    if len(start) < 8:
        raise _broken(f"it is only {file_size} bytes long")
    (length,) = struct.unpack("<Q", start)
    if length > MAX_HEADER_BYTES:
        raise _broken(f"its header claims {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    if 8 + length > file_size:
        raise _broken(f"its header claims {length:,} bytes, the whole file has {file_size:,}; it is cut off")
    try:
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _broken(f"its header is not JSON ({error!s:.200})") from error
    if not isinstance(header, dict):
        raise _broken("its header is not a JSON object")
    return header, 8 + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the name {key!r:.200} appears twice")
        result[key] = value
    return result


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _broken("its __metadata__ is not a table of texts")
    return value


def _describe(name: str, entry: Any) -> tuple[TensorInfo, tuple[int, int]]:
    """One header entry as a `TensorInfo` and its byte range."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _broken(f"the entry {name!r:.200} does not have exactly dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    dtype = DTYPE_NAMES.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise _broken(f"the tensor {name!r:.200} has the unknown dtype {code!r:.50}")
    if not isinstance(shape, list) or not is_shape(shape):
        raise _broken(f"the tensor {name!r:.200} has the shape {shape!r:.200}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_count, offsets)):
        raise _broken(f"the tensor {name!r:.200} has the data_offsets {offsets!r:.200}")
    nbytes = math.prod(shape) * DTYPE_BYTES[dtype]
    begin, end = offsets
    if end - begin != nbytes:
        raise _broken(f"the tensor {name!r:.200} needs {nbytes:,} bytes but spans {end - begin:,}")
    return TensorInfo(name, dtype, tuple(shape), nbytes), (begin, end)
