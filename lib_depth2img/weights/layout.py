"""What the readers of the three formats hand over: where each tensor lies, and nothing of its bytes.

dtypes travel as torch's own names ("float16"), so that a header can be read without importing torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import TensorFileError

__all__ = [
    "DTYPE_BYTES",
    "STORAGE_DTYPES",
    "BoundedReader",
    "Layout",
    "SeekableReader",
    "Storage",
    "StoredTensor",
    "TensorInfo",
    "is_count",
    "is_shape",
]

DTYPE_BYTES = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}

# torch's storage classes; UntypedStorage comes last, so that looking one up by dtype finds ByteStorage first.
STORAGE_DTYPES = {
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as the header describes it; `nbytes` is what it takes in memory, contiguous."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class Storage:
    """A run of bytes in the file.

    `offset` is where the bytes start; in a zip it is where the entry's local header starts (`zipped`), whose length is
    only known by reading it. `counted` storages are preceded by how many elements of so many bytes they have (torch's
    old format); 0 where they are not.
    """

    offset: int
    nbytes: int
    zipped: bool = False
    counted: int = 0


@dataclass(frozen=True)
class StoredTensor:
    """A tensor, and where it lies in its storage; `storage_offset` and `strides` count elements, as torch does."""

    info: TensorInfo
    storage: Storage
    storage_offset: int
    strides: tuple[int, ...]

    @property
    def elements_spanned(self) -> int:
        """How many elements lie from the tensor's first to its last one in the storage."""
        if 0 in self.info.shape:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.info.shape, self.strides, strict=True))


@dataclass(frozen=True)
class Layout:
    """A whole file: its tensors by dotted name, its text metadata, and the other leaves of its containers.

    Raises:
        TensorFileError: a name that is no text: half of a surrogate pair, which no file and no terminal takes.
    """

    format: str
    tensors: dict[str, StoredTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.tensors:
            try:
                name.encode("utf-8")
            except UnicodeEncodeError as error:
                raise TensorFileError(f"A tensor's name is not text ({name!r:.200}); the file is damaged.") from error


def is_count(value: Any) -> bool:
    """Whether this is a whole number that a file can count with: not negative, below 2**63."""
    return type(value) is int and 0 <= value < 2**63


def is_shape(sizes: Sequence[Any]) -> bool:
    """Whether torch can hold this shape. A size of 0 beside huge ones holds nothing, but its strides overflow."""
    return len(sizes) <= 64 and all(map(is_count, sizes)) and is_count(math.prod(max(size, 1) for size in sizes))


class SeekableReader(Protocol):
    """The part of a binary file that the readers need."""

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to `offset`."""

    def tell(self) -> int:
        """The current position."""


class BoundedReader:
    """A file that refuses to hand out more than `limit` bytes at once.

    Lengths in a header come from whoever wrote the file; without a bound, ten bytes could ask for any amount of memory.
    """

    def __init__(self, file: SeekableReader, limit: int) -> None:
        self._file = file
        self._limit = limit

    def read(self, size: int = -1, /) -> bytes:
        """Read `size` bytes, or what is left.

        Raises:
            TensorFileError: more than the limit is asked for.
        """
        wanted = self._left() if size < 0 else size
        if wanted > self._limit:
            raise TensorFileError(
                f"The file's header asks for {wanted:,} bytes; a sound one needs less than {self._limit:,}. "
                "The file is damaged or was made to harm: get it again from its source."
            )
        return self._file.read(wanted)

    def _left(self) -> int:
        position = self._file.tell()
        end = self._file.seek(0, 2)
        self._file.seek(position)
        return end - position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to `offset`."""
        return self._file.seek(offset, whence)

    def seekable(self) -> bool:
        """Always; the files are on disk."""
        return True

    def tell(self) -> int:
        """The current position."""
        return self._file.tell()
