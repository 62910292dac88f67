"""What the streaming writers write, read by the libraries that own the formats."""

from __future__ import annotations

import inspect
import json
import struct
import zipfile

import pytest
import torch
from safetensors import safe_open

from lib_depth2img.errors import TensorFileError
from lib_depth2img.weights.tensor_file import TensorInfo, open_tensor_file
from lib_depth2img.weights.writers import write_safetensors, write_torch_zip

DTYPES = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


def tensors() -> dict[str, torch.Tensor]:
    made = {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in DTYPES}
    return {**made, "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "transposed": torch.randn(3, 5).t()}


def infos(made: dict[str, torch.Tensor]) -> list[TensorInfo]:
    return [
        TensorInfo(
            name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.numel() * tensor.element_size()
        )
        for name, tensor in made.items()
    ]


def same(got: torch.Tensor, expected: torch.Tensor) -> bool:
    return got.dtype == expected.dtype and torch.equal(got, expected)


def test_safetensors_reads_it(tmp_path):
    made, path = tensors(), tmp_path / "model.safetensors"
    write_safetensors(path, infos(made), made.__getitem__, metadata={"format": "pt", "ü": "ß"})
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "ü": "ß"}
        assert set(file.keys()) == set(made)
        assert all(same(file.get_tensor(name), tensor) for name, tensor in made.items())


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch.load warns of its own doings
@pytest.mark.parametrize(
    "options", [{}, {"mmap": True}] if "mmap" in inspect.signature(torch.load).parameters else [{}]
)
def test_torch_reads_it(tmp_path, options):
    """Also mapped into memory, which torch can do from 2.1 on."""
    made, path = tensors(), tmp_path / "model.part.ckpt"
    write_torch_zip(path, infos(made), made.__getitem__, metadata={"note": "x"})
    loaded = torch.load(str(path), weights_only=True, **options)
    assert loaded["metadata"] == {"note": "x"}
    assert list(loaded["state_dict"]) == list(made)
    assert all(same(loaded["state_dict"][name], tensor) for name, tensor in made.items())


def test_the_zip_is_sound_and_aligned_as_torchs_own(tmp_path):
    made, path = tensors(), tmp_path / "model.ckpt"
    write_torch_zip(path, infos(made), made.__getitem__)
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        assert archive.testzip() is None
        for entry in archive.infolist():
            raw.seek(entry.header_offset + 26)
            name_length, extra_length = struct.unpack("<HH", raw.read(4))
            assert (entry.header_offset + 30 + name_length + extra_length) % 64 == 0


@pytest.mark.parametrize("write", [write_safetensors, write_torch_zip])
def test_what_is_written_is_read_back_by_us(tmp_path, write):
    made, path = tensors(), tmp_path / "model.x"
    write(path, infos(made), made.__getitem__)
    with open_tensor_file(path) as file:
        prefix = "" if file.format == "safetensors" else "state_dict."
        assert all(same(file.read(prefix + name), tensor) for name, tensor in made.items())


@pytest.mark.parametrize("write", [write_safetensors, write_torch_zip])
def test_tensors_are_asked_for_one_after_another(tmp_path, write):
    asked: list[str] = []

    def load(name: str) -> torch.Tensor:
        asked.append(name)
        return torch.ones(4)

    write(tmp_path / "model", [TensorInfo(name, "float32", (4,), 16) for name in "dcab"], load)
    assert asked == list("dcab")


@pytest.mark.parametrize("write", [write_safetensors, write_torch_zip])
@pytest.mark.parametrize("tensor", [torch.ones(5), torch.ones(4).half()])
def test_a_tensor_that_is_not_as_announced_is_refused(tmp_path, write, tensor):
    with pytest.raises(TensorFileError, match="announced as float32"):
        write(tmp_path / "model", [TensorInfo("a", "float32", (4,), 16)], lambda _: tensor)


def test_dtypes_that_a_format_cannot_hold_are_refused(tmp_path):
    with pytest.raises(TensorFileError, match="complex64"):
        write_safetensors(tmp_path / "a", [TensorInfo("a", "complex64", (1,), 8)], lambda _: torch.ones(1))
    with pytest.raises(TensorFileError, match="uint32"):
        write_torch_zip(tmp_path / "b", [TensorInfo("a", "uint32", (1,), 4)], lambda _: torch.ones(1))


def test_tensors_of_safetensors_lie_at_multiples_of_their_item_size(tmp_path):
    made = {
        "half": torch.ones(1).half(),
        "truth": torch.tensor([True]),
        "whole": torch.ones(3),
        "wide": torch.tensor(7),
    }
    path = tmp_path / "model.safetensors"
    write_safetensors(path, infos(made), made.__getitem__)
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert all(entry["data_offsets"][0] % made[name].element_size() == 0 for name, entry in header.items())


def test_no_tensors_at_all(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", [], lambda _: torch.ones(1))
    write_torch_zip(tmp_path / "a.ckpt", [], lambda _: torch.ones(1))
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert list(file.keys()) == []
    assert torch.load(tmp_path / "a.ckpt", weights_only=True) == {"state_dict": {}}
