"""MiDaS v2.1: the convolutional networks ``midas_v21`` (ResNeXt-101) and ``midas_v21_small`` (EfficientNet-Lite3).

Ranftl et al.: Towards Robust Monocular Depth Estimation (arXiv:1907.01341). The backbones are timm's, cut into the
four pieces of the published weights: ``pretrained.layer1`` … ``pretrained.layer4``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...devices import fast_memory_format
from .decoder import Decoder, Head

__all__ = ["MidasV21", "midas_v21", "midas_v21_small"]


class Encoder(nn.Module):
    """``pretrained``: a picture to four feature maps at 1/4, 1/8, 1/16 and 1/32 of its size."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        for number, layer in enumerate(layers, start=1):
            self.add_module(f"layer{number}", layer)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for layer in self.children():
            x = layer(x)
            features.append(x)
        return features


class MidasV21(nn.Module):
    """(B, 3, h, w) normalised picture -> (B, h, w) float32 nearness (near = high), in relative units, >= 0.

    h and w are multiples of 32.
    """

    def __init__(self, pretrained: Encoder, scratch: Decoder) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.scratch = scratch

    def forward(self, x: Tensor) -> Tensor:
        nearness: Tensor = self.scratch(self.pretrained(x.contiguous(memory_format=fast_memory_format(x.device))))
        return nearness


def midas_v21() -> MidasV21:
    """105 M parameters."""
    import timm

    resnet = timm.create_model("resnext101_32x8d", pretrained=False)
    stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.act1, resnet.maxpool, resnet.layer1)
    encoder = Encoder((stem, resnet.layer2, resnet.layer3, resnet.layer4))
    head = Head(256, 128, align_corners=False)
    return MidasV21(
        encoder, Decoder((256, 512, 1024, 2048), (256,) * 4, head=head, fusion_conv=False, skip_activated=True)
    )


def midas_v21_small() -> MidasV21:
    """21 M parameters."""
    import timm

    net = timm.create_model("tf_efficientnet_lite3", pretrained=False)
    # Newer timm applies the activation inside bn1; its place among the published keys stays.
    activation = getattr(net, "act1", nn.Identity())
    encoder = Encoder(
        (
            nn.Sequential(net.conv_stem, net.bn1, activation, *net.blocks[0:2]),
            nn.Sequential(*net.blocks[2:3]),
            nn.Sequential(*net.blocks[3:5]),
            nn.Sequential(*net.blocks[5:9]),
        )
    )
    decoder = Decoder((32, 48, 136, 384), (64, 128, 256, 512), head=Head(64, 32, align_corners=False))
    return MidasV21(encoder, decoder)
