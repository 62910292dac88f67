from __future__ import annotations

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib_depth2img.estimators.networks.convolutions import FoldedStdConv2d, WinogradConv2d, fold_std_convs
from lib_depth2img.estimators.networks.decoder import Conv2dFloat32
from lib_depth2img.estimators.stage import DepthStage

try:
    from timm.layers import StdConv2dSame
except ImportError:  # below 0.9
    from timm.models.layers import StdConv2dSame


@pytest.mark.parametrize(
    ("batch", "channels", "out", "height", "width"),
    [
        (1, 128, 128, 24, 24),
        (1, 256, 128, 96, 96),
        (2, 128, 256, 33, 47),  # sides that are no multiples of the tile
        (1, 128, 128, 21, 400),  # a strip is one row of tiles
        (3, 130, 129, 25, 26),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_winograd_is_the_convolution(batch, channels, out, height, width, bias):
    torch.manual_seed(0)
    layer = WinogradConv2d(channels, out, bias=bias)
    x = torch.randn(batch, channels, height, width).contiguous(memory_format=torch.channels_last)
    exact_bias = None if layer.bias is None else layer.bias.double()
    exact = F.conv2d(x.double(), layer.weight.double(), exact_bias, padding=1)
    with torch.no_grad():
        assert layer._worth_it(x), "the case would test torch's own convolution"
        got = layer(x)
    assert got.shape == exact.shape
    assert (got - exact).abs().max() <= 3e-5 * exact.abs().max()


@pytest.mark.parametrize(
    "x", [torch.randn(1, 128, 4, 4), torch.randn(1, 128, 40, 40).bfloat16()], ids=["few tiles", "bfloat16"]
)
def test_winograd_leaves_the_rest_to_torch(x):
    layer = WinogradConv2d(128, 128).to(x.dtype)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1), rtol=0, atol=0)


def test_winograd_can_be_trained():
    layer = WinogradConv2d(128, 128)
    layer(torch.randn(1, 128, 40, 40)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(32, 48), (33, 31)])
def test_folded_convolution_is_timms(stride, size):
    torch.manual_seed(0)
    theirs = StdConv2dSame(6, 8, 3, stride=stride, eps=1e-8).eval()
    holder = nn.Sequential(copy.deepcopy(theirs))
    fold_std_convs(holder)
    assert type(holder[0]) is FoldedStdConv2d
    assert holder.state_dict().keys() == {"0.weight"}
    x = torch.randn(2, 6, *size)
    with torch.no_grad():
        torch.testing.assert_close(holder(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_folding_in_half_precision_is_done_in_float32():
    torch.manual_seed(0)
    conv = StdConv2dSame(64, 64, 3, eps=1e-8)
    with torch.no_grad():
        conv.weight.mul_(0.02)  # a standard deviation of 5e-4, whose square float16 has no digits for
    folded = FoldedStdConv2d(copy.deepcopy(conv).half(), conv.eps).derived(torch.float16)
    flat = conv.weight.double().flatten(1)
    exact = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, correction=0, keepdim=True) + conv.eps).sqrt()
    assert folded.dtype == torch.float16
    assert (folded.double().flatten(1) - exact).abs().max() < 0.01


@pytest.mark.parametrize("kind", ["winograd", "folded"])
@pytest.mark.parametrize("change", ["in place", "loaded", "replaced", "assigned data"])
def test_what_is_derived_follows_the_weight(kind, change):
    torch.manual_seed(0)
    x = torch.randn(1, 128, 40, 40)
    layer = WinogradConv2d(128, 128) if kind == "winograd" else FoldedStdConv2d(StdConv2dSame(128, 128, 3), 1e-6)
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


def test_a_moved_stage_leaves_nothing_behind():
    """Meta stands for the other device. What is derived would be larger than the weights themselves."""
    x = torch.zeros(1, 3, 192, 192)
    DepthStage("dpt_hybrid")(x)  # what the process keeps for good, whatever is moved
    before = real_bytes()
    stage = DepthStage("dpt_hybrid")
    stage(x)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in stage.parameters())
    assert real_bytes() - before > 1.2 * weights, "nothing was derived, so nothing could stay"
    stage.to("meta")
    assert real_bytes() - before < 1_000


@pytest.mark.parametrize("layer", [WinogradConv2d(128, 128), FoldedStdConv2d(StdConv2dSame(128, 128, 3), 1e-6)])
@pytest.mark.parametrize("move", [lambda it: it.bfloat16(), lambda it: it.to("meta"), lambda it: it.double()])
def test_a_cast_or_move_lets_go_of_what_is_derived(layer, move):
    holder = nn.Sequential(copy.deepcopy(layer))
    with torch.no_grad():
        holder(torch.randn(1, 128, 40, 40))
    assert holder[0]._derived is not None
    move(holder)
    assert holder[0]._derived is None


@pytest.mark.parametrize("layer", [WinogradConv2d(128, 128), FoldedStdConv2d(StdConv2dSame(128, 128, 3), 1e-6)])
def test_repeated_passes_derive_once(layer, monkeypatch):
    """Also when the layer is sent to where it lies already, as --medvram does on a machine without a GPU."""
    layer, derived = copy.deepcopy(layer), []
    derive = type(layer)._derive
    monkeypatch.setattr(type(layer), "_derive", lambda self, *args: derived.append(1) or derive(self, *args))
    with torch.no_grad():
        for _ in range(3):
            layer.to("cpu")(torch.randn(1, 128, 40, 40))
    assert len(derived) == 1


def test_copies_carry_the_weight_only():
    layer = WinogradConv2d(128, 128)
    with torch.no_grad():
        layer(torch.randn(1, 128, 40, 40))
    assert layer._derived is not None
    assert copy.deepcopy(layer)._derived is None


def test_tiling_finds_no_convolution_to_make_circular():
    """The host's "Tiling" sets padding_mode on layers of exactly this type (modules/sd_hijack.py:305-311)."""
    circular = [
        name
        for name, module in DepthStage("dpt_hybrid").named_modules()
        if type(module) in (nn.Conv2d, nn.ConvTranspose2d) and module.padding != (0, 0)
    ]
    assert circular == []


def test_last_layer_is_float32_whatever_its_weights():
    layer = Conv2dFloat32(4, 1, 1).bfloat16()
    x = torch.randn(1, 4, 5, 5).bfloat16()
    expected = F.conv2d(x.float(), layer.weight.float(), layer.bias.float())
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)
    assert layer(x).dtype == torch.float32
