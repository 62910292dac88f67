"""What the streaming writer writes, read by the library that owns the format."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from lib_depth2img.errors import TensorFileError
from lib_depth2img.weights.safetensors_format import DTYPE_NAMES, write_safetensors
from lib_depth2img.weights.tensor_file import TensorInfo, open_tensor_file

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


def test_what_is_written_is_read_back_by_us(tmp_path):
    made, path = tensors(), tmp_path / "model.x"
    write_safetensors(path, infos(made), made.__getitem__)
    with open_tensor_file(path) as file:
        assert all(same(file.read(name), tensor) for name, tensor in made.items())


def test_tensors_are_asked_for_one_after_another(tmp_path):
    asked: list[str] = []

    def load(name: str) -> torch.Tensor:
        asked.append(name)
        return torch.ones(4)

    write_safetensors(tmp_path / "model", [TensorInfo(name, "float32", (4,), 16) for name in "dcab"], load)
    assert asked == list("dcab")


@pytest.mark.parametrize("tensor", [torch.ones(5), torch.ones(4).half()])
def test_a_tensor_that_is_not_as_announced_is_refused(tmp_path, tensor):
    with pytest.raises(TensorFileError, match="announced as float32"):
        write_safetensors(tmp_path / "model", [TensorInfo("a", "float32", (4,), 16)], lambda _: tensor)


def test_dtypes_that_safetensors_cannot_hold_are_refused(tmp_path):
    with pytest.raises(TensorFileError, match="complex64"):
        write_safetensors(tmp_path / "a", [TensorInfo("a", "complex64", (1,), 8)], lambda _: torch.ones(1))


def test_the_names_of_the_dtypes_are_those_of_the_reference_library():
    """Those that this version of it knows too, and of torch."""
    theirs = {code: str(dtype).removeprefix("torch.") for code, dtype in safetensors.torch._TYPES.items() if dtype}
    both = theirs.keys() & DTYPE_NAMES
    assert both >= {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}
    assert {code: theirs[code] for code in both} == {code: DTYPE_NAMES[code] for code in both}


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
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert list(file.keys()) == []
