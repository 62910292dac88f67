"""Files written by torch and by safetensors, read back tensor by tensor."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lib_depth2img.errors import TensorFileError
from lib_depth2img.weights.tensor_file import open_tensor_file, read_state_dict, state_dict_names

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Lightning's own imports warn about each other
    from pytorch_lightning.callbacks.model_checkpoint import ModelCheckpoint

REPO = Path(__file__).parents[2]


def weights() -> OrderedDict[str, torch.Tensor]:
    """Every layout a state dict has: views, shared and transposed storages, all dtypes, scalars, empty tensors."""
    base = torch.arange(24.0).reshape(4, 6)
    tensors = OrderedDict(
        whole=base,
        view=base[1:3, 2:],
        transposed=base.t(),
        every_other=base[:, ::2],
        parameter=torch.nn.Parameter(torch.randn(3)),
        scalar=torch.tensor(3.5),
        empty=torch.zeros(0, 4),
        boolean=torch.tensor([True, False]),
        channels_last=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    )
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int64):
        tensors[str(dtype)] = torch.arange(5).to(dtype)
    return tensors


def lightning() -> dict[str, object]:
    """What a training run leaves behind, as far as real Stable Diffusion checkpoints hold it."""
    state = weights()
    state._metadata = {"": {"version": 1}}  # as torch's own state dicts have
    return {
        "epoch": 3,
        "global_step": 220_000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": state,
        "callbacks": {ModelCheckpoint: {"monitor": "val/loss", "best": np.float64(2.5), "current": torch.tensor(1.0)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"betas": (0.9, 0.99)}]}],
        "lr_schedulers": [{"base_lrs": [1e-4], "lr_lambdas": [{}], "seen": {1, 2}, "none": None}],
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_training_checkpoint_of_torch(tmp_path, zipped, protocol):
    path = tmp_path / "model.ckpt"
    torch.save(lightning(), path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    with open_tensor_file(path) as file:
        assert file.format == ("torch zip" if zipped else "torch legacy")
        names = state_dict_names(file)
        expected = torch.load(path)["state_dict"]
        assert list(names) == list(expected)
        for name, tensor in expected.items():
            got = file.read(names[name])
            assert got.dtype == tensor.dtype
            assert got.stride() == tensor.stride()
            assert torch.equal(got, tensor)
            info = file[names[name]]
            assert (info.shape, info.nbytes) == (tuple(tensor.shape), tensor.nbytes)
            assert info.dtype == str(tensor.dtype).removeprefix("torch.")
        assert file.extra["epoch"] == 3
        assert file.extra["global_step"] == 220_000
        assert torch.equal(file.read("optimizer_states.0.state.0.exp_avg"), torch.ones(2))
        assert not any(name.startswith("optimizer") for name in names)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bare_state_dict_and_nested_ones(tmp_path, zipped):
    path = tmp_path / "dpt.pt"
    torch.save(weights(), path, _use_new_zipfile_serialization=zipped)
    assert list(read_state_dict(path)) == list(weights())
    torch.save({"optimizer": {}, "model": weights()}, path, _use_new_zipfile_serialization=zipped)
    read = read_state_dict(path, "model.")
    assert list(read) == list(weights())
    assert torch.equal(read["transposed"], weights()["transposed"])


def test_shared_storages_are_read_by_the_part(tmp_path):
    """Of a view only the view's bytes are read: the file behind the rest of the storage may even be gone."""
    path = tmp_path / "model.ckpt"
    big = torch.zeros(1_000_000)
    big[10:12] = 7
    torch.save({"view": big[10:12]}, path)
    assert path.stat().st_size > 4_000_000
    with open_tensor_file(path) as file:
        assert file["view"].nbytes == 8
        assert file.read("view").untyped_storage().nbytes() == 8
        assert file.read("view").tolist() == [7, 7]


def test_safetensors_with_metadata(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in weights().items()}
    save_file(tensors, path, metadata={"format": "pt", "note": "ü"})
    with open_tensor_file(path) as file:
        assert file.format == "safetensors"
        assert file.metadata == {"format": "pt", "note": "ü"}
        assert set(file) == set(tensors)
        assert len(file) == len(tensors)
        for name, tensor in tensors.items():
            got = file.read(name)
            assert got.dtype == tensor.dtype
            assert torch.equal(got, tensor)


def test_safetensors_with_nothing_behind_the_header(tmp_path):
    save_file({"empty": torch.zeros(0, 4)}, tmp_path / "none.safetensors")
    with open_tensor_file(tmp_path / "none.safetensors") as file:
        assert {name: tuple(file.read(name).shape) for name in file} == {"empty": (0, 4)}


def test_what_is_read_belongs_to_the_reader(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3)}, path)
    with open_tensor_file(path) as file:
        file.read("a").add_(1)
        assert file.read("a").tolist() == [1, 1, 1]


def test_the_format_is_told_by_content(tmp_path):
    path = tmp_path / "wrong.ckpt"
    save_file({"a": torch.ones(3)}, path)
    with open_tensor_file(path) as file:
        assert file.format == "safetensors"


def test_a_name_that_is_not_there(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3)}, path)
    with open_tensor_file(path) as file, pytest.raises(TensorFileError, match="holds no tensor 'b'"):
        file.read("b")


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>", b"\x89PNG\r\n\x1a\n", b"\x80", b"PK\x03\x04rest", b"\x00" * 64]
)
def test_what_is_no_weights_file_is_refused(tmp_path, content):
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with pytest.raises(TensorFileError, match=r"model\.ckpt"):
        open_tensor_file(path)


def test_a_git_lfs_pointer_is_called_by_its_name(tmp_path):
    """What a repository holds that was cloned without Git LFS: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
    path = tmp_path / "model.safetensors"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5707592867\n")
    with pytest.raises(TensorFileError, match=r"model\.safetensors: This is a Git LFS pointer.*git lfs pull") as caught:
        open_tensor_file(path)
    assert "web page" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(TensorFileError, match="cannot be opened"):
        open_tensor_file(tmp_path / "none.ckpt")
    with pytest.raises(TensorFileError, match="cannot be opened"):
        open_tensor_file("none\0.ckpt")
    with pytest.raises(TensorFileError, match="cannot be opened"):
        open_tensor_file(tmp_path)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, kind):
    path = tmp_path / "model"
    tensors = {"a": torch.randn(64), "b": torch.randn(64)}
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(TensorFileError):
            open_tensor_file(path)


def test_a_file_cut_off_after_it_was_opened_is_noticed(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.randn(100_000)}, path)
    with open_tensor_file(path) as file:
        with path.open("r+b") as cut:
            cut.truncate(1000)
        with pytest.raises(TensorFileError, match="bytes are missing"):
            file.read("a")


def test_reading_a_header_does_not_import_torch(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save(lightning(), path)
    code = f"""
import sys
from lib_depth2img.weights.tensor_file import open_tensor_file
with open_tensor_file({str(path)!r}) as file:
    assert len(file) > 10
assert not {{"torch", "numpy", "safetensors"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)


def test_dtypes_this_torch_lacks_are_listed_but_not_read(tmp_path):
    header = b'{"a":{"dtype":"U32","shape":[2],"data_offsets":[0,8]}}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with open_tensor_file(path) as file:
        assert file["a"].dtype == "uint32"
        if hasattr(torch, "uint32"):
            assert file.read("a").tolist() == [0, 0]
        else:
            with pytest.raises(TensorFileError, match="uint32"):
                file.read("a")


def test_the_file_is_closed_with_the_block(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3)}, path)
    with open_tensor_file(path) as file:
        pass
    assert file["a"].shape == (3,)
    with pytest.raises(ValueError, match="closed"):
        file.read("a")
