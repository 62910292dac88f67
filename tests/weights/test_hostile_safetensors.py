"""Safetensors headers made to harm: lengths, shapes and offsets that point elsewhere."""

from __future__ import annotations

import io
import json

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_depth2img.errors import TensorFileError
from lib_depth2img.weights.safetensors_format import read_safetensors
from lib_depth2img.weights.tensor_file import open_tensor_file


def safe(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(encoded) if length is None else length).to_bytes(8, "little") + encoded + data


def entry(dtype="F32", shape=(2,), begin=0, end=8) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def read_bytes(raw: bytes):
    return read_safetensors(io.BytesIO(raw), len(raw))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(safe({}, length=2**63), id="header of 2**63 bytes"),
        pytest.param(safe({}, length=2**26), id="header longer than the file"),
        pytest.param(safe(b'{"a":'), id="not JSON"),
        pytest.param(safe(b"{" + b'"a":[' * 100_000), id="JSON nested deep"),
        pytest.param(safe(b'{"a":' + b"9" * 100_000 + b"}"), id="a number of 100,000 digits"),
        pytest.param(safe(b'{"\xff":1}'), id="not UTF-8"),
        pytest.param(safe([1]), id="a list"),
        pytest.param(safe({"a": 1}), id="entry is a number"),
        pytest.param(safe({"a": {"dtype": "F32"}}), id="entry lacks fields"),
        pytest.param(safe({"a": {**entry(), "more": 1}}, bytes(8)), id="entry has more fields"),
        pytest.param(safe({"a": entry(dtype="Q4")}, bytes(8)), id="unknown dtype"),
        pytest.param(safe({"a": entry(dtype=["F32"])}, bytes(8)), id="dtype is a list"),
        pytest.param(safe({"a": entry(shape=[3])}, bytes(8)), id="shape too large"),
        pytest.param(safe({"a": entry(shape=[-2])}, bytes(8)), id="shape negative"),
        pytest.param(safe({"a": entry(shape=[2.0])}, bytes(8)), id="shape is a float"),
        pytest.param(safe({"a": entry(shape=[True, 2])}, bytes(8)), id="shape is a truth"),
        pytest.param(safe({"a": entry(shape=[2**62, 2**62, 0], end=0)}, bytes(8)), id="data left over"),
        pytest.param(safe({"a": entry(shape=[0, 2**40, 2**40], end=0)}), id="strides of 2**80"),
        pytest.param(safe({"\ud800": entry()}, bytes(8)), id="a name that is no text"),
        pytest.param(safe({"a": entry(end=12)}, bytes(8)), id="beyond the end"),
        pytest.param(safe({"a": entry(begin=8, end=0)}, bytes(8)), id="backwards"),
        pytest.param(safe({"a": entry(begin=-8, end=0)}, bytes(8)), id="before the start"),
        pytest.param(safe({"a": entry(), "b": entry(begin=4, end=12)}, bytes(12)), id="overlap"),
        pytest.param(safe({"a": entry(), "b": entry()}, bytes(8)), id="the same place"),
        pytest.param(safe({"a": entry(), "b": entry(begin=12, end=20)}, bytes(20)), id="gap"),
        pytest.param(safe({"a": entry()}, bytes(9)), id="one byte too many"),
        pytest.param(safe({"a": entry()}, bytes(7)), id="one byte too few"),
        pytest.param(safe(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)), id="a name twice"),
        pytest.param(safe({"__metadata__": {"a": 1}}), id="metadata is not text"),
        pytest.param(safe({"__metadata__": []}), id="metadata is a list"),
        pytest.param(b"\x01", id="one byte"),
    ],
)
def test_hostile_safetensors_headers_are_refused(raw, tmp_path):
    with pytest.raises(TensorFileError):
        read_bytes(raw)
    (tmp_path / "model.safetensors").write_bytes(raw)
    with pytest.raises(TensorFileError):
        open_tensor_file(tmp_path / "model.safetensors")


def valid_safetensors() -> bytes:
    tensors = {"a.weight": torch.arange(6).reshape(2, 3).half(), "b": torch.tensor(1)}
    return safetensors.torch.save(tensors, {"k": "v"})


@settings(max_examples=600, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(valid_safetensors()) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(-9, 9),
)
def test_whatever_is_accepted_the_reference_reader_accepts_too(changes, longer):
    raw = bytearray(valid_safetensors())
    for position, value in changes:
        raw[position] = value
    raw = raw[:longer] if longer < 0 else raw + bytes(longer)
    try:
        layout = read_bytes(bytes(raw))
    except TensorFileError:
        return
    reference = safetensors.torch.load(bytes(raw))
    assert {name: (each.info.shape, f"torch.{each.info.dtype}") for name, each in layout.tensors.items()} == {
        name: (tuple(tensor.shape), str(tensor.dtype)) for name, tensor in reference.items()
    }
