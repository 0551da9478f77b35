"""GoogLeNet's nine inception modules with batch norm, for 32 x 32 images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptqdb.networks.reference.widths import scale_width


@dataclass(frozen=True)
class ModuleChannels:
    """Output channels of the branches of one module (Szegedy et al., 2015, table 1)."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int


MODULES = (
    ModuleChannels(64, 96, 128, 16, 32, 32),
    ModuleChannels(128, 128, 192, 32, 96, 64),
    ModuleChannels(192, 96, 208, 16, 48, 64),
    ModuleChannels(160, 112, 224, 24, 64, 64),
    ModuleChannels(128, 128, 256, 24, 64, 64),
    ModuleChannels(112, 144, 288, 32, 64, 64),
    ModuleChannels(256, 160, 320, 32, 128, 128),
    ModuleChannels(256, 160, 320, 32, 128, 128),
    ModuleChannels(384, 192, 384, 48, 128, 128),
)
POOLING_AFTER = (2, 7)


def convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Convolution of unchanged resolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class InceptionModule(nn.Module):
    """Four branches over one input, concatenated along the channels."""

    def __init__(self, in_channels: int, channels: ModuleChannels, width: float):
        super().__init__()
        one, three, five, pool = (
            scale_width(count, width)
            for count in (channels.one, channels.three, channels.five, channels.pool)
        )
        three_reduce = scale_width(channels.three_reduce, width)
        five_reduce = scale_width(channels.five_reduce, width)
        self.one = convolution(in_channels, one, 1)
        self.three = nn.Sequential(
            convolution(in_channels, three_reduce, 1), convolution(three_reduce, three, 3)
        )
        self.five = nn.Sequential(
            convolution(in_channels, five_reduce, 1), convolution(five_reduce, five, 5)
        )
        self.pool = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), convolution(in_channels, pool, 1)
        )
        self.out_channels = one + three + five + pool

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        branches = [self.one(images), self.three(images), self.five(images), self.pool(images)]
        return torch.cat(branches, dim=1)


class InceptionBN(nn.Module):
    """Two convolutions at full resolution, nine inception modules, a 1 x 1 classifier.

    Parameters
    ----------
    width
        Factor on every hidden channel count.
    """

    def __init__(self, width: float = 1.0, class_count: int = 10):
        super().__init__()
        stem = scale_width(64, width)
        layers: list[nn.Module] = [convolution(3, stem, 3), convolution(stem, stem, 3)]
        channels = stem
        for number, module_channels in enumerate(MODULES, start=1):
            module = InceptionModule(channels, module_channels, width)
            layers.append(module)
            channels = module.out_channels
            if number in POOLING_AFTER:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Conv2d(channels, class_count, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, class_count)."""
        logits: Tensor = self.classifier(self.pool(self.features(images))).flatten(1)
        return logits
