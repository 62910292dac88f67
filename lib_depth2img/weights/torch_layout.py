"""Read where the tensors lie in files of ``torch.save``, in the zip format (1.6 and later) and in the old one.

The pickle inside is read as data (`inert_pickle`). Formats: torch/serialization.py, `_save` and `_legacy_save`.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import TensorFileError
from .inert_pickle import Global, StorageRef, TensorRef, read_pickle, text_of
from .layout import (
    DTYPE_BYTES,
    BoundedReader,
    Layout,
    SeekableReader,
    Storage,
    StoredTensor,
    TensorInfo,
    is_count,
    is_shape,
)

__all__ = ["read_torch_legacy", "read_torch_zip"]

# The pickle of a 2,400-tensor checkpoint with its optimizer takes about 1 MB, its zip directory about 0.3 MB.
MAX_HEADER_BYTES = 32 * 2**20
MAX_LEAVES = 500_000
MAX_NESTING = 50
MAX_NAME = 2_000
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, MAGIC_NUMBER
LEGACY_PROTOCOL = 1001


def read_torch_zip(file: SeekableReader, file_size: int) -> Layout:
    """The layout of a zip written by ``torch.save``.

    Raises:
        TensorFileError: a broken or compressed archive, a pickle that is not plain data, a storage that is missing or
            too short.
    """
    bounded = BoundedReader(file, MAX_HEADER_BYTES)
    try:
        with zipfile.ZipFile(bounded) as archive:
            entries = _stored_entries(archive, file_size)
            folder = _folder(entries)
            _check_byte_order(archive, entries, folder)
            root = read_pickle(io.BytesIO(_read_entry(archive, f"{folder}/data.pkl")))
    except TensorFileError:
        raise
    # zipfile lets through whatever a damaged archive makes of its numbers: OSError, struct.error, IndexError and more.
    except Exception as error:
        raise TensorFileError(f"This torch file is damaged ({error}). Get it again from its source.") from error

    def storage_of(reference: StorageRef) -> Storage:
        entry = entries.get(f"{folder}/data/{reference.key}")
        if entry is None:
            raise TensorFileError(f"This torch file lacks its storage {reference.key!r:.100}; it is incomplete.")
        return Storage(entry.header_offset, entry.file_size, zipped=True)

    return _layout("torch zip", root, storage_of, file_size=file_size)


def read_torch_legacy(file: SeekableReader, file_size: int) -> Layout:
    """The layout of a file in torch's old format: five pickles, then each storage after its element count.

    Raises:
        TensorFileError: not such a file, cut off, or a pickle that is not plain data.
    """
    file.seek(0)
    head = io.BytesIO(file.read(MAX_HEADER_BYTES))
    if read_pickle(head) != LEGACY_MAGIC or read_pickle(head) != LEGACY_PROTOCOL:
        raise TensorFileError("This file is neither safetensors nor written by torch.save; a weights file is expected.")
    system = read_pickle(head)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise TensorFileError("This torch file was written on a big-endian machine; save it again on an ordinary one.")
    root, keys = read_pickle(head), read_pickle(head)
    storages = _counted_storages(root, keys, head.tell())
    end = max((storage.offset + storage.nbytes for storage in storages.values()), default=0)
    if end > file_size:
        raise TensorFileError(f"This torch file is cut off: its tensors end at byte {end:,}, it ends at {file_size:,}.")

    def storage_of(reference: StorageRef) -> Storage:
        if reference.key not in storages:
            raise TensorFileError(f"This torch file lacks its storage {reference.key!r:.50}; it is incomplete.")
        return storages[reference.key]

    return _layout("torch legacy", root, storage_of, file_size=file_size)


def _counted_storages(root: Any, keys: Any, position: int) -> dict[str, Storage]:
    """Where each storage lies: in the order of `keys` from `position` on, each after eight bytes of element count."""
    if not isinstance(keys, list):
        raise TensorFileError("This torch file lists no storages; it is damaged. Get it again from its source.")
    references = [leaf.storage for _, leaf in _leaves(root) if isinstance(leaf, TensorRef)]
    sizes = {
        reference.key: (reference.elements, DTYPE_BYTES[reference.dtype])
        for reference in references
        if isinstance(reference, StorageRef)
    }
    storages: dict[str, Storage] = {}
    for key in keys:
        name = text_of(key)
        if name not in sizes:
            raise TensorFileError(f"This torch file holds a storage {name!r:.50} that no tensor uses; it is damaged.")
        elements, item = sizes[name]
        storages[name] = Storage(position + 8, elements * item, counted=item)
        position += 8 + elements * item
    return storages


def _stored_entries(archive: zipfile.ZipFile, file_size: int) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        if entry.filename in entries:
            raise TensorFileError(f"This torch file holds {entry.filename!r:.100} twice; it is damaged.")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise TensorFileError(
                f"The entry {entry.filename!r:.100} of this zip is compressed or encrypted; torch.save writes neither. "
                "Unpack the archive: the weights file is probably inside."
            )
        if entry.file_size != entry.compress_size or not 0 <= entry.header_offset <= file_size - entry.file_size:
            raise TensorFileError(
                f"The entry {entry.filename!r:.100} of this torch file reaches beyond its end; it is cut off."
            )
        entries[entry.filename] = entry
    return entries


def _read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > MAX_HEADER_BYTES:
        raise TensorFileError(f"{name} has {size:,} bytes; a sound one needs less than {MAX_HEADER_BYTES:,}.")
    return archive.read(name)


def _folder(entries: dict[str, zipfile.ZipInfo]) -> str:
    folders = [
        name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    if len(folders) != 1:
        raise TensorFileError(
            f"This zip holds {len(folders)} data.pkl; a file of torch.save holds one. It is not a weights file."
        )
    return folders[0]


def _check_byte_order(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], folder: str) -> None:
    name = f"{folder}/byteorder"
    if name in entries and _read_entry(archive, name) != b"little":
        raise TensorFileError("This torch file was written on a big-endian machine; save it again on an ordinary one.")


def _layout(kind: str, root: Any, storage_of: Callable[[StorageRef], Storage], *, file_size: int) -> Layout:
    tensors: dict[str, StoredTensor] = {}
    extra: dict[str, object] = {}
    for name, leaf in _leaves(root):
        if name in tensors or name in extra:
            raise TensorFileError(f"This torch file holds two things named {name!r:.200}; it cannot be read by name.")
        if isinstance(leaf, TensorRef):
            tensors[name] = _stored(name, leaf, storage_of, file_size=file_size)
        else:
            extra[name] = leaf
    return Layout(kind, tensors, {}, extra)


def _stored(
    name: str, tensor: TensorRef, storage_of: Callable[[StorageRef], Storage], *, file_size: int
) -> StoredTensor:
    """The tensor that the pickle speaks of, once its numbers are known to stay inside of its storage."""
    reference, offset, shape, strides, dtype = tensor
    if not isinstance(reference, StorageRef) or not is_count(offset):
        raise _damaged(name, "no storage, or a negative offset in it")
    # What is wrong is not shown: a tuple that holds one tuple twice, forty times over, has 2**40 items when printed.
    if not isinstance(shape, tuple | list) or not is_shape(shape):
        raise _damaged(name, "an impossible shape")
    if not isinstance(strides, tuple | list) or len(strides) != len(shape) or not all(map(is_count, strides)):
        raise _damaged(name, "impossible strides")
    dtype = _dtype(name, dtype) or reference.dtype
    item = DTYPE_BYTES[dtype]
    info = TensorInfo(name, dtype, tuple(shape), math.prod(shape) * item)
    storage = storage_of(reference)
    stored = StoredTensor(info, storage, reference.view_offset + offset, tuple(strides))
    if (stored.storage_offset + stored.elements_spanned) * item > storage.nbytes:
        raise _damaged(name, f"bytes beyond its storage of {storage.nbytes:,}")
    # A stride of 0 repeats one element for ever; no weights need more bytes than their file has.
    if info.nbytes > file_size:
        raise _damaged(name, f"{info.nbytes:,} bytes in a file of {file_size:,}")
    return stored


def _dtype(name: str, dtype: Any) -> str | None:
    """The name of torch's dtype, where the pickle gives one."""
    if dtype is None:
        return None
    if not isinstance(dtype, Global) or dtype.module != "torch" or dtype.name not in DTYPE_BYTES:
        shown = f"{dtype!s:.50}" if isinstance(dtype, Global) else type(dtype).__name__
        raise TensorFileError(f"The tensor {name!r:.200} has the unknown dtype {shown}.")
    return dtype.name


def _damaged(name: str, what: str) -> TensorFileError:
    return TensorFileError(f"The tensor {name!r:.200} has {what}; the file is damaged. Get it again from its source.")


def _leaves(root: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor and scalar with its dotted path, in order.

    Raises:
        TensorFileError: containers nested too deep (as one that holds itself is), too many leaves, or a path too long.
    """
    # One open iterator for each level, never all the children at once: they may be the same large list many times.
    levels: list[Iterator[tuple[str, Any]]] = [iter([("", root)])]
    count = 0
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            continue
        path, value = entry
        count += 1
        if len(levels) > MAX_NESTING or count > MAX_LEAVES or len(path) > MAX_NAME:
            raise TensorFileError(
                "The containers in this torch file are nested too deep, hold too much or have endless names; it is "
                "refused."
            )
        if isinstance(value, dict):
            levels.append(_named(path, value.items()))
        elif type(value) in (list, tuple):  # and no TensorRef or Inert, which are tuples too
            levels.append(_named(path, enumerate(value)))
        else:
            yield path, value


def _named(path: str, children: Iterable[tuple[Any, Any]]) -> Iterator[tuple[str, Any]]:
    for key, child in children:
        name = key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
        yield f"{path}.{name}" if path else name, child
