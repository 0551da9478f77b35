"""MobileNetV2 for 32 x 32 images."""

from dataclasses import dataclass

from torch import Tensor, nn

from ptqdb.networks.reference.widths import scale_width

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


@dataclass(frozen=True)
class Stage:
    """Blocks of one output channel count (Sandler et al., 2018, table 2; strides for 32 x 32).

    Attributes
    ----------
    expansion
        Channels inside a block, relative to its input channels.
    stride
        Of the first block; the others have 1.
    """

    expansion: int
    channels: int
    block_count: int
    stride: int


STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 1),
    Stage(6, 320, 1, 1),
)


def pointwise(in_channels: int, out_channels: int, padding: int = 0) -> list[nn.Module]:
    """1 x 1 convolution and its batch norm."""
    return [
        nn.Conv2d(in_channels, out_channels, 1, padding=padding, bias=False),
        nn.BatchNorm2d(out_channels),
    ]


class InvertedResidual(nn.Module):
    """1 x 1 expansion, depthwise 3 x 3, linear 1 x 1 projection; added where shapes allow it."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int):
        super().__init__()
        hidden = in_channels * expansion
        self.is_added = stride == 1 and in_channels == out_channels
        self.layers = nn.Sequential(
            *pointwise(in_channels, hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            *pointwise(hidden, out_channels),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / stride, W / stride), rounded up."""
        outputs: Tensor = self.layers(images)
        return images + outputs if self.is_added else outputs


class MobileNetV2(nn.Module):
    """A 1 x 1 stem, seventeen inverted residual blocks in seven stages, a 1 x 1 head.

    The stem pads its 1 x 1 convolution to 34 x 34; three stages stride, down to 5 x 5.

    Parameters
    ----------
    width
        Factor on every hidden channel count, the head's too.
    """

    def __init__(self, width: float = 1.0, class_count: int = 10):
        super().__init__()
        channels = scale_width(STEM_CHANNELS, width)
        layers = [*pointwise(3, channels, padding=1), nn.ReLU6(inplace=True)]
        for stage in STAGES:
            out_channels = scale_width(stage.channels, width)
            for number in range(stage.block_count):
                stride = stage.stride if number == 0 else 1
                layers.append(InvertedResidual(channels, out_channels, stage.expansion, stride))
                channels = out_channels
        head = scale_width(HEAD_CHANNELS, width)
        layers += [*pointwise(channels, head), nn.ReLU6(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(head, class_count)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, class_count)."""
        logits: Tensor = self.classifier(self.pool(self.features(images)).flatten(1))
        return logits
