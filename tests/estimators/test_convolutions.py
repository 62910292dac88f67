from __future__ import annotations

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib_depth2img.estimators.networks.building import assign, without_weights
from lib_depth2img.estimators.networks.convolutions import FoldedStdConv2d, fold_std_convs
from lib_depth2img.estimators.networks.decoder import Conv2dFloat32
from lib_depth2img.estimators.stage import DepthStage

try:
    from timm.layers import StdConv2dSame
except ImportError:  # below 0.9
    from timm.models.layers import StdConv2dSame


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(32, 48), (33, 31), (32, 31)])
def test_folded_convolution_is_timms(kernel, stride, size):
    torch.manual_seed(0)
    theirs = StdConv2dSame(6, 8, kernel, stride=stride, eps=1e-8).eval()
    holder = nn.Sequential(copy.deepcopy(theirs))
    fold_std_convs(holder)
    assert type(holder[0]) is FoldedStdConv2d
    assert holder.state_dict().keys() == {"0.weight"}
    x = torch.randn(2, 6, *size)
    with torch.no_grad():
        torch.testing.assert_close(holder(x), theirs(x), rtol=1e-5, atol=5e-5)


def test_folding_in_half_precision_is_done_in_float32():
    torch.manual_seed(0)
    conv = StdConv2dSame(64, 64, 3, eps=1e-8)
    with torch.no_grad():
        conv.weight.mul_(0.02)  # a standard deviation of 5e-4, whose square float16 has no digits for
    folded = FoldedStdConv2d(copy.deepcopy(conv).half(), conv.eps).folded(torch.float16)
    flat = conv.weight.double().flatten(1)
    exact = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, correction=0, keepdim=True) + conv.eps).sqrt()
    assert folded.dtype == torch.float16
    assert (folded.double().flatten(1) - exact).abs().max() < 0.01


def folded_layer() -> FoldedStdConv2d:
    torch.manual_seed(0)
    return FoldedStdConv2d(StdConv2dSame(16, 16, 3), 1e-6)


@pytest.mark.parametrize("change", ["in place", "loaded", "replaced", "assigned data"])
def test_the_folded_weight_follows_the_weight(change):
    x, layer = torch.randn(1, 16, 8, 8), folded_layer()
    other = torch.randn_like(layer.weight)
    with torch.no_grad():
        before = layer(x)
        if change == "in place":
            layer.weight.copy_(other)
        elif change == "loaded":
            layer.load_state_dict({**layer.state_dict(), "weight": other})
        elif change == "replaced":
            layer.weight = nn.Parameter(other)
        else:
            layer.weight.data = other
        after, afresh = layer(x), copy.deepcopy(layer)(x)
    assert not torch.allclose(before, after, atol=1e-2)
    torch.testing.assert_close(after, afresh, rtol=0, atol=0)


def real_bytes() -> int:
    """Bytes of all tensors alive outside the meta device; what shares memory counts once."""
    gc.collect()
    tensors = [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor)]
    storages = [tensor.untyped_storage() for tensor in tensors if not tensor.is_meta]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def stage_of_zeros() -> DepthStage:
    stage = without_weights(lambda: DepthStage("dpt_hybrid"))
    assign(stage, {})
    return stage


def test_a_moved_stage_leaves_nothing_behind():
    """Meta stands for the other device."""
    x = torch.zeros(1, 3, 64, 64)
    stage_of_zeros()(x)  # what the process keeps for good, whatever is moved
    before = real_bytes()
    stage = stage_of_zeros()
    stage(x)
    weights = 4 * sum(parameter.numel() for parameter in stage.parameters())
    folded = 4 * sum(layer.weight.numel() for layer in stage.modules() if isinstance(layer, FoldedStdConv2d))
    assert folded > 20_000_000
    assert real_bytes() - before == pytest.approx(weights + folded, abs=1_000)
    stage.to("meta")
    assert real_bytes() - before < 1_000


@pytest.mark.parametrize("move", [lambda it: it.bfloat16(), lambda it: it.to("meta"), lambda it: it.double()])
def test_a_cast_or_move_lets_go_of_the_folded_weight(move):
    holder = nn.Sequential(folded_layer())
    with torch.no_grad():
        holder(torch.randn(1, 16, 8, 8))
    assert holder[0]._folded is not None
    move(holder)
    assert holder[0]._folded is None


def test_repeated_passes_fold_once(monkeypatch):
    """Also when the layer is sent to where it lies already, as --medvram does on a machine without a GPU."""
    layer, folded, fold = folded_layer(), [], FoldedStdConv2d._fold
    monkeypatch.setattr(FoldedStdConv2d, "_fold", lambda self, *args: folded.append(1) or fold(self, *args))
    with torch.no_grad():
        for _ in range(3):
            layer.to("cpu")(torch.randn(1, 16, 8, 8))
    assert len(folded) == 1


def test_copies_carry_the_weight_only():
    layer = folded_layer()
    with torch.no_grad():
        layer(torch.randn(1, 16, 8, 8))
    assert layer._folded is not None
    assert copy.deepcopy(layer)._folded is None


def test_last_layer_is_float32_whatever_its_weights():
    layer = Conv2dFloat32(4, 1, 1).bfloat16()
    x = torch.randn(1, 4, 5, 5).bfloat16()
    expected = F.conv2d(x.float(), layer.weight.float(), layer.bias.float())
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)
    assert layer(x).dtype == torch.float32
