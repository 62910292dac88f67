"""Write a checkpoint tensor by tensor, read it back, compare, and only then give it its name."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from ..progress import Listener, Progress
from ..replacing import replacing
from ..weights.safetensors_format import write_safetensors
from ..weights.tensor_file import TensorInfo, open_tensor_file

if TYPE_CHECKING:
    import torch

__all__ = ["PlannedTensor", "check_target", "write_checked"]

SUFFIX = ".safetensors"
HEADER_ALLOWANCE = 4 * 2**20


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the file to be: how it will look, and how to come by it when its turn has come."""

    info: TensorInfo
    load: Callable[[], torch.Tensor]


def check_target(out: Path, *inputs: Path, overwrite: bool) -> None:
    """See that `out` may be written, before any work is done.

    Raises:
        CheckpointError: another suffix than .safetensors, one of the inputs itself, a folder, a name that the system
            does not take, or a file that may not be overwritten.
    """
    if out.suffix.lower() != SUFFIX:
        raise CheckpointError(
            f"{out.name} must end in {SUFFIX}, the only format that is written: WebUI, ComfyUI, diffusers read it."
        )
    with _as_checkpoint_error(out):
        if not out.parent.is_dir():
            raise CheckpointError(f"The folder {out.parent} does not exist; make it first.")
        if any(out.exists() and given.exists() and out.samefile(given) for given in inputs):
            raise CheckpointError(f"{out} is also what is read; choose another name for the result.")
        if out.is_dir():
            raise CheckpointError(f"{out} is a folder; name a file.")
        if out.exists() and not overwrite:
            raise CheckpointError(f"{out} is already there; choose another name, or say that it may be overwritten.")


def write_checked(
    out: Path, planned: Sequence[PlannedTensor], *, metadata: Mapping[str, str], listener: Listener | None = None
) -> None:
    """Write `planned` to `out` as safetensors; one tensor is in memory at a time.

    Raises:
        CheckpointError: no disk space, or what was read back is not what was written.
        TensorFileError: an input cannot be read, or safetensors cannot hold one of its dtypes.
    """
    import torch  # noqa: F401  # before the first tensor: what is imported while one is read keeps it in memory

    loaders = {tensor.info.name: tensor.load for tensor in planned}
    sizes = {tensor.info.name: tensor.info.nbytes for tensor in planned}
    total = sum(sizes.values())
    digests: dict[str, bytes] = {}
    done = 0

    def load(name: str) -> torch.Tensor:
        nonlocal done
        tensor = loaders[name]()
        digests[name] = _digest(tensor)
        done += sizes[name]
        if listener is not None:
            listener(Progress("writing", out.name, done, total))
        return tensor

    with _as_checkpoint_error(out):
        _check_space(out, total)
        with replacing(out) as part:
            write_safetensors(part, [tensor.info for tensor in planned], load, metadata=metadata)
            _compare(part, digests, out.name, listener)


def _digest(tensor: torch.Tensor) -> bytes:
    import torch

    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(memoryview(raw.numpy())).digest()


def _compare(part: Path, digests: Mapping[str, bytes], shown: str, listener: Listener | None) -> None:
    with open_tensor_file(part) as file:
        if set(file) != set(digests):
            raise CheckpointError("The file just written does not hold the tensors it should: the disk may be failing.")
        total, done = sum(info.nbytes for info in file.values()), 0
        for name, info in file.items():
            if _digest(file.read(name)) != digests[name]:
                raise CheckpointError(f"{name} was not read back as it was written; the disk may be failing.")
            done += info.nbytes
            if listener is not None:
                listener(Progress("checking", shown, done, total))


def _check_space(out: Path, total: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if free < total + HEADER_ALLOWANCE:
        raise CheckpointError(
            f"{out.parent} has {free / 1e9:.2f} GB free, but {total / 1e9:.2f} GB are needed. Make room first."
        )


@contextmanager
def _as_checkpoint_error(out: Path) -> Iterator[None]:
    """Let what the system refuses leave as a `CheckpointError`, in plain words where the disk is the reason."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = "the disk is full" if full else error.strerror or error
        raise CheckpointError(f"{out} cannot be written: {reason}.") from error
