from __future__ import annotations

import logging
import pickle

import pytest
import torch
from safetensors.torch import save_file

from lib_depth2img.errors import TensorFileError, WeightsError
from lib_depth2img.estimators.loading import build_network, load_weights
from lib_depth2img.estimators.presets import PRESETS
from lib_depth2img.weights import catalog
from lib_depth2img.weights.tensor_file import TensorFile

PRESET = PRESETS["midas_v21_small"]


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: tensor.detach() for name, tensor in PRESET.build().state_dict().items()}


@pytest.fixture
def checkpoint(weights) -> dict[str, torch.Tensor]:
    return {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 5, 3, 3),
        "first_stage_model.encoder.conv_in.weight": torch.zeros(128, 3, 3, 3),
        **{f"depth_model.model.{name}": tensor for name, tensor in weights.items()},
    }


def _assert_equal(got, expected):
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_from_a_state_dict_of_any_level(weights, checkpoint):
    for source in (weights, {f"model.{name}": tensor for name, tensor in weights.items()}, checkpoint):
        _assert_equal(load_weights(source, PRESET), weights)


def test_from_a_published_file(weights, tmp_path):
    torch.save(weights, tmp_path / "midas.pt")
    _assert_equal(load_weights(tmp_path / "midas.pt", PRESET), weights)


@pytest.mark.parametrize("form", ["safetensors", "ckpt", "old ckpt"])
def test_from_a_checkpoint_without_reading_the_rest(form, weights, checkpoint, tmp_path, monkeypatch):
    path = tmp_path / f"depth.{form.split()[-1]}"
    if form == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in checkpoint.items()}, path)
    else:
        content = {"state_dict": checkpoint, "global_step": 875000}
        torch.save(content, path, _use_new_zipfile_serialization=form == "ckpt")
    read = []
    original = TensorFile.read
    monkeypatch.setattr(TensorFile, "read", lambda self, name: read.append(name) or original(self, name))
    _assert_equal(load_weights(path, PRESET), weights)
    assert len(read) == len(weights)
    assert all("depth_model.model." in name for name in read)


def test_the_network_is_the_one_that_was_saved(random_network, tmp_path):
    network = random_network(PRESET.name)
    torch.save(network.state_dict(), tmp_path / "midas.pt")
    x = torch.randn(1, 3, 64, 64)
    built = build_network(PRESET, tmp_path / "midas.pt")
    with torch.no_grad():
        torch.testing.assert_close(built(x), network(x), rtol=0, atol=0)
    assert not any(tensor.is_meta for tensor in (*built.parameters(), *built.buffers()))
    assert not any(parameter.requires_grad for parameter in built.parameters())


def test_what_the_estimate_does_not_need_may_be_missing(random_network):
    weights = random_network("dpt_hybrid").state_dict()
    pruned = {name: tensor for name, tensor in weights.items() if ".head." not in name}
    assert len(pruned) < len(weights)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = random_network("dpt_hybrid")(x)
        torch.testing.assert_close(build_network(PRESETS["dpt_hybrid"], pruned)(x), expected, rtol=0, atol=0)


def test_missing_left_over_and_misshaped_are_named(weights):
    wrong = dict(weights)
    del wrong["scratch.layer1_rn.weight"]
    wrong["scratch.layer9_rn.weight"] = torch.zeros(1)
    wrong["scratch.layer2_rn.weight"] = torch.zeros(128, 48, 1, 1)
    with pytest.raises(WeightsError) as refused:
        build_network(PRESET, wrong)
    assert "1 missing: scratch.layer1_rn.weight" in str(refused.value)
    assert "1 left over: scratch.layer9_rn.weight" in str(refused.value)
    assert "scratch.layer2_rn.weight (128, 48, 1, 1) instead of (128, 48, 3, 3)" in str(refused.value)


def test_a_known_file_of_another_estimator_is_refused(weights, tmp_path, monkeypatch):
    torch.save(weights, tmp_path / "renamed.pt")
    monkeypatch.setattr(catalog, "file_with_sha256", lambda digest: catalog.estimator_file("dpt_large"))
    with pytest.raises(WeightsError, match=r"renamed\.pt is dpt_large-midas-2f21e586\.pt by its sha256"):
        load_weights(tmp_path / "renamed.pt", PRESET)


def test_an_unknown_file_is_said_to_be_unknown(weights, tmp_path, caplog):
    torch.save(weights, tmp_path / "mine.pt")
    with caplog.at_level(logging.WARNING):
        load_weights(tmp_path / "mine.pt", PRESET)
    assert "mine.pt has a sha256 the catalogue does not know" in caplog.text


def test_a_known_file_is_loaded_without_a_word(weights, tmp_path, monkeypatch, caplog):
    torch.save(weights, tmp_path / "midas.pt")
    monkeypatch.setattr(catalog, "file_with_sha256", lambda digest: catalog.estimator_file(PRESET.name))
    load_weights(tmp_path / "midas.pt", PRESET)
    assert caplog.text == ""


def test_a_checkpoint_without_midas_names_the_way_out(tmp_path):
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, tmp_path / "tuned.safetensors")
    with pytest.raises(WeightsError, match=r"tuned.safetensors is a checkpoint without MiDaS.*install --estimator"):
        load_weights(tmp_path / "tuned.safetensors", PRESET)


def test_other_weights_are_not_taken_for_midas(tmp_path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors holds no estimator's weights"):
        load_weights(tmp_path / "other.safetensors", PRESET)


def test_a_pickle_that_would_run_code_is_refused_unread(tmp_path):
    ran = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    (tmp_path / "hostile.pt").write_bytes(pickle.dumps({"pretrained.x": Hostile()}))
    torch.save({"pretrained.x": Hostile()}, tmp_path / "hostile_zip.pt")
    for name in ("hostile.pt", "hostile_zip.pt"):
        with pytest.raises(TensorFileError, match=name):
            load_weights(tmp_path / name, PRESET)
    assert not ran.exists()


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"PK\x03\x04 cut off", b"\x80\x02}q\x00"])
def test_broken_files_are_refused(content, tmp_path):
    (tmp_path / "broken.pt").write_bytes(content)
    with pytest.raises(TensorFileError, match=r"broken\.pt"):
        load_weights(tmp_path / "broken.pt", PRESET)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_at_load(number, weights):
    broken = {name: tensor.clone() for name, tensor in weights.items()}
    broken["scratch.output_conv.4.weight"].view(-1)[3] = number
    with pytest.raises(
        WeightsError, match=r"not finite \(NaN or inf\) in 1 tensors .*output_conv.4.weight\): it is dam"
    ):
        build_network(PRESET, broken)
