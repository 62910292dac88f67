"""Weights files read by name, one tensor at a time: ``.safetensors``, ``.ckpt``/``.pt`` of ``torch.save``, new and old.

Opening reads the header only; `TensorFile.read` reads that tensor's bytes only. A pickle is never executed: it is read
as data, and refused when it would call anything but the building of tensors and plain containers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import TensorFileError
from .layout import DTYPE_BYTES, Layout, StoredTensor, TensorInfo
from .safetensors_format import looks_like_safetensors, read_safetensors
from .torch_layout import read_torch_legacy, read_torch_zip

if TYPE_CHECKING:
    import torch

__all__ = ["TensorFile", "TensorInfo", "open_tensor_file", "read_state_dict", "state_dict_names"]

ZIP_START = b"PK\x03\x04"
GIT_LFS_START = b"version https://git-lfs"


class TensorFile(Mapping[str, TensorInfo]):
    """An open weights file: a mapping of tensor names to `TensorInfo`, and `read` for the tensors themselves.

    format: "safetensors", "torch zip" or "torch legacy".
    metadata: the texts of a safetensors header; empty for torch files.
    extra: what else the containers of a torch file hold (epoch, step, version), by dotted path; values are plain
        scalars or inert placeholders.
    Names in torch files are dotted paths through their containers, so a Lightning checkpoint's start with
    "state_dict."; `state_dict_names` takes that off as the host does. Close it, or use it in a ``with``. Not to be
    shared between threads.
    """

    def __init__(self, path: Path, file: BufferedReader, layout: Layout) -> None:
        self.path = path
        self.format = layout.format
        self.metadata = layout.metadata
        self.extra = layout.extra
        self.entries: Mapping[str, TensorInfo] = {name: stored.info for name, stored in layout.tensors.items()}
        self._stored = layout.tensors
        self._file = file

    def __getitem__(self, name: str) -> TensorInfo:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the header's facts stay readable."""
        self._file.close()

    def read(self, name: str) -> torch.Tensor:
        """One tensor on the CPU with the file's dtype, shape and strides, in memory of its own.

        Raises:
            TensorFileError: no such tensor, a file cut off since it was opened, or a dtype that this torch lacks.
        """
        import torch

        stored = self._stored.get(name)
        if stored is None:
            raise TensorFileError(f"{self.path.name} holds no tensor {name!r:.200}.")
        dtype = getattr(torch, stored.info.dtype, None)
        if dtype is None:
            raise TensorFileError(
                f"The tensor {name!r:.200} is {stored.info.dtype}, which torch {torch.__version__} cannot hold."
            )
        item = DTYPE_BYTES[stored.info.dtype]
        raw = torch.empty(stored.elements_spanned * item, dtype=torch.uint8)
        if raw.numel():
            self._fill(memoryview(raw.numpy()), stored, stored.storage_offset * item)
        return torch.as_strided(raw.view(dtype), stored.info.shape, stored.strides)

    def _fill(self, buffer: memoryview, stored: StoredTensor, skip: int) -> None:
        try:
            self._file.seek(self._data_start(stored) + skip)
            filled = self._file.readinto(buffer)
        except (OSError, EOFError) as error:
            raise self._unreadable(stored, error) from error
        if filled < len(buffer):
            raise self._unreadable(stored, f"{len(buffer) - filled:,} bytes are missing")

    def _unreadable(self, stored: StoredTensor, why: object) -> TensorFileError:
        return TensorFileError(f"The tensor {stored.info.name!r:.200} cannot be read from {self.path.name}: {why}.")

    def _data_start(self, stored: StoredTensor) -> int:
        """Where the storage's bytes start, after the small header that zip entries and old torch storages have."""
        storage = stored.storage
        if storage.zipped:
            self._file.seek(storage.offset)
            header = self._file.read(30)
            if header[:4] != ZIP_START:
                raise EOFError("the zip entry is not where the directory says")
            name_length, extra_length = struct.unpack("<HH", header[26:30])
            return storage.offset + 30 + int(name_length) + int(extra_length)
        if storage.counted:
            self._file.seek(storage.offset - 8)
            (count,) = struct.unpack("<q", self._file.read(8).ljust(8, b"\0"))
            if count * storage.counted != storage.nbytes:
                raise EOFError(f"its storage claims {count:,} elements")
        return storage.offset


def open_tensor_file(path: str | Path) -> TensorFile:
    """Open a weights file and read its header; the format is told by content, not by the name.

    Raises:
        TensorFileError: the file cannot be opened, is no weights file, is damaged, or its pickle would run code.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise TensorFileError(f"{path.name} cannot be opened: {getattr(error, 'strerror', None) or error}.") from error
    try:
        return TensorFile(path, file, _read_layout(file))
    except TensorFileError as error:
        file.close()
        raise TensorFileError(f"{path.name}: {error}") from error
    except BaseException:
        file.close()
        raise


def _read_layout(file: BufferedReader) -> Layout:
    file_size = file.seek(0, 2)
    file.seek(0)
    first_bytes = file.read(len(GIT_LFS_START))
    if first_bytes == GIT_LFS_START:
        raise TensorFileError(
            "This is a Git LFS pointer, a text of three lines that stands for the file in a repository. "
            "Get the file itself: `git lfs pull` in the repository, or download it from the repository's page."
        )
    if first_bytes.startswith(ZIP_START):
        return read_torch_zip(file, file_size)
    if looks_like_safetensors(first_bytes):
        return read_safetensors(file, file_size)
    if first_bytes.startswith(b"\x80"):
        return read_torch_legacy(file, file_size)
    raise TensorFileError(
        f"Not a weights file (it starts with {first_bytes[:9]!r}); .safetensors, .ckpt or .pt is expected. "
        "A web page saved under the model's name looks like this: download the file again."
    )


def state_dict_names(file: TensorFile) -> dict[str, str]:
    """The names of the state dict with the names to `TensorFile.read` them by.

    A torch file's own "state_dict" is taken where there is one, else everything, as the host does
    (modules/sd_models.py:262-264). Tensors in further containers, such as an optimizer's, are then left out.
    """
    inside = "state_dict."
    names = [name for name in file if name.startswith(inside)]
    if file.format == "safetensors" or not names:
        return {name: name for name in file}
    return {name.removeprefix(inside): name for name in names}


def read_state_dict(path: str | Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a file's state dict whose names start with `prefix`, by their names without it.

    Raises:
        TensorFileError: see `open_tensor_file` and `TensorFile.read`.
    """
    with open_tensor_file(path) as file:
        names = state_dict_names(file).items()
        return {name.removeprefix(prefix): file.read(entry) for name, entry in names if name.startswith(prefix)}
