"""Conversion, judged by safetensors."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lib_depth2img.checkpoint import writing
from lib_depth2img.checkpoint.convert import convert
from lib_depth2img.checkpoint.inspect import inspect
from lib_depth2img.cli import main
from lib_depth2img.errors import CheckpointError, TensorFileError
from lib_depth2img.progress import Progress
from tests.checkpoint import models

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return models.random_weights(models.small(models.depth_shapes()), 1)


@pytest.fixture(scope="module")
def trained(weights, tmp_path_factory) -> Path:
    """A .ckpt as training leaves it: EMA in the state dict, optimizer beside it."""
    ema = {"model_ema.decay": torch.tensor(0.99), "model_ema.diffusion_modelout2weight": torch.ones(3)}
    loss = {"first_stage_model.loss.logvar": torch.ones(1)}
    return models.save(tmp_path_factory.mktemp("trained") / "trained.ckpt", weights | ema | loss)


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(got) == set(expected)
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype, name
        assert torch.equal(got[name], tensor), name


def test_there_and_once_more_nothing_changes(tmp_path, weights, trained):
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    result = convert(trained, one)
    assert result.dropped == {"model_ema.": 2, "first_stage_model.loss.": 1, "training state": 2}
    assert result.tensors == len(weights)
    convert(one, two)
    assert_same(load_file(one), weights)
    assert_same(load_file(two), weights)
    assert inspect(two).yaml_fits is True
    assert inspect(two).dtypes == {"float32": sum(tensor.nbytes for tensor in weights.values())}
    assert not inspect(two).ema
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([one.name, two.name, "one.yaml", "two.yaml"])


def test_the_old_torch_format_is_read(tmp_path, weights):
    old = tmp_path / "old.ckpt"
    torch.save({"state_dict": weights}, old, _use_new_zipfile_serialization=False)
    convert(old, tmp_path / "new.safetensors")
    assert_same(load_file(tmp_path / "new.safetensors"), weights)


def test_half(tmp_path, weights, trained):
    out = tmp_path / "half.safetensors"
    result = convert(trained, out, half=True)
    got = load_file(out)
    assert set(got) == set(weights)
    for name, tensor in weights.items():
        expected = tensor if name in models.SCHEDULE else tensor.half()
        assert got[name].dtype == expected.dtype, name
        assert torch.equal(got[name], expected), name
    assert result.halved == len(weights) - len(models.SCHEDULE)
    record = json.loads(safe_open(out, "pt").metadata()["depth2img.convert"])
    assert record["half"] is True
    assert record["dropped"]["model_ema."] == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.float16, torch.int64, torch.bool])
def test_half_of_other_dtypes(tmp_path, dtype):
    tensor = torch.arange(4).to(dtype)
    save_file({"model.x": tensor}, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", half=True)
    got = load_file(tmp_path / "b.safetensors")["model.x"]
    assert got.dtype == (torch.float16 if dtype.is_floating_point else dtype)
    assert torch.equal(got, tensor.to(got.dtype))


def test_a_weight_too_large_for_half_is_refused_and_leaves_nothing(tmp_path):
    save_file({"model.ok": torch.ones(3), "model.x": torch.tensor([1e6])}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.x holds 1e\+06.*65504"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", half=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("value", [65504.0, 65519.0, float("inf"), float("nan")])
def test_what_float16_can_hold_is_halved(tmp_path, value):
    save_file({"model.x": torch.tensor([value, -value])}, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", half=True)
    got = load_file(tmp_path / "b.safetensors")["model.x"]
    assert torch.equal(got.nan_to_num(), torch.tensor([value, -value]).half().nan_to_num())


def test_a_part_file_is_read_or_left_alone(tmp_path):
    """A finished download that nobody has renamed is a checkpoint; another one is none of our business."""
    save_file({"model.x": torch.ones(3)}, tmp_path / "a.safetensors.part")
    kept = (tmp_path / "a.safetensors.part").read_bytes()
    (tmp_path / "b.safetensors.part").write_text("somebody's")
    for name in ("a", "b"):
        convert(tmp_path / "a.safetensors.part", tmp_path / f"{name}.safetensors")
        assert_same(load_file(tmp_path / f"{name}.safetensors"), {"model.x": torch.ones(3)})
    assert (tmp_path / "a.safetensors.part").read_bytes() == kept
    assert (tmp_path / "b.safetensors.part").read_text() == "somebody's"


def test_names_that_cannot_be_written_are_refused(tmp_path):
    save_file({"model.x": torch.ones(3)}, tmp_path / "a.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    for name, reason in (("folder", "is a folder"), ("n" * 244, "File name too long"), ("模" * 82, "too long")):
        with pytest.raises(CheckpointError, match=reason):
            convert(tmp_path / "a.safetensors", tmp_path / f"{name}.safetensors", overwrite=True)


@pytest.mark.parametrize("name", ["n" * 243, "模" * 81])
def test_the_longest_names_are_written(tmp_path, name):
    save_file({"model.x": torch.ones(3)}, tmp_path / "a.safetensors")
    out = tmp_path / f"{name}.safetensors"
    convert(tmp_path / "a.safetensors", out)
    assert_same(load_file(out), {"model.x": torch.ones(3)})


def test_a_file_name_that_is_no_utf_8(tmp_path):
    save_file({"model.x": torch.ones(3)}, tmp_path / "a.safetensors")
    out = tmp_path / os.fsdecode(b"\xff.safetensors")
    convert(tmp_path / "a.safetensors", out)
    convert(out, tmp_path / "back.safetensors")
    assert_same(load_file(tmp_path / "back.safetensors"), {"model.x": torch.ones(3)})


def test_a_piece_of_midas_is_replaced_by_the_whole(tmp_path):
    midas = models.random_weights(models.small(models.midas_shapes()), 9)
    piece = {f"depth_model.model.{name}": torch.zeros(2) for name in list(midas)[:5]}
    models.save(tmp_path / "piece.safetensors", piece | {"model.x": torch.ones(3)})
    torch.save(midas, tmp_path / "dpt.pt")
    result = convert(tmp_path / "piece.safetensors", tmp_path / "out.safetensors", add_midas=tmp_path / "dpt.pt")
    assert result.notes == ["5 tensors of an incomplete MiDaS were replaced."]
    expected = {f"depth_model.model.{name}": tensor for name, tensor in midas.items()}
    assert_same(load_file(tmp_path / "out.safetensors"), expected | {"model.x": torch.ones(3)})


def test_shared_and_transposed_tensors_are_written_out(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    torch.save({"state_dict": {"model.a": base, "model.b": base.t(), "model.c": base[1:]}}, tmp_path / "a.ckpt")
    convert(tmp_path / "a.ckpt", tmp_path / "b.safetensors")
    assert_same(load_file(tmp_path / "b.safetensors"), {"model.a": base, "model.b": base.t(), "model.c": base[1:]})


@pytest.mark.parametrize("wrapped", ["plain", "model", "checkpoint"])
def test_midas_is_added_where_it_is_missing(tmp_path, weights, wrapped):
    without = {name: tensor for name, tensor in weights.items() if not name.startswith("depth_model")}
    midas = models.random_weights(models.small(models.midas_shapes()), 9)
    models.save(tmp_path / "without.safetensors", without)
    if wrapped == "checkpoint":
        inside = {f"depth_model.model.{name}": tensor for name, tensor in midas.items()}
        models.save(tmp_path / "dpt.pt", inside | {"model.other.weight": torch.ones(2)})
    else:
        torch.save(midas if wrapped == "plain" else {"optimizer": {}, "model": midas}, tmp_path / "dpt.pt")
    out = tmp_path / "out.safetensors"
    result = convert(tmp_path / "without.safetensors", out, add_midas=tmp_path / "dpt.pt", half=True)
    assert result.midas_added == "dpt_hybrid"
    assert result.halved == len(weights) - len(models.SCHEDULE)
    got = load_file(out)
    assert set(got) == set(weights)
    for name, tensor in midas.items():
        assert torch.equal(got[f"depth_model.model.{name}"], tensor.half())
    assert inspect(tmp_path / "out.safetensors").verdict == "A depth model with dpt_hybrid inside; complete."


def test_midas_of_which_a_tensor_is_missing_is_replaced_too(tmp_path, weights):
    """Its network is still told from the names; the missing tensor would be random numbers."""
    midas = models.random_weights(models.small(models.midas_shapes()), 9)
    torch.save(midas, tmp_path / "dpt.pt")
    lacking = {name: tensor for name, tensor in weights.items() if "blocks.5.mlp.fc1.bias" not in name}
    models.save(tmp_path / "lacking.safetensors", lacking)
    result = convert(tmp_path / "lacking.safetensors", tmp_path / "out.safetensors", add_midas=tmp_path / "dpt.pt")
    assert result.midas_added == "dpt_hybrid"
    assert result.notes == [f"{len(midas) - 1} tensors of an incomplete MiDaS were replaced."]
    assert set(load_file(tmp_path / "out.safetensors")) == set(weights)


def test_midas_that_is_inside_stays(tmp_path, weights, trained):
    midas = tmp_path / "dpt.pt"
    torch.save(models.random_weights(models.small(models.midas_shapes()), 9), midas)
    result = convert(trained, tmp_path / "out.safetensors", add_midas=midas)
    assert result.midas_added is None
    assert "already inside" in result.notes[0]
    assert_same(load_file(tmp_path / "out.safetensors"), weights)


def test_what_is_no_midas_is_not_added(tmp_path, trained):
    without = models.save(tmp_path / "without.safetensors", {"model.diffusion_model.x": torch.ones(1)})
    with pytest.raises(CheckpointError, match="holds no MiDaS weights"):
        convert(without, tmp_path / "out.safetensors", add_midas=without)


def test_targets_that_are_refused(tmp_path, trained):
    there = tmp_path / "there.safetensors"
    there.write_bytes(b"mine")
    for out, reason in [
        (tmp_path / "out.bin", "must end in"),
        (tmp_path / "out.ckpt", r"out\.ckpt must end in \.safetensors, the only format"),
        (tmp_path / "none" / "out.safetensors", "does not exist"),
        (there, "already there"),
    ]:
        with pytest.raises(CheckpointError, match=reason):
            convert(trained, out)
    for overwrite in (True, False):
        with pytest.raises(CheckpointError, match="also what is read"):
            convert(there, there, overwrite=overwrite)
    assert there.read_bytes() == b"mine"
    convert(trained, there, overwrite=True)
    assert inspect(there).tensors > 1_000


def test_nothing_to_convert(tmp_path):
    save_file({"model_ema.decay": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def test_a_target_that_is_there_survives_a_failure(tmp_path, trained, monkeypatch):
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"mine")
    monkeypatch.setattr(writing, "_digest", lambda _: object())
    with pytest.raises(CheckpointError, match="not read back as it was written"):
        convert(trained, out, overwrite=True)
    assert out.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, trained, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1000))
        with pytest.raises(CheckpointError, match=r"0\.00 GB free"):
            convert(trained, tmp_path / "out.safetensors")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "write_safetensors", full)
    with pytest.raises(CheckpointError, match="the disk is full"):
        convert(trained, tmp_path / "out.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_pickle_that_would_run_code_is_not_converted(tmp_path):
    torch.save({"state_dict": torch.nn.Linear(2, 2)}, tmp_path / "a.ckpt")
    with pytest.raises(TensorFileError, match="would run code"):
        convert(tmp_path / "a.ckpt", tmp_path / "b.safetensors")


def test_the_listener_sees_both_passes_to_their_end(tmp_path, trained):
    seen: list[Progress] = []
    result = convert(trained, tmp_path / "out.safetensors", listener=seen.append)
    assert [each.phase for each in seen if each.done == each.total == result.nbytes] == ["writing", "checking"]
    assert {each.name for each in seen} == {"out.safetensors"}


def test_the_command(tmp_path, trained, capsys):
    out = tmp_path / "out.safetensors"
    assert main(["checkpoint", "convert", str(trained), str(out), "--half", "--quiet"]) == 0
    text, bar = capsys.readouterr()
    assert bar == ""
    assert "read back and compared" in text
    assert "2 model_ema" in text
    assert f"yaml written: {out.with_suffix('.yaml')}" in text
    assert main(["checkpoint", "convert", str(trained), str(out)]) == 2
    assert "already there" in capsys.readouterr().err
    assert main(["checkpoint", "convert", str(trained), str(out), "--force", "--json"]) == 0
    text, bar = capsys.readouterr()
    assert json.loads(text)["tensors"] > 1_000
    assert "out.safetensors: 100%" in bar


def test_more_than_a_gigabyte_is_converted_within_one(tmp_path):
    """Six tensors as large as a checkpoint's largest, its token embedding."""
    shapes = {f"model.layer{index}.weight": (49408, 1024) for index in range(6)}
    source = models.sparse_safetensors(tmp_path / "large.safetensors", shapes)
    assert source.stat().st_size > 1.2e9
    code = f"""
import re
from pathlib import Path
from lib_depth2img.checkpoint.convert import convert
convert({str(source)!r}, {str(tmp_path / "half.safetensors")!r}, half=True)
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 1e9
    (tmp_path / "half.safetensors").unlink()
